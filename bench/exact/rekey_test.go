package exact

import (
	"fmt"
	"time"

	"zyklus/pipeline"
	"zyklus/pipeline/kafka"
)

// events is the topic of the re-keying stage.
const events = "zyklus-g-events"

// scatter makes the world one whose history comes in topics that are not keyed by customer.
func (w *world) scatter() {
	w.channels = nil
	counts := map[string]int32{}
	topics := 1
	if w.guard == nil { // which watches one source
		topics += w.dice(2)
	}
	for i := range topics {
		o := w.options
		o.Topic, o.Stage, o.Rekeyed = fmt.Sprintf("s%d", i), "rekey", false
		o.Group, o.ChangelogTopic = "g-rekey-"+o.Topic, ""
		o.CheckpointInterval = time.Duration(1+w.dice(4)) * 250 * time.Millisecond
		if w.guard != nil {
			o.Stall = w.guard.options()
		}
		w.stages = append(w.stages, o)
		counts[o.Topic] = int32(1 + w.dice(3))
		for p := range counts[o.Topic] {
			w.channels = append(w.channels, channel{o.Topic, p})
		}
	}
	w.sources = counts
	w.rekey = pipeline.RekeyOptions{
		Topic: events, Partitions: int32(w.partitions), Set: pipeline.NewChannelSet(counts), Skew: skew, WallClock: w.wall,
		Held: w.guard != nil,
	}
}

// groups are those that members are members of.
func (w *world) groups() []string {
	list := []string{w.options.Group}
	for _, o := range w.stages {
		list = append(list, o.Group)
	}
	return list
}

// watched are the options of who reads the source of a guarded world.
func (w *world) watched() kafka.Options {
	if w.rekeyed {
		return w.stages[0]
	}
	return w.options
}

// stage is one of those that members run.
func (w *world) stage() kafka.Options {
	if n := w.dice(len(w.stages) + 1); n < len(w.stages) {
		return w.stages[n].WithDefaults()
	}
	return w.options.WithDefaults()
}
