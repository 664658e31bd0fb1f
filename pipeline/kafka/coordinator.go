package kafka

import (
	"context"
	"errors"
	"net"
	"os"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// When a broker dies, those that it coordinated look for their new coordinator, and may ask the dead one for it, which is
// among the brokers they know. franz-go v1.22.2 gives up if it does so twice in a row: a member of a group then takes all
// its partitions as lost, the outcome of a commit is unknown, and what was at work must be restored. Here such a request
// goes on to the next broker, as it does after other errors.

// coordinatorPatience is how long a group's member looks for a coordinator that does not answer before it counts its
// partitions as lost. It is longer than brokers take to notice that one of them has died and to have another one
// coordinate its groups (about 10 s as they come), after which a member has its whole session timeout again. Should the
// group have given the member up meanwhile, its transactions are fenced.
const coordinatorPatience = 45 * time.Second

// patience keeps the partitions of a member whose coordinator dies.
func (o *Options) patience() []kgo.Opt {
	return []kgo.Opt{kgo.RetryTimeout(coordinatorPatience), kgo.Dialer(o.Security.dialPatiently)}
}

// patientProducer keeps a transaction whose coordinator dies. The client that is made with it must be given to the hook.
func (o *Options) patientProducer() ([]kgo.Opt, *leaderHook) {
	hook := &leaderHook{}
	return []kgo.Opt{kgo.WithHooks(hook), kgo.Dialer(o.Security.dialPatiently)}, hook
}

// leaderHook has a client look for new leaders when a broker cannot be reached or does not answer. The library itself does
// so for a connection that is refused, but not for what takes too long: it asks a broker that hangs again and again.
type leaderHook struct{ client atomic.Pointer[kgo.Client] }

// OnBrokerConnect implements kgo.HookBrokerConnect.
func (h *leaderHook) OnBrokerConnect(_ kgo.BrokerMetadata, _ time.Duration, _ net.Conn, err error) {
	if cl := h.client.Load(); cl != nil && err != nil {
		cl.ForceMetadataRefresh()
	}
}

// dialPatiently is dial, but a connection that is refused or has no route is told as one that takes too long: after such
// an error the library goes on to the next broker with any request, else with some only.
func (s *Security) dialPatiently(ctx context.Context, network, addr string) (net.Conn, error) {
	dial := (&net.Dialer{Timeout: dialTimeout}).DialContext
	if s.TLS != nil {
		dial = s.dial
	}
	conn, err := dial(ctx, network, addr)
	var op *net.OpError
	var call *os.SyscallError
	if errors.As(err, &op) && errors.As(op.Err, &call) && !errors.Is(err, os.ErrPermission) {
		late := *op
		late.Err = &os.SyscallError{Syscall: call.Syscall, Err: lateError{call.Err}}
		return conn, &late
	}
	return conn, err
}

// lateError makes an error one of a time limit.
type lateError struct{ error }

func (lateError) Timeout() bool   { return true }
func (lateError) Temporary() bool { return true }
func (e lateError) Unwrap() error { return e.error }

// OnBrokerE2E implements kgo.HookBrokerE2E.
func (h *leaderHook) OnBrokerE2E(_ kgo.BrokerMetadata, _ int16, e2e kgo.BrokerE2E) {
	if cl := h.client.Load(); cl != nil && e2e.Err() != nil {
		cl.ForceMetadataRefresh()
	}
}

var (
	_ net.Error             = lateError{syscall.ECONNREFUSED}
	_ kgo.HookBrokerConnect = (*leaderHook)(nil)
)
