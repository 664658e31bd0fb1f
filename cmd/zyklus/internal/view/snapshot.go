package view

import "time"

// Modes of a Snapshot.
const (
	ModeHistory = "history" // the past is replayed as fast as it goes
	ModeFast    = "fast"    // time plays faster than the wall clock
	ModeLive    = "live"    // time is the wall clock's
)

// Snapshot is what is shown at one moment. The View keeps none of its slices.
type Snapshot struct {
	Now   time.Time // wall clock
	Clock time.Time // event time reached, in the zone to show it in; zero: none yet
	Mode  string    // one of the modes

	Events          int64
	EventsPerSecond float64
	Rows            int64         // written to ClickHouse
	Freshness       time.Duration // how old the newest checkpoint in ClickHouse is; negative: none yet

	Progress float64       // of history, 0 to 1; not shown in ModeLive
	ETA      time.Duration // until it is replayed, or real time is reached; 0: unknown

	Phases         []PhaseCount // in the order of the lifecycle
	ChurnedLastDay int64        // customers lost within the last day of the clock

	Changes   []Change  // of phases, newest first
	Addresses []Address // of the parts
	Queries   []Query   // worth asking
	Notice    string    // one line to draw attention to, such as a warning; may be empty
}

// PhaseCount is how many customers are in a phase.
type PhaseCount struct {
	ID      string
	LabelEn string
	LabelDe string
	// Customers in the phase now.
	Customers int64
	// Churned is the phase's mark: none, at_risk or lost.
	Churned string
}

// Change is a customer's change of phase.
type Change struct {
	At       time.Time
	Customer string
	From, To string // ids of phases; shown by their labels where there is room
	Cause    string // deadline, correction, or an event's type
}

// Address is where a part listens.
type Address struct{ Name, URL string }

// Query is a question with the command or SQL that answers it.
type Query struct{ Title, Text string }

// share returns the share of customers in phases with a mark.
func (s Snapshot) share(churned string) float64 {
	var marked, all int64
	for _, p := range s.Phases {
		all += p.Customers
		if p.Churned == churned {
			marked += p.Customers
		}
	}
	if all == 0 {
		return 0
	}
	return float64(marked) / float64(all)
}

// customers returns the number of all.
func (s Snapshot) customers() (all int64) {
	for _, p := range s.Phases {
		all += p.Customers
	}
	return all
}
