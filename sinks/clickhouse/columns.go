package clickhouse

import (
	"math"
	"slices"
	"time"

	"zyklus/pipeline"
)

// The range of DateTime64 that the driver converts without overflow: years 1900 to 2262.
const (
	minInstant = -2208988800000
	maxInstant = 9223372036000
)

// columns converts column data to the slices that the driver's batches take fastest, in memory that is reused: what values
// returns is valid until the next call. Nullable columns go as slices of pointers into the values, the only form for
// which the driver has no reflection and no allocation per row.
type columns struct {
	texts    []string
	counts   []uint32
	bools    []uint8
	instants []int64
	dates    []time.Time

	textPtrs  []*string
	countPtrs []*uint32
	boolPtrs  []*uint8
	intPtrs   []*int64
	floatPtrs []*float64
	datePtrs  []*time.Time
}

// values returns the column's values as the driver wants them.
func (s *columns) values(c *pipeline.Column, d *pipeline.ColumnData) any {
	switch c.Type {
	case pipeline.TypeText, pipeline.TypeString:
		s.texts = d.Strings(s.texts[:0])
		return nullable(c, d, s.texts, &s.textPtrs)
	case pipeline.TypeCount:
		s.counts = convert(d.Ints, s.counts, toCount)
		return nullable(c, d, s.counts, &s.countPtrs)
	case pipeline.TypeBool:
		s.bools = convert(d.Ints, s.bools, toBool)
		return nullable(c, d, s.bools, &s.boolPtrs)
	case pipeline.TypeInstant:
		return nullable(c, d, s.inRange(d.Ints), &s.intPtrs)
	case pipeline.TypeDate:
		s.dates = convert(d.Ints, s.dates, func(v int64) time.Time { return time.Unix(int64(toDate(v))*86400, 0).UTC() })
		return nullable(c, d, s.dates, &s.datePtrs)
	case pipeline.TypeNumber:
		return nullable(c, d, d.Floats, &s.floatPtrs)
	default:
		return nullable(c, d, d.Ints, &s.intPtrs)
	}
}

// inRange returns the instants, limited to what the type holds: pipeline.Never becomes the end of time rather than
// some day in the past.
func (s *columns) inRange(instants []int64) []int64 {
	if len(instants) == 0 || slices.Min(instants) >= minInstant && slices.Max(instants) <= maxInstant {
		return instants
	}
	s.instants = convert(instants, s.instants, toInstant)
	return s.instants
}

func toInstant(v int64) int64 { return min(max(v, minInstant), maxInstant) }

// toCount saturates: a count out of range is the largest one, not a small one.
func toCount(v int64) uint32 { return uint32(min(max(v, 0), math.MaxUint32)) }

// toDate saturates at the last day that the type holds, in 2149.
func toDate(v int64) uint16 { return uint16(min(max(v, 0), math.MaxUint16)) }

func toBool(v int64) uint8 {
	if v != 0 {
		return 1
	}
	return 0
}

// convert fills scratch with the converted values.
func convert[T any](values []int64, scratch []T, f func(int64) T) []T {
	scratch = slices.Grow(scratch[:0], len(values))
	for _, v := range values {
		scratch = append(scratch, f(v))
	}
	return scratch
}

// nullable returns the values, of a nullable column as pointers that are nil where the value is missing.
func nullable[T any](c *pipeline.Column, d *pipeline.ColumnData, values []T, scratch *[]*T) any {
	if !c.Nullable {
		return values
	}
	ptrs := slices.Grow((*scratch)[:0], len(values))
	for i := range values {
		if d.Nulls[i] {
			ptrs = append(ptrs, nil)
		} else {
			ptrs = append(ptrs, &values[i])
		}
	}
	*scratch = ptrs
	return ptrs
}
