// Package output writes the answer of a command as text for people or as JSON for scripts.
//
// JSON keys are snake_case and stable: keys may be added, none is renamed or removed. Instants are RFC 3339 in UTC.
// Text may change at any time.
package output

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/pflag"
)

// Format is how an answer is written.
type Format string

// The formats.
const (
	Text Format = "text"
	JSON Format = "json"
)

// Formats lists the names of the formats.
func Formats() []string { return []string{string(Text), string(JSON)} }

// Register adds the flag --output.
func Register(fs *pflag.FlagSet) *Format {
	f := Text
	fs.VarP(&f, "output", "o", "how to write the answer: "+strings.Join(Formats(), " or "))
	return &f
}

// String implements pflag.Value.
func (f *Format) String() string { return string(*f) }

// Type implements pflag.Value.
func (f *Format) Type() string { return "format" }

// Set implements pflag.Value.
func (f *Format) Set(text string) error {
	if text != string(Text) && text != string(JSON) {
		return fmt.Errorf("%q is neither text nor json", text)
	}
	*f = Format(text)
	return nil
}

// Write writes v as JSON, indented and with a line break, or lets text write it.
func (f Format) Write(w io.Writer, v any, text func(w io.Writer) error) error {
	if f != JSON {
		return text(w)
	}
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}

// Table writes rows in aligned columns: heads first, cells separated by tabs. Empty cells become a dash.
func Table(w io.Writer, heads string, rows [][]any) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, heads)
	for _, row := range rows {
		for i, cell := range row {
			if i > 0 {
				fmt.Fprint(t, "\t")
			}
			text := fmt.Sprint(cell)
			if text == "" {
				text = "-"
			}
			fmt.Fprint(t, printable(text))
		}
		fmt.Fprintln(t)
	}
	return t.Flush()
}

// printable keeps bytes of strangers from moving the cursor or breaking the table.
func printable(text string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r >= 0x80 && r < 0xa0 {
			return '·'
		}
		return r
	}, text)
}

// Instant writes an instant as RFC 3339 in UTC with milliseconds; empty for the zero time.
func Instant(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format("2006-01-02T15:04:05.000Z")
}

// Bytes writes a size with a unit of powers of 1024.
func Bytes(n int64) string {
	if n < 1<<10 {
		return fmt.Sprintf("%d B", n)
	}
	v, unit := float64(n), 0
	units := []string{"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"}
	for v >= 1024 {
		v /= 1024
		unit++
	}
	return fmt.Sprintf("%.1f %s", v, units[unit])
}

// Age writes a duration for people: to the second, from two days on in days and hours.
func Age(d time.Duration) string {
	const day = 24 * time.Hour
	if d < 2*day {
		return d.Round(time.Second).String()
	}
	return fmt.Sprintf("%dd%dh", d/day, d%day/time.Hour)
}
