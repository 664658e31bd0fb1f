package oracle

import (
	"fmt"
	"math"
	"strings"
	"sync"
	"time"
)

// rateTexts are rates into EUR by "date,currency". Weekends have none, nor has the most of each August.
var rateTexts = sync.OnceValue(func() map[string]string {
	texts := map[string]string{}
	for day := time.Date(2022, 12, 20, 0, 0, 0, 0, time.UTC); day.Year() < 2046; day = day.AddDate(0, 0, 1) {
		if w := day.Weekday(); w == time.Saturday || w == time.Sunday || day.Month() == time.August && day.Day() < 25 {
			continue
		}
		for i, rate := range []struct {
			currency string
			base     float64
		}{{"USD", 0.92}, {"GBP", 1.17}, {"JPY", 0.0061}, {"KWD", 3.01}} {
			wave := 1 + 0.1*math.Sin(float64(day.Unix()/86400)/float64(50+i))
			texts[day.Format("2006-01-02")+","+rate.currency] = fmt.Sprintf("%.6f", rate.base*wave)
		}
	}
	return texts
})

// RateTable is the table of the rates of histories, as CSV.
var RateTable = sync.OnceValue(func() string {
	table := "date,currency,rate\n"
	var b strings.Builder
	for _, key := range sortedKeys(rateTexts()) {
		b.WriteString(key + "," + rateTexts()[key] + "\n")
	}
	return table + b.String()
})

// Rate is the rate of a history on a date, "" for none.
func Rate(date, currency string) string { return rateTexts()[date+","+currency] }
