package pipeline_test

import (
	"fmt"
	"math"
	"math/big"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"zyklus/bench/oracle"
	"zyklus/pipeline"
)

func code(currency string) (c [3]byte) {
	copy(c[:], currency)
	return c
}

func dayOf(t *testing.T, date string) int64 {
	t.Helper()
	at, err := time.Parse(time.DateOnly, date)
	if err != nil {
		t.Fatal(err)
	}
	return at.Unix() / 86400
}

func TestRatesOfDays(t *testing.T) {
	table := "\xef\xbb\xbfdate, currency, rate\r\n\r\n# old ones last\r\n2024-03-11,USD,0.9140\r\n  2024-03-08 , USD ,\"0.91\"\r\n2024-03-01,USD,000.9000\r\n"
	rates := parseRates(t, table)
	for day, want := range map[string]string{
		"2024-03-01": "0.90", "2024-03-07": "0.90", "2024-03-08": "0.91", "2024-03-10": "0.91", "2024-03-11": "0.914",
		"2024-03-18": "0.914", "2024-03-19": "2024-03-11, more than 7 days", "2024-02-29": "the first one is of 2024-03-01",
	} {
		rate, err := rates.At(code("USD"), dayOf(t, day))
		if err != nil {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%s: %v, want %s", day, err, want)
			}
			continue
		}
		wanted, ok := new(big.Rat).SetString(want)
		got := new(big.Rat).SetFrac(new(big.Int).SetUint64(rate.Units), new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(rate.Digits)), nil))
		if !ok || got.Cmp(wanted) != 0 {
			t.Errorf("%s: %v, want %s", day, got, want)
		}
	}
	if _, err := rates.At(code("CHF"), dayOf(t, "2024-03-08")); err == nil || !strings.Contains(err.Error(), "none for any day") {
		t.Errorf("francs: %v", err)
	}
	if _, err := (*pipeline.Rates)(nil).At(code("CHF"), 0); err == nil || !strings.Contains(err.Error(), "no rate table") {
		t.Errorf("without a table: %v", err)
	}
}

func TestBadRateTables(t *testing.T) {
	for table, want := range map[string]string{
		"":                                   "there is no rate in it",
		"date,currency,rate\n":               "there is no rate in it",
		"day,currency,rate\n":                `line 1: the header is "day,currency,rate"`,
		"# x\n2024-03-01,USD,0.9\n":          "line 2: the header is",
		"H2024-03-01,USD\n":                  "line 2: 2 fields",
		"H\n2024-03-01;USD;0.9\n":            "line 3: 1 fields",
		"H2024-02-30,USD,0.9\n":              `line 2: date "2024-02-30"`,
		"H01.03.2024,USD,0.9\n":              `line 2: date "01.03.2024"`,
		"H0024-03-01,USD,0.9\n":              `line 2: date "0024-03-01"`,
		"H2024-03-01,usd,0.9\n":              `line 2: currency "usd"`,
		"H2024-03-01,XXX,0.9\n":              `line 2: currency "XXX"`,
		"H2024-03-01,EUR,1\n":                "line 2: EUR is the reporting currency",
		"H2024-03-01,USD,0\n":                `line 2: rate "0" is not above zero`,
		"H2024-03-01,USD,0.000\n":            `rate "0.000" is not above zero`,
		"H2024-03-01,USD,-0.9\n":             `rate "-0.9" is not a decimal`,
		"H2024-03-01,USD,9e-1\n":             `rate "9e-1" is not a decimal`,
		"H2024-03-01,USD,\"0,9\"\n":          `rate "0,9" is not a decimal`,
		"H2024-03-01,USD,\n":                 `rate "" is not a decimal`,
		"H2024-03-01,USD,.9\n":               `rate ".9" is not a decimal`,
		"H2024-03-01,USD,1.\n":               `rate "1." is not a decimal`,
		"H2024-03-01,USD,1.2.3\n":            `rate "1.2.3" is not a decimal`,
		"H2024-03-01,USD,NaN\n":              `rate "NaN" is not a decimal`,
		"H2024-03-01,USD,1234567890.123456":  "more than 15 digits",
		"H2024-03-01,USD,0.0000000000000001": "more than 15 digits",
		"H2024-03-01,USD,0.9\n\n2024-03-01,GBP,1.1\n2024-03-01,USD,0.9\n": "line 5: line 2 holds a rate of USD for 2024-03-01 already",
		"H2024-03-01,\"USD,0.9\n": "line 2:",
	} {
		_, err := pipeline.ParseRates([]byte(strings.Replace(table, "H", "date,currency,rate\n", 1)), pipeline.RateOptions{Currency: "EUR"})
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%q: %v, want %s", table, err, want)
		}
	}
	for _, o := range []pipeline.RateOptions{{}, {Currency: "eur"}, {Currency: "EUR", MaxAgeDays: -1}, {Currency: "EUR", MaxAgeDays: 4000}} {
		if _, err := pipeline.ParseRates([]byte("date,currency,rate\n2024-03-01,USD,1\n"), o); err == nil {
			t.Errorf("%+v is accepted", o)
		}
	}
}

