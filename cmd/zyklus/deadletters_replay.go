package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"zyklus/cmd/zyklus/internal/output"
	"zyklus/pipeline"
	"zyklus/pipeline/kafka"
	"zyklus/sinks/clickhouse"
)

func deadLettersReplayCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "replay", Short: "Produce the originals of dead letters again", Args: noArguments,
		Long: `Produce the originals of dead letters again, after what was wrong with them was mended: a currency got a rate, a mapping
was corrected. Key and value are those of the original record. It goes to the topic and partition that it was read from,
or with --to to another topic, by its key. A header zyklus-replay-of names the original; other headers of the original
are not kept, so that records of formats that need them (CloudEvents in binary mode) cannot be replayed.

Events are known by their ids: one that is replayed twice, or had come again anyway, counts once. One that is older than
the allowed lateness corrects totals and does not change the past. Nothing is marked or removed: what fails again is a
dead letter anew.

A value that was cut because it was too long, or was not kept, is not replayed; that is said, with exit code 1.`,
		Example: "  zyklus deadletters replay --error currency_without_rate --since 7d --dry-run\n  zyklus deadletters replay --record events/3/4711 --to events-retry",
	}
	var flags letterFlags
	flags.register(cmd, 0)
	to := cmd.Flags().String("to", "", "topic to produce to; default: the one that each was read from")
	record := cmd.Flags().String("record", "", "only this one: TOPIC/PARTITION/OFFSET")
	dry := cmd.Flags().Bool("dry-run", false, "tell what would be sent, and send nothing")
	open, format := letterCommand(cmd), answering(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		r := replaying{to: *to, dry: *dry, result: replayed{Sent: []string{}, Refused: []refusal{}, DryRun: *dry}}
		var place *pipeline.Origin
		if *record != "" {
			o, err := parsePlace(*record)
			if err == nil && o.Offset < 0 {
				err = usageError{fmt.Errorf("%q tells of a loss: there is no record to replay", *record)}
			}
			if err != nil {
				return err
			}
			place = &o
		}
		s, err := open(cmd.Context())
		if err != nil {
			return err
		}
		defer s.close()
		filter, err := flags.filter(s.cfg, time.Now())
		if err != nil {
			return err
		}
		filter.At, r.site = place, s
		if err := r.run(cmd.Context(), filter); err != nil {
			return stopped(cmd.Context(), err, "%d of the dead letters had been sent; to send all again is harmless", len(r.result.Sent))
		}
		if err := format.Write(cmd.OutOrStdout(), r.result, r.result.text); err != nil {
			return err
		}
		return r.result.failure()
	}
	return cmd
}

// replayHeld bounds the bytes that wait to be stored: a dead letter has up to a megabyte.
const replayHeld = 16 << 20

// replaying is one run of deadletters replay.
type replaying struct {
	site      *site
	to        string
	dry       bool
	producers map[string]*kafka.Producer // by topic
	held      int                        // bytes not flushed
	result    replayed
}

// replayed is what was done.
type replayed struct {
	Sent    []string  `json:"sent"` // topic/partition/offset of the originals
	Refused []refusal `json:"refused"`
	DryRun  bool      `json:"dry_run"`
}

type refusal struct {
	ID     string `json:"id"`
	Reason string `json:"reason"`
}

func (r *replaying) run(ctx context.Context, f clickhouse.LetterFilter) error {
	r.producers = map[string]*kafka.Producer{}
	defer func() {
		for _, p := range r.producers {
			p.Close()
		}
	}()
	bar := newProgress(r.site.log)
	defer bar.Done()
	bar.Start("replaying", 0, "dead letters")
	err := r.site.client.Letters(ctx, f, func(l *clickhouse.StoredLetter) error {
		bar.Add(1)
		return r.letter(ctx, l)
	})
	return errors.Join(err, r.flush(ctx))
}

func (r *replaying) flush(ctx context.Context) error {
	var errs []error
	for _, p := range r.producers {
		errs = append(errs, p.Flush(ctx))
	}
	r.held = 0
	return errors.Join(errs...)
}

func (r *replaying) letter(ctx context.Context, l *clickhouse.StoredLetter) error {
	id := placeText(&l.Origin)
	if err := replayable(l); err != nil {
		r.result.Refused = append(r.result.Refused, refusal{id, err.Error()})
		return nil
	}
	if !r.dry {
		p, err := r.producer(ctx, l.Origin.Topic)
		if err != nil {
			return err
		}
		again := l.DeadLetter // its bytes are the Producer's until the flush
		again.Key, again.Value = slices.Clone(l.Key), slices.Clone(l.Value)
		if len(again.Key) == 0 {
			again.Key = nil
		}
		if err := p.Replay(ctx, &again); err != nil {
			return err
		}
		if r.held += len(again.Key) + len(again.Value); r.held > replayHeld {
			if err := r.flush(ctx); err != nil {
				return err
			}
		}
	}
	r.result.Sent = append(r.result.Sent, id)
	return nil
}

// replayable says why a dead letter cannot be replayed.
func replayable(l *clickhouse.StoredLetter) error {
	switch {
	case l.Size == 0:
		return errors.New("it has no value, or the value was too long to keep")
	case kafka.MayBeCut(len(l.Key) + len(l.Value)):
		return errors.New("its value was cut")
	}
	return nil
}

// producer returns that of the topic to produce to.
func (r *replaying) producer(ctx context.Context, topic string) (*kafka.Producer, error) {
	if r.to != "" {
		topic = r.to
	}
	if p := r.producers[topic]; p != nil {
		return p, nil
	}
	o := kafkaOptions(r.site.cfg)
	o.Topic = topic
	p, err := kafka.NewProducer(ctx, o, r.site.log)
	if err == nil {
		r.producers[topic] = p
	}
	return p, err
}

func (r replayed) text(w io.Writer) error {
	verb := "sent"
	if r.DryRun {
		verb = "would send"
		var rows [][]any
		for _, id := range r.Sent {
			rows = append(rows, []any{id})
		}
		if err := output.Table(w, "RECORD", rows); err != nil {
			return err
		}
	}
	for _, f := range r.Refused {
		fmt.Fprintf(w, "not replayed: %s: %s\n", f.ID, f.Reason)
	}
	_, err := fmt.Fprintf(w, "%s %d dead letters\n", verb, len(r.Sent))
	return err
}

// failure is an error if not all were sent, or none was found.
func (r replayed) failure() error {
	switch {
	case len(r.Refused) > 0:
		return fmt.Errorf("%d of %d dead letters cannot be replayed", len(r.Refused), len(r.Refused)+len(r.Sent))
	case len(r.Sent) == 0:
		return errors.New("no dead letter was found: see zyklus deadletters list")
	}
	return nil
}
