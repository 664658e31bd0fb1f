package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"zyklus/pipeline"
	"zyklus/pipeline/codec"
)

// report prints what records become.
type report struct {
	out      io.Writer
	json     bool
	currency string // the reporting one

	count, ignored, refused int
	byType                  map[string]int
	byError                 map[string]int
}

func newReport(out io.Writer, currency string) *report {
	return &report{out: out, currency: currency, byType: map[string]int{}, byError: map[string]int{}}
}

// reportRow is one record of the output in JSON.
type reportRow struct {
	Record   int          `json:"record"`
	Type     string       `json:"type,omitempty"`
	Time     string       `json:"time,omitempty"`
	Customer string       `json:"customer,omitempty"`
	Known    bool         `json:"known,omitempty"` // the customer is a user id
	Order    string       `json:"order,omitempty"`
	Amount   string       `json:"amount,omitempty"`
	Currency string       `json:"currency,omitempty"`
	Lines    []reportLine `json:"lines,omitempty"`
	Ignored  bool         `json:"ignored,omitempty"`
	Error    string       `json:"error,omitempty"`
	Cause    string       `json:"cause,omitempty"`
}

type reportLine struct {
	Product  string `json:"product,omitempty"` // hash of the id
	Category string `json:"category,omitempty"`
	Quantity string `json:"quantity"`
	Amount   string `json:"amount,omitempty"`
}

// add prints what came of a record.
func (r *report) add(e *pipeline.Event, err error) error {
	r.count++
	row := reportRow{Record: r.count}
	var refused *pipeline.RecordError
	switch {
	case errors.Is(err, pipeline.ErrIgnored):
		r.ignored++
		row.Ignored = true
	case errors.As(err, &refused):
		r.refused++
		row.Error, row.Cause = refused.Kind.String(), refused.Cause
		r.byError[row.Error]++
		if e.At != 0 {
			row.Time = instant(e.At)
		}
	case err != nil:
		return err
	default:
		r.byType[e.Kind.String()]++
		r.describe(&row, e)
	}
	if r.json {
		return json.NewEncoder(r.out).Encode(row)
	}
	return r.print(&row)
}

// describe fills the row of an event.
func (r *report) describe(row *reportRow, e *pipeline.Event) {
	row.Type, row.Time, row.Known = e.Kind.String(), instant(e.At), e.Known
	row.Customer, row.Order = string(e.Customer), string(e.OrderID)
	if !e.HasAmount && len(e.Lines) == 0 {
		return
	}
	row.Currency = r.currency
	if e.Currency != [3]byte{} {
		row.Currency = string(e.Currency[:])
	}
	digits, _ := codec.KnownCurrency(row.Currency)
	if e.HasAmount {
		row.Amount = decimalText(e.Amount, digits)
	}
	for _, l := range e.Lines {
		line := reportLine{Category: string(l.Category), Quantity: strings.TrimSuffix(decimalText(l.Quantity, 3), ".000")}
		if l.Product != 0 {
			line.Product = strconv.FormatUint(l.Product, 16)
		}
		if l.HasAmount {
			line.Amount = decimalText(l.Amount, digits)
		}
		row.Lines = append(row.Lines, line)
	}
}

func instant(ms int64) string { return time.UnixMilli(ms).UTC().Format("2006-01-02T15:04:05.000Z") }

// decimalText writes units of 10^-digits, which are not negative, as a decimal number.
func decimalText(units int64, digits int) string {
	s := strconv.FormatInt(units, 10)
	if digits == 0 {
		return s
	}
	if missing := digits + 1 - len(s); missing > 0 {
		s = strings.Repeat("0", missing) + s
	}
	return s[:len(s)-digits] + "." + s[len(s)-digits:]
}

// print writes a row of the table. Its columns are of fixed width, so that any number of rows is printed as they come.
func (r *report) print(row *reportRow) error {
	if row.Record == 1 {
		if err := r.line("RECORD", "TYPE", "TIME", "CUSTOMER", "ORDER", "AMOUNT", "LINES"); err != nil {
			return err
		}
	}
	number := strconv.Itoa(row.Record)
	switch {
	case row.Ignored:
		return r.line(number, "ignored")
	case row.Error != "":
		return r.line(number, "refused", row.Error+": "+row.Cause)
	}
	customer := printable(row.Customer)
	if customer != "" && !row.Known {
		customer += " (visitor)"
	}
	amount := row.Amount
	switch {
	case amount != "":
		amount += " " + row.Currency
	case row.Type == pipeline.KindOrderRefunded.String() && len(row.Lines) == 0:
		amount = "whole order"
	}
	lines := ""
	if len(row.Lines) > 0 {
		lines = strconv.Itoa(len(row.Lines))
	}
	return r.line(number, row.Type, row.Time, customer, printable(row.Order), amount, lines)
}

// line prints the cells of a row, the longer ones of which push the next aside.
func (r *report) line(cells ...string) error {
	widths := [...]int{6, 19, 24, 36, 20, 15, 5}
	var b strings.Builder
	for i, cell := range cells {
		fmt.Fprintf(&b, "%-*s  ", widths[i], cell)
	}
	_, err := fmt.Fprintln(r.out, strings.TrimRight(b.String(), " "))
	return err
}

// printable quotes a text that would disturb the terminal or the table.
func printable(s string) string {
	if strings.ContainsFunc(s, func(c rune) bool { return !unicode.IsGraphic(c) || c == '\uFFFD' }) {
		return strconv.QuoteToASCII(s)
	}
	return s
}

// end prints the summary.
func (r *report) end() error {
	if r.json {
		return json.NewEncoder(r.out).Encode(map[string]any{"summary": map[string]any{
			"records": r.count, "events": r.byType, "ignored": r.ignored, "refused": r.byError,
		}})
	}
	events := r.count - r.ignored - r.refused
	_, err := fmt.Fprintf(r.out, "\n%d records: %d events%s, %d ignored, %d refused%s\n", r.count,
		events, counts(r.byType), r.ignored, r.refused, counts(r.byError))
	return err
}

// counts lists numbers by name, in brackets, sorted by name.
func counts(by map[string]int) string {
	if len(by) == 0 {
		return ""
	}
	var parts []string
	for name, n := range by {
		parts = append(parts, fmt.Sprintf("%d %s", n, name))
	}
	slices.SortFunc(parts, func(a, b string) int {
		_, a, _ = strings.Cut(a, " ")
		_, b, _ = strings.Cut(b, " ")
		return strings.Compare(a, b)
	})
	return " (" + strings.Join(parts, ", ") + ")"
}
