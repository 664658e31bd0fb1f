package config

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// Size is a number of bytes.
type Size int64

// String writes the size in the greatest unit that divides it.
func (s Size) String() string {
	units := []string{"", "KiB", "MiB", "GiB", "TiB"}
	unit := 0
	for s != 0 && s%1024 == 0 && unit < len(units)-1 {
		s /= 1024
		unit++
	}
	return strconv.FormatInt(int64(s), 10) + units[unit]
}

// Date is a day, as the instant at which it begins in UTC.
type Date struct{ time.Time }

// String writes the date as 2006-01-02.
func (d Date) String() string { return d.Format(time.DateOnly) }

// set gives the setting a value written as text; lists are separated by commas. After an error it has its old value.
func (f field) set(text string) error {
	if err := checkText(text); err != nil {
		return err
	}
	switch p := f.value.(type) {
	case *string:
		return f.setText(p, text)
	case *bool:
		return assign(p, text, parseBool)
	case *int:
		return assign(p, text, parseInt)
	case *time.Duration:
		return assign(p, text, parseDuration)
	case *Size:
		return assign(p, text, parseSize)
	case *Date:
		return assign(p, text, parseDate)
	case *Secret:
		p.text = NewSecret(text).text // the file, which may be given too, is kept for readSecrets to refuse
	case secretFile:
		p.secret.file = text
	case *[]string:
		*p = splitList(text)
	default:
		panic("BUG: " + f.key + " has a type that cannot be set")
	}
	return nil
}

func (f field) setText(p *string, text string) error {
	if f.oneOf != nil && !slices.Contains(f.oneOf, text) {
		return fmt.Errorf("%q is not one of %s%s", text, strings.Join(f.oneOf, ", "), didYouMean(text, "", f.oneOf))
	}
	*p = text
	return nil
}

func assign[T any](p *T, text string, parse func(string) (T, error)) error {
	v, err := parse(text)
	if err == nil {
		*p = v
	}
	return err
}

// checkText refuses what no setting may hold and what would spoil a line of a log. It does not show the text, which may
// be a secret.
func checkText(text string) error {
	if !utf8.ValidString(text) {
		return errors.New("is not UTF-8")
	}
	if strings.ContainsFunc(text, func(r rune) bool { return unicode.IsControl(r) || r == '\u2028' || r == '\u2029' }) {
		return errors.New("holds a line break or another control character")
	}
	return nil
}

// splitList splits at commas; spaces around items, and empty items, do not count.
func splitList(text string) []string {
	list := []string{}
	for item := range strings.SplitSeq(text, ",") {
		if item = strings.TrimSpace(item); item != "" {
			list = append(list, item)
		}
	}
	return list
}

func parseBool(text string) (bool, error) {
	if text != "true" && text != "false" {
		return false, fmt.Errorf("%q is neither true nor false", text)
	}
	return text == "true", nil
}

func parseInt(text string) (int, error) {
	n, err := strconv.ParseInt(text, 10, 32)
	if err != nil {
		return 0, fmt.Errorf("%q is not a whole number", text)
	}
	return int(n), nil
}

func parseDate(text string) (Date, error) {
	t, err := time.Parse(time.DateOnly, text)
	if err != nil {
		return Date{}, fmt.Errorf("%q is not a date such as 2015-12-31", text)
	}
	return Date{t}, nil
}

// parseDuration is time.ParseDuration with d for 24 hours.
func parseDuration(text string) (time.Duration, error) {
	if days, ok := strings.CutSuffix(text, "d"); ok {
		if n, err := strconv.ParseInt(days, 10, 32); err == nil && n < math.MaxInt64/int64(24*time.Hour) {
			return time.Duration(n) * 24 * time.Hour, nil
		}
	}
	d, err := time.ParseDuration(text)
	if err != nil {
		return 0, fmt.Errorf("%q is not a duration: write a number with a unit, ms, s, m, h or d, such as 10m", text)
	}
	return d, nil
}

// formatDuration writes a duration without units that are zero.
func formatDuration(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

// parseSize reads a whole number of bytes, KiB, MiB, GiB, TiB (powers of 1024) or kB, MB, GB, TB (powers of 1000).
func parseSize(text string) (Size, error) {
	digits := strings.TrimRightFunc(text, func(r rune) bool { return r < '0' || r > '9' })
	unit := strings.TrimSpace(text[len(digits):])
	factor, ok := sizeUnits()[unit]
	n, err := strconv.ParseInt(digits, 10, 64)
	if err != nil || !ok || n < 0 || n > math.MaxInt64/factor {
		return 0, fmt.Errorf("%q is not a size: write a whole number with a unit, B, KiB, MiB, GiB, kB, MB or GB, such as 1MiB", text)
	}
	return Size(n * factor), nil
}

func sizeUnits() map[string]int64 {
	return map[string]int64{
		"": 1, "B": 1,
		"KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40,
		"kB": 1e3, "MB": 1e6, "GB": 1e9, "TB": 1e12,
	}
}
