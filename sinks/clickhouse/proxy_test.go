package clickhouse

import (
	"crypto/tls"
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
	// rewrite, if set, changes what the server sends.
	rewrite func([]byte) []byte
	wg      conc.WaitGroup

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
	return proxyOn(t, l, server, nil)
}

// proxyOn serves a listener, which may be one of TLS.
func proxyOn(t testing.TB, l net.Listener, server string, rewrite func([]byte) []byte) *proxy {
	p := &proxy{listener: l, server: server, rewrite: rewrite}
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
		p.wg.Go(func() { p.pipe(p.rewriter(client), server) })
	}
}

// rewriter returns the client's connection, behind rewrite if that is set.
func (p *proxy) rewriter(client net.Conn) net.Conn {
	if p.rewrite == nil {
		return client
	}
	return rewritten{client, p.rewrite}
}

type rewritten struct {
	net.Conn
	rewrite func([]byte) []byte
}

func (r rewritten) Write(b []byte) (int, error) {
	if _, err := r.Conn.Write(r.rewrite(b)); err != nil {
		return 0, err
	}
	return len(b), nil
}

func (p *proxy) pipe(to, from net.Conn) {
	_, err := io.Copy(to, from) // it ends with an error whenever the test cuts it
	var plain tls.RecordHeaderError
	if c, ok := from.(*tls.Conn); ok && !c.ConnectionState().HandshakeComplete && !errors.As(err, &plain) {
		_, _ = io.Copy(io.Discard, c.NetConn()) // closing with bytes unread would take the alert away from the client
	}
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
