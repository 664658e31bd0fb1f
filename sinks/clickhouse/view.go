package clickhouse

import (
	"fmt"
	"strings"

	"zyklus/pipeline"
)

// moneySuffix ends the names of columns in minor units; views show them in currency units without it.
const moneySuffix = "_minor"

// viewName is the name of a table's view for readers.
func viewName(table string) string { return "v_" + table }

// viewColumns lists what readers see: money in currency units, no version, no mark of deletion.
func viewColumns(t *pipeline.Table, extra []ViewColumn, exponent int) []ViewColumn {
	var columns []ViewColumn
	for i := range t.Columns[:len(t.Columns)-2] {
		c := &t.Columns[i]
		v := ViewColumn{Name: c.Name, Type: columnType(c), SQL: "t." + quote(c.Name), Unit: c.Unit, Comment: c.Comment}
		if c.Type == pipeline.TypeMoney {
			v = moneyColumn(v, c.Nullable, exponent)
		}
		columns = append(columns, v)
	}
	return append(columns, extra...)
}

// moneyColumn shows minor units as a decimal. A product of an integer and a decimal is exact; a quotient is not.
func moneyColumn(v ViewColumn, nullable bool, exponent int) ViewColumn {
	v.Name = strings.TrimSuffix(v.Name, moneySuffix)
	v.Type = fmt.Sprintf("Decimal(18, %d)", exponent)
	v.Unit = "reporting currency"
	unit := "1"
	if exponent > 0 {
		unit = "0." + strings.Repeat("0", exponent-1) + "1"
	}
	v.SQL = fmt.Sprintf("%s * toDecimal64('%s', %d)", v.SQL, unit, exponent)
	if nullable {
		v.Type = "Nullable(" + v.Type + ")"
	}
	return v
}

// createView declares the view of a table. FINAL shows of each key the row with the greatest version only.
func createView(database string, t *pipeline.Table, view View, exponent int) string {
	columns := viewColumns(t, view.Columns, exponent)
	heads, exprs := make([]string, len(columns)), make([]string, len(columns))
	for i, c := range columns {
		heads[i] = quote(c.Name) + " " + c.Type
		if comment := columnComment(c.Comment, c.Unit); comment != "" {
			heads[i] += " COMMENT " + literal(comment)
		}
		exprs[i] = c.SQL + " AS " + quote(c.Name)
	}
	join := ""
	if view.Join != "" {
		join = view.Join + "\n"
	}
	from := fmt.Sprintf("%s.%s AS t FINAL\n%sWHERE t.is_deleted = 0", quote(database), quote(t.Name), join)
	if view.Rows != "" {
		from = strings.TrimSuffix("("+view.Rows+") AS t\n"+join, "\n")
	}
	sql := fmt.Sprintf("CREATE OR REPLACE VIEW %s.%s\n(\n    %s\n)\nAS SELECT\n    %s\nFROM %s\nCOMMENT %s",
		quote(database), quote(viewName(t.Name)), strings.Join(heads, ",\n    "), strings.Join(exprs, ",\n    "),
		from, literal(or(view.Comment, t.Comment)))
	return strings.ReplaceAll(sql, "{database}", quote(database))
}
