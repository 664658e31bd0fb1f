package exact

import (
	"context"
	"encoding/binary"
	"io"
	"net"
	"os"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// errCut is what a member sees whose network is cut.
var errCut error = &net.OpError{Op: "dial", Net: "tcp", Err: syscall.EHOSTUNREACH}

// network is the virtual one with all cables to it.
type network struct {
	kfake.VirtualNetwork

	mu     sync.Mutex
	cables []*cable
}

// end closes all connections to an address, as a broker does that dies.
func (n *network) end(addr string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, c := range n.cables {
		c.end(addr)
	}
}

// cable is how a member reaches the rest of the world. It can be frozen, as by SIGSTOP, and cut for good, as by kill -9.
type cable struct {
	net *network

	mu     sync.Mutex
	thawed chan struct{} // closed while nothing is frozen
	cut    chan struct{} // closed once it is cut
	conns  []*wire
	busy   time.Time // instant of the last write
	writes int       // at that instant
	loses  kmsg.Key  // kind of request whose answer is to be lost
	after  int       // so many of them come first
	lost   func()    // called once it is; nil if none is to be lost
}

func newCable(n *network) *cable {
	c := &cable{net: n, thawed: make(chan struct{}), cut: make(chan struct{})}
	close(c.thawed)
	n.mu.Lock()
	defer n.mu.Unlock()
	n.cables = append(n.cables, c)
	return c
}

// end closes the connections to an address.
func (c *cable) end(addr string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.conns = slices.DeleteFunc(c.conns, func(w *wire) bool {
		if w.addr == addr {
			_ = w.Close()
		}
		return w.addr == addr
	})
}

// pass waits while the cable is frozen.
func (c *cable) pass(ctx context.Context) error {
	c.mu.Lock()
	thawed := c.thawed
	c.mu.Unlock()
	select {
	case <-c.cut:
		return errCut
	default:
	}
	select {
	case <-c.cut:
		return errCut
	case <-ctx.Done():
		return ctx.Err()
	case <-thawed:
		return nil
	}
}

func (c *cable) freeze() {
	c.mu.Lock()
	defer c.mu.Unlock()
	select {
	case <-c.thawed:
		c.thawed = make(chan struct{})
	default: // it is frozen
	}
}

func (c *cable) thaw() {
	c.mu.Lock()
	defer c.mu.Unlock()
	select {
	case <-c.thawed:
	default:
		close(c.thawed)
	}
}

// kill cuts the cable, as when a machine dies: no connection carries anything any more, and none is made. The brokers
// do not learn of it for as long as any session lasts. (kfake of 2026-09-18 does not survive a connection that ends
// before the answer to a join: the member's session never ends, and joins can wait for ever.)
func (c *cable) kill() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.isCut() {
		return
	}
	close(c.cut)
	for _, w := range c.conns {
		w.end()
		_ = w.Conn.SetDeadline(time.Now()) // wakes who waits
		_ = w.Conn.SetDeadline(time.Time{})
		go func() { _, _ = io.Copy(io.Discard, w.Conn) }()
		time.AfterFunc(50*time.Second, func() { _ = w.Conn.Close() })
	}
}

func (c *cable) isCut() bool {
	select {
	case <-c.cut:
		return true
	default:
		return false
	}
}

// lose lets the connection end after the nth request of a kind from now: it is carried out, and nobody is told.
func (c *cable) lose(kind kmsg.Key, n int, lost func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.loses, c.after, c.lost = kind, n, lost
}

// losing reports whether the answer to a request, which begins with its length and kind, is to be lost.
func (c *cable) losing(request []byte) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.lost == nil || len(request) < 6 || kmsg.Key(binary.BigEndian.Uint16(request[4:])) != c.loses {
		return false
	}
	if c.after--; c.after >= 0 {
		return false
	}
	c.lost()
	c.lost = nil
	return true
}

// dial fails after a while where the cable is cut, or clients that ask again at once would do so at one instant for ever.
func (c *cable) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	if err := c.pass(ctx); err != nil {
		_ = wait(ctx, time.Second)
		return nil, err
	}
	conn, err := c.net.DialContext(ctx, network, addr)
	if err != nil {
		return nil, &net.OpError{Op: "dial", Net: "tcp", Err: syscall.ECONNREFUSED}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.isCut() {
		_ = conn.Close()
		return nil, errCut
	}
	w := &wire{Conn: conn, cable: c, addr: addr}
	w.ended, w.end = context.WithCancel(context.Background())
	c.conns = append(c.conns, w)
	return w, nil
}

// slow lets a moment pass if very much is written at one instant: who asks again at once, until some time has passed,
// would ask for ever. A moment for each request would be nearer to life, but the client library waits for requests while
// it holds mutexes, for which no time passes in a bubble.
func (c *cable) slow() {
	c.mu.Lock()
	if now := time.Now(); now != c.busy {
		c.busy, c.writes = now, 0
	}
	c.writes++
	much := c.writes > 300
	c.mu.Unlock()
	if much {
		time.Sleep(time.Millisecond)
	}
}

// wire is a connection over a cable. One that is closed, or whose deadline has passed, waits for nothing.
type wire struct {
	net.Conn
	cable *cable
	addr  string

	ended context.Context
	end   context.CancelFunc
}

func (w *wire) Close() error {
	w.end()
	if w.cable.isCut() {
		return nil
	}
	return w.Conn.Close()
}

// SetDeadline is how clients give a request up: they set one in the past.
func (w *wire) SetDeadline(at time.Time) error {
	if w.giveUp(at); w.cable.isCut() {
		return nil
	}
	return w.Conn.SetDeadline(at)
}

func (w *wire) SetReadDeadline(at time.Time) error {
	if w.giveUp(at); w.cable.isCut() {
		return nil
	}
	return w.Conn.SetReadDeadline(at)
}

func (w *wire) SetWriteDeadline(at time.Time) error {
	if w.giveUp(at); w.cable.isCut() {
		return nil
	}
	return w.Conn.SetWriteDeadline(at)
}

func (w *wire) giveUp(at time.Time) {
	if !at.IsZero() && !at.After(time.Now()) {
		w.end()
	}
}

func (w *wire) Read(b []byte) (int, error) {
	if w.cable.isCut() {
		return 0, errCut
	}
	n, err := w.Conn.Read(b)
	if cut := w.cable.pass(w.ended); cut != nil {
		return 0, os.ErrDeadlineExceeded
	}
	return n, err
}

func (w *wire) Write(b []byte) (int, error) {
	w.cable.slow()
	if err := w.cable.pass(w.ended); err != nil {
		return 0, os.ErrDeadlineExceeded
	}
	losing := w.cable.losing(b)
	n, err := w.Conn.Write(b)
	if losing {
		_ = w.Close()
	}
	return n, err
}
