package embedded

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"
)

// NativeOff switches the native endpoint off.
const NativeOff = "off"

// Bounds of the native endpoint.
const (
	// maxConnections is how many clients may be connected; a few more are told
	// that there are too many, the rest is not answered.
	maxConnections = 1024
	maxRefused     = 64

	handshakeTimeout = 10 * time.Second
	// idleTimeout ends a connection on which nothing was asked.
	idleTimeout = time.Hour
	// packetTimeout is how long one packet may take to arrive or to leave.
	packetTimeout = 5 * time.Minute
	// tellInterval is how often a client is told how far its statement is.
	tellInterval = time.Second
)

// tcpServer is ClickHouse's native protocol in front of the engine.
type tcpServer struct {
	*server
	settings settingNames
	conns    sync.WaitGroup

	mu       sync.Mutex
	listener net.Listener // nil if the endpoint is off
	open     map[*tcpConn]struct{}
	draining bool
}

func newTCPServer(s *server) *tcpServer {
	return &tcpServer{server: s, open: map[*tcpConn]struct{}{}}
}

// listen accepts connections until the returned function is called, which waits
// for the listener's end but not for the connections. A nil listener is fine.
func (t *tcpServer) listen(ln net.Listener) (stop func()) {
	if ln == nil {
		return func() {}
	}
	t.mu.Lock()
	t.listener = ln
	t.mu.Unlock()
	over := make(chan struct{})
	go func() {
		defer close(over)
		t.accept(ln)
	}()
	return func() {
		_ = ln.Close()
		<-over
	}
}

func (t *tcpServer) accept(ln net.Listener) {
	for pause := time.Millisecond; ; {
		nc, err := ln.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			// Out of files, for instance: connections that end free some.
			time.Sleep(pause)
			pause = min(2*pause, time.Second)
			continue
		}
		pause = time.Millisecond
		c := newTCPConn(t, nc)
		if !t.add(c) {
			_ = nc.Close()
			continue
		}
		t.conns.Go(func() {
			defer t.remove(c)
			c.serve()
		})
	}
}

// add keeps a connection, unless there are far too many.
func (t *tcpServer) add(c *tcpConn) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.draining || len(t.open) >= maxConnections+maxRefused {
		return false
	}
	c.surplus = len(t.open) >= maxConnections
	t.open[c] = struct{}{}
	return true
}

func (t *tcpServer) remove(c *tcpConn) {
	t.mu.Lock()
	delete(t.open, c)
	t.mu.Unlock()
	_ = c.nc.Close()
}

// await marks a connection as waiting for its client's next packet, which must
// come in time. It returns false if the connection shall end instead.
func (t *tcpServer) await(c *tcpConn, timeout time.Duration) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	c.idle = !t.draining
	_ = c.nc.SetReadDeadline(time.Now().Add(timeout))
	return c.idle
}

// begin marks a connection as busy with a packet. It returns false if the
// server has given up the connection meanwhile.
func (t *tcpServer) begin(c *tcpConn) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !c.idle {
		return false
	}
	c.idle = false
	_ = c.nc.SetReadDeadline(time.Now().Add(packetTimeout))
	return true
}

// shutdown stops listening, closes connections that wait and lets the others finish what they
// do. When ctx ends first it returns ctx's error.
func (t *tcpServer) shutdown(ctx context.Context) error {
	t.mu.Lock()
	t.draining = true
	if t.listener != nil {
		_ = t.listener.Close()
	}
	for c := range t.open {
		if c.idle {
			c.idle = false
			_ = c.nc.SetReadDeadline(time.Unix(1, 0))
		}
	}
	t.mu.Unlock()
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		t.conns.Wait()
	}()
	select {
	case <-gone:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("stop native connections: %w", ctx.Err())
	}
}

// abort closes every connection and waits for all. Statements must have been
// killed.
func (t *tcpServer) abort() {
	t.mu.Lock()
	for c := range t.open {
		_ = c.nc.Close()
	}
	t.mu.Unlock()
	t.conns.Wait()
}
