package embedded

import "strings"

// tokenKind says what a token is, as far as finding the parts of a statement
// needs it.
type tokenKind uint8

const (
	tokenEnd    tokenKind = iota
	tokenWord             // keyword, identifier or number
	tokenQuoted           // 'string', "identifier", `identifier`, $$heredoc$$
	tokenSign             // one byte of anything else
)

// token is a piece of SQL between two byte offsets.
type token struct {
	kind       tokenKind
	start, end int
	// depth is how many brackets are open around the token; a bracket itself
	// counts as outside.
	depth int
}

// lexer cuts SQL into tokens, leaving out blanks and comments. It never fails:
// an unclosed quote, comment or bracket reaches to the end of the text.
type lexer struct {
	sql   string
	pos   int
	depth int
}

// next returns the next token; at the end of the text its kind is tokenEnd.
func (l *lexer) next() token {
	l.skipBlanks()
	start := l.pos
	if start >= len(l.sql) {
		return token{kind: tokenEnd, start: start, end: start, depth: l.depth}
	}
	switch c := l.sql[start]; {
	case c == '\'' || c == '"' || c == '`':
		l.pos = quotedEnd(l.sql, start)
		return token{tokenQuoted, start, l.pos, l.depth}
	case c == '$':
		if end := heredocEnd(l.sql, start); end > 0 {
			l.pos = end
			return token{tokenQuoted, start, end, l.depth}
		}
		fallthrough
	case isWordByte(c):
		for l.pos < len(l.sql) && isWordByte(l.sql[l.pos]) {
			l.pos++
		}
		l.pos = max(l.pos, start+1)
		return token{tokenWord, start, l.pos, l.depth}
	}
	return l.sign(start)
}

// sign returns a one-byte token and keeps count of brackets.
func (l *lexer) sign(start int) token {
	l.pos++
	switch l.sql[start] {
	case '(', '[', '{':
		l.depth++
		return token{tokenSign, start, l.pos, l.depth - 1}
	case ')', ']', '}':
		l.depth = max(l.depth-1, 0)
	}
	return token{tokenSign, start, l.pos, l.depth}
}

// skipBlanks moves past white space and comments.
func (l *lexer) skipBlanks() {
	for l.pos < len(l.sql) {
		rest := l.sql[l.pos:]
		switch {
		case strings.IndexByte(" \t\r\n\f\v", rest[0]) >= 0:
			l.pos++
		case strings.HasPrefix(rest, "--"), strings.HasPrefix(rest, "# "), strings.HasPrefix(rest, "#!"):
			l.pos += past(rest, "\n")
		case strings.HasPrefix(rest, "/*"):
			l.pos += commentEnd(rest)
		default:
			return
		}
	}
}

// past returns the offset after the first mark in s, or the end of s.
func past(s, mark string) int {
	if i := strings.Index(s, mark); i >= 0 {
		return i + len(mark)
	}
	return len(s)
}

// commentEnd returns the length of the comment s begins with. Comments nest.
func commentEnd(s string) int {
	depth := 0
	for i := 0; i+1 < len(s); i++ {
		switch s[i : i+2] {
		case "/*":
			depth++
			i++
		case "*/":
			depth--
			i++
			if depth == 0 {
				return i + 1
			}
		}
	}
	return len(s)
}

// quotedEnd returns the offset after the quoted text that begins at start. A
// backslash escapes; a doubled quote stands for one.
func quotedEnd(sql string, start int) int {
	quote := sql[start]
	for i := start + 1; i < len(sql); i++ {
		switch {
		case sql[i] == '\\':
			i++
		case sql[i] == quote && i+1 < len(sql) && sql[i+1] == quote:
			i++
		case sql[i] == quote:
			return i + 1
		}
	}
	return len(sql)
}

// heredocEnd returns the offset after the $tag$…$tag$ that begins at start, or
// 0 if none does.
func heredocEnd(sql string, start int) int {
	i := start + 1
	for i < len(sql) && sql[i] != '$' && isWordByte(sql[i]) {
		i++
	}
	if i >= len(sql) || sql[i] != '$' {
		return 0
	}
	tag := sql[start : i+1]
	end := strings.Index(sql[i+1:], tag)
	if end < 0 {
		return 0
	}
	return i + 1 + end + len(tag)
}

func isWordByte(c byte) bool {
	return c == '_' || c == '$' || c >= 0x80 || c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
}
