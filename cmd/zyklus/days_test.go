package main

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestDaysAsOf stops a load of CDNOW at the end of some days, by the clock of Berlin, and keeps v_customers as it is there.
// In the end v_customer_days must give the same for each of these days, though by then all have been changed many times.
func TestDaysAsOf(t *testing.T) {
	file := realFile(t, "cdnow_sample.csv.gz")
	const partitions = 3
	dir := t.TempDir()
	broker, _ := startBroker(t, filepath.Join(dir, "kafka"))
	engine, _ := startClickHouse(t, filepath.Join(dir, "clickhouse"))
	topicOn(t, broker, "events", partitions, nil)
	d := deploy(t, "days", "events", broker, engine, "currency: USD\ntime_zone: Europe/Berlin")
	succeed(t, "migrate", "--config", d.config)
	pipeline := start(t, nil, "run", "--config", d.config)
	columns := strings.Join(d.mustQuery(t, "SELECT name FROM system.columns WHERE database = currentDatabase() AND table = 'v_customer_days' AND name != 'day' ORDER BY position"), ", ")
	berlin, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Fatal(err)
	}
	days := []string{"1997-01-31", "1997-06-01", "1997-10-25", "1997-10-26", "1998-06-30", "1999-12-31"}
	after := ""
	for i, day := range days {
		at, err := time.ParseInLocation(time.DateOnly, day, berlin)
		if err != nil {
			t.Fatal(err)
		}
		at = time.Date(at.Year(), at.Month(), at.Day()+1, 0, 0, 0, 0, berlin).Add(-time.Millisecond)
		end := at.Format("2006-01-02T15:04:05.000Z07:00")
		args := []string{"load", file, "--preset", "cdnow", "--config", d.config, "--advance-to", end}
		if i > 0 {
			args = append(args, "--after", after)
		}
		succeed(t, args...)
		after = end
		d.awaitClock(t, partitions, at)
		d.mustQuery(t, fmt.Sprintf("CREATE TABLE stop_%d ENGINE = MergeTree ORDER BY customer_id AS SELECT %s FROM v_customers", i, columns))
	}
	for i, day := range days {
		asOf := fmt.Sprintf("(SELECT %s FROM (SELECT * FROM v_customer_days WHERE day <= '%s' ORDER BY customer_id, day DESC LIMIT 1 BY customer_id))", columns, day)
		stop := fmt.Sprintf("(SELECT %s FROM stop_%d)", columns, i)
		none(t, d, "customers as of "+day+" that were not so at its end", asOf+" EXCEPT "+stop)
		none(t, d, "customers at the end of "+day+" that are not so as of it", stop+" EXCEPT "+asOf)
		equal(t, "customers as of "+day, one(t, d, "SELECT count() FROM "+asOf), one(t, d, "SELECT count() FROM "+stop))
	}
	equal(t, "days with two rows of a customer", one(t, d, "SELECT count() - uniqExact(customer_id, day) FROM v_customer_days"), "0")
	if n := whole(t, one(t, d, "SELECT count() FROM v_customer_days")); n < 20_000 {
		t.Errorf("only %d days: too few to tell", n)
	}
	if all := sums(verifies(t, d, 0, "--all")); all.Exact != all.Customers || all.Customers != 2357 {
		t.Errorf("verified: %+v", all)
	}
	if code := pipeline.stop(time.Minute); code != 0 {
		t.Errorf("run ended with %d\n%s", code, tail(pipeline.log.String(), 10))
	}
}
