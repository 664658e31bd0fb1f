package pipeline

import (
	"bytes"
	"cmp"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"math/bits"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Rates is a dated table of exchange rates into the reporting currency. It is immutable.
//
// A table is input, like the events: an event takes its rate when it is accepted and keeps it. A day that is added or
// a past rate that is changed is therefore seen by events accepted later only. A rebuild from the topic sees it for all.
type Rates struct {
	reporting [3]byte
	maxAge    int64
	days      map[[3]byte][]dayRate // by day
}

type dayRate struct {
	day  int64
	rate Rate
}

// Rate converts minor units of one currency into minor units of the reporting currency: one of them is
// Units / 10^Digits. The zero Rate stands for none.
type Rate struct {
	Units  uint64
	Digits uint8 // at most 19
}

// rateDigits bounds the significant digits of a rate, and those after its point. With the digits of minor units, which
// differ by 4 at most, Units and 10^Digits stay below 2^64.
const rateDigits = 15

// powers are the powers of ten that fit 64 bits.
var powers = [20]uint64{
	1, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19,
}

// Convert returns an amount in minor units of the reporting currency, rounded half away from zero. ok is false without a
// rate, for an amount below zero, and where the result is above MaxAmount.
func (r Rate) Convert(amount int64) (converted int64, ok bool) {
	if amount < 0 || r.Units == 0 {
		return 0, false
	}
	high, low := bits.Mul64(uint64(amount), r.Units)
	one := powers[r.Digits]
	if high >= one {
		return 0, false
	}
	quotient, rest := bits.Div64(high, low, one)
	if quotient > MaxAmount {
		return 0, false
	}
	if rest >= one-rest {
		quotient++
	}
	return int64(quotient), quotient <= MaxAmount
}

// RateOptions say what a rate table is for.
type RateOptions struct {
	// Currency is the reporting currency, a code of ISO 4217 in upper case.
	Currency string
	// MaxAgeDays is how many days older than an order its rate may be: weekends and holidays have none. Default (0): 7.
	MaxAgeDays int
}

const (
	rateHeader        = "date,currency,rate"
	defaultMaxAgeDays = 7
	greatestMaxAge    = 3660
)

// ParseRates reads a rate table from CSV. Its first line is `date,currency,rate`; each further one holds a date
// (2024-03-01), a code of ISO 4217 in upper case, and how many units of the reporting currency one unit of that currency
// is worth, as a decimal number of at most 15 digits. Rows come in any order, each date and currency once. Blank lines
// and lines that begin with # are skipped. An error tells the line.
func ParseRates(table []byte, o RateOptions) (*Rates, error) {
	p, err := newRateParser(o)
	if err != nil {
		return nil, err
	}
	lines := csv.NewReader(bytes.NewReader(bytes.TrimPrefix(table, []byte("\xef\xbb\xbf"))))
	lines.Comment, lines.FieldsPerRecord, lines.ReuseRecord = '#', -1, true
	for header := true; ; {
		fields, err := lines.Read()
		if errors.Is(err, io.EOF) {
			return p.finish()
		}
		if fault := (*csv.ParseError)(nil); errors.As(err, &fault) {
			return nil, fmt.Errorf("rate table: line %d: %w", fault.Line, fault.Err)
		}
		line, _ := lines.FieldPos(0)
		if len(fields) == 1 && strings.TrimSpace(fields[0]) == "" {
			continue
		}
		if header {
			err = checkHeader(fields)
		} else {
			err = p.read(fields, line)
		}
		if err != nil {
			return nil, fmt.Errorf("rate table: line %d: %w", line, err)
		}
		header = false
	}
}

// rateParser is a table in the making.
type rateParser struct {
	rates  *Rates
	digits int             // of the reporting currency
	lines  map[rateKey]int // where each rate stands
}

type rateKey struct {
	currency [3]byte
	day      int64
}

func newRateParser(o RateOptions) (*rateParser, error) {
	digits, known := CurrencyDigits(o.Currency)
	if !known {
		return nil, fmt.Errorf("rate table: reporting currency %q is not a code of ISO 4217 in upper case", o.Currency)
	}
	if o.MaxAgeDays == 0 {
		o.MaxAgeDays = defaultMaxAgeDays
	}
	if o.MaxAgeDays < 0 || o.MaxAgeDays > greatestMaxAge {
		return nil, fmt.Errorf("rate table: a rate's greatest age of %d days is not from 1 to %d", o.MaxAgeDays, greatestMaxAge)
	}
	r := &Rates{maxAge: int64(o.MaxAgeDays), days: map[[3]byte][]dayRate{}}
	copy(r.reporting[:], o.Currency)
	return &rateParser{r, digits, map[rateKey]int{}}, nil
}

func checkHeader(fields []string) error {
	if got := strings.Join(trimmed(fields), ","); got != rateHeader {
		return fmt.Errorf("the header is %q, want %q", got, rateHeader)
	}
	return nil
}

// trimmed cuts the space around each field.
func trimmed(fields []string) []string {
	for i := range fields {
		fields[i] = strings.TrimSpace(fields[i])
	}
	return fields
}

// read takes one line.
func (p *rateParser) read(fields []string, line int) error {
	if trimmed(fields); len(fields) != 3 {
		return fmt.Errorf("%d fields, want %s", len(fields), rateHeader)
	}
	date, err := time.Parse(time.DateOnly, fields[0])
	if err != nil || date.Year() < 1970 || date.Year() > 2200 {
		return fmt.Errorf("date %q is not a day like 2024-03-01, from 1970 to 2200", fields[0])
	}
	digits, known := CurrencyDigits(fields[1])
	if !known {
		return fmt.Errorf("currency %q is not a code of ISO 4217 in upper case", fields[1])
	}
	key := rateKey{[3]byte([]byte(fields[1])), floorDiv(date.UnixMilli(), DayMillis)}
	if key.currency == p.rates.reporting {
		return fmt.Errorf("%s is the reporting currency, which has no rate", fields[1])
	}
	if first := p.lines[key]; first != 0 {
		return fmt.Errorf("line %d holds a rate of %s for %s already", first, fields[1], fields[0])
	}
	p.lines[key] = line
	rate, err := parseRate(fields[2], digits-p.digits)
	p.rates.days[key.currency] = append(p.rates.days[key.currency], dayRate{key.day, rate})
	return err
}

// finish puts the rates in order.
func (p *rateParser) finish() (*Rates, error) {
	if len(p.lines) == 0 {
		return nil, errors.New("rate table: there is no rate in it")
	}
	for _, days := range p.rates.days {
		slices.SortFunc(days, func(a, b dayRate) int { return cmp.Compare(a.day, b.day) })
	}
	return p.rates, nil
}

// parseRate reads a decimal number of units per unit. Minor units of the currency have so many digits more than those
// of the reporting currency.
func parseRate(text string, more int) (Rate, error) {
	whole, fraction, point := strings.Cut(text, ".")
	for _, c := range whole + fraction {
		if c < '0' || c > '9' {
			return Rate{}, fmt.Errorf("rate %q is not a decimal number above zero, like 0.9231", text)
		}
	}
	if whole == "" || point && fraction == "" {
		return Rate{}, fmt.Errorf("rate %q is not a decimal number above zero, like 0.9231", text)
	}
	fraction = strings.TrimRight(fraction, "0")
	significant := strings.TrimLeft(whole+fraction, "0")
	switch {
	case significant == "":
		return Rate{}, fmt.Errorf("rate %q is not above zero", text)
	case len(significant) > rateDigits || len(fraction) > rateDigits:
		return Rate{}, fmt.Errorf("rate %q has more than %d digits", text, rateDigits)
	}
	units, err := strconv.ParseUint(significant, 10, 64)
	if err != nil {
		return Rate{}, err
	}
	digits := len(fraction) + more
	if digits < 0 {
		units, digits = units*powers[-digits], 0
	}
	return Rate{units, uint8(digits)}, nil
}

// At returns the rate of a currency for a business day: that of the day, else of the nearest day before that is not too
// old. The error tells whether the currency or the day has none.
func (r *Rates) At(currency [3]byte, day int64) (Rate, error) {
	if r == nil {
		return Rate{}, fmt.Errorf("no rate of %s: there is no rate table", currency)
	}
	days := r.days[currency]
	i, exact := slices.BinarySearchFunc(days, day, func(d dayRate, day int64) int { return cmp.Compare(d.day, day) })
	switch {
	case len(days) == 0:
		return Rate{}, fmt.Errorf("no rate of %s: the rate table has none for any day", currency)
	case exact:
		return days[i].rate, nil
	case i == 0:
		return Rate{}, fmt.Errorf("no rate of %s for %s: the first one is of %s", currency, dateOf(day), dateOf(days[0].day))
	case day-days[i-1].day > r.maxAge:
		return Rate{}, fmt.Errorf("no rate of %s for %s: the one before is of %s, more than %d days older",
			currency, dateOf(day), dateOf(days[i-1].day), r.maxAge)
	}
	return days[i-1].rate, nil
}

func dateOf(day int64) string { return time.UnixMilli(day * DayMillis).UTC().Format(time.DateOnly) }

// price gives an event in a foreign currency the rate of its business day, or returns its dead letter. Only a new order
// must have a rate: what changes an order may be in its currency, and then takes the order's own. Whether it is, the
// fold knows.
func (j *Job) price(e *Event) (l DeadLetter, refused bool) {
	e.Rate = Rate{}
	if j.rates != nil && e.Currency == j.rates.reporting {
		e.Currency = [3]byte{}
	}
	if !e.Foreign() {
		return l, false
	}
	rate, err := j.rates.At(e.Currency, j.Calendar.Day(e.At))
	if err == nil {
		e.Rate = rate
	}
	if e.priced() {
		return l, false
	}
	l = DeadLetter{
		Kind: ErrAmountOutOfRange, Cause: fmt.Sprintf("%d minor units of %s are more than %d of the reporting currency", e.Amount, e.Currency, int64(MaxAmount)),
		At: e.At, Key: slices.Clone(e.Customer), Value: slices.Clone(e.Raw), Origin: e.Origin,
	}
	if err != nil {
		l.Kind, l.Cause = ErrCurrencyWithoutRate, err.Error()
	}
	return l, true
}

// priced reports whether the event can be booked: every accepted one can.
func (e *Event) priced() bool {
	if e.Kind != KindOrderCompleted || !e.Foreign() {
		return true
	}
	_, ok := e.Rate.Convert(e.Amount)
	return ok
}
