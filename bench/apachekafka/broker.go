//go:build unix

package apachekafka

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
)

// broker is one process of the cluster. Its methods are not safe for concurrent use.
type broker struct {
	id                 int
	dir                string // of its settings, its logs and its data
	jars               string
	client, controller int // ports

	cmd    *exec.Cmd     // nil if it does not run
	exited chan struct{} // closed once it has ended
	frozen bool
}

// javaOptions keep a broker small: it serves a test, and starts more often than it works for long.
var javaOptions = []string{"-Xms64m", "-Xmx320m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-XX:-UsePerfData"}

// logging sends warnings to a file.
const logging = `appender.file.type = File
appender.file.name = file
appender.file.fileName = %s
appender.file.layout.type = PatternLayout
appender.file.layout.pattern = %%d{HH:mm:ss.SSS} %%p %%c{1}: %%m%%n
rootLogger.level = warn
rootLogger.appenderRef.file.ref = file
`

func (b *broker) path(name string) string { return filepath.Join(b.dir, name) }

// addr is where clients reach it.
func (b *broker) addr() string { return fmt.Sprintf("127.0.0.1:%d", b.client) }

// format writes the settings and prepares the data directory.
func (b *broker) format(ctx context.Context, cluster string, settings []string) error {
	if err := os.MkdirAll(b.dir, 0o755); err != nil {
		return err
	}
	settings = append([]string{
		"process.roles=broker,controller",
		fmt.Sprintf("node.id=%d", b.id),
		fmt.Sprintf("listeners=PLAINTEXT://127.0.0.1:%d,CONTROLLER://127.0.0.1:%d", b.client, b.controller),
		fmt.Sprintf("advertised.listeners=PLAINTEXT://127.0.0.1:%d", b.client),
		"controller.listener.names=CONTROLLER",
		"inter.broker.listener.name=PLAINTEXT",
		"log.dirs=" + b.path("data"),
	}, settings...)
	if err := os.WriteFile(b.path("server.properties"), []byte(strings.Join(settings, "\n")+"\n"), 0o644); err != nil {
		return err
	}
	if err := os.WriteFile(b.path("log4j2.properties"), fmt.Appendf(nil, logging, b.path("kafka.log")), 0o644); err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, "java", b.java("kafka.tools.StorageTool", "format", "-t", cluster, "-c", b.path("server.properties"))...)
	cmd.SysProcAttr = attributes()
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("format the data of broker %d: %w\n%s", b.id, err, tail(string(out), 20))
	}
	return nil
}

// java returns the arguments that run a class of Kafka.
func (b *broker) java(class string, args ...string) []string {
	all := append([]string{}, javaOptions...)
	all = append(all, "-Dlog4j2.configurationFile="+b.path("log4j2.properties"), "-cp", filepath.Join(b.jars, "*"), class)
	return append(all, args...)
}

// start starts the process. It does nothing if it runs.
func (b *broker) start() error {
	if b.running() {
		return b.thaw()
	}
	out, err := os.OpenFile(b.path("out.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return fmt.Errorf("start broker %d: %w", b.id, err)
	}
	defer func() { _ = out.Close() }() // the process has its own
	cmd := exec.Command("java", b.java("kafka.Kafka", b.path("server.properties"))...)
	cmd.Stdout, cmd.Stderr, cmd.SysProcAttr = out, out, attributes()
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start broker %d: %w", b.id, err)
	}
	exited := make(chan struct{})
	b.cmd, b.exited, b.frozen = cmd, exited, false
	go func() {
		_ = cmd.Wait() // how it ended is in its logs
		close(exited)
	}()
	return nil
}

func (b *broker) running() bool {
	if b.cmd == nil {
		return false
	}
	select {
	case <-b.exited:
		return false
	default:
		return true
	}
}

// signal sends a signal to the process, which must run.
func (b *broker) signal(sig syscall.Signal) error {
	if !b.running() {
		return fmt.Errorf("broker %d does not run%s", b.id, b.lastWords())
	}
	if err := b.cmd.Process.Signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("%v to broker %d: %w", sig, b.id, err)
	}
	return nil
}

// kill ends the process at once and waits for its end.
func (b *broker) kill() error {
	if err := b.signal(syscall.SIGKILL); err != nil {
		return err
	}
	<-b.exited
	return nil
}

// stop has the process hand over what it leads and end. It is killed if ctx ends before.
func (b *broker) stop(ctx context.Context) error {
	if err := b.signal(syscall.SIGTERM); err != nil {
		return err
	}
	select {
	case <-b.exited:
		return nil
	case <-ctx.Done():
		_ = b.kill()
		return fmt.Errorf("broker %d did not stop in time and was killed: %w%s", b.id, context.Cause(ctx), b.lastWords())
	}
}

func (b *broker) freeze() error {
	if err := b.signal(syscall.SIGSTOP); err != nil {
		return err
	}
	b.frozen = true
	return nil
}

func (b *broker) thaw() error {
	if !b.frozen {
		return nil
	}
	b.frozen = false
	return b.signal(syscall.SIGCONT)
}

// lastWords returns the ends of its logs, on lines of their own.
func (b *broker) lastWords() string {
	words := ""
	for _, name := range []string{"kafka.log", "out.log"} {
		if text, err := os.ReadFile(b.path(name)); err == nil && len(text) > 0 {
			words += "\n" + tail(string(text), 15)
		}
	}
	return words
}
