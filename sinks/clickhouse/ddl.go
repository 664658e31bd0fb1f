package clickhouse

import (
	"fmt"
	"strings"

	"zyklus/pipeline"
)

// columnType is the column's type, spelled as the server spells it: Check compares the texts.
func columnType(c *pipeline.Column) string {
	base := ""
	switch c.Type {
	case pipeline.TypeText:
		if c.Nullable {
			return "LowCardinality(Nullable(String))"
		}
		return "LowCardinality(String)"
	case pipeline.TypeString:
		base = "String"
	case pipeline.TypeCount:
		base = "UInt32"
	case pipeline.TypeInteger, pipeline.TypeMoney:
		base = "Int64"
	case pipeline.TypeNumber:
		base = "Float64"
	case pipeline.TypeInstant:
		base = "DateTime64(3, 'UTC')"
	case pipeline.TypeBool:
		base = "UInt8"
	case pipeline.TypeDate:
		base = "Date"
	default:
		panic(fmt.Sprintf("BUG: column %s has the unknown type %d", c.Name, c.Type))
	}
	if c.Nullable {
		return "Nullable(" + base + ")"
	}
	return base
}

// columnComment is the comment and the unit.
func columnComment(comment, unit string) string {
	if unit == "" {
		return comment
	}
	return strings.TrimSpace(comment + " Unit: " + unit + ".")
}

// columnDDL declares one column.
func columnDDL(c *pipeline.Column) string {
	ddl := quote(c.Name) + " " + columnType(c)
	if comment := columnComment(c.Comment, c.Unit); comment != "" {
		ddl += " COMMENT " + literal(comment)
	}
	return ddl
}

// createTable declares a table. Most have no partitions: those help to drop old rows, and rows here live with their
// customer; where they do not, the TTL drops them. A replay inserts the days of many years at once: parts are by years,
// for an insert makes a part of each partition, and the server refuses one of more than a hundred.
func createTable(database string, t *pipeline.Table) string {
	var b strings.Builder
	fmt.Fprintf(&b, "CREATE TABLE IF NOT EXISTS %s.%s\n(\n", quote(database), quote(t.Name))
	for i := range t.Columns {
		end := ",\n"
		if i == len(t.Columns)-1 {
			end = "\n"
		}
		b.WriteString("    " + columnDDL(&t.Columns[i]) + end)
	}
	b.WriteString(")\nENGINE = ReplacingMergeTree(version, is_deleted)\n")
	if t.PartitionByYear != "" {
		b.WriteString("PARTITION BY " + partition(t.PartitionByYear) + "\n")
	}
	fmt.Fprintf(&b, "ORDER BY (%s)", quoteAll(t.Key))
	if t.TTLDays > 0 {
		b.WriteString("\nTTL " + ttl(t))
	}
	if t.Comment != "" {
		b.WriteString("\nCOMMENT " + literal(t.Comment))
	}
	return b.String()
}

// ttl is the table's TTL, spelled as the server spells it.
func ttl(t *pipeline.Table) string {
	return fmt.Sprintf("toDateTime(%s) + toIntervalDay(%d)", t.TTLColumn, t.TTLDays)
}

// addColumn adds the i-th declared column after its predecessor.
func addColumn(database string, t *pipeline.Table, i int) string {
	place := "FIRST"
	if i > 0 {
		place = "AFTER " + quote(t.Columns[i-1].Name)
	}
	return fmt.Sprintf("ALTER TABLE %s.%s ADD COLUMN IF NOT EXISTS %s %s",
		quote(database), quote(t.Name), columnDDL(&t.Columns[i]), place)
}

// quote makes an identifier.
func quote(name string) string { return "`" + name + "`" }

func quoteAll(names []string) string {
	quoted := make([]string, len(names))
	for i, n := range names {
		quoted[i] = quote(n)
	}
	return strings.Join(quoted, ", ")
}

// literal makes a string.
func literal(s string) string {
	return "'" + strings.NewReplacer(`\`, `\\`, `'`, `\'`, "\n", " ").Replace(s) + "'"
}
