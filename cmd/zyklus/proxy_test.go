package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"regexp"
	"strconv"
	"sync"
	"testing"
	"time"
)

// faulty stands between the pipeline and an engine and does to statements what a test says.
type faulty struct {
	t      testing.TB
	engine string
	addr   string

	mu       sync.Mutex
	listener net.Listener
	server   *http.Server
	plan     func(table string) fault  // of each insert; nil for none
	rewrite  func(sql string) string   // of everything else; nil for none
	silent   chan struct{}             // while not nil, nothing is answered; closed at its end
	done     map[string]map[string]int // how often each fault has happened to each table
}

// fault is what happens to one insert. The zero value: nothing.
type fault struct {
	name string
	// do answers the client. body is the whole insert.
	do func(f *faulty, w http.ResponseWriter, r *http.Request, body []byte)
}

// startFaulty starts a proxy, which ends with the test.
func startFaulty(t testing.TB, engine string) *faulty {
	t.Helper()
	f := &faulty{t: t, engine: engine, addr: "127.0.0.1:0", done: map[string]map[string]int{}}
	f.open()
	t.Cleanup(f.close)
	return f
}

// open begins to listen, where it did before.
func (f *faulty) open() {
	f.t.Helper()
	l, err := net.Listen("tcp", f.addr)
	if err != nil {
		f.t.Fatal(err)
	}
	server := &http.Server{Handler: f}
	f.mu.Lock()
	f.addr, f.listener, f.server = l.Addr().String(), l, server
	f.mu.Unlock()
	go func() { _ = server.Serve(l) }() // ends with close
}

// close refuses connections and breaks those that are open.
func (f *faulty) close() {
	f.speak()
	f.mu.Lock()
	server := f.server
	f.mu.Unlock()
	_ = server.Close() // connections under way break, which is the purpose
}

// shutUp takes requests and answers none of them; speak ends that.
func (f *faulty) shutUp() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.silent = make(chan struct{})
}

func (f *faulty) speak() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.silent != nil {
		close(f.silent)
		f.silent = nil
	}
}

// set changes what the proxy does from now on.
func (f *faulty) set(change func(f *faulty)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change(f)
}

var insertInto = regexp.MustCompile("^INSERT INTO `\\w+`\\.`(\\w+)`")

// ServeHTTP implements http.Handler.
func (f *faulty) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return // the client has given up
	}
	f.mu.Lock()
	silent, plan, rewrite := f.silent, f.plan, f.rewrite
	f.mu.Unlock()
	if silent != nil {
		select {
		case <-silent:
		case <-r.Context().Done():
		}
		hangUp(w)
		return
	}
	insert := insertInto.FindStringSubmatch(r.URL.Query().Get("query"))
	switch {
	case insert != nil && plan != nil:
		if what := plan(insert[1]); what.do != nil {
			what.do(f, w, r, body)
			f.count(insert[1], what.name)
			return
		}
	case insert == nil && rewrite != nil:
		body = []byte(rewrite(string(body)))
	}
	if resp, err := f.ask(r, bytes.NewReader(body), len(body)); err == nil {
		reply(w, resp)
	} else {
		hangUp(w)
	}
}

func (f *faulty) count(table, name string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.done[table] == nil {
		f.done[table] = map[string]int{}
	}
	f.done[table][name]++
}

// ask passes a request on with another body. It goes on when the client has given up, as a server does.
func (f *faulty) ask(r *http.Request, body io.Reader, length int) (*http.Response, error) {
	out, err := http.NewRequestWithContext(context.WithoutCancel(r.Context()), r.Method, "http://"+f.engine+r.URL.RequestURI(), body)
	if err != nil {
		return nil, err
	}
	out.Header, out.ContentLength = r.Header.Clone(), int64(length)
	return http.DefaultTransport.RoundTrip(out)
}

// reply passes an answer on.
func reply(w http.ResponseWriter, resp *http.Response) {
	defer func() { _ = resp.Body.Close() }()
	for name, values := range resp.Header {
		w.Header()[name] = values
	}
	w.WriteHeader(resp.StatusCode)
	_, _ = io.Copy(w, resp.Body) // a client that has given up is its own affair
}

// hangUp closes the connection without an answer.
func hangUp(w http.ResponseWriter) {
	if c, _, err := http.NewResponseController(w).Hijack(); err == nil {
		_ = c.Close()
	}
}

// stored passes an insert on and makes sure that the engine has taken it.
func (f *faulty) stored(r *http.Request, body io.Reader, length int) *http.Response {
	resp, err := f.ask(r, body, length)
	switch {
	case err != nil:
		f.t.Errorf("an insert whose answer is to be lost: %v", err)
	case resp.StatusCode != http.StatusOK:
		text, _ := io.ReadAll(resp.Body)
		f.t.Errorf("an insert whose answer is to be lost: %s: %s", resp.Status, text)
	default:
		return resp
	}
	return nil
}

