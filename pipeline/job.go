package pipeline

import (
	"errors"
	"fmt"
	"hash/fnv"
	"regexp"
	"slices"
	"time"

	"zyklus/models"
	"zyklus/models/lifecycle"
)

// Options are what a Job is made of.
type Options struct {
	Operators  []Operator            // in fold order
	Lifecycles []*lifecycle.Document // compiled against the operators' features
	Artefact   models.Artefact       // in force
	Calendar   *Calendar             // business days; UTC if nil
	Rates      *Rates                // into the reporting currency; without, orders in any other are dead letters
	Lateness   time.Duration         // how much older than the clock an event may be and still take its place
	Skew       time.Duration         // how much later than its append time an event is believed
	WallClock  bool                  // whether the wall clock moves a caught-up partition's clock
	// Rekeyed says that events come through the re-keying stage, which alone says how far time has come: an event
	// does not move the clock.
	Rekeyed bool
	// Held says that clocks stand still from the start until the first Task.Hold.
	Held       bool
	WorkingSet int // customers at work per partition before a checkpoint is due; default 16,384
	// Days keeps the row of each business day on which something changed, in `customer_days`. It may be switched
	// at any time: of days that pass while it is off there are no rows.
	Days bool
}

// MaxOpen is the greatest number of open events of one customer. Beyond it the oldest settle early.
const MaxOpen = 4096

// maxOpenBytes bounds the open events of one customer together, in their compact form.
const maxOpenBytes = 192 << 10

// settleGrain is the latest that open events wait to be settled after the watermark has passed them. Settling later
// than at once changes no result, and saves a write per event.
const settleGrain = int64(time.Hour / time.Millisecond)

// Job is everything that the Tasks of one deployment share. It is immutable.
type Job struct {
	Artefact models.Artefact
	Calendar *Calendar
	// Lateness is the allowed lateness in milliseconds.
	Lateness int64

	operators  []Operator
	lifecycles []*lifecycle.Lifecycle
	sections   []Section
	byTag      [256]int // operator plus one, by section tag
	tableOf    []int    // by operator: index of its history table plus one, 0 if it has none
	features   []feature
	columns    []feature // of `customers`
	rates      *Rates
	skew       int64
	wallClock  bool
	rekeyed    bool
	held       bool
	workingSet int
	eventful   bool   // whether a rule uses a feature that any event may change
	digest     uint64 // of lifecycles, artefact and time zone: state written under others cannot be continued. Not of rates: they are input

	dayPrint  uint64   // of dayValues
	dayValues []Column // of a captured row

	customers, transitions, checkpoints *Table
	dayTable                            *Table   // nil if off
	history                             []*Table // of operators
}

// feature names a field by the operator that owns it.
type feature struct {
	operator int
	field    *Field
}

// NewJob checks the options and compiles the lifecycles.
func NewJob(o Options) (*Job, error) {
	j := &Job{
		Artefact: o.Artefact, Calendar: o.Calendar, Lateness: o.Lateness.Milliseconds(),
		operators: o.Operators, skew: o.Skew.Milliseconds(), wallClock: o.WallClock || o.Rekeyed, workingSet: o.WorkingSet,
		rekeyed: o.Rekeyed, held: o.Held,
	}
	j.rates = o.Rates
	if j.Calendar == nil {
		j.Calendar = NewCalendar(nil)
	}
	if j.workingSet == 0 {
		j.workingSet = 1 << 14
	}
	if j.Lateness < 1 {
		return nil, errors.New("the allowed lateness must be at least a millisecond: else the first of two events of an instant would make the second late")
	}
	if j.skew < 0 || j.workingSet < 0 {
		return nil, errors.New("clock skew and working set cannot be negative")
	}
	catalogue, err := j.collect()
	if err != nil {
		return nil, err
	}
	h := fnv.New64a()
	fmt.Fprintf(h, "%+v %s", o.Artefact, j.Calendar.zone)
	for _, doc := range o.Lifecycles {
		l, err := lifecycle.Compile(doc, catalogue)
		if err != nil {
			return nil, fmt.Errorf("lifecycle %s: %w", doc.ID, err)
		}
		fmt.Fprintf(h, "%+v", *doc)
		j.lifecycles = append(j.lifecycles, l)
		j.eventful = j.eventful || j.usesEveryEvent(l)
	}
	j.digest = h.Sum64()
	j.declare()
	if o.Days {
		j.declareDays()
	}
	return j, nil
}

