package clickhouse

import (
	"math"
	"reflect"
	"testing"

	"zyklus/pipeline"
)

func TestColumnValues(t *testing.T) {
	var s columns
	ints := pipeline.ColumnData{Ints: []int64{-1, 7, math.MaxInt64}, Nulls: []bool{false, true, false}}
	for _, tc := range []struct {
		column pipeline.Column
		data   pipeline.ColumnData
		want   any
	}{
		{pipeline.Column{Type: pipeline.TypeCount}, ints, []uint32{0, 7, math.MaxUint32}},
		{pipeline.Column{Type: pipeline.TypeInteger}, ints, ints.Ints},
		{pipeline.Column{Type: pipeline.TypeInstant}, ints, []int64{-1, 7, maxInstant}},
		{pipeline.Column{Type: pipeline.TypeBool}, ints, []uint8{1, 1, 1}},
		{pipeline.Column{Type: pipeline.TypeCount, Nullable: true}, ints, []*uint32{new(uint32), nil, ptr(uint32(math.MaxUint32))}},
		{pipeline.Column{Type: pipeline.TypeMoney, Nullable: true}, ints, []*int64{ptr(int64(-1)), nil, ptr(int64(math.MaxInt64))}},
		{pipeline.Column{Type: pipeline.TypeNumber}, pipeline.ColumnData{Floats: []float64{1.5}}, []float64{1.5}},
	} {
		if got := s.values(&tc.column, &tc.data); !reflect.DeepEqual(got, tc.want) {
			t.Errorf("%+v: got %v, want %v", tc.column, got, tc.want)
		}
	}
}

func ptr[T any](v T) *T { return &v }

// TestColumnValuesReuse holds the cost: once warm, converting allocates for the interface values only.
func TestColumnValuesReuse(t *testing.T) {
	rows := pipeline.NewRows(customersTable())
	for i := range 1000 {
		customer(rows, i, 1, false)
	}
	var s columns
	allocs := testing.AllocsPerRun(10, func() {
		for i := range rows.Data {
			s.values(&rows.Table.Columns[i], &rows.Data[i])
		}
	})
	if limit := float64(len(rows.Data)); allocs > limit {
		t.Errorf("%v allocations for %v columns of 1000 rows", allocs, limit)
	}
}
