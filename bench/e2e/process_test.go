package e2e

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"zyklus/pipeline/kafka"
)

// child is a zyklus in a process of its own, which a benchmark can stop, kill and start again.
type child struct {
	b      *testing.B
	binary string
	env    []string
	args   []string
	log    string // file of standard error
	cmd    *exec.Cmd
	exited chan struct{}
}

// newChild starts zyklus; it is killed at the end of the benchmark.
func newChild(b *testing.B, binary string, env []string, args ...string) *child {
	c := &child{b: b, binary: binary, env: env, args: args, log: filepath.Join(b.TempDir(), "log")}
	b.Cleanup(c.kill)
	return c
}

// start starts the process and returns its standard output, which must be read to its end.
func (c *child) start() io.Reader {
	log, err := os.Create(c.log)
	if err != nil {
		c.b.Fatal(err)
	}
	c.cmd = exec.Command(c.binary, c.args...)
	c.cmd.Env = append(slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, "ZYKLUS_BENCH_") }), c.env...)
	c.cmd.Stderr = log
	out, err := c.cmd.StdoutPipe()
	if err == nil {
		err = c.cmd.Start()
	}
	if err != nil {
		c.b.Fatal(err)
	}
	_ = log.Close() // the process has its own
	cmd, exited := c.cmd, make(chan struct{})
	c.exited = exited
	go func() { // ends with the process, which kill waits for
		defer close(exited)
		_ = cmd.Wait()
	}()
	return out
}

// kill ends the process with SIGKILL, if it runs.
func (c *child) kill() { c.end(syscall.SIGKILL) }

// stop ends the process with SIGTERM.
func (c *child) stop() { c.end(syscall.SIGTERM) }

func (c *child) end(signal os.Signal) {
	if c.cmd == nil {
		return
	}
	_ = c.cmd.Process.Signal(signal) // it may have ended
	<-c.exited
}

// server is an embedded part that keeps its address and its data when it is started again.
type server struct {
	*child
	addr string
}

func startServer(b *testing.B, binary, kind string) *server {
	s := &server{newChild(b, binary, nil), "127.0.0.1:0"}
	dir := b.TempDir()
	s.args = []string{"embedded", kind, "--listen", s.addr, "--data-dir", dir}
	s.start()
	return s
}

// start starts the part where it was and waits until it is ready.
func (s *server) start() {
	s.args[3] = s.addr
	line, err := bufio.NewReader(s.child.start()).ReadString('\n')
	if err != nil {
		s.b.Fatalf("%v: %v\n%s", s.args, err, s.text())
	}
	s.addr = strings.TrimPrefix(strings.TrimSpace(strings.TrimPrefix(line, "READY ")), "http://")
}

func (c *child) text() string {
	text, err := os.ReadFile(c.log)
	if err != nil {
		return err.Error()
	}
	return string(text)
}

var served = regexp.MustCompile(`msg=running .*http=(http://\S+)`)

// ready waits until a pipeline is, and returns where it serves its metrics.
func (c *child) ready() (url string) {
	for {
		if m := served.FindStringSubmatch(c.text()); m != nil {
			if resp, err := http.Get(m[1] + "/readyz"); err == nil {
				_ = resp.Body.Close()
				if resp.StatusCode == http.StatusOK {
					return m[1]
				}
			}
		}
		c.alive()
		time.Sleep(50 * time.Millisecond)
	}
}

// alive ends the benchmark if the process has ended.
func (c *child) alive() {
	select {
	case <-c.exited:
		c.b.Fatalf("zyklus %v has ended\n%s", c.args, c.text())
	default:
	}
}

// metrics returns the sums of metrics over their labels.
func (c *child) metrics(url string, names ...string) []float64 {
	c.alive()
	resp, err := http.Get(url + "/metrics")
	if err != nil {
		c.b.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	sums := make([]float64, len(names))
	for lines := bufio.NewScanner(resp.Body); lines.Scan(); {
		name, _, _ := strings.Cut(lines.Text(), " ")
		name, _, _ = strings.Cut(name, "{")
		if i := slices.Index(names, name); i >= 0 {
			fields := strings.Fields(lines.Text())
			v, err := strconv.ParseFloat(fields[len(fields)-1], 64)
			if err != nil {
				c.b.Fatal(err)
			}
			sums[i] += v
		}
	}
	return sums
}

// site is a broker, an engine, and the deployments on them.
type site struct {
	b              *testing.B
	binary         string
	broker, engine *server
}

func newSite(b *testing.B, binary string) *site {
	s := &site{b, binary, startServer(b, binary, "broker"), startServer(b, binary, "clickhouse")}
	o := kafka.Options{Brokers: []string{s.broker.addr}, Group: "feed", Topic: "events"}
	if err := kafka.EnsureTopics(context.Background(), o, partitions); err != nil {
		b.Fatal(err)
	}
	return s
}

// pipeline returns a pipeline of a group, with a database of the same name, that is not started yet.
func (s *site) pipeline(group, clock string, env ...string) *child {
	path := filepath.Join(s.b.TempDir(), "zyklus.yaml")
	text := fmt.Sprintf(`group: %[1]s
source: {topic: events, clock: %[2]s}
kafka: {brokers: ["%[3]s"], partitions: %[4]d}
clickhouse: {addrs: ["%[5]s"], protocol: http, database: %[1]s, compression: none}
http: {addr: "127.0.0.1:0"}
log: {format: text}
`, group, clock, s.broker.addr, partitions, s.engine.addr)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		s.b.Fatal(err)
	}
	runCommand(s.b, s.binary, "migrate", "--config", path)
	return newChild(s.b, s.binary, env, "run", "--config", path)
}

// query asks the engine and returns the lines of its answer, tab-separated.
func (s *site) query(sql string) ([]string, error) {
	resp, err := http.Post("http://"+s.engine.addr+"/?default_format=TSV", "text/plain", strings.NewReader(sql))
	if err != nil {
		return nil, err
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s: %s %w", resp.Status, text, err)
	}
	return strings.Fields(string(text)), nil
}

// number is query for one number.
func (s *site) number(sql string) float64 {
	fields, err := s.query(sql)
	if err != nil || len(fields) != 1 {
		s.b.Fatalf("%s: %v %v", sql, fields, err)
	}
	v, err := strconv.ParseFloat(fields[0], 64)
	if err != nil {
		s.b.Fatal(err)
	}
	return v
}