// digitsOf are the digits of minor units, each of ISO 4217.
var digitsOf = map[string]int{"JPY": 0, "EUR": 2, "KWD": 3, "CLF": 4}

// converts tells how Convert differs from exact fractions: a rate text of one currency into another.
func converts(rate string, from, to string, amount int64) error {
	rates, err := pipeline.ParseRates([]byte("date,currency,rate\n2024-03-01,"+from+","+rate), pipeline.RateOptions{Currency: to})
	if err != nil {
		return err
	}
	r, err := rates.At(code(from), 19783)
	if err != nil {
		return err
	}
	exact, ok := new(big.Rat).SetString(rate)
	if !ok {
		return fmt.Errorf("rate %q was accepted", rate)
	}
	power := func(n int) *big.Rat {
		return new(big.Rat).SetInt(new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(n)), nil))
	}
	exact.Mul(exact, big.NewRat(amount, 1))
	exact.Mul(exact, power(digitsOf[to]))
	exact.Quo(exact, power(digitsOf[from]))
	rounded := new(big.Int).Div(new(big.Int).Add(new(big.Int).Mul(exact.Num(), big.NewInt(2)), exact.Denom()), new(big.Int).Mul(exact.Denom(), big.NewInt(2)))
	got, ok := r.Convert(amount)
	switch fits := amount >= 0 && rounded.Cmp(big.NewInt(pipeline.MaxAmount)) <= 0; {
	case ok != fits:
		return fmt.Errorf("%d %s at %s into %s: fits %v, want %v (%v)", amount, from, rate, to, ok, fits, rounded)
	case ok && rounded.Cmp(big.NewInt(got)) != 0:
		return fmt.Errorf("%d %s at %s into %s is %d, want %v", amount, from, rate, to, got, rounded)
	}
	return nil
}

// TestConvert holds conversions against exact fractions, of the greatest and smallest rates and amounts too.
func TestConvert(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	for range 20_000 {
		from, to := []string{"JPY", "EUR", "KWD", "CLF"}[r.IntN(4)], []string{"JPY", "EUR", "KWD", "CLF"}[r.IntN(4)]
		if from == to {
			continue
		}
		digits := fmt.Sprint(1 + r.Int64N(int64(math.Pow10(1+r.IntN(15)))-1))
		rate := digits
		switch at := r.IntN(len(digits) + 1); {
		case at == 0:
			rate = "0." + strings.Repeat("0", r.IntN(16-len(digits))) + digits
		case at < len(digits):
			rate = digits[:at] + "." + digits[at:]
		}
		amount := r.Int64N(int64(math.Pow10(1 + r.IntN(13))))
		if r.IntN(10) == 0 {
			amount = []int64{0, 1, 5, pipeline.MaxAmount, math.MaxInt64, -1}[r.IntN(6)]
		}
		if err := converts(rate, from, to, amount); err != nil {
			t.Fatal(err)
		}
	}
}

