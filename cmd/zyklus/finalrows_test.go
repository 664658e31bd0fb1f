package main

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"zyklus/bench/simulator"
)

// outOfOrder has many events come up to five days later than they happened, so that much is published that has to be
// corrected, and none later than rigs allow then.
func outOfOrder(c *simulator.Config) {
	const day = 24 * time.Hour
	c.Shares.Late, c.Shares.TooLate, c.MaxDelay, c.TooLateMin, c.TooLateMax = 0.4, 0, 5*day, 9*day, 20*day
}

// finalView is a view of which somebody reads only what is final.
type finalView struct {
	name, columns string
	// dated limits rows to those of a partition that are dated from one instant to another, both in Unix milliseconds.
	dated string
}

// Days are final once they are over; for a moment a reader may find one twice, never not at all. Of an order only what no
// refund changes is final.
var finalViews = []finalView{
	{"v_phase_transitions", "*", "partition = %d AND at >= fromUnixTimestamp64Milli(%d) AND at < fromUnixTimestamp64Milli(%d)"},
	{"v_customer_days", "DISTINCT *", "partition = %d AND day >= toDate(fromUnixTimestamp64Milli(%d, 'UTC')) AND day < toDate(fromUnixTimestamp64Milli(%d, 'UTC'))"},
	{"v_orders", "customer_id, order_id, at", "customer_id IN (SELECT customer_id FROM customers WHERE partition = %d) AND at >= fromUnixTimestamp64Milli(%d) AND at < fromUnixTimestamp64Milli(%d)"},
}

// finalReader reads each final row once: time and again, what is dated from the watermark of the time before to the
// present one. Nothing that it has may ever be changed or withdrawn, and nothing be added behind it.
type finalReader struct {
	d          deployment
	watermarks map[int32]int64 // up to which it has read, by partition
	rows       [][]string      // by view
	times      int             // it has read
	stop, done chan struct{}
}

// readFinal reads until the end of the test, or until check.
func readFinal(t testing.TB, d deployment) *finalReader {
	f := &finalReader{d: d, watermarks: map[int32]int64{}, rows: make([][]string, len(finalViews)), stop: make(chan struct{}), done: make(chan struct{})}
	go f.run()
	t.Cleanup(f.end)
	return f
}

func (f *finalReader) run() {
	defer close(f.done)
	for {
		_ = f.read() // an engine that is away is asked again
		select {
		case <-f.stop:
			return
		case <-time.After(200 * time.Millisecond):
		}
	}
}

func (f *finalReader) end() {
	select {
	case <-f.stop:
	default:
		close(f.stop)
	}
	<-f.done
}

// read goes on to the present watermarks. Of a reading that fails nothing is kept.
func (f *finalReader) read() error {
	lines, err := f.d.query("SELECT partition, toUnixTimestamp64Milli(watermark) FROM v_checkpoints")
	if err != nil {
		return err
	}
	now := map[int32]int64{}
	for _, line := range lines {
		var partition int32
		var watermark int64
		if _, err := fmt.Sscan(line, &partition, &watermark); err != nil {
			return err
		}
		now[partition] = watermark
	}
	if len(now) == 0 {
		return nil
	}
	var rows [][]string
	for _, view := range finalViews {
		lines, err := f.d.query(view.between(f.watermarks, now))
		if err != nil {
			return err
		}
		rows = append(rows, lines)
	}
	for i := range rows {
		f.rows[i] = append(f.rows[i], rows[i]...)
	}
	f.watermarks = now
	f.times++
	return nil
}

// between asks for the rows of all partitions that are dated from some watermarks to later ones.
func (v *finalView) between(from, to map[int32]int64) string {
	var partitions []string
	for p, watermark := range to {
		partitions = append(partitions, "("+fmt.Sprintf(v.dated, p, from[p], watermark)+")")
	}
	return fmt.Sprintf("SELECT %s FROM %s WHERE %s", v.columns, v.name, strings.Join(partitions, " OR "))
}

// check ends the reading, of a deployment that has been stopped, and holds what was read against what is there.
func (f *finalReader) check(t testing.TB) {
	t.Helper()
	f.end()
	for i := range finalViews {
		view := &finalViews[i]
		now := f.d.mustQuery(t, view.between(nil, f.watermarks))
		diffLines(t, fmt.Sprintf("final rows of %s as they are and as they were read at %d times", view.name, f.times), now, f.rows[i])
		t.Logf("%s: %d final rows were read at %d times", view.name, len(f.rows[i]), f.times)
		if len(f.rows[i]) == 0 {
			t.Errorf("of %s no row was read", view.name)
		}
	}
	f.d.hasWithdrawn(t)
}

// hasWithdrawn fails if no transition was published and withdrawn again: there would be nothing that somebody could have
// seen too early, or that could have come back.
func (d deployment) hasWithdrawn(t testing.TB) {
	t.Helper()
	n := d.mustQuery(t, "SELECT countIf(is_deleted = 1) FROM phase_transitions")[0]
	if t.Logf("%s: %s transitions stand as withdrawn", d.database, n); n == "0" {
		t.Error("no transition was withdrawn")
	}
}
