package pipeline

// Stats are a Task's figures. Counters count since the Task was made; the others are as of now.
type Stats struct {
	Events      int64 // decoded events, heartbeats included
	Late        int64 // events later than allowed
	Corrections int64 // of those, the order events that entered totals
	Duplicates  int64 // events that were there already
	Ignored     int64 // events of ids that are no persons
	Refolds     int64 // live records folded again for an event out of order
	Forced      int64 // customers whose oldest open events settled early
	Withdrawn   int64 // transitions withdrawn
	Fired       int64 // customers woken by a timer
	DaysLost    int64 // rows of customer_days given up: an upgrade changed their columns, or more of a customer's were pending than fit
	DeadLetters [errorKindCount]int64
	// UnmatchedMoney is the money of refunds, updates and cancellations without an order, minor units.
	UnmatchedMoney int64

	Customers   int64
	StateBytes  int64 // bytes of records at rest
	StateHeld   int64 // memory reserved for them
	WorkingSet  int64 // customers at work
	Timers      int64 // customers that wait for a deadline
	TimersDue   int64 // of those, whose deadline has come
	RowsPending int64 // customers whose rows are yet to be written
	// BytesPending are the bytes of rows of customer_days that are yet to be written.
	BytesPending int64
	Clock        int64 // Unix milliseconds
	Watermark    int64 // Unix milliseconds

	// PhaseCustomers counts customers by lifecycle and phase.
	PhaseCustomers [][]int64
	// Transitions counts published transitions: new ones and changed ones.
	Transitions map[TransitionKind]int64
}

// TransitionKind is what transitions are counted by. From and To are as in Stay.
type TransitionKind struct {
	Lifecycle, From, To int
	Cause               Cause
}

func (s *Stats) init(job *Job) {
	s.Transitions = map[TransitionKind]int64{}
	for _, l := range job.lifecycles {
		s.PhaseCustomers = append(s.PhaseCustomers, make([]int64, len(l.Phases)))
	}
}

// countPhases moves a customer from one set of live phases to another.
func (s *Stats) countPhases(from, to []byte) {
	for i, p := range from {
		if p > 0 {
			s.PhaseCustomers[i][p-1]--
		}
	}
	for i, p := range to {
		if p > 0 {
			s.PhaseCustomers[i][p-1]++
		}
	}
}

func (s *Stats) countTransition(t Transition) {
	s.Transitions[TransitionKind{t.Lifecycle, t.From, t.To, t.Cause}]++
}
