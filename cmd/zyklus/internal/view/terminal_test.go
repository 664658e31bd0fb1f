package view_test

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/mattn/go-runewidth"
)

// terminal plays the part of one, for the few sequences that a View uses, and fails the test for any other.
type terminal struct {
	t             *testing.T
	columns, rows int
	row, column   int
	cells         [][]string
	alternate     bool
	hidden        bool
}

func newTerminal(t *testing.T, columns, rows int) *terminal {
	m := &terminal{t: t}
	m.resize(columns, rows)
	return m
}

// resize leaves rubbish on the screen, as terminals do.
func (m *terminal) resize(columns, rows int) {
	m.columns, m.rows, m.cells = columns, rows, make([][]string, rows)
	for i := range m.cells {
		m.cells[i] = strings.Split(strings.Repeat("#", columns), "")
	}
}

var sequence = regexp.MustCompile(`^\x1b\[(\??)([0-9;]*)([A-Za-z])`)

func (m *terminal) Write(p []byte) (int, error) {
	text := string(p)
	for text != "" {
		if found := sequence.FindStringSubmatch(text); found != nil {
			m.command(found[1]+found[3], found[2])
			text = text[len(found[0]):]
			continue
		}
		r := []rune(text)[0]
		m.char(r)
		text = text[len(string(r)):]
	}
	return len(p), nil
}

func (m *terminal) command(name, parameters string) {
	switch name {
	case "?h", "?l":
		on := name == "?h"
		switch parameters {
		case "1049":
			m.alternate = on
		case "25":
			m.hidden = !on
		case "7":
		default:
			m.t.Errorf("unknown mode %s", parameters)
		}
	case "H":
		m.row, m.column = 0, 0
		if row, column, ok := strings.Cut(parameters, ";"); ok {
			m.row, _ = strconv.Atoi(row)
			m.column, _ = strconv.Atoi(column)
			m.row, m.column = m.row-1, m.column-1
		}
	case "J":
		for i := range m.cells {
			m.cells[i] = make([]string, m.columns)
		}
	case "K":
		if m.row < m.rows {
			clear(m.cells[m.row][m.column:])
		}
	case "m":
	default:
		m.t.Errorf("unknown command %q %q", name, parameters)
	}
}

func (m *terminal) char(r rune) {
	width := runewidth.RuneWidth(r)
	switch {
	case r < ' ':
		m.t.Errorf("control character %q", r)
	case m.row >= m.rows || m.column+width > m.columns:
		m.t.Errorf("%q at %d:%d is outside of %dx%d", r, m.row, m.column, m.columns, m.rows)
	default:
		m.cells[m.row][m.column] = string(r)
		for i := 1; i < width; i++ {
			m.cells[m.row][m.column+i] = "\x00"
		}
		m.column += width
	}
}

// String is what is seen, in a frame.
func (m *terminal) String() string {
	var b strings.Builder
	edge := "+" + strings.Repeat("-", m.columns) + "+\n"
	b.WriteString(edge)
	for _, row := range m.cells {
		b.WriteString("|")
		for _, cell := range row {
			switch cell {
			case "":
				b.WriteString(" ")
			case "\x00":
			default:
				b.WriteString(cell)
			}
		}
		b.WriteString("|\n")
	}
	return b.String() + edge + fmt.Sprintf("alternate screen %v, cursor hidden %v\n", m.alternate, m.hidden)
}
