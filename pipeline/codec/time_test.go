package codec

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"
)

func TestParseTimeAgainstTime(t *testing.T) {
	rng := rand.New(rand.NewPCG(7, 8))
	layouts := []string{
		"2006-01-02T15:04:05Z07:00", "2006-01-02T15:04:05.000Z07:00", "2006-01-02T15:04:05.999999999Z07:00",
		"2006-01-02 15:04:05.0000-0700", "2006-01-02 15:04:05.00", "2006-01-02 15:04:05", "2006-01-02",
	}
	first := time.Date(0, 1, 2, 0, 0, 0, 0, time.UTC).Unix()
	last := time.Date(9999, 12, 30, 0, 0, 0, 0, time.UTC).Unix()
	for range 50_000 {
		zone := time.FixedZone("", (rng.IntN(2*24*60-1)-24*60+1)*60)
		at := time.Unix(first+rng.Int64N(last-first), rng.Int64N(1e9)).In(zone)
		layout := layouts[rng.IntN(len(layouts))]
		text := at.Format(layout)
		want, err := time.Parse(layout, text)
		if err != nil {
			t.Fatal(err)
		}
		if ms, ok := parseTime([]byte(text)); !ok || ms != want.UnixMilli() {
			t.Fatalf("%q is %d (%v), want %d", text, ms, ok, want.UnixMilli())
		}
	}
}

// TestEveryDay tries all days of a cycle of 400 years, those that exist and those that do not.
func TestEveryDay(t *testing.T) {
	for year := range 400 {
		for month := range 14 {
			for day := range 33 {
				text := fmt.Sprintf("%04d-%02d-%02d", 1800+year, month, day)
				want, err := time.Parse(time.DateOnly, text)
				if ms, ok := parseTime([]byte(text)); ok != (err == nil) || ok && ms != want.UnixMilli() {
					t.Fatalf("%s is %d (%v), want %v (%v)", text, ms, ok, want, err)
				}
			}
		}
	}
}

func TestNoTimes(t *testing.T) {
	for _, text := range []string{
		"", "2024", "2024-03", "2024-3-01", "2024-03-1", "20240301", "2024/03/01", "01.03.2024", "2024-00-01", "2024-03-00",
		"2024-13-01", "2024-04-31", "1900-02-29", "2023-02-29", "-024-03-01", "2024-03-01T", "2024-03-01T12", "2024-03-01T12:34",
		"2024-03-01T12:34Z", "2024-03-01T24:00:00Z", "2024-03-01T12:60:00Z", "2024-03-01T12:34:60Z", "2024-03-01T12:34:56.Z",
		"2024-03-01T12:34:56,5Z", "2024-03-01T12:34:56+1", "2024-03-01T12:34:56+01", "2024-03-01T12:34:56+24:00",
		"2024-03-01T12:34:56+01:60", "2024-03-01T12:34:56+01:0", "2024-03-01T12:34:56Z ", " 2024-03-01", "2024-03-01Z",
		"2024-03-01_12:34:56", "2024-03-01  12:34:56", "2024-03-01T12:34:56ZZ", "2024-03-01T1a:34:56Z", "2024-03-01T12:34:56+0:100",
	} {
		if ms, ok := parseTime([]byte(text)); ok {
			t.Errorf("%q is taken for %d", text, ms)
		}
	}
}

func TestParseUnix(t *testing.T) {
	for text, want := range map[string]int64{
		"0": 0, "1.5": 1500, "-1.5": -1500, "1709296496": 1709296496000, "1709296496.7899999": 1709296496789,
		"100000000000": 100000000000000, "100000000001": 100000000001, "1709296496789.9": 1709296496789,
		"-100000000001": -100000000001, "1.7e12": 1700000000000, "1e-400": 0,
		"1e400": beyondTime / 1000, "-99999999999999999999": -beyondTime / 1000,
	} {
		if ms := parseUnix([]byte(text)); ms != want {
			t.Errorf("%s is %d, want %d", text, ms, want)
		}
	}
}
