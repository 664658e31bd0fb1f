package pipeline_test

import (
	"testing"
	"time"

	"zyklus/pipeline"
)

// TestPartitionRecordOfFormat2: the record of a partition that was written before topics had ids is read, and what is
// written next has the id.
func TestPartitionRecordOfFormat2(t *testing.T) {
	old := goldenChanges(t, "testdata/meta_2.golden")[0].Value
	now, err := pipeline.ReadMeta(goldenChanges(t, "testdata/record_1.golden")[1].Value)
	if err != nil {
		t.Fatal(err)
	}
	was, err := pipeline.ReadMeta(old)
	if err != nil || was.Topic != (pipeline.TopicID{}) || now.Topic != (pipeline.TopicID{0: 0xa1, 15: 0xaf}) {
		t.Fatalf("%+v, then %+v (%v)", was, now, err)
	}
	was.Topic = now.Topic
	if pipeline.Version(was.Lineage, was.Number) != now.Version() || was.Position != now.Position || was.Clock != now.Clock ||
		was.Heard != now.Heard || was.Watermark != now.Watermark {
		t.Errorf("%+v, not %+v", was, now)
	}
}

// TestMovePlace: a partition that is moved goes on as it was from another position, under the next number, and has
// nothing else to write.
func TestMovePlace(t *testing.T) {
	topic := pipeline.TopicID{1, 2, 3}
	t.Run("task", func(t *testing.T) {
		job := newJob(t, fuzzSetting)
		log := realRecords(t, 3)
		before, err := log.restore(job, 0)
		if err != nil {
			t.Fatal(err)
		}
		last := len(log) - 1
		was, err := pipeline.ReadPlace(log[last].Value)
		if err != nil || was.Position != before.Position() || was.Version != before.Version() {
			t.Fatalf("%+v, task is at %d (%v)", was, before.Position(), err)
		}
		moved, err := pipeline.MovePlace(log[last].Value, topic, 1<<40)
		if err != nil {
			t.Fatal(err)
		}
		after, err := append(log[:last:last], moved).restore(job, 0)
		if err != nil {
			t.Fatal(err)
		}
		if after.Position() != 1<<40 || after.TopicID() != topic || after.Version() != before.Version()+1 {
			t.Errorf("position %d of %x, version %s", after.Position(), after.TopicID(), pipeline.VersionText(after.Version()))
		}
		a, b := *before.Stats(), *after.Stats()
		if a.Clock != b.Clock || a.Watermark != b.Watermark || a.Customers != b.Customers || a.RowsPending != b.RowsPending || a.Timers != b.Timers {
			t.Errorf("%+v became %+v", a, b)
		}
	})
	t.Run("re-keying", func(t *testing.T) {
		o := pipeline.RekeyOptions{Topic: "events", Partitions: 2, Set: pipeline.NewChannelSet(map[string]int32{"a": 1}), Skew: time.Minute}
		r := pipeline.NewRekeyer(o, "a", 0)
		r.Process(&pipeline.Event{Kind: pipeline.KindPageViewed, At: 5000, Customer: []byte("c")}, 5000)
		r.SetPosition(7)
		c := r.Checkpoint().Changes[0]
		moved, err := pipeline.MovePlace(c.Value, topic, 20)
		if err != nil {
			t.Fatal(err)
		}
		if p, err := pipeline.ReadPlace(moved.Value); err != nil || p != (pipeline.Place{Topic: topic, Position: 20, Clock: 5000, Number: 2}) {
			t.Errorf("%+v, %v", p, err)
		}
		again := pipeline.NewRekeyer(o, "a", 0)
		if err := again.Restore(moved.Key, moved.Value); err != nil || again.Position() != 20 || again.TopicID() != topic || again.Stats().Clock != 5000 {
			t.Errorf("%d of %x, %v", again.Position(), again.TopicID(), err)
		}
		const settled, id = 2, 16 // bytes of what later layouts have in addition
		for layout, n := range map[byte]int{0x81: settled, 0x80: settled + id} {
			old := append([]byte{layout}, c.Value[1:len(c.Value)-n]...)
			if err := again.Restore(moved.Key, old); err != nil || again.Position() != 7 || again.TopicID() != (pipeline.TopicID{}) || again.Stats().Watermark != 5000 {
				t.Errorf("layout %x: %d of %x, %v", layout, again.Position(), again.TopicID(), err)
			}
		}
	})
}

// FuzzPlace: an arbitrary record of a partition is an error, or can be moved and read again.
func FuzzPlace(f *testing.F) {
	f.Add(realMeta(f).Value)
	f.Add(goldenChanges(f, "testdata/meta_2.golden")[0].Value)
	r := pipeline.NewRekeyer(pipeline.RekeyOptions{Topic: "events", Partitions: 1, Set: pipeline.NewChannelSet(map[string]int32{"a": 1})}, "a", 0)
	f.Add(r.Checkpoint().Changes[0].Value)
	f.Fuzz(func(t *testing.T, value []byte) {
		was, err := pipeline.ReadPlace(value)
		if err != nil || was.Number == 1<<40-1 {
			return
		}
		c, err := pipeline.MovePlace(value, pipeline.TopicID{9}, 12)
		if err != nil {
			t.Fatal(err)
		}
		now, err := pipeline.ReadPlace(c.Value)
		if err != nil || now.Position != 12 || now.Topic != (pipeline.TopicID{9}) || now.Clock != was.Clock || now.Number != was.Number+1 {
			t.Fatalf("%+v became %+v (%v)", was, now, err)
		}
	})
}
