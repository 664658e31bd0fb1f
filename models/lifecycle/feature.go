package lifecycle

import (
	"errors"
	"fmt"
	"math"
)

// Never is the instant that does not come.
const Never = math.MaxInt64

// lastInstant is the end of the year 9999, after which nothing is looked for.
const lastInstant = 253_402_300_799_999

// Kind is the type of a feature.
type Kind uint8

// The kinds of features.
const (
	Number Kind = iota // a float64
	Bool               // false is 0, everything else true
	Text               // a string; never changes with time alone
)

// Varies tells how a feature's value moves while nothing happens.
type Varies uint8

// The ways in which features move. An event may change any feature at any time;
// these are about the time between events only.
const (
	Constant Varies = iota // does not move
	Rising                 // never falls; being defined or not does not change
	Falling                // never rises; being defined or not does not change
	Steps                  // moves up, down, or in and out of being defined, at single instants
)

// Feature declares one input of rules.
type Feature struct {
	Name   string // as rules write it: a-z, 0-9 and _, beginning with a letter
	Unit   string // for people, e.g. "days"
	Doc    string // for people: one sentence
	Kind   Kind
	Varies Varies
}

// Catalogue lists the features that rules may use; the index is the feature's
// number in Source.
type Catalogue []Feature

// Source gives the rules the features of one customer. Calls are pure between
// two events of the customer: the same arguments give the same result. Instants
// lie between the one the Lifecycle was asked for and the end of the year 9999.
type Source interface {
	// Number gives a Number, or a Bool as 0 or not 0, at an instant. With ok
	// false it is undefined, and every comparison with it is false.
	Number(feature int, at int64) (v float64, ok bool)
	// Text gives a Text.
	Text(feature int) string
	// Crossing is a lower bound, after at and never later than the true one, of
	// the next instant at which a feature that varies reaches or passes the
	// threshold. For Steps it is the next step, whatever the threshold, or a
	// lower bound of it; it is also asked where the feature is undefined. Never
	// if there is none. A bound that is a little too late costs time, not truth,
	// for Rising and Falling features; for Steps it must hold.
	Crossing(feature int, at int64, threshold float64) int64
}

// Validate reports all features that rules could not use.
func (c Catalogue) Validate() error {
	var errs []error
	seen := make(map[string]bool, len(c))
	for i, f := range c {
		fail := func(why string) { errs = append(errs, fmt.Errorf("feature %d %q: %s", i, f.Name, why)) }
		switch {
		case !isName(f.Name):
			fail("the name must be of a-z, 0-9 and _, beginning with a letter")
		case isReserved(f.Name):
			fail("the name is reserved")
		case seen[f.Name]:
			fail("the name is used twice")
		}
		if f.Kind > Text || f.Varies > Steps {
			fail("unknown kind or variation")
		}
		if f.Kind == Text && f.Varies != Constant {
			fail("a text cannot vary with time")
		}
		seen[f.Name] = true
	}
	return errors.Join(errs...)
}

// isName reports whether s can name a feature, parameter, phase or rule.
func isName(s string) bool {
	for i, r := range s {
		letter, digit := r >= 'a' && r <= 'z', r >= '0' && r <= '9' || r == '_'
		if !letter && (i == 0 || !digit) {
			return false
		}
	}
	return s != ""
}

// isReserved reports names that mean something else in CEL or in rules.
func isReserved(s string) bool {
	switch s {
	case paramPrefix, "as", "break", "const", "continue", "else", "false", "for", "function", "if",
		"import", "in", "let", "loop", "package", "namespace", "null", "return", "true", "var", "void",
		"while", "bool", "bytes", "double", "dyn", "duration", "google", "int", "list", "map", "null_type",
		"string", "timestamp", "type", "uint":
		return true
	}
	return false
}
