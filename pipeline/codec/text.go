package codec

import (
	"unicode/utf16"
	"unicode/utf8"
)

// hexDigit returns the value of a hexadecimal digit.
func hexDigit(c byte) (v rune, ok bool) {
	switch {
	case isDigit(c):
		return rune(c - '0'), true
	case c|0x20 >= 'a' && c|0x20 <= 'f':
		return rune(c|0x20-'a') + 10, true
	}
	return 0, false
}

// unescape appends the text of a string's bytes, whose escapes the scanner has checked. ok is false if an escape names
// half of a surrogate pair: that is no character, and it becomes U+FFFD.
func unescape(dst, src []byte) (text []byte, ok bool) {
	ok = true
	for i := 0; i < len(src); {
		if src[i] != '\\' {
			dst = append(dst, src[i])
			i++
			continue
		}
		if src[i+1] != 'u' {
			dst = append(dst, unescapeByte(src[i+1]))
			i += 2
			continue
		}
		r, n, whole := unescapeRune(src[i:])
		dst = utf8.AppendRune(dst, r)
		ok = ok && whole
		i += n
	}
	return dst, ok
}

// unescapeByte returns the character that a backslash and c stand for.
func unescapeByte(c byte) byte {
	switch c {
	case 'b':
		return '\b'
	case 'f':
		return '\f'
	case 'n':
		return '\n'
	case 'r':
		return '\r'
	case 't':
		return '\t'
	}
	return c // quote, backslash or slash
}

// unescapeRune returns the character of the \u escape, or pair of them, that src begins with, and its length in bytes.
func unescapeRune(src []byte) (r rune, n int, ok bool) {
	const length = len(`\u0000`)
	r = hexRune(src)
	if !utf16.IsSurrogate(r) {
		return r, length, true
	}
	if len(src) >= 2*length && src[length] == '\\' && src[length+1] == 'u' {
		if pair := utf16.DecodeRune(r, hexRune(src[length:])); pair != utf8.RuneError {
			return pair, 2 * length, true
		}
	}
	return utf8.RuneError, length, false
}

// hexRune returns the value of the \u escape that src begins with.
func hexRune(src []byte) (r rune) {
	for _, c := range src[2:6] {
		v, _ := hexDigit(c)
		r = r<<4 | v
	}
	return r
}

// lowerASCII returns s with A to Z in lower case.
func lowerASCII(s string) string {
	lower := make([]byte, len(s))
	copyLower(lower, []byte(s))
	return string(lower)
}

// copyLower copies src to dst, which is as long, with A to Z in lower case.
func copyLower(dst, src []byte) {
	for i, c := range src {
		if c-'A' < 26 {
			c += 'a' - 'A'
		}
		dst[i] = c
	}
}

// copyUpper copies src to dst, which is as long, with a to z in upper case.
func copyUpper(dst, src []byte) {
	for i, c := range src {
		if c-'a' < 26 {
			c -= 'a' - 'A'
		}
		dst[i] = c
	}
}
