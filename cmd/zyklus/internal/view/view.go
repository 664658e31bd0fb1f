package view

import (
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"golang.org/x/term"
)

// Options say what the View is drawn on.
type Options struct {
	// Terminal says that it is one.
	Terminal bool
	// Size tells the terminal's columns and rows. It is asked at each Render. If it is not set, 80 by 24.
	Size func() (columns, rows int)
	// Colour allows colours and bold text.
	Colour bool
}

// View shows snapshots. It belongs to one goroutine.
type View struct {
	out     io.Writer
	options Options
	closed  bool

	entered bool     // the terminal is ours
	shown   screen   // of the frame that is on it
	lines   []string // of that frame

	due time.Time // of the next plain line
}

// On returns a View for a file: live if it is a terminal that can move its cursor, in colours unless NO_COLOR is set.
func On(f *os.File) *View {
	terminal := term.IsTerminal(int(f.Fd())) && os.Getenv("TERM") != "dumb"
	return New(f, Options{Terminal: terminal, Colour: os.Getenv("NO_COLOR") == "", Size: func() (columns, rows int) {
		columns, rows, err := term.GetSize(int(f.Fd()))
		if err != nil || columns <= 0 || rows <= 0 {
			return 80, 24
		}
		return columns, rows
	}})
}

// New returns a View that writes to out.
func New(out io.Writer, o Options) *View {
	if o.Size == nil {
		o.Size = func() (columns, rows int) { return 80, 24 }
	}
	return &View{out: out, options: o}
}

// Live reports whether the View takes the whole terminal: then nothing else may write to it until Close.
func (v *View) Live() bool { return v.options.Terminal }

// Render shows a snapshot: on a terminal at once, else if a second has passed since the last line. Four times a second
// is a good rate for both.
func (v *View) Render(s Snapshot) error {
	if v.closed {
		return nil
	}
	text := ""
	if v.options.Terminal {
		text = v.redraw(s)
	} else if v.isDue(s.Now) {
		text = plainLine(s)
	}
	if text == "" {
		return nil
	}
	if _, err := io.WriteString(v.out, text); err != nil {
		return fmt.Errorf("show state: %w", err)
	}
	return nil
}

// isDue reports whether a plain line is due. A little early counts, so that the jitter of a ticker drops no second.
func (v *View) isDue(now time.Time) bool {
	if now.Before(v.due.Add(-50 * time.Millisecond)) {
		return false
	}
	v.due = v.due.Add(time.Second)
	if v.due.Before(now) {
		v.due = now.Add(time.Second)
	}
	return true
}

// Sequences of the terminal: alternate screen, cursor and automatic line breaks off, and back.
const (
	enter = "\x1b[?1049h\x1b[?25l\x1b[?7l"
	leave = "\x1b[2J\x1b[?7h\x1b[?25h\x1b[?1049l"
	wipe  = "\x1b[2J"
	home  = "\x1b[H"
)

// redraw returns what makes the terminal show a snapshot.
func (v *View) redraw(s Snapshot) string {
	columns, rows := v.options.Size()
	now := screen{columns, rows, v.options.Colour}
	lines := now.frame(s)
	var b strings.Builder
	if !v.entered {
		b.WriteString(enter)
	}
	if v.shown != now {
		b.WriteString(wipe)
		v.lines = nil
	}
	for i := range max(len(lines), len(v.lines)) {
		text := ""
		if i < len(lines) {
			text = lines[i]
		}
		if i < len(v.lines) && v.lines[i] == text {
			continue
		}
		// Erased first: after a line that fills the row the cursor stands on its last cell and would erase that.
		fmt.Fprintf(&b, "\x1b[%d;1H\x1b[K%s", i+1, text)
	}
	b.WriteString(home)
	v.entered, v.shown, v.lines = true, now, lines
	return b.String()
}

// Close gives the terminal back as it was. Defer it, so that it also happens after a panic.
func (v *View) Close() error {
	if v.closed {
		return nil
	}
	v.closed = true
	if !v.entered {
		return nil
	}
	if _, err := io.WriteString(v.out, leave); err != nil {
		return fmt.Errorf("restore terminal: %w", err)
	}
	return nil
}
