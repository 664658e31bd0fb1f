package pipeline_test

import (
	"flag"
	"fmt"
	"hash/fnv"
	"math"
	"os"
	"path/filepath"
	"sort"
	"strconv"
	"strings"
	"testing"
	"time"

	"zyklus/bench/oracle"
	"zyklus/pipeline"
)

var update = flag.Bool("update", false, "rewrite golden files; read the difference before committing it")

// TestScenarios runs the files of testdata/scenarios: what happens, then after ---- what is published of it at the next
// checkpoint. A block of commands ends at ----, its output at an empty line. Times are local to the zone.
//
//	job zone=Europe/Berlin lateness=10m      first line, optional; rates=small is a table of testdata/rates
//	event 2024-03-01 10:00 anna page         kinds: page, product, order, update, refund, cancel
//	event 2024-03-01 11:00 anna order a1 19.99 shoes hats x2
//	event 2024-03-02 11:00 anna refund a1 5.00        an amount; `refund a1 shoes` lines; `refund a1` the whole order
//	  … USD behind an amount is its currency; id=7 names the event id, so that it comes twice; at=<time> is when the record was appended
//	clock 2024-06-15 00:00                   the wall clock, all input being read
//	heartbeat 2024-06-15 00:00
//	hold 2024-06-15 00:00 2024-06-14 00:00   bounds of clock and settling; `hold none`
//	crash                                    state goes back to the last checkpoint
//	repeat 5000 10ms <event …>
//	show orders net_value_minor              columns of customers that are printed from now on
//	days                                     so are the rows of customer_days
//	sink off                                 nothing is written until `sink on`
func TestScenarios(t *testing.T) {
	files, err := filepath.Glob("testdata/scenarios/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatal("no scenarios", err)
	}
	for _, f := range files {
		t.Run(strings.TrimSuffix(filepath.Base(f), ".txt"), func(t *testing.T) {
			b, err := os.ReadFile(f)
			if err != nil {
				t.Fatal(err)
			}
			s := &scenario{t: t, setting: setting{zone: "UTC", lateness: 10 * time.Minute}}
			got := s.run(string(b))
			if *update {
				if err := os.WriteFile(f, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			} else if got != string(b) {
				t.Errorf("%s: got\n%s", f, got)
			}
		})
	}
}

// scenario is one file being run.
type scenario struct {
	setting
	rates   string // name of the rate table, "" for that of all tests
	t       *testing.T
	zone    *time.Location
	job     *pipeline.Job
	task    *pipeline.Task
	durable changelog
	show    []string
	days    bool // whether rows of customer_days are printed
	away    bool // whether the sink is
	offset  int64
	before  pipeline.Stats
}

// run returns the file with its outputs as they are.
func (s *scenario) run(file string) string {
	var out strings.Builder
	commands := true
	for _, line := range strings.Split(strings.TrimRight(file, "\n"), "\n") {
		switch {
		case !commands:
			commands = line == ""
		case line == "----":
			commands = false
			out.WriteString("----\n" + s.checkpoint() + "\n")
		default:
			out.WriteString(line + "\n")
			s.command(line)
		}
	}
	return strings.TrimRight(out.String(), "\n") + "\n"
}

func (s *scenario) command(line string) {
	if line, _, _ = strings.Cut(line, "#"); strings.TrimSpace(line) == "" {
		return
	}
	w := strings.Fields(line)
	if w[0] == "job" {
		for _, o := range w[1:] {
			name, value, _ := strings.Cut(o, "=")
			switch name {
			case "zone":
				s.setting.zone = value
			case "rates":
				s.rates = value
			default:
				s.lateness, _ = time.ParseDuration(value)
			}
		}
		return
	}
	s.start()
	switch w[0] {
	case "event":
		s.event(w[1:], 0)
	case "repeat":
		n, _ := strconv.Atoi(w[1])
		step, _ := time.ParseDuration(w[2])
		for i := range n {
			s.event(w[4:], int64(i)*step.Milliseconds())
		}
	case "clock":
		s.task.AdvanceClock(s.time(w[1] + " " + w[2]))
	case "heartbeat":
		at := s.time(w[1] + " " + w[2])
		s.task.Process(&pipeline.Event{Kind: pipeline.KindHeartbeat, At: at}, at)
	case "hold":
		h := pipeline.NoHold()
		if w[1] != "none" {
			h = pipeline.Hold{Clock: s.time(w[1] + " " + w[2]), Settled: s.time(w[3] + " " + w[4])}
		}
		s.task.Hold(h)
	case "show":
		s.show = w[1:]
	case "days":
		s.days = true
	case "sink":
		s.away = w[1] == "off"
	case "crash":
		task, err := s.durable.restore(s.job, 0)
		if err != nil {
			s.t.Fatal(err)
		}
		s.task, s.before = task, pipeline.Stats{}
	default:
		s.t.Fatalf("unknown command %q", line)
	}
}

func (s *scenario) start() {
	if s.job == nil {
		s.job = s.newJob()
		s.zone, _ = time.LoadLocation(s.setting.zone)
		s.task = pipeline.NewTask(s.job, "events", 0)
	}
}

func (s *scenario) newJob() *pipeline.Job {
	if s.rates == "" {
		return newJob(s.t, s.setting)
	}
	o := options(s.t)
	o.Rates = readRates(s.t, s.rates)
	job, err := pipeline.NewJob(o)
	if err != nil {
		s.t.Fatal(err)
	}
	return job
}

const layouts = "2006-01-02 15:04:05.000"

func (s *scenario) time(text string) int64 {
	t, err := time.ParseInLocation(layouts[:len(text)], text, s.zone)
	if err != nil {
		s.t.Fatal(err)
	}
	return t.UnixMilli()
}

func (s *scenario) stamp(at int64) string {
	return strings.TrimSuffix(strings.TrimSuffix(time.UnixMilli(at).In(s.zone).Format(layouts), ".000"), ":00")
}

var kinds = map[string]pipeline.Kind{
	"page": pipeline.KindPageViewed, "product": pipeline.KindProductViewed, "order": pipeline.KindOrderCompleted,
	"update": pipeline.KindOrderUpdated, "refund": pipeline.KindOrderRefunded, "cancel": pipeline.KindOrderCancelled,
}

// event takes `date time customer kind [order [amount] [category…]] [id=…] [at=date,time]`.
func (s *scenario) event(w []string, shift int64) {
	e := pipeline.Event{Kind: kinds[w[3]], At: s.time(w[0]+" "+w[1]) + shift, Customer: []byte(w[2]), Known: true}
	if e.Kind == 0 {
		s.t.Fatalf("unknown kind %q", w[3])
	}
	s.offset++
	e.Raw = []byte(strings.Join(w, " "))
	e.Origin = pipeline.Origin{Topic: "events", Offset: s.offset}
	id, believable := fmt.Sprint(s.offset), e.At
	for i, word := range w[4:] {
		name, value, option := strings.Cut(word, "=")
		amount, err := strconv.ParseFloat(word, 64)
		switch {
		case option && name == "id":
			id = "id " + value
		case option && name == "at":
			believable = s.time(strings.Replace(value, ",", " ", 1))
		case i == 0:
			e.OrderID = []byte(word)
		case err == nil:
			digits := 2
			if i+5 < len(w) {
				if d, ok := pipeline.CurrencyDigits(w[i+5]); ok {
					digits = d
				}
			}
			e.Amount, e.HasAmount = int64(amount*math.Pow10(digits)+0.5), true
		case len(word) == 3 && strings.ToUpper(word) == word:
			copy(e.Currency[:], word)
		default:
			e.Lines = append(e.Lines, line(word))
		}
	}
	for i := range e.Lines { // an order's amount is spread evenly over its lines
		if e.HasAmount && e.Kind != pipeline.KindOrderRefunded {
			e.Lines[i].Amount, e.Lines[i].HasAmount = e.Amount/int64(len(e.Lines)), true
		}
	}
	h := fnv.New64a()
	h.Write([]byte(id))
	e.ID = h.Sum64()
	s.task.Process(&e, believable)
}

// line is one piece of a category's only product, or `shoes*3`.
func line(word string) pipeline.Line {
	name, times, _ := strings.Cut(word, "*")
	n, err := strconv.ParseInt(times, 10, 64)
	if err != nil {
		n = 1
	}
	h := fnv.New64a()
	h.Write([]byte(name))
	return pipeline.Line{Product: h.Sum64(), Category: []byte(name), Quantity: 1000 * n}
}

// checkpoint makes one and prints what it publishes.
func (s *scenario) checkpoint() string {
	s.start()
	for s.task.Drain(100) {
	}
	cp := s.task.Checkpoint()
	s.durable.append(cp)
	var lines []string
	for _, l := range cp.DeadLetters {
		lines = append(lines, fmt.Sprintf("dead letter: %v: %s, money %d.%02d, offset %d: %s", l.Kind, l.Cause, l.Money/100, l.Money%100, l.Origin.Offset, l.Value))
	}
	s.task.Committed()
	var rows []oracle.Row
	for !s.away {
		b := s.task.NextBatch(100)
		if b == nil {
			break
		}
		rows = append(rows, oracle.BatchRows(b)...)
		s.task.Acknowledge()
	}
	sort.SliceStable(rows, func(i, k int) bool {
		return rows[i].Table.Name > rows[k].Table.Name && rows[i].Table.Name != "checkpoints"
	})
	for i := range rows {
		if text := s.print(&rows[i]); text != "" {
			lines = append(lines, text)
		}
	}
	st := s.task.Stats()
	for _, c := range []struct {
		name          string
		now, formerly int64
	}{
		{"late", st.Late, s.before.Late}, {"corrections", st.Corrections, s.before.Corrections}, {"duplicates", st.Duplicates, s.before.Duplicates},
		{"refolds", st.Refolds, s.before.Refolds}, {"settled early", st.Forced, s.before.Forced}, {"unmatched money", st.UnmatchedMoney, s.before.UnmatchedMoney},
		{"days lost", st.DaysLost, s.before.DaysLost},
	} {
		if c.now != c.formerly {
			lines = append(lines, fmt.Sprintf("count %s: %d", c.name, c.now-c.formerly))
		}
	}
	s.before = *st
	return strings.Join(append(lines, ""), "\n")
}

func (s *scenario) print(r *oracle.Row) string {
	switch r.Table.Name {
	case "phase_transitions":
		withdrawn := ""
		if r.Deleted {
			withdrawn = "withdrawn: "
		}
		return fmt.Sprintf("%s%v: %q -> %v at %s, cause %v, rule %v, cycle %v", withdrawn, r.Get("customer_id"), r.Get("from_phase").Text, r.Get("to_phase"),
			s.stamp(r.Get("at").Int), r.Get("cause"), r.Get("rule"), r.Get("cycle"))
	case "orders":
		original := ""
		if c := r.Get("currency").Text; c != "" {
			original = fmt.Sprintf("; %v of %v %s", r.Get("original_net_minor"), r.Get("original_value_minor"), c)
		}
		return fmt.Sprintf("%v: order %v of %s %v, net %v of %v, %v%s", r.Get("customer_id"), r.Get("order_id"), s.stamp(r.Get("at").Int), r.Get("status"),
			r.Get("net_value_minor"), r.Get("value_minor"), r.Get("categories"), original)
	case "customer_days":
		if !s.days {
			return ""
		}
		day := time.Unix(r.Get("day").Int*86400, 0).UTC().Format(time.DateOnly)
		if r.Deleted {
			return fmt.Sprintf("withdrawn: %v on %s", r.Get("customer_id"), day)
		}
		return s.printCustomer(fmt.Sprintf("%v on %s", r.Get("customer_id"), day), r)
	case "customers":
		return s.printCustomer(r.Get("customer_id").Text, r)
	}
	return ""
}

func (s *scenario) printCustomer(who string, r *oracle.Row) string {
	text := fmt.Sprintf("%s: %v as of %s", who, r.Get("role5_phase"), s.stamp(r.Get("as_of").Int))
	for _, column := range s.show {
		c := r.Get(column)
		if c.Type == pipeline.TypeInstant && !c.Null {
			text += fmt.Sprintf(", %s %s", column, s.stamp(c.Int))
		} else {
			text += fmt.Sprintf(", %s %v", column, c)
		}
	}
	return text
}
