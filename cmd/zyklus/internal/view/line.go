package view

import (
	"strings"
	"unicode"

	"github.com/mattn/go-runewidth"
)

// style is how a part of a line looks, as parameters of the terminal's SGR.
type style string

// Few, so that the ones that matter stand out.
const (
	normal style = ""
	strong style = "1"
	faint  style = "2"
	accent style = "36" // cyan
	warn   style = "33" // yellow
	alarm  style = "31" // red
)

// widths measures text independent of the locale: our marks are narrow.
var widths = &runewidth.Condition{StrictEmojiNeutral: true}

// line builds one line of the screen, never wider than width.
type line struct {
	text   strings.Builder
	width  int
	used   int
	colour bool
}

// put appends text in a style, cut to what fits.
func (l *line) put(s style, text string) *line {
	text = cut(clean(text), l.width-l.used)
	if text == "" {
		return l
	}
	l.used += widths.StringWidth(text)
	if s == normal || !l.colour {
		l.text.WriteString(text)
		return l
	}
	l.text.WriteString("\x1b[" + string(s) + "m" + text + "\x1b[0m")
	return l
}

// to moves to a column, at least one further.
func (l *line) to(column int) *line {
	if n := min(max(column-l.used, 1), l.width-l.used); n > 0 {
		l.text.WriteString(strings.Repeat(" ", n))
		l.used += n
	}
	return l
}

// right puts text so that it ends at a column.
func (l *line) right(column int, s style, text string) *line {
	return l.to(column-widths.StringWidth(clean(text))).put(s, text)
}

// cut shortens text to a width and shows that it did.
func cut(text string, width int) string {
	if width <= 0 {
		return ""
	}
	return widths.Truncate(text, width, "…")
}

// clean replaces what would command the terminal or break the line: ids of customers come from outside.
func clean(text string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || unicode.In(r, unicode.Cf, unicode.Zl, unicode.Zp) || r == unicode.ReplacementChar {
			return '·'
		}
		return r
	}, text)
}

// wrap keeps the breaks of a text and breaks its lines at spaces where they are wider than width; a longer word stays
// whole, for what is pasted must be.
func wrap(text string, width int) (lines []string) {
	for paragraph := range strings.SplitSeq(strings.Trim(text, "\n"), "\n") {
		paragraph = clean(paragraph)
		for widths.StringWidth(paragraph) > width {
			at := lastSpace(paragraph, width)
			if at < 0 {
				break
			}
			lines = append(lines, paragraph[:at])
			paragraph = paragraph[at+1:]
		}
		lines = append(lines, paragraph)
	}
	return lines
}

// lastSpace finds the last space within a width, or else the first one after it, but none before the first word.
func lastSpace(text string, width int) (at int) {
	at = -1
	used, word := 0, false
	for i, r := range text {
		if r == ' ' && word && (used <= width || at < 0) {
			at = i
		}
		word = word || r != ' '
		used += widths.RuneWidth(r)
	}
	return at
}

// bar draws a share of 0 to 1 in eighths of a cell.
func bar(share float64, cells int) string {
	eighths := int(share*float64(cells)*8 + 0.5)
	eighths = min(max(eighths, 0), cells*8)
	if share > 0 && eighths == 0 {
		eighths = 1 // not nothing
	}
	text := strings.Repeat("█", eighths/8)
	if rest := eighths % 8; rest > 0 {
		text += string([]rune(" ▏▎▍▌▋▊▉")[rest])
	}
	return text
}

// rail draws a share of 0 to 1 on a rail of all cells.
func rail(share float64, cells int) (done, rest string) {
	n := min(max(int(share*float64(cells)), 0), cells)
	return strings.Repeat("━", n), strings.Repeat("─", cells-n)
}
