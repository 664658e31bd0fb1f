package pipeline

// What is published and not yet written stays in the customer's record: rows of days, keys of history rows, and the orders
// that these are built from. While the sink is away that grows with each event and each day. Beyond the bounds below the
// Task is crowded: it wants nothing more to happen until the sink has taken what there is. They leave room in MaxRecord for
// what one customer gains until the next checkpoint.
const (
	crowdedRecord = MaxRecord / 8 * 5
	crowdedDays   = maxDayBytes / 2
	// maxTaken bounds what one customer's events may add to a record between two checkpoints, about.
	maxTaken = MaxRecord / 4
)

// crowd takes note of a record of so many bytes, with so many history rows and bytes of days pending up to a version.
func (t *Task) crowd(version int64, record, rows, days int) {
	if record >= crowdedRecord && rows > 0 || days >= crowdedDays {
		t.await = max(t.await, version)
	}
}

// weight is about how many bytes the event may add to a record.
func (e *Event) weight() int { return 48 + len(e.OrderID) + 24*len(e.Lines) }
