package clickhouse

import (
	"errors"
	"io"
	"net"
	"sync"
	"testing"

	"github.com/sourcegraph/conc"
)

// proxy is a TCP connection to the server that a test can cut and restore.
type proxy struct {
	listener net.Listener
	server   string
	wg       conc.WaitGroup

	mu    sync.Mutex
	down  bool
	conns []net.Conn
}

func newProxy(t testing.TB, server string) *proxy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return startProxy(t, l, server)
}

func startProxy(t testing.TB, l net.Listener, server string) *proxy {
	t.Helper()
	p := &proxy{listener: l, server: server}
	p.wg.Go(p.accept)
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
		p.cut()
		p.wg.Wait()
	})
	return p
}

func (p *proxy) addr() string { return p.listener.Addr().String() }

func (p *proxy) accept() {
	for {
		client, err := p.listener.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			continue
		}
		server, err := net.Dial("tcp", p.server)
		if err != nil || !p.keep(client, server) {
			closeAll(client, server)
			continue
		}
		p.wg.Go(func() { p.pipe(server, client) })
		p.wg.Go(func() { p.pipe(client, server) })
	}
}

func (p *proxy) pipe(to, from net.Conn) {
	_, _ = io.Copy(to, from) // it ends with an error whenever the test cuts it
	closeAll(to, from)
}

// keep records connections, unless the line is cut.
func (p *proxy) keep(conns ...net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.down {
		return false
	}
	p.conns = append(p.conns, conns...)
	return true
}

// cut breaks all connections and refuses new ones.
func (p *proxy) cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.down = true
	closeAll(p.conns...)
	p.conns = nil
}

func (p *proxy) restore() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.down = false
}

func closeAll(conns ...net.Conn) {
	for _, c := range conns {
		if c != nil {
			_ = c.Close() // may be closed already
		}
	}
}
