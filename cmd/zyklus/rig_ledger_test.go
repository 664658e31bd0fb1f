package main

import (
	"context"
	varint "encoding/binary"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"zyklus/pipeline"
)

// checkVersions holds stored rows to design §2: equal version means identical row.
func (r *rig) checkVersions(d deployment) {
	r.t.Helper()
	for table, key := range map[string]string{
		"customers": "customer_id", "orders": "customer_id, order_id", "phase_transitions": "lifecycle, customer_id, at",
		"customer_days": "customer_id, day",
		"checkpoints":   "topic, partition",
	} {
		lines := d.mustQuery(r.t, fmt.Sprintf("SELECT %s, version, groupUniqArray(2)(toString(tuple(*))) AS rows FROM %s GROUP BY %[1]s, version HAVING length(rows) > 1 LIMIT 3", key, table))
		if len(lines) > 0 {
			r.t.Errorf("%s of %s holds different rows under one version:\n%s", table, d.database, strings.Join(lines, "\n"))
		}
	}
}

// letters returns the committed dead letters of a deployment by their origins: topic, partition and offset.
func (r *rig) letters(d deployment) map[string]*kgo.Record {
	r.t.Helper()
	records, _ := readCommitted(r.t, r.broker.addr, "zyklus-"+d.database+"-dead-letters", nil)
	letters := map[string]*kgo.Record{}
	for _, rec := range records {
		h := map[string]string{}
		for _, header := range rec.Headers {
			h[header.Key] = string(header.Value)
		}
		origin := h["topic"] + "\t" + h["partition"] + "\t" + h["offset"]
		if first := letters[origin]; first != nil {
			r.t.Errorf("dead letters of %s: the record at %s has two, at offsets %d and %d of partition %d: %s: %s\n%s", d.database, origin,
				first.Offset, rec.Offset, rec.Partition, h["error"], h["cause"], rec.Value)
		}
		letters[origin] = rec
	}
	return letters
}

// awaitLetters waits until the table of dead letters holds all that the topic does.
func (r *rig) awaitLetters(d deployment) {
	r.t.Helper()
	letters := r.letters(d)
	eventually(r.t, time.Minute, fmt.Sprintf("%s.v_dead_letters holds the %d committed dead letters", d.database, len(letters)), func() error {
		lines, err := d.query("SELECT topic, partition, position FROM v_dead_letters")
		if err != nil {
			return err
		}
		var missing []string
		for origin, rec := range letters {
			if !slices.Contains(lines, origin) {
				missing = append(missing, fmt.Sprintf("%s: offset %d of partition %d, written %s", origin, rec.Offset, rec.Partition, rec.Timestamp.UTC().Format(time.StampMilli)))
			}
		}
		if len(missing) > 0 {
			slices.Sort(missing)
			return fmt.Errorf("it holds %d; missing are\n%s", len(lines), strings.Join(missing[:min(12, len(missing))], "\n"))
		}
		return nil
	})
}

// readCommitted returns the committed data records of a topic from given offsets on, and the offsets that follow.
func readCommitted(t testing.TB, broker, topic string, from map[int32]int64) (records []*kgo.Record, next map[int32]int64) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	adm := kafkaClient(t, broker)
	defer adm.Close()
	var ends kadm.ListedOffsets
	eventually(t, 30*time.Second, "the ends of "+topic, func() (err error) { // a broker that has just died may be asked
		if ends, err = kadm.NewClient(adm).ListCommittedOffsets(ctx, topic); err == nil {
			err = ends.Error()
		}
		return err
	})
	next = map[int32]int64{}
	at, open := map[int32]kgo.Offset{}, 0
	ends.Each(func(end kadm.ListedOffset) {
		next[end.Partition] = from[end.Partition]
		if end.Offset > from[end.Partition] {
			at[end.Partition] = kgo.NewOffset().At(from[end.Partition])
			open++
		}
	})
	if open == 0 {
		return nil, next
	}
	cl := kafkaClient(t, broker, kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: at}),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.KeepControlRecords())
	defer cl.Close()
	for open > 0 {
		fs := cl.PollFetches(ctx)
		if err := fs.Err(); err != nil {
			t.Fatalf("read %s: %v; reached %v, ends are %v", topic, err, next, ends[topic])
		}
		for it := fs.RecordIter(); !it.Done(); {
			rec := it.Next()
			end := ends[topic][rec.Partition].Offset
			if next[rec.Partition] >= end || rec.Offset >= end {
				continue
			}
			if next[rec.Partition] = rec.Offset + 1; next[rec.Partition] == end {
				open--
			}
			if !rec.Attrs.IsControl() {
				records = append(records, rec)
			}
		}
	}
	return records, next
}