// collect gathers the operators' fields into features and columns.
func (j *Job) collect() (lifecycle.Catalogue, error) {
	var catalogue lifecycle.Catalogue
	tags, names := map[uint8]string{}, map[string]string{}
	for i, op := range j.operators {
		s := op.Section()
		if other, taken := tags[s.Tag]; taken {
			return nil, fmt.Errorf("operators %s and %s share the section tag %d", other, s.Name, s.Tag)
		}
		tags[s.Tag] = s.Name
		j.sections = append(j.sections, s)
		j.byTag[s.Tag] = i + 1
		for k := range s.Fields {
			f := &s.Fields[k]
			if other, taken := names[f.Name]; taken {
				return nil, fmt.Errorf("operators %s and %s both declare %s", other, s.Name, f.Name)
			}
			names[f.Name] = s.Name
			if f.Feature {
				j.features = append(j.features, feature{i, f})
				catalogue = append(catalogue, lifecycle.Feature{
					Name: f.Name, Unit: f.Unit, Doc: f.Comment, Kind: featureKind(f.Type), Varies: f.Varies,
				})
			}
			j.columns = append(j.columns, feature{i, f})
		}
		j.tableOf = append(j.tableOf, 0)
		if s.Table != nil {
			j.history = append(j.history, s.Table)
			j.tableOf[i] = len(j.history)
		}
	}
	return catalogue, nil
}

func featureKind(t Type) lifecycle.Kind {
	switch t {
	case TypeText, TypeString:
		return lifecycle.Text
	case TypeBool:
		return lifecycle.Bool
	default:
		return lifecycle.Number
	}
}

// usesEveryEvent reports whether a rule names a feature that changes with events that make no booking.
func (j *Job) usesEveryEvent(l *lifecycle.Lifecycle) bool {
	for _, f := range j.features {
		if !j.sections[f.operator].OnEveryEvent {
			continue
		}
		word := regexp.MustCompile(`\b` + f.field.Name + `\b`)
		for _, r := range l.Rules {
			if word.MatchString(r.When) {
				return true
			}
		}
	}
	return false
}

// declare lays out the tables.
func (j *Job) declare() {
	customers := []Column{{Name: "customer_id", Type: TypeString, Comment: "User id, else anonymous id."}}
	for _, f := range j.columns {
		customers = append(customers, f.field.Column)
	}
	for _, l := range j.lifecycles {
		name := fmt.Sprintf("lifecycle %s (%s)", l.ID, l.Labels.De)
		customers = append(customers,
			Column{Name: l.ID + phaseSuffix, Type: TypeText, Comment: "Phase in " + name + "."},
			Column{Name: l.ID + sinceSuffix, Type: TypeInstant, Comment: "When the customer entered the present phase of " + name + "."},
			Column{Name: l.ID + previousSuffix, Type: TypeText, Comment: "Phase before the present one in " + name + "; empty if there was none."},
			Column{Name: l.ID + cycleSuffix, Type: TypeCount, Comment: "How many times the customer has entered the circle of " + name + ": rises on return from a lost phase."},
		)
	}
	customers = append(customers,
		Column{Name: "artefact_version", Type: TypeCount, Comment: "Version of the artefact (model parameters, priors) that the scores were computed with."},
		Column{Name: "as_of", Type: TypeInstant, Comment: "Instant of the last event or deadline of this customer: the row is right from then until its next change. An event later than allowed counts at the watermark of then."},
		Column{Name: "partition", Type: TypeCount, Comment: "Partition of the input topic that the customer belongs to."},
	)
	j.customers = &Table{
		Name: "customers", Comment: "Customers as they are now: one row each, of which the greatest version counts.",
		Columns: WithVersion(customers), Key: []string{"customer_id"},
	}
	j.transitions = transitionsTable()
	j.checkpoints = checkpointsTable()
}

// declareDays derives `customer_days` from `customers`.
func (j *Job) declareDays() {
	all := j.customers.Columns
	j.dayValues = all[1 : len(all)-3]
	j.dayPrint = dayFingerprint(j.dayValues)
	day := Column{Name: "day", Type: TypeDate, Comment: "Business day of as_of, in the time zone of the deployment: the row says how the customer stood at its end."}
	j.dayTable = &Table{
		Name: "customer_days",
		Comment: "How each customer stood at the end of each business day on which something changed, but for the latest such day: that row is the one in customers. " +
			"v_customer_days has both. An event later than allowed changes no day that ended before the watermark.",
		Columns: slices.Concat(all[:1:1], []Column{day}, all[1:]), Key: []string{"customer_id", "day"}, PartitionByYear: "day",
	}
}

// capture says what live folds do with the days that they leave.
func (j *Job) capture() capture {
	if j.dayTable == nil {
		return captureNone
	}
	return captureRow
}

// written returns the tables that Tasks write to, in the order in which rows of one batch are written. A day's row comes
// before the row of `customers` that follows it, so that no reader finds neither.
func (j *Job) written() []*Table {
	var days []*Table
	if j.dayTable != nil {
		days = []*Table{j.dayTable}
	}
	return slices.Concat(days, []*Table{j.customers, j.transitions}, j.history, []*Table{j.checkpoints})
}

// Tables returns every table that the job writes rows to, dead letters included.
func (j *Job) Tables() []*Table { return append(j.written(), DeadLetterTable(), SourceStallTable()) }

// Lifecycles returns the compiled lifecycles in their order.
func (j *Job) Lifecycles() []*lifecycle.Lifecycle { return j.lifecycles }

// Phase returns the id of a phase as stored in a Stay; "" for none.
func (j *Job) Phase(l, phase int) string {
	if phase == 0 {
		return ""
	}
	return j.lifecycles[l].Phases[phase-1].ID
}

