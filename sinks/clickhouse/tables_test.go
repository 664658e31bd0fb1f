package clickhouse

import (
	"fmt"

	"zyklus/pipeline"
)

// versioned appends the two columns with which every table ends.
func versioned(columns ...pipeline.Column) []pipeline.Column {
	return append(columns,
		pipeline.Column{Name: "version", Type: pipeline.TypeInteger, Comment: "Version of the row."},
		pipeline.Column{Name: "is_deleted", Type: pipeline.TypeBool, Comment: "1 where this version withdraws the row."})
}

// customersTable has a column of every type, and of every type that may be missing one that is.
func customersTable() *pipeline.Table {
	return &pipeline.Table{
		Name: "customers", Comment: "Customers as they are now: one row each.", Key: []string{"customer_id"},
		Columns: versioned(
			pipeline.Column{Name: "customer_id", Type: pipeline.TypeString, Comment: "User id, else anonymous id."},
			pipeline.Column{Name: "phase", Type: pipeline.TypeText, Comment: "Phase of the customer's life cycle."},
			pipeline.Column{Name: "next_category", Type: pipeline.TypeText, Nullable: true, Comment: "Category of the expected next order."},
			pipeline.Column{Name: "note", Type: pipeline.TypeString, Nullable: true},
			pipeline.Column{Name: "orders", Type: pipeline.TypeCount, Comment: "Net orders."},
			pipeline.Column{Name: "orders_90d", Type: pipeline.TypeCount, Nullable: true, Comment: "Net orders of 90 days."},
			pipeline.Column{Name: "balance", Type: pipeline.TypeInteger, Comment: "A whole number."},
			pipeline.Column{Name: "shift", Type: pipeline.TypeInteger, Nullable: true, Comment: "A whole number or none."},
			pipeline.Column{Name: "value_minor", Type: pipeline.TypeMoney, Unit: "minor units", Comment: "Net value."},
			pipeline.Column{Name: "margin_minor", Type: pipeline.TypeMoney, Nullable: true, Unit: "minor units", Comment: "The customer's contribution, where costs are known."},
			pipeline.Column{Name: "risk", Type: pipeline.TypeNumber, Unit: "share", Comment: "P(no order within H)."},
			pipeline.Column{Name: "cadence", Type: pipeline.TypeNumber, Nullable: true, Unit: "days", Comment: "Typical gap between orders."},
			pipeline.Column{Name: "first_seen", Type: pipeline.TypeInstant, Comment: "Earliest event."},
			pipeline.Column{Name: "last_order", Type: pipeline.TypeInstant, Nullable: true, Comment: "Latest net order."},
			pipeline.Column{Name: "is_lead", Type: pipeline.TypeBool, Comment: "No order yet."},
			pipeline.Column{Name: "opted_in", Type: pipeline.TypeBool, Nullable: true, Comment: "Consent, if asked."},
			pipeline.Column{Name: "partition", Type: pipeline.TypeCount, Comment: "Partition of the input topic."},
		),
	}
}

func transitionsTable() *pipeline.Table {
	return &pipeline.Table{
		Name: "phase_transitions", Comment: "Every change of phase.", Key: []string{"lifecycle", "customer_id", "at"},
		Columns: versioned(
			pipeline.Column{Name: "lifecycle", Type: pipeline.TypeText, Comment: "Id of the lifecycle."},
			pipeline.Column{Name: "customer_id", Type: pipeline.TypeString, Comment: "User id, else anonymous id."},
			pipeline.Column{Name: "at", Type: pipeline.TypeInstant, Comment: "When the phase changed."},
			pipeline.Column{Name: "to_phase", Type: pipeline.TypeText, Comment: "Phase after."},
		),
	}
}

func deadLettersTable() *pipeline.Table {
	return &pipeline.Table{
		Name: "dead_letters", Comment: "Records that could not be used.", Key: []string{"topic", "partition", "position"},
		TTLDays: 14, TTLColumn: "received_at",
		Columns: versioned(
			pipeline.Column{Name: "topic", Type: pipeline.TypeText, Comment: "Topic."},
			pipeline.Column{Name: "partition", Type: pipeline.TypeCount, Comment: "Partition."},
			pipeline.Column{Name: "position", Type: pipeline.TypeInteger, Comment: "Offset."},
			pipeline.Column{Name: "value", Type: pipeline.TypeString, Comment: "Original bytes."},
			pipeline.Column{Name: "received_at", Type: pipeline.TypeInstant, Comment: "When it was written."},
		),
	}
}

