package models

import (
	"encoding/csv"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"testing"
)

// sharedFile opens a reference file of the data folder, which is not part of the
// repository: $ZYKLUS_SHARED, or shared/data beside a parent of the working
// directory. It skips the test, saying so, where there is none.
func sharedFile(t *testing.T, name string) *os.File {
	t.Helper()
	var tried []string
	if dir := os.Getenv("ZYKLUS_SHARED"); dir != "" {
		tried = append(tried, filepath.Join(dir, name), filepath.Join(dir, "data", name))
	}
	for dir, _ := os.Getwd(); ; dir = filepath.Dir(dir) {
		tried = append(tried, filepath.Join(dir, "shared", "data", name))
		if dir == filepath.Dir(dir) {
			break
		}
	}
	for _, path := range tried {
		if f, err := os.Open(path); err == nil {
			t.Cleanup(func() { f.Close() })
			return f
		}
	}
	t.Skipf("SKIPPED: reference data %s not found (set ZYKLUS_SHARED); tried %v", name, tried)
	return nil
}

// sharedRows reads a reference CSV as numbers, without its header; empty cells
// are NaN.
func sharedRows(t *testing.T, name string) [][]float64 {
	t.Helper()
	r := csv.NewReader(sharedFile(t, name))
	r.Comment = '#'
	records, err := r.ReadAll()
	if err != nil {
		t.Fatalf("read %s: %v", name, err)
	}
	var rows [][]float64
	for _, rec := range records[1:] {
		row := make([]float64, len(rec))
		for i, cell := range rec {
			row[i] = math.NaN()
			if v, err := strconv.ParseFloat(cell, 64); err == nil || cell != "" {
				row[i] = v
			}
		}
		rows = append(rows, row)
	}
	return rows
}

// near fails unless got is within a relative tolerance of want; values below
// 1e-300 count as 0.
func near(t *testing.T, what string, got, want, tolerance float64) {
	t.Helper()
	if math.IsNaN(got) || math.Abs(got-want) > tolerance*math.Abs(want)+1e-300 {
		t.Errorf("%s = %.15g, want %.15g (relative tolerance %g)", what, got, want, tolerance)
	}
}
