package codec

const (
	msPerSecond = 1000
	msPerMinute = 60 * msPerSecond
	msPerDay    = 24 * 60 * msPerMinute

	// latest is 2200-01-01 00:00 UTC, after which no event time is believed.
	latest = 7_258_118_400_000
	// earliest is 1990-01-01 00:00 UTC, the default of Options.MinTime.
	earliest = 631_152_000_000
	// beyondTime stands for numbers past any year that is accepted.
	beyondTime = latest * 1_000_000
)

// parseTime reads a text of the forms below as Unix milliseconds; digits below a millisecond are cut off. ok is false
// for any other text and for days and times of day that do not exist (30 February, 24:00, leap seconds).
//
//	2024-03-01                      00:00 UTC
//	2024-03-01T12:34:56.789Z        or a space for T; the fraction has any number of digits
//	2024-03-01T12:34:56.789+01:00   or +0100
//	2024-03-01T12:34:56.789         UTC
func parseTime(b []byte) (ms int64, ok bool) {
	ms, ok = parseDate(b)
	if !ok || len(b) == len("2006-01-02") {
		return ms, ok
	}
	b = b[len("2006-01-02"):]
	if b[0] != 'T' && b[0] != 't' && b[0] != ' ' {
		return 0, false
	}
	clock, rest, ok := parseClock(b[1:])
	if !ok {
		return 0, false
	}
	offset, ok := parseOffset(rest)
	return ms + clock - offset, ok
}

// parseDate reads the day that b begins with as the milliseconds of its midnight UTC.
func parseDate(b []byte) (ms int64, ok bool) {
	if len(b) < len("2006-01-02") || b[4] != '-' || b[7] != '-' {
		return 0, false
	}
	century, year, month, day := pair(b), pair(b[2:]), pair(b[5:]), pair(b[8:])
	if century|year|month|day < 0 {
		return 0, false
	}
	year += 100 * century
	if month < 1 || month > 12 || day < 1 || day > daysIn(year, month) {
		return 0, false
	}
	return daysSince1970(year, month, day) * msPerDay, true
}

// parseClock reads the time of day that b begins with as milliseconds and returns the bytes after it.
func parseClock(b []byte) (ms int64, rest []byte, ok bool) {
	if len(b) < len("15:04:05") || b[2] != ':' || b[5] != ':' {
		return 0, nil, false
	}
	hour, minute, second := pair(b), pair(b[3:]), pair(b[6:])
	if hour|minute|second < 0 || hour > 23 || minute > 59 || second > 59 {
		return 0, nil, false
	}
	ms = (hour*60+minute)*msPerMinute + second*msPerSecond
	b = b[len("15:04:05"):]
	if len(b) == 0 || b[0] != '.' {
		return ms, b, true
	}
	b = b[1:]
	n := 0
	for unit := int64(100); n < len(b) && isDigit(b[n]); n++ {
		ms += int64(b[n]-'0') * unit
		unit /= 10
	}
	return ms, b[n:], n > 0
}

// parseOffset reads what follows a time of day, whole, as milliseconds ahead of UTC.
func parseOffset(b []byte) (ms int64, ok bool) {
	if len(b) == 0 || len(b) == 1 && (b[0] == 'Z' || b[0] == 'z') {
		return 0, true
	}
	if b[0] != '+' && b[0] != '-' {
		return 0, false
	}
	var hour, minute int64
	switch {
	case len(b) == len("+01:00") && b[3] == ':':
		hour, minute = pair(b[1:]), pair(b[4:])
	case len(b) == len("+0100"):
		hour, minute = pair(b[1:]), pair(b[3:])
	default:
		return 0, false
	}
	if hour|minute < 0 || hour > 23 || minute > 59 {
		return 0, false
	}
	ms = (hour*60 + minute) * msPerMinute
	if b[0] == '-' {
		ms = -ms
	}
	return ms, true
}

// pair returns the number of the two digits that b begins with, or -1.
func pair(b []byte) int64 {
	if !isDigit(b[0]) || !isDigit(b[1]) {
		return -1
	}
	return int64(b[0]-'0')*10 + int64(b[1]-'0')
}

// daysIn returns the length of a month in the Gregorian calendar.
func daysIn(year, month int64) int64 {
	switch month {
	case 4, 6, 9, 11:
		return 30
	case 2:
		if year%4 == 0 && (year%100 != 0 || year%400 == 0) {
			return 29
		}
		return 28
	}
	return 31
}

// daysSince1970 counts the days from 1970-01-01 to a day of the years 0 to 9999. Years begin in March here, so that
// the leap day ends them, and are counted in cycles of 400.
func daysSince1970(year, month, day int64) int64 {
	if month <= 2 {
		year, month = year-1, month+12
	}
	year += 400 // year 0 begins in March of year -1
	cycle, year := year/400, year%400
	dayOfYear := (153*(month-3)+2)/5 + day - 1
	return (cycle-1)*146_097 + year*365 + year/4 - year/100 + dayOfYear - 719_468
}

// parseUnix reads a JSON number as Unix time: in seconds, or beyond ±100 billion (the year 5138) in milliseconds.
// Digits below a millisecond are cut off. Numbers too large for either stand at ±beyondTime.
func parseUnix(b []byte) (ms int64) {
	const secondsLimit = 100_000_000_000
	ms, _ = parseUnixIn(unitSecond, b)
	if ms > secondsLimit*msPerSecond || ms < -secondsLimit*msPerSecond {
		ms /= 1000
	}
	return ms
}

// timeUnit is what a number of Unix time counts: the decimal digits of it that are left of a millisecond's.
type timeUnit int8

const (
	unitSecond      timeUnit = 3
	unitMillisecond timeUnit = 0
	unitMicrosecond timeUnit = -3
	unitNanosecond  timeUnit = -6
)

// parseUnixIn reads a decimal number as Unix time. Digits below a millisecond are cut off; numbers beyond any year stand
// at ±beyondTime. ok is false for other text.
func parseUnixIn(unit timeUnit, b []byte) (ms int64, ok bool) {
	d, ok := parseDecimal(b, int(unit))
	if d.overflow || d.units > beyondTime {
		d.units = beyondTime
	}
	if ms = int64(d.units); d.negative {
		ms = -ms
	}
	return ms, ok
}