func checkpointTable() *pipeline.Table {
	return &pipeline.Table{
		Name: "checkpoints", Comment: "How far each partition has been written.", Key: []string{"topic", "partition"},
		Columns: versioned(
			pipeline.Column{Name: "topic", Type: pipeline.TypeText, Comment: "Input topic."},
			pipeline.Column{Name: "partition", Type: pipeline.TypeCount, Comment: "Partition."},
			pipeline.Column{Name: "clock", Type: pipeline.TypeInstant, Comment: "Event time reached."},
		),
	}
}

// daysTable has dates, and parts by their years.
func daysTable() *pipeline.Table {
	return &pipeline.Table{
		Name: "customer_days", Comment: "Days that are over.", Key: []string{"customer_id", "day"}, PartitionByYear: "day",
		Columns: versioned(
			pipeline.Column{Name: "customer_id", Type: pipeline.TypeString, Comment: "User id, else anonymous id."},
			pipeline.Column{Name: "day", Type: pipeline.TypeDate, Comment: "The day."},
			pipeline.Column{Name: "ended", Type: pipeline.TypeDate, Nullable: true, Comment: "A date or none."},
			pipeline.Column{Name: "value_minor", Type: pipeline.TypeMoney, Unit: "minor units", Comment: "Net value."},
		),
	}
}

// testSchema declares all of them, and a view that is computed at the clock of the customer's partition.
func testSchema() Schema {
	return Schema{
		MoneyExponent: 2,
		Tables:        []*pipeline.Table{customersTable(), transitionsTable(), deadLettersTable(), checkpointTable(), daysTable()},
		Views: []View{{
			Table: "customer_days", Comment: "Days that are over, and the present one.",
			Rows: "SELECT customer_id, day, ended, value_minor FROM {database}.customer_days FINAL WHERE is_deleted = 0\n" +
				"UNION ALL\nSELECT customer_id, toDate(first_seen, 'UTC'), NULL, value_minor FROM {database}.customers FINAL WHERE is_deleted = 0",
		}, {
			Table: "customers",
			Join:  "LEFT JOIN {database}.v_checkpoints AS c ON c.partition = t.partition",
			Columns: []ViewColumn{{
				Name: "recency", Type: "Nullable(Float64)", Unit: "days", Comment: "Since the latest order, at the partition's clock.",
				SQL: "dateDiff('second', t.last_order, c.clock) / 86400",
			}},
		}},
	}
}

// customer appends a customer; every second one has all nullable columns missing.
func customer(rows *pipeline.Rows, i int, version int64, deleted bool) {
	missing := i%2 == 1
	maybe := func(set func()) {
		if missing {
			rows.Null()
		} else {
			set()
		}
	}
	rows.String(fmt.Sprintf("c%07d", i))
	rows.String([]string{"lead", "active", "lapsed"}[i%3])
	maybe(func() { rows.String("shoes") })
	maybe(func() { rows.String("it's \\ ü") })
	rows.Int(int64(i))
	maybe(func() { rows.Int(int64(i)) })
	rows.Int(-int64(i))
	maybe(func() { rows.Int(-int64(i)) })
	rows.Int(int64(i) * 1099)
	maybe(func() { rows.Int(-int64(i) * 7) })
	rows.Float(float64(i) / 8)
	maybe(func() { rows.Float(float64(i) / 4) })
	rows.Int(1_700_000_000_000 + int64(i))
	maybe(func() { rows.Int(1_700_000_000_123) })
	rows.Int(int64(i % 2))
	maybe(func() { rows.Int(1) })
	rows.Int(int64(i % 4))
	rows.End(version, deleted)
}

// checkpointRow appends how far a partition has come.
func checkpointRow(rows *pipeline.Rows, partition, version int64) {
	rows.String("events")
	rows.Int(partition)
	rows.Int(1_700_086_400_123)
	rows.End(version, false)
}
