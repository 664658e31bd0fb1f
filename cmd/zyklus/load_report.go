package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/cespare/xxhash/v2"

	"zyklus/pipeline"
)

const (
	shownRefusals = 20
	maxCustomers  = 1_000_000 // that a dry run tells apart
)

// loadSummary says what came of the files. Its fields are the output in JSON.
type loadSummary struct {
	Files   []string `json:"files"`
	Topic   string   `json:"topic"`
	DryRun  bool     `json:"dry_run"`
	Records int64    `json:"records"` // read
	Before  int64    `json:"loaded_before"`
	Loaded  int64    `json:"loaded"`
	Ignored int64    `json:"ignored"`
	Earlier int64    `json:"earlier"` // than --after
	Later   int64    `json:"later"`   // than --advance-to

	Events     int64            `json:"events"` // to load, or loaded
	ByType     map[string]int64 `json:"events_by_type"`
	FirstEvent time.Time        `json:"first_event,omitzero"`
	LastEvent  time.Time        `json:"last_event,omitzero"`
	AdvancedTo time.Time        `json:"advanced_to,omitzero"`
	Customers  *int64           `json:"customers,omitempty"` // of a dry run; -1: more than are told apart

	Refused   int64            `json:"refused"`
	ByError   map[string]int64 `json:"refused_by_error"`
	FirstOnes []refusedRecord  `json:"first_refused"`

	Reached    int64   `json:"reached_ms"`  // how far time had come before this load; 0 for a deployment that has not run
	LateEvents int64   `json:"late_events"` // than the source's lateness allows
	WorstMS    int64   `json:"latest_ms"`   // by how much the latest of them
	Seconds    float64 `json:"seconds"`
	started    time.Time
	lateness   time.Duration
	customers  map[uint64]struct{}
}

// refusedRecord is one refused record.
type refusedRecord struct {
	File  string `json:"file"`
	Line  int64  `json:"line"`
	Error string `json:"error"`
	Cause string `json:"cause"`
}

func (s *loadSummary) begin(o *loadOptions, now time.Time) {
	s.Files, s.Topic, s.DryRun, s.started, s.lateness = o.paths, o.source.Topic, o.dryRun, now, o.source.Lateness
	s.ByType, s.ByError, s.FirstOnes = map[string]int64{}, map[string]int64{}, []refusedRecord{}
	if o.dryRun {
		s.customers = map[uint64]struct{}{}
	}
}

// count takes an event that is to be loaded.
func (s *loadSummary) count(it *item) {
	s.Events++
	s.ByType[it.kind.String()]++
	at := time.UnixMilli(it.at).UTC()
	if s.FirstEvent.IsZero() || at.Before(s.FirstEvent) {
		s.FirstEvent = at
	}
	if at.After(s.LastEvent) {
		s.LastEvent = at
	}
	if s.customers != nil && it.kind != pipeline.KindHeartbeat && len(s.customers) <= maxCustomers {
		s.customers[xxhash.Sum64(it.key)] = struct{}{}
	}
}

func (s *loadSummary) refuse(it *item) {
	s.Refused++
	s.ByError[it.refused]++
	if len(s.FirstOnes) < shownRefusals {
		s.FirstOnes = append(s.FirstOnes, refusedRecord{it.file, it.line, it.refused, it.cause})
	}
}

// late takes an event that comes so many milliseconds after later ones.
func (s *loadSummary) late(back int64) {
	s.LateEvents++
	s.WorstMS = max(s.WorstMS, back)
}

func (s *loadSummary) finish(now time.Time) {
	s.Seconds = now.Sub(s.started).Round(time.Millisecond).Seconds()
	if s.customers != nil {
		n := int64(len(s.customers))
		if n > maxCustomers {
			n = -1
		}
		s.Customers = &n
	}
}

// print writes the summary.
func (s *loadSummary) print(w io.Writer, o *loadOptions) error {
	if o.output == "json" {
		e := json.NewEncoder(w)
		e.SetEscapeHTML(false)
		return e.Encode(s)
	}
	var b strings.Builder
	s.head(&b)
	if s.Ignored > 0 {
		fmt.Fprintf(&b, "ignored: %d records\n", s.Ignored)
	}
	if s.Earlier+s.Later > 0 {
		fmt.Fprintf(&b, "left out: %d events loaded before, %d later ones\n", s.Earlier, s.Later)
	}
	if s.LateEvents > 0 {
		worst := (time.Duration(s.WorstMS) * time.Millisecond).Round(time.Second)
		fmt.Fprintf(&b, "late: %d events come later than the lateness of %v allows, the latest by %v: totals are right, but what follows from these\n"+
			"  is dated like a correction; load with --sort, or set the source's lateness to at least %v before the service reads them\n",
			s.LateEvents, s.lateness, worst, worst+time.Second)
		if s.Reached > 0 {
			fmt.Fprintf(&b, "  time had come to %s here before this load: orders more than 400 days older than that are dead letters (order_too_old);\n"+
				"  load history before the first run, or into a new group and database\n", time.UnixMilli(s.Reached).UTC().Format(time.RFC3339))
		}
	}
	s.refusals(&b, o)
	_, err := io.WriteString(w, b.String())
	return err
}

