package kafka

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/sourcegraph/conc/panics"

	"zyklus/pipeline"
)

// session is one partition's time with this process, from assignment to revocation.
type session struct {
	r         *Runner
	partition int32
	log       *slog.Logger

	hard      context.Context // ends when the partition is lost: nothing more is written
	lose      context.CancelFunc
	soft      context.Context // ends, too, when the partition is revoked: no more intake, a last checkpoint
	revoke    context.CancelFunc
	grace     atomic.Int64  // how long the Sink may take for the last rows, a time.Duration
	done      chan struct{} // closed when the session has ended
	phase     atomic.Int32
	end       atomic.Pointer[endOffset] // newest answer of the watch
	committed atomic.Int64              // position of the last checkpoint; -1 before the first
	note      atomic.Pointer[note]      // what the other members are told
	bounds    atomic.Pointer[bounds]    // newest judgement of the guard
	waiting   atomic.Bool               // for the Sink: nothing is read, and no timer fires
	figures   figures

	// Of Runner.telling:
	told    int64  // position that the group was told last; -1 for none
	noted   string // note that it was told last
	earlier *note  // of the partition's owner before; nil until it is known
}

// endOffset says that the partition ended at an offset at an instant.
type endOffset struct {
	topic  pipeline.TopicID
	offset int64
	at     int64 // Unix milliseconds, not later than the broker's answer
}

// Phases of a session.
const (
	phaseFencing = iota
	phaseRestoring
	phaseComparing
	phaseRunning
	phaseWaiting // for the next attempt, after an error
	phaseEnded
)

var phaseNames = [...]string{"fencing", "restoring", "comparing", "running", "waiting", "ended"}

func newSession(r *Runner, partition int32) *session {
	s := &session{r: r, partition: partition, done: make(chan struct{}),
		log: r.d.Log.With("topic", r.o.Topic, "partition", partition)}
	s.hard, s.lose = context.WithCancel(context.Background())
	s.soft, s.revoke = context.WithCancel(s.hard)
	s.committed.Store(-1)
	s.told = -1
	s.grace.Store(int64(revokeGrace))
	return s
}

func (s *session) in(phase int32) { s.phase.Store(phase) }

// state returns the name of the session's phase.
func (s *session) state() string { return phaseNames[s.phase.Load()] }

// notRunning says what the partition is doing instead, nil if it runs.
func (s *session) notRunning() error {
	phase := s.phase.Load()
	switch {
	case phase == phaseRunning && s.r.o.Stall.blind(s.bounds.Load()):
		return fmt.Errorf("partition %d reads nothing before all partitions have told what they heard of the source", s.partition)
	case phase == phaseRunning:
		return nil
	}
	if why := s.r.d.Healthy(); phase == phaseComparing && why != nil {
		return fmt.Errorf("partition %d waits for the database: %w", s.partition, why)
	}
	return fmt.Errorf("partition %d is %s", s.partition, s.state())
}

// run makes attempts until the session ends. An error that no attempt can mend ends the Runner.
func (s *session) run() {
	defer close(s.done)
	defer s.in(phaseEnded)
	defer s.lose()
	var catcher panics.Catcher
	catcher.Try(s.attempts)
	if p := catcher.Recovered(); p != nil {
		s.r.fail(p.AsError())
	}
}

func (s *session) attempts() {
	for pause := (backoff{}); ; {
		began := time.Now()
		err := s.attempt()
		s.in(phaseWaiting)
		var f *fatalError
		switch {
		case errors.As(err, &f):
			s.r.fail(err)
			return
		case s.soft.Err() != nil:
			if err != nil && s.hard.Err() == nil {
				s.log.Warn("last checkpoint failed: what came after the one before it will be read again", "error", err)
			}
			return
		case err == nil:
			return
		}
		s.log.Warn("partition is dropped and restored", "error", err, "fenced", fenced(err))
		if time.Since(began) > time.Minute {
			pause = backoff{}
		}
		pause.wait(s.soft)
		if !s.confirmMember(&pause) {
			return
		}
	}
}

// confirmMember waits until the group coordinator says that this process is a member, and so the partition its own.
// It reports false if the session ends before.
func (s *session) confirmMember(pause *backoff) bool {
	for s.soft.Err() == nil {
		err := s.r.confirmMember(s.soft)
		if err == nil {
			return true
		}
		s.log.Warn("waiting for the group before the partition is restored", "error", err)
		pause.wait(s.soft)
	}
	return false
}

// stop ends the session with a last checkpoint, giving the Sink a time to take the last rows. It does not wait.
func (s *session) stop(grace time.Duration) {
	s.grace.Store(int64(grace))
	s.revoke()
}

// loseNow ends the session without writing anything more.
func (s *session) loseNow() { s.lose() }

// fatalError is an error that ends the Runner, as trying again cannot help.
type fatalError struct{ err error }

func (f *fatalError) Error() string { return f.err.Error() }
func (f *fatalError) Unwrap() error { return f.err }

func fatal(err error) error { return &fatalError{err} }

func fatalf(format string, args ...any) error { return fatal(fmt.Errorf(format, args...)) }