func transitionsTable() *Table {
	return &Table{
		Name:    "phase_transitions",
		Comment: "Every change of a customer's phase in a lifecycle. Rows dated before the watermark of their partition (table checkpoints) are final.",
		Key:     []string{"lifecycle", "customer_id", "at"},
		Columns: WithVersion([]Column{
			{Name: "lifecycle", Type: TypeText, Comment: "Id of the lifecycle."},
			{Name: "customer_id", Type: TypeString, Comment: "User id, else anonymous id."},
			{Name: "at", Type: TypeInstant, Comment: "When the phase changed; the watermark of then where an event later than allowed changed it."},
			{Name: "from_phase", Type: TypeText, Comment: "Phase before; empty on the customer's first one."},
			{Name: "to_phase", Type: TypeText, Comment: "Phase after."},
			{Name: "from_churned", Type: TypeText, Comment: "Churn mark of the phase before: none, at_risk or lost; empty on the first one."},
			{Name: "to_churned", Type: TypeText, Comment: "Churn mark of the phase after: none, at_risk or lost."},
			{Name: "cause", Type: TypeText, Comment: "What made it happen: `deadline` (silence), the type of the event, `correction` (an event later than allowed), `definition` or `artefact`."},
			{Name: "rule", Type: TypeText, Comment: "Id of the rule that assigned the phase after."},
			{Name: "cycle", Type: TypeCount, Comment: "The customer's cycle in the lifecycle after the change."},
			{Name: "lifecycle_version", Type: TypeCount, Comment: "Version of the lifecycle's document."},
			{Name: "artefact_version", Type: TypeCount, Comment: "Version of the artefact in force."},
			{Name: "partition", Type: TypeCount, Comment: "Partition of the input topic."},
		}),
	}
}

func checkpointsTable() *Table {
	return &Table{
		Name:    "checkpoints",
		Comment: "How far each partition has been written. Rows of the other tables are complete up to the version of their partition here.",
		Key:     []string{"topic", "partition"},
		Columns: WithVersion([]Column{
			{Name: "topic", Type: TypeText, Comment: "Input topic."},
			{Name: "partition", Type: TypeCount, Comment: "Partition of the input topic."},
			{Name: "lineage", Type: TypeCount, Comment: "History of checkpoints from one start; a rebuild begins a new one."},
			{Name: "number", Type: TypeInteger, Comment: "Checkpoint number within the lineage."},
			{Name: "position", Type: TypeInteger, Comment: "Offset of the next record to read."},
			{Name: "clock", Type: TypeInstant, Comment: "Event time reached: silence is known up to here."},
			{Name: "watermark", Type: TypeInstant, Comment: "Clock less the allowed lateness: what is dated before it is final."},
		}),
	}
}

// SourceStallTable declares `source_stalls`. Its rows are read from the topic of outputs, not from a Task.
func SourceStallTable() *Table {
	return &Table{
		Name:    "source_stalls",
		Comment: "Sources, or families of their events, that were silent for longer than their limit.",
		Key:     []string{"source", "family", "last_event_at"},
		Columns: WithVersion([]Column{
			{Name: "source", Type: TypeText, Comment: "Name of the source."},
			{Name: "family", Type: TypeText, Comment: "Family of events: orders, products, web, identity; empty for the source as a whole."},
			{Name: "last_event_at", Type: TypeInstant, Comment: "Event time of the last event before."},
			{Name: "stalled_at", Type: TypeInstant, Comment: "When it counted as stalled: the last event and the limit."},
			{Name: "resumed_at", Type: TypeInstant, Nullable: true, Comment: "When it was back; null while it is stalled."},
			{Name: "limit_seconds", Type: TypeInteger, Unit: "seconds", Comment: "How long it may be silent."},
			{Name: "required", Type: TypeBool, Comment: "1 where time stood still meanwhile: silence of customers was held."},
		}),
	}
}

// DeadLetterTable declares `dead_letters`. Its rows are read from the dead-letter topic, not from a Task.
func DeadLetterTable() *Table {
	return &Table{
		Name:    "dead_letters",
		Comment: "Records that could not be used, with their cause and original bytes.",
		Key:     []string{"topic", "partition", "position"},
		TTLDays: 14, TTLColumn: "received_at",
		Columns: WithVersion([]Column{
			{Name: "topic", Type: TypeText, Comment: "Topic that the record was read from."},
			{Name: "partition", Type: TypeCount, Comment: "Partition that the record was read from."},
			{Name: "position", Type: TypeInteger, Comment: "Offset of the record."},
			{Name: "at", Type: TypeInstant, Comment: "Event time if known, else the clock of the partition."},
			{Name: "error", Type: TypeText, Comment: "Kind of error."},
			{Name: "cause", Type: TypeString, Comment: "What exactly was wrong."},
			{Name: "key", Type: TypeString, Comment: "Original key."},
			{Name: "value", Type: TypeString, Comment: "Original value."},
			{Name: "received_at", Type: TypeInstant, Comment: "When the dead letter was written; kept 14 days from then."},
		}),
	}
}