func (s *loadSummary) head(b *strings.Builder) {
	switch {
	case s.DryRun:
		fmt.Fprintf(b, "would load %d events%s of %d records into %s\n", s.Events, counts64(s.ByType), s.Records, s.Topic)
		if s.Customers != nil && *s.Customers < 0 {
			fmt.Fprintf(b, "customers: more than %d\n", maxCustomers)
		} else if s.Customers != nil {
			fmt.Fprintf(b, "customers: %d\n", *s.Customers)
		}
		if s.Events > 0 {
			fmt.Fprintf(b, "from %s to %s\n", s.FirstEvent.Format(time.RFC3339), s.LastEvent.Format(time.RFC3339))
		}
		return
	case s.Before > 0 && s.Loaded == 0 && s.AdvancedTo.IsZero():
		fmt.Fprintf(b, "all %d records are in %s already\n", s.Before, s.Topic)
		return
	}
	fmt.Fprintf(b, "loaded %d events into %s", s.Loaded, s.Topic)
	if s.Before > 0 {
		fmt.Fprintf(b, " after the %d that were there", s.Before)
	}
	if !s.AdvancedTo.IsZero() {
		fmt.Fprintf(b, ", time advanced to %s", s.AdvancedTo.Format(time.RFC3339))
	}
	b.WriteString("\n")
}

func (s *loadSummary) refusals(b *strings.Builder, o *loadOptions) {
	if s.Refused == 0 {
		return
	}
	fmt.Fprintf(b, "refused: %d records%s\n", s.Refused, counts64(s.ByError))
	for _, r := range s.FirstOnes {
		where := fmt.Sprintf("line %d", r.Line)
		if len(o.paths) > 1 {
			where = r.File + ", " + where
		}
		fmt.Fprintf(b, "  %s: %s: %s\n", where, r.Error, r.Cause)
	}
	if rest := s.Refused - int64(len(s.FirstOnes)); rest > 0 && o.refused == "" {
		fmt.Fprintf(b, "  and %d more: --refused FILE writes them all\n", rest)
	} else if o.refused != "" {
		fmt.Fprintf(b, "  all of them are in %s\n", o.refused)
	}
}

// counts64 is counts of larger numbers.
func counts64(by map[string]int64) string {
	small := make(map[string]int, len(by))
	for name, n := range by {
		small[name] = int(n)
	}
	return counts(small)
}

// refusedFile takes the refused records; nil drops them.
type refusedFile struct {
	f *os.File
	w *bufio.Writer
	e *json.Encoder
}

func createRefused(path string) (*refusedFile, error) {
	if path == "" {
		return nil, nil
	}
	f, err := os.Create(path)
	if err != nil {
		return nil, fmt.Errorf("--refused: %w", err)
	}
	r := &refusedFile{f: f, w: bufio.NewWriter(f)}
	r.e = json.NewEncoder(r.w)
	r.e.SetEscapeHTML(false)
	return r, nil
}

func (r *refusedFile) write(it *item) error {
	if r == nil {
		return nil
	}
	row := struct {
		refusedRecord
		Original string `json:"original,omitempty"`
		Base64   []byte `json:"original_base64,omitempty"` // where it is not UTF-8
	}{refusedRecord: refusedRecord{it.file, it.line, it.refused, it.cause}}
	if utf8.Valid(it.original) {
		row.Original = string(it.original)
	} else {
		row.Base64 = it.original
	}
	if err := r.e.Encode(row); err != nil {
		return fmt.Errorf("--refused: %w", err)
	}
	return nil
}

// close writes what is left; once.
func (r *refusedFile) close() error {
	if r == nil || r.f == nil {
		return nil
	}
	f := r.f
	r.f = nil
	if err := errors.Join(r.w.Flush(), f.Close()); err != nil {
		return fmt.Errorf("--refused: %w", err)
	}
	return nil
}