// The faults of which the engine has stored the rows.
var (
	answerLost = fault{"answer lost", func(f *faulty, w http.ResponseWriter, r *http.Request, body []byte) {
		if resp := f.stored(r, bytes.NewReader(body), len(body)); resp != nil {
			_ = resp.Body.Close()
		}
		hangUp(w)
	}}
	answerLate = fault{"answer late", func(f *faulty, w http.ResponseWriter, r *http.Request, body []byte) {
		if resp := f.stored(r, bytes.NewReader(body), len(body)); resp != nil {
			_ = resp.Body.Close()
		}
		<-r.Context().Done() // the client's patience has ended
	}}
	insertLate = fault{"insert late", func(f *faulty, w http.ResponseWriter, r *http.Request, body []byte) {
		<-r.Context().Done() // it is made again meanwhile, and later ones too
		time.Sleep(500 * time.Millisecond)
		if resp := f.stored(r, bytes.NewReader(body), len(body)); resp != nil {
			_ = resp.Body.Close()
		}
	}}
	trickling = fault{"trickling", func(f *faulty, w http.ResponseWriter, r *http.Request, body []byte) {
		if resp := f.stored(r, &trickle{rest: body, step: len(body)/8 + 1}, len(body)); resp != nil {
			reply(w, resp)
		}
	}}
)

// insertLost takes an insert and never passes it on.
var insertLost = fault{"insert lost", func(_ *faulty, _ http.ResponseWriter, r *http.Request, _ []byte) {
	<-r.Context().Done()
}}

// trickle reads a body in steps with pauses.
type trickle struct {
	rest []byte
	step int
}

func (t *trickle) Read(p []byte) (int, error) {
	if len(t.rest) == 0 {
		return 0, io.EOF
	}
	time.Sleep(40 * time.Millisecond)
	n := copy(p, t.rest[:min(t.step, len(t.rest))])
	t.rest = t.rest[n:]
	return n, nil
}

// bodyCut passes a part of the body on and breaks both connections.
func bodyCut(share float64) fault {
	return fault{"body cut", func(f *faulty, w http.ResponseWriter, r *http.Request, body []byte) {
		defer hangUp(w)
		c, err := net.Dial("tcp", f.engine)
		if err != nil {
			f.t.Errorf("cutting an insert: %v", err)
			return
		}
		head := fmt.Sprintf("POST %s HTTP/1.1\r\nHost: %s\r\nContent-Length: %d\r\n", r.URL.RequestURI(), f.engine, len(body))
		for name := range r.Header {
			if name != "Content-Length" {
				head += name + ": " + r.Header.Get(name) + "\r\n"
			}
		}
		_, err = c.Write(append([]byte(head+"\r\n"), body[:portion(body, share)]...))
		if cerr := c.Close(); err != nil || cerr != nil {
			f.t.Errorf("cutting an insert: %v", errors.Join(err, cerr))
		}
	}}
}

// bodyShort passes a part of the body on as if it were all of it, and the engine's answer back.
func bodyShort(share float64) fault {
	return fault{"body short", func(f *faulty, w http.ResponseWriter, r *http.Request, body []byte) {
		n := portion(body, share)
		resp, err := f.ask(r, bytes.NewReader(body[:n]), n)
		if err != nil {
			hangUp(w)
			return
		}
		if resp.StatusCode == http.StatusOK {
			f.t.Errorf("the engine takes %d of the %d bytes of an insert", n, len(body))
		}
		reply(w, resp)
	}}
}

// portion is how much of a body is passed on: something, and not all.
func portion(body []byte, share float64) int {
	return min(max(1, int(float64(len(body))*share)), len(body)-1)
}

// exception answers as the engine would, without asking it.
func exception(code int, name string) fault {
	return fault{name, func(_ *faulty, w http.ResponseWriter, _ *http.Request, _ []byte) {
		w.Header().Set("X-ClickHouse-Exception-Code", strconv.Itoa(code))
		w.WriteHeader(http.StatusInternalServerError)
		_, _ = fmt.Fprintf(w, "Code: %d. DB::Exception: as a test wants it. (%s) (version 26.5.1.1)\n", code, name)
	}}
}

// webPage answers as something in front of the engine would.
func webPage(status int) fault {
	return fault{fmt.Sprint("page ", status), func(_ *faulty, w http.ResponseWriter, _ *http.Request, _ []byte) {
		w.Header().Set("Content-Type", "text/html")
		w.WriteHeader(status)
		_, _ = io.WriteString(w, "<html><body><h1>Welcome</h1></body></html>\n")
	}}
}

// everyFault is one of each kind.
func everyFault(chance *rand.Rand) []fault {
	return []fault{
		answerLost, answerLate, insertLate, insertLost, trickling, bodyCut(chance.Float64()), bodyShort(chance.Float64()),
		exception(252, "TOO_MANY_PARTS"), exception(241, "MEMORY_LIMIT_EXCEEDED"), exception(243, "NOT_ENOUGH_SPACE"),
		exception(242, "TABLE_IS_READ_ONLY"), webPage(http.StatusServiceUnavailable), webPage(http.StatusBadGateway), webPage(http.StatusOK),
	}
}

// onceEach plans every fault once for each of some tables, in an order of the seed, with an insert that succeeds after each.
// left tells how many are to come.
func onceEach(chance *rand.Rand, tables ...string) (plan func(table string) fault, left func() int) {
	var mu sync.Mutex
	todo := map[string][]fault{}
	for _, table := range tables {
		faults := everyFault(chance)
		chance.Shuffle(len(faults), func(i, j int) { faults[i], faults[j] = faults[j], faults[i] })
		for _, f := range faults {
			todo[table] = append(todo[table], f, fault{})
		}
	}
	plan = func(table string) (next fault) {
		mu.Lock()
		defer mu.Unlock()
		if list := todo[table]; len(list) > 0 {
			next, todo[table] = list[0], list[1:]
		}
		return next
	}
	left = func() (n int) {
		mu.Lock()
		defer mu.Unlock()
		for _, list := range todo {
			n += len(list)
		}
		return n
	}
	return plan, left
}
