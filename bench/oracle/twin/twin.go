// Package twin is the oracle once more, in SQL: what ClickHouse must hold, said by queries over the events that share nothing
// with the pipeline, nor with the oracle in Go. Each file is worth reading by itself. It says from which tables it takes what,
// and makes one: on the way from the topic (segment.sql) to what readers see.
//
// The queries take the parameters clock and lateness (milliseconds), zone, source and currency: they say how everything stands
// at that clock, so a day of the past is asked for like the present. They begin with the tables
//
//	raw (partition UInt32, position Int64, value String)          the input topic, or arrivals in its place
//	rates (date Date, currency String, rate Decimal(18, 6))       prices in the reporting currency
//
// Whatever column has the name of one in the view that a table is about is compared with it.
//
// What SQL says: clean events from disorder and duplicates; orders with updates, refunds of amounts, lines and the whole, before
// their order too, cancellations, and rates; counts, sums, first and last, purchase days, gaps and windows; the phases of role5
// with the exact instants of silence, causes and cycles; P(alive), churn risk and its band; next categories.
//
// What it does not say:
//   - when a row was last written (as_of, and what varies with it: columns with a twin ending in _now are compared instead) and
//     when the churn risk rises: instants at which the risk crosses a limit have no closed form; the band at any clock has one;
//   - expected_orders: an integral;
//   - lifecycles but role5: rules of a document are code, and SQL would have to be generated, by the same mind;
//   - events later than allowed: what they do depends on the order of arrival;
//   - what lists longer than their bounds leave out (100 lines of an order, 1,000 orders in 400 days);
//   - the customers of unsaid.sql, where what is left of money is a matter of one step after the other.
package twin

import (
	"embed"
	"strings"
)

//go:embed *.sql
var files embed.FS

// Statement makes a table.
type Statement struct{ Table, SQL string }

// Statements returns all, in the order in which they are to be run.
func Statements() []Statement {
	var list []Statement
	for _, name := range strings.Fields("segment events order_changes order_lines returned_lines returns ledger lives " +
		"orders phase_transitions customers scores next_categories unsaid") {
		text, err := files.ReadFile(name + ".sql")
		if err != nil {
			panic(err)
		}
		list = append(list, Statement{Table: name, SQL: string(text)})
	}
	list[0].Table = "arrivals"
	return list
}

// View is what a table must agree with.
type View struct{ Table, View, Key string }

// Views returns the tables that say what a view must hold.
func Views() []View {
	return []View{
		{"customers", "v_customers", "customer_id"},
		{"scores", "v_customers", "customer_id"},
		{"orders", "v_orders", "customer_id, order_id"},
		{"phase_transitions", "v_phase_transitions", "lifecycle, customer_id, at"},
	}
}
