package pipeline

// Fact is what is known of a column beyond its declaration: for the data dictionary.
type Fact struct {
	// Section is the section of the customer's record that the value comes from, `lifecycle` and its id, or
	// `pipeline`.
	Section string
	// Label names the column for people; empty where it is plumbing.
	Label Labels
	// Feature is the name under which rules of lifecycles may use the value, "" if they may not.
	Feature string
	// Values are the texts that the column can hold, where they are listed.
	Values []NamedValue
}

// NamedValue is one text of a column with few, and its names for people.
type NamedValue struct {
	Value string
	Label Labels
}

// ownSection is the section of what no operator and no lifecycle owns.
const ownSection = "pipeline"

// Fact returns what is known of a column of one of the job's tables.
func (j *Job) Fact(t *Table, column string) Fact {
	for i, s := range j.sections {
		if s.Table == t {
			return Fact{Section: j.sections[i].Name}
		}
	}
	if t != j.customers && t != j.dayTable {
		return Fact{Section: ownSection}
	}
	for _, f := range j.columns {
		if f.field.Name != column {
			continue
		}
		fact := Fact{Section: j.sections[f.operator].Name, Label: f.field.Label}
		if f.field.Feature {
			fact.Feature = column
		}
		return fact
	}
	return j.phaseFact(column)
}

// phaseFact is about the columns that each lifecycle adds.
func (j *Job) phaseFact(column string) Fact {
	for _, l := range j.lifecycles {
		fact := Fact{Section: "lifecycle " + l.ID}
		switch column {
		case l.ID + phaseSuffix, l.ID + previousSuffix:
			fact.Label = Labels{En: l.Labels.En + ": phase", De: l.Labels.De + ": Phase"}
			if column == l.ID+previousSuffix {
				fact.Label = Labels{En: l.Labels.En + ": phase before", De: l.Labels.De + ": Phase davor"}
			}
			for i := range l.Phases {
				p := &l.Phases[i]
				fact.Values = append(fact.Values, NamedValue{Value: p.ID, Label: Labels{En: p.Labels.En, De: p.Labels.De}})
			}
		case l.ID + sinceSuffix:
			fact.Label = Labels{En: l.Labels.En + ": since", De: l.Labels.De + ": seit"}
		case l.ID + cycleSuffix:
			fact.Label = Labels{En: l.Labels.En + ": cycle", De: l.Labels.De + ": Zyklus"}
		default:
			continue
		}
		return fact
	}
	return Fact{Section: ownSection}
}

// The columns of a lifecycle are its id and one of these.
const (
	phaseSuffix    = "_phase"
	sinceSuffix    = "_since"
	previousSuffix = "_previous_phase"
	cycleSuffix    = "_cycle"
)
