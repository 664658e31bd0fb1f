package output_test

import (
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/spf13/pflag"

	"zyklus/cmd/zyklus/internal/output"
)

func TestFormat(t *testing.T) {
	fs := pflag.NewFlagSet("test", pflag.ContinueOnError)
	f := output.Register(fs)
	write := func() string {
		var b strings.Builder
		v := struct {
			Name string `json:"customer_id"`
		}{"a<b"}
		if err := f.Write(&b, v, func(w io.Writer) error { _, err := fmt.Fprint(w, "as text"); return err }); err != nil {
			t.Fatal(err)
		}
		return b.String()
	}
	if got := write(); got != "as text" {
		t.Errorf("by default: %q", got)
	}
	if err := fs.Parse([]string{"-o", "json"}); err != nil {
		t.Fatal(err)
	}
	if got := write(); got != "{\n  \"customer_id\": \"a<b\"\n}\n" {
		t.Errorf("as JSON: %q", got)
	}
	if err := fs.Parse([]string{"--output", "yaml"}); err == nil || !strings.Contains(err.Error(), "text nor json") {
		t.Errorf("yaml: %v", err)
	}
}

func TestTable(t *testing.T) {
	var b strings.Builder
	if err := output.Table(&b, "NAME\tN", [][]any{{"one", 1}, {"", -12}, {"a\x1b[2Jb\n", ""}}); err != nil {
		t.Fatal(err)
	}
	want := "NAME     N\none      1\n-        -12\na·[2Jb·  -\n"
	if b.String() != want {
		t.Errorf("%q, want %q", b.String(), want)
	}
}

func TestUnits(t *testing.T) {
	for n, want := range map[int64]string{0: "0 B", 1023: "1023 B", 1024: "1.0 KiB", 1536: "1.5 KiB", 5 << 30: "5.0 GiB"} {
		if got := output.Bytes(n); got != want {
			t.Errorf("%d: %s, want %s", n, got, want)
		}
	}
	for d, want := range map[time.Duration]string{1499 * time.Millisecond: "1s", 47 * time.Hour: "47h0m0s", 51 * time.Hour: "2d3h"} {
		if got := output.Age(d); got != want {
			t.Errorf("%v: %s, want %s", d, got, want)
		}
	}
	at := time.Date(2024, 3, 1, 12, 0, 0, 5e6, time.FixedZone("", 3600))
	if got := output.Instant(at); got != "2024-03-01T11:00:00.005Z" {
		t.Error(got)
	}
	if output.Instant(time.Time{}) != "" {
		t.Error("the zero time is written")
	}
}