// ledgerOfCheckpoints follows the changelog of a deployment.
type ledgerOfCheckpoints struct {
	rig      *rig
	d        deployment
	next     map[int32]int64
	versions map[int32]int64 // of the last committed checkpoint, by partition
	reached  map[int32]int64 // position in the input topic
	heard    map[int32]int64 // instant up to which all deadlines have fired, Unix milliseconds
}

func (r *rig) checkpointsOf(d deployment) *ledgerOfCheckpoints {
	return &ledgerOfCheckpoints{rig: r, d: d, next: map[int32]int64{}, versions: map[int32]int64{}, reached: map[int32]int64{}, heard: map[int32]int64{}}
}

// read takes what has been committed since the last call. Positions and numbers never go back.
func (l *ledgerOfCheckpoints) read() {
	t := l.rig.t
	t.Helper()
	var records []*kgo.Record
	records, l.next = readCommitted(t, l.rig.broker.addr, "zyklus-"+l.d.database+"-changelog", l.next)
	for _, rec := range records {
		if len(rec.Key) != 1 || rec.Key[0] != 0 {
			continue
		}
		version, position, err := parseMeta(rec.Value)
		if err != nil {
			t.Fatalf("changelog of %s, partition %d offset %d: %v", l.d.database, rec.Partition, rec.Offset, err)
		}
		if last := l.versions[rec.Partition]; version <= last { // compaction may have removed some in between
			t.Errorf("changelog of %s, partition %d offset %d: checkpoint %s follows %s", l.d.database, rec.Partition, rec.Offset,
				versionName(version), versionName(last))
		}
		if position < l.reached[rec.Partition] {
			t.Errorf("changelog of %s, partition %d offset %d: position went back from %d to %d", l.d.database, rec.Partition,
				rec.Offset, l.reached[rec.Partition], position)
		}
		l.versions[rec.Partition], l.reached[rec.Partition] = version, position
		meta, err := pipeline.ReadMeta(rec.Value)
		if err != nil {
			t.Fatal(err)
		}
		l.heard[rec.Partition] = meta.Heard
	}
}

// position is the sum of the positions of the last committed checkpoints.
func (l *ledgerOfCheckpoints) position() (sum int64) {
	for _, at := range l.reached {
		sum += at
	}
	return sum
}

func versionName(v int64) string {
	lineage, number := pipeline.SplitVersion(v)
	return fmt.Sprintf("%d.%d", lineage, number)
}

// parseMeta reads the version and the position in a partition's own record of the changelog.
func parseMeta(b []byte) (version, position int64, err error) {
	if len(b) == 0 || b[0] != 3 {
		return 0, 0, fmt.Errorf("partition record of another format: %x", b)
	}
	b = b[1:]
	var fields [3]uint64
	for i := range fields {
		v, n := varint.Uvarint(b)
		if n <= 0 {
			return 0, 0, fmt.Errorf("partition record ends early")
		}
		fields[i], b = v, b[n:]
	}
	position, n := varint.Varint(b)
	if n <= 0 {
		return 0, 0, fmt.Errorf("partition record ends early")
	}
	return pipeline.Version(fields[0], fields[1]), position, nil
}

// checkNoFuture reports rows that are newer than the last committed checkpoint of their partition. Nothing may be
// running.
func (l *ledgerOfCheckpoints) checkNoFuture(when string) {
	t := l.rig.t
	t.Helper()
	l.read()
	queries := map[string]string{
		"orders": "SELECT c.partition, max(o.version) FROM orders AS o INNER JOIN (SELECT DISTINCT customer_id, partition FROM customers) AS c ON c.customer_id = o.customer_id GROUP BY c.partition",
	}
	for _, table := range []string{"customers", "customer_days", "phase_transitions", "checkpoints"} {
		queries[table] = "SELECT partition, max(version) FROM " + table + " GROUP BY partition"
	}
	for table, sql := range queries {
		for _, line := range l.d.mustQuery(t, sql) {
			var partition int32
			var version int64
			if _, err := fmt.Sscan(line, &partition, &version); err != nil {
				t.Fatalf("%s: %q: %v", sql, line, err)
			}
			if version > l.versions[partition] {
				t.Errorf("%s: %s of %s has a row of checkpoint %s of partition %d, but the last committed one is %s", when, table,
					l.d.database, versionName(version), partition, versionName(l.versions[partition]))
			}
		}
	}
}
