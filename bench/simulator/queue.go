package simulator

// kind is what an item of the queue is.
type kind uint8

const (
	wakeJoin   kind = iota // a customer comes for the first time
	wakeOrder              // the session that ends in the customer's next order begins
	wakeBrowse             // the customer's next session without an order begins

	eventIdentify // the kinds from here on are events
	eventPage
	eventView
	eventCart
	eventCheckout
	eventOrder
	eventUpdate
	eventCancel
	eventRefundWhole
	eventRefundAmount
	eventRefundLines
)

// item is a pending event, or the instant at which a customer's next events are made up. The bytes of an event are a
// function of its item, so a duplicate is the same item queued twice.
type item struct {
	at       int64  // event time, Unix ms
	orderAt  int64  // instant of the order it belongs to, if any
	customer uint32 // index
	serial   uint32 // number of the event within the customer
	order    uint32 // number of the order within the customer, from 1; 0: none
	kind     kind
	line     uint8 // of the order, for views and carts
	updated  bool  // the order was updated before
}

// queue is a heap of items by arrival: four-ary, with the items in a slab so that little is moved. Items with equal
// arrival leave it in an order that depends only on the sequence of calls.
type queue struct {
	heap  []entry
	items []item
	free  []uint32
}

type entry struct {
	arrival int64
	slot    uint32
}

func (q *queue) push(arrival int64, it item) {
	slot := uint32(len(q.items))
	if n := len(q.free); n > 0 {
		slot, q.free = q.free[n-1], q.free[:n-1]
		q.items[slot] = it
	} else {
		q.items = append(q.items, it)
	}
	q.heap = append(q.heap, entry{})
	i := len(q.heap) - 1
	for i > 0 {
		parent := (i - 1) / 4
		if q.heap[parent].arrival <= arrival {
			break
		}
		q.heap[i] = q.heap[parent]
		i = parent
	}
	q.heap[i] = entry{arrival: arrival, slot: slot}
}

// pop removes the item with the least arrival; ok is false if there is none.
func (q *queue) pop() (arrival int64, it item, ok bool) {
	if len(q.heap) == 0 {
		return 0, item{}, false
	}
	top := q.heap[0]
	last := q.heap[len(q.heap)-1]
	q.heap = q.heap[:len(q.heap)-1]
	if len(q.heap) > 0 {
		q.sink(last)
	}
	q.free = append(q.free, top.slot)
	return top.arrival, q.items[top.slot], true
}

// sink places an entry, starting from the empty root.
func (q *queue) sink(e entry) {
	i := 0
	for {
		first := 4*i + 1
		if first >= len(q.heap) {
			break
		}
		least := first
		for child := first + 1; child < min(first+4, len(q.heap)); child++ {
			if q.heap[child].arrival < q.heap[least].arrival {
				least = child
			}
		}
		if q.heap[least].arrival >= e.arrival {
			break
		}
		q.heap[i] = q.heap[least]
		i = least
	}
	q.heap[i] = e
}