// FuzzParseRates: arbitrary text is an error of one line, or a table that answers.
func FuzzParseRates(f *testing.F) {
	f.Add("date,currency,rate\n2024-03-01,USD,0.925\n2024-03-01,JPY,0.00615\n", int64(12345))
	f.Add("# x\n\ndate,currency,rate\r\n2024-03-01,KWD,2.9961\r\n2024-03-01,CLF,\"35.1\"\r\n", int64(1))
	f.Fuzz(func(t *testing.T, table string, amount int64) {
		rates, err := pipeline.ParseRates([]byte(table), pipeline.RateOptions{Currency: "EUR"})
		if err != nil {
			if strings.Contains(err.Error(), "\n") {
				t.Errorf("%q", err)
			}
			return
		}
		for _, currency := range []string{"USD", "JPY", "KWD", "CLF"} {
			if rate, err := rates.At(code(currency), 19783); err == nil {
				if got, ok := rate.Convert(amount); ok && (got < 0 || got > pipeline.MaxAmount || rate.Units == 0) {
					t.Errorf("%d %s at %+v is %d", amount, currency, rate, got)
				}
			}
		}
	})
}

// TestRefundsOfForeignOrders: whatever the rate, partial refunds in the order's currency never give back more than it
// was worth, but their share of it, rounded once, and all of them together leave nothing.
func TestRefundsOfForeignOrders(t *testing.T) {
	r := rand.New(rand.NewPCG(2, 2))
	for range 400 {
		units := 1 + r.Int64N(int64(math.Pow10(1+r.IntN(12))))
		value := 1 + r.Int64N(int64(math.Pow10(1+r.IntN(8))))
		o := options(t)
		o.Rates = parseRates(t, fmt.Sprintf("date,currency,rate\n2024-03-01,KWD,%d.%06d", units/1e6, units%1e6))
		job, err := pipeline.NewJob(o)
		if err != nil {
			t.Fatal(err)
		}
		task, at := pipeline.NewTask(job, "events", 0), int64(19783*dayMs)
		send := func(kind pipeline.Kind, amount int64) (net, worth int64, status string) {
			at++
			task.Process(&pipeline.Event{
				Kind: kind, At: at, ID: uint64(at), Customer: []byte("c"), OrderID: []byte("o"), Amount: amount, HasAmount: true, Currency: code("KWD"),
			}, at)
			task.Checkpoint()
			task.Committed()
			for b := task.NextBatch(10); b != nil; b = task.NextBatch(10) {
				for _, row := range oracle.BatchRows(b) {
					if row.Table.Name == "orders" {
						net, worth, status = row.Get("net_value_minor").Int, row.Get("value_minor").Int, row.Get("status").Text
					}
				}
				task.Acknowledge()
			}
			return net, worth, status
		}
		_, worth, _ := send(pipeline.KindOrderCompleted, value)
		if want := oracle.Times(value, big.NewRat(units, 1e7)); worth != want {
			t.Fatalf("%d at %d is worth %d, want %d", value, units, worth, want)
		}
		for left := value; left > 0; {
			back := 1 + r.Int64N(left)
			if r.IntN(5) == 0 {
				back = left
			}
			left -= back
			net, _, status := send(pipeline.KindOrderRefunded, back)
			want := worth - oracle.Times(worth, big.NewRat(value-left, value))
			if net != want || net < 0 || (status == "refunded") != (left == 0) || left == 0 && net != 0 {
				t.Fatalf("%d at %d, %d left: net %d of %d, want %d; %s", value, units, left, net, worth, want, status)
			}
		}
	}
}

