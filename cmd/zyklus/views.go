package main

import (
	"fmt"
	"strconv"
	"strings"

	"zyklus/pipeline"
	"zyklus/sinks/clickhouse"
)

// readerViews adds to the views what changes from moment to moment: it is computed when it is read, at the clock of the
// customer's partition. Everything else in a row stays right until the row's next version.
func readerViews(job *pipeline.Job) []clickhouse.View {
	a := &job.Artefact
	f := func(v float64) string { return strconv.FormatFloat(v, 'g', -1, 64) }
	weeks := "((toUnixTimestamp64Milli(greatest(k.clock, t.as_of)) - toUnixTimestamp64Milli(t.first_purchase_day_at)) / 604800000.)"
	span := "(t.purchase_span_days / 7.)"
	r := fmt.Sprintf("(%s + t.repeat_purchase_days)", f(a.MBG.R))
	alive := fmt.Sprintf("(1. / (1. + exp(log(%s / (%s + t.repeat_purchase_days)) + %s * log((%s + %s) / (%s + %s)))))",
		f(a.MBG.A), f(a.MBG.B), r, f(a.MBG.Alpha), weeks, f(a.MBG.Alpha), span)
	active := fmt.Sprintf("(%s * (1. - exp(-%s * log1p(%s / (%s + %s)))))", alive, r, f(a.HorizonWeeks()), f(a.MBG.Alpha), weeks)
	since := "((toUnixTimestamp64Milli(greatest(k.clock, t.as_of)) - toUnixTimestamp64Milli(t.last_order_at)) / 86400000.)"
	number := func(name, sql, unit, comment string) clickhouse.ViewColumn {
		return clickhouse.ViewColumn{Name: name, Type: "Nullable(Float64)", SQL: sql, Unit: unit, Comment: comment}
	}
	views := []clickhouse.View{{
		Table: "customers",
		Join:  "LEFT JOIN (SELECT partition, max(clock) AS clock FROM {database}.checkpoints GROUP BY partition) AS k ON k.partition = t.partition",
		Columns: []clickhouse.ViewColumn{
			{Name: "clock", Type: "DateTime64(3, 'UTC')", SQL: "greatest(k.clock, t.as_of)", Comment: "Event time that the customer's partition has reached: the columns ending in _now are as of then."},
			number("p_alive_now", alive, "probability", "P(alive) of the MBG/NBD model at the clock; NULL without an order."),
			number("churn_risk_now", "1. - "+active, "probability", "Probability of no order within the horizon of the artefact, at the clock; NULL without an order."),
			number("days_since_last_order_now", since, "days", "Recency: units of 24 hours since the last net order, at the clock."),
			number("overdue_ratio_now", since+" / t.expected_gap_days", "ratio", "Days since the last net order divided by the expected gap, at the clock."),
		},
	}}
	for _, t := range job.Tables() {
		if t.Name == "customer_days" {
			views = append(views, daysView(t, job.Calendar))
		}
	}
	return views
}

// daysView joins the days that are over for a customer with the one that the customer is still in, whose row is in
// customers.
func daysView(days *pipeline.Table, calendar *pipeline.Calendar) clickhouse.View {
	var names, present []string
	for _, c := range days.Columns[:len(days.Columns)-2] {
		name := "`" + c.Name + "`"
		names = append(names, name)
		if c.Name == "day" {
			name = fmt.Sprintf("toDate(as_of, '%s') AS %s", calendar.Zone(), name)
		}
		present = append(present, name)
	}
	return clickhouse.View{
		Table: days.Name,
		Comment: "How each customer stood at the end of each business day on which something changed. How all customers stood at the end of a day: " +
			"SELECT * FROM v_customer_days WHERE day <= '2026-03-31' ORDER BY customer_id, day DESC LIMIT 1 BY customer_id",
		Rows: fmt.Sprintf("SELECT %s FROM {database}.customer_days FINAL WHERE is_deleted = 0\nUNION ALL\nSELECT %s FROM {database}.customers FINAL WHERE is_deleted = 0",
			strings.Join(names, ", "), strings.Join(present, ", ")),
	}
}
