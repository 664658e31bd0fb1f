package clickhouse

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"zyklus/pipeline"
)

// Dictionary describes all that readers find in the database: what DDL says in comments, and where it comes from.
type Dictionary struct {
	Relations []Relation `json:"relations"`
}

// Relation is a table or a view.
type Relation struct {
	Name    string   `json:"name"`
	View    bool     `json:"view"` // views are for readers; tables hold several versions of a row
	Comment string   `json:"comment"`
	Key     []string `json:"key"` // identifies a row
	Entries []Entry  `json:"columns"`
}

// Entry is a column.
type Entry struct {
	Name    string `json:"name"`
	Type    string `json:"type"` // of ClickHouse
	Unit    string `json:"unit,omitempty"`
	Comment string `json:"comment"`
	LabelEn string `json:"label_en,omitempty"`
	LabelDe string `json:"label_de,omitempty"`
	// Section is the part of the pipeline that the value comes from; `view` if it is computed when it is read.
	Section string `json:"section"`
	// Feature is the name under which rules of lifecycles may use the value.
	Feature string `json:"feature,omitempty"`
	// Values are the texts that the column can hold, where they are listed.
	Values []EntryValue `json:"values,omitempty"`
}

// EntryValue is one text of a column with few.
type EntryValue struct {
	Value   string `json:"value"`
	LabelEn string `json:"label_en,omitempty"`
	LabelDe string `json:"label_de,omitempty"`
}

// Dictionary lists the views, and then the tables, in the order of their declaration. fact tells where a table's column
// comes from.
func (s Schema) Dictionary(fact func(t *pipeline.Table, column string) pipeline.Fact) Dictionary {
	var d Dictionary
	for _, t := range s.Tables {
		view := s.view(t.Name)
		r := Relation{Name: viewName(t.Name), View: true, Comment: or(view.Comment, t.Comment), Key: t.Key}
		for i, c := range viewColumns(t, view.Columns, s.MoneyExponent) {
			e := Entry{Name: c.Name, Type: c.Type, Unit: c.Unit, Comment: c.Comment, Section: "view"}
			if i < len(t.Columns)-2 {
				e.describe(fact(t, t.Columns[i].Name))
			}
			r.Entries = append(r.Entries, e)
		}
		d.Relations = append(d.Relations, r)
	}
	for _, t := range s.Tables {
		r := Relation{Name: t.Name, Comment: t.Comment, Key: t.Key}
		for i := range t.Columns {
			c := &t.Columns[i]
			e := Entry{Name: c.Name, Type: columnType(c), Unit: c.Unit, Comment: c.Comment}
			e.describe(fact(t, c.Name))
			r.Entries = append(r.Entries, e)
		}
		d.Relations = append(d.Relations, r)
	}
	return d
}

func (e *Entry) describe(f pipeline.Fact) {
	e.Section, e.Feature, e.LabelEn, e.LabelDe = f.Section, f.Feature, f.Label.En, f.Label.De
	for _, v := range f.Values {
		e.Values = append(e.Values, EntryValue{v.Value, v.Label.En, v.Label.De})
	}
}

// Markdown writes a heading and a table for each relation.
func (d Dictionary) Markdown(w io.Writer) error {
	var b strings.Builder
	b.WriteString("# Data dictionary\n")
	for _, r := range d.Relations {
		fmt.Fprintf(&b, "\n## %s\n\n%s\n\nKey: `%s`.\n\n", r.Name, r.Comment, strings.Join(r.Key, "`, `"))
		b.WriteString("| Column | Type | Unit | Meaning | English | German | From | Rules may use |\n|---|---|---|---|---|---|---|---|\n")
		for _, e := range r.Entries {
			row := []string{"`" + e.Name + "`", "`" + e.Type + "`", e.Unit, e.Comment + e.values(), e.LabelEn, e.LabelDe, e.Section, ""}
			if e.Feature != "" {
				row[len(row)-1] = "`" + e.Feature + "`"
			}
			for i := range row {
				row[i] = strings.NewReplacer("|", `\|`, "\n", " ").Replace(row[i])
			}
			b.WriteString("| " + strings.Join(row, " | ") + " |\n")
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// values lists what the column can hold: an id and its label.
func (e *Entry) values() string {
	if len(e.Values) == 0 {
		return ""
	}
	var list []string
	for _, v := range e.Values {
		list = append(list, fmt.Sprintf("`%s` (%s, %s)", v.Value, v.LabelEn, v.LabelDe))
	}
	return " One of " + strings.Join(list, ", ") + "."
}

// Text writes a line for each column, for people at a terminal and for grep.
func (d Dictionary) Text(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, r := range d.Relations {
		for _, e := range r.Entries {
			feature := ""
			if e.Feature != "" {
				feature = "rules: " + e.Feature
			}
			fmt.Fprintf(t, "%s.%s\t%s\t%s\t%s\t%s\t%s\n", r.Name, e.Name, e.Type, e.Unit, e.Section, feature, e.Comment)
		}
	}
	return t.Flush()
}
