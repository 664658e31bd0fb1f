package pipeline

// TouchAll brings every customer to work, as an event does that changes nothing.
func (t *Task) TouchAll() {
	for slot := range uint32(t.slab.len()) {
		t.touchSlot(slot)
	}
}