// TestRatesAreFrozen: a changed table changes neither the digest of the job nor what has been accepted, also where it
// is folded again after a restart.
func TestRatesAreFrozen(t *testing.T) {
	job := func(rate string) *pipeline.Job {
		o := options(t)
		o.Rates = parseRates(t, "date,currency,rate\n2024-03-01,USD,"+rate)
		j, err := pipeline.NewJob(o)
		if err != nil {
			t.Fatal(err)
		}
		return j
	}
	const at = int64(19783 * dayMs)
	send := func(task *pipeline.Task, id string, kind pipeline.Kind, shift, amount int64) {
		task.Process(&pipeline.Event{
			Kind: kind, At: at + shift, ID: uint64(shift), Customer: []byte("c"), OrderID: []byte(id), Amount: amount, HasAmount: true, Currency: code("USD"),
		}, at+shift)
	}
	task := pipeline.NewTask(job("0.9"), "events", 0)
	send(task, "a", pipeline.KindOrderCompleted, 1000, 10000)
	var log changelog
	log.append(task.Checkpoint())
	task, err := log.restore(job("0.5"), 0)
	if err != nil {
		t.Fatal(err)
	}
	send(task, "b", pipeline.KindOrderCompleted, 10, 10000) // out of order: folds the first one again
	send(task, "a", pipeline.KindOrderUpdated, 2000, 20000)
	task.Checkpoint()
	task.Committed()
	for _, row := range oracle.BatchRows(task.NextBatch(10)) {
		if row.Table.Name == "customers" && row.Get("net_value_minor").Int != 18000+5000 {
			t.Errorf("net value %v", row.Get("net_value_minor"))
		}
	}
}

// TestWithoutRates: an order in a foreign currency is a dead letter, and makes no customer.
func TestWithoutRates(t *testing.T) {
	o := options(t)
	o.Rates = nil
	job, err := pipeline.NewJob(o)
	if err != nil {
		t.Fatal(err)
	}
	task := pipeline.NewTask(job, "events", 0)
	task.Process(&pipeline.Event{Kind: pipeline.KindOrderCompleted, At: dayMs, ID: 1, Customer: []byte("c"), OrderID: []byte("o"), Amount: 5, HasAmount: true, Currency: code("USD")}, dayMs)
	letters := task.Checkpoint().DeadLetters
	if len(letters) != 1 || letters[0].Kind != pipeline.ErrCurrencyWithoutRate || task.Stats().Customers != 0 {
		t.Errorf("%+v", letters)
	}
}

// TestGreatAmounts: what is too large in the reporting currency is refused, as a new order at once, as an update when
// it is folded; a refund that is too large gives back all. A rate that an event brings along counts for nothing.
func TestGreatAmounts(t *testing.T) {
	o := options(t)
	o.Rates = parseRates(t, "date,currency,rate\n2024-03-01,USD,1000000")
	job, err := pipeline.NewJob(o)
	if err != nil {
		t.Fatal(err)
	}
	task, at := pipeline.NewTask(job, "events", 0), int64(19783*dayMs)
	send := func(order, currency string, kind pipeline.Kind, amount int64) {
		at++
		task.Process(&pipeline.Event{
			Kind: kind, At: at, ID: uint64(at), Customer: []byte("c"), OrderID: []byte(order), Amount: amount, HasAmount: true,
			Currency: code(currency), Rate: pipeline.Rate{Units: 7}, Raw: fmt.Appendf(nil, "%s %d", order, amount),
		}, at)
	}
	send("a", "USD", pipeline.KindOrderCompleted, pipeline.MaxAmount)
	send("b", "USD", pipeline.KindOrderCompleted, pipeline.MaxAmount/1e6)
	send("b", "USD", pipeline.KindOrderUpdated, pipeline.MaxAmount/1e6+1)
	send("c", "", pipeline.KindOrderCompleted, 100)
	send("d", "", pipeline.KindOrderCompleted, 100)
	send("d", "USD", pipeline.KindOrderRefunded, pipeline.MaxAmount)
	task.AdvanceClock(at + dayMs)
	for task.Drain(100) {
	}
	letters := ""
	for _, l := range task.Checkpoint().DeadLetters {
		letters += fmt.Sprintf("%v %s;", l.Kind, l.Value)
	}
	if want := "amount_out_of_range a 10000000000000;amount_out_of_range b 10000001;"; letters != want {
		t.Errorf("dead letters %q, want %q", letters, want)
	}
	task.Committed()
	checkOrders(t, "", task, []string{
		"b completed 10000000000000 0 10000000000000 USD 10000000 10000000", "c completed 100 0 100  - -", "d refunded 100 100 0  - -",
	})
}
