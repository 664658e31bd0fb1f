package models

import (
	"reflect"
	"strings"
	"testing"
)

func TestBuiltIn(t *testing.T) {
	a := BuiltIn()
	if err := a.Validate(); err != nil {
		t.Fatal(err)
	}
	if a.Version != 0 || a.HorizonDays != 90 || len(a.Category.Popularity) != 0 {
		t.Errorf("%+v", a)
	}
	near(t, "HorizonWeeks", a.HorizonWeeks(), 90.0/7, 0)
}

func TestBands(t *testing.T) {
	b := BuiltIn().RiskBands
	for risk, want := range map[float64]Band{0: BandLow, 0.49: BandLow, 0.5: BandMedium, 0.79: BandMedium, 0.8: BandHigh, 1: BandHigh} {
		if got := b.Band(risk); got != want {
			t.Errorf("Band(%v) = %s, want %s", risk, got, want)
		}
	}
}

func TestParseArtefact(t *testing.T) {
	got, err := ParseArtefact([]byte(`
version: 7
mbg: {r: 1, alpha: 2, a: 3, b: 4}
gap_prior_days: 30
category:
  popularity:
    - {name: toys, share: 0.25}
    - {name: books, share: 0.75}
`))
	if err != nil {
		t.Fatal(err)
	}
	want := BuiltIn()
	want.Version, want.MBG, want.GapPriorDays = 7, MBG{1, 2, 3, 4}, 30
	want.Category.Popularity = []CategoryShare{{"books", 0.75}, {"toys", 0.25}}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v\nwant %+v", got, want)
	}
}

func TestParseArtefactRefuses(t *testing.T) {
	for _, c := range []struct {
		name, doc string
		want      []string // all of them occur in the error
	}{
		{"empty", "", []string{"the document is empty"}},
		{"no version", "horizon_days: 30", []string{"version: must be 1 or above"}},
		{"built-in version", "version: 0", []string{"version: must be 1 or above"}},
		{"unknown key", "version: 1\nhorizon: 30", []string{"[2:1]", "horizon"}},
		{"unknown nested key", "version: 1\nmbg:\n  r: 1\n  beta: 2", []string{"[4:3]", "beta"}},
		{"repeated key", "version: 1\nversion: 2", []string{"[2:1]", "version"}},
		{"wrong type", "version: 1\nhorizon_days: soon", []string{"[2:15]"}},
		{"two documents", "version: 1\n---\nversion: 2", []string{"more than one YAML document"}},
		{"half a fit", "version: 1\nmbg: {r: 1, alpha: 2}", []string{"mbg.a: must", "mbg.b: must"}},
		{"all at once", "version: 1\nhorizon_days: -1\ngap_prior_weight: .inf\nrisk_bands: {medium: 0.9, high: 0.8}\n" +
			"category: {half_life_days: 29, shrink: -1, popularity: [{name: a, share: 0.5}, {name: a, share: 2}, {name: '', share: .nan}]}",
			[]string{"horizon_days", "gap_prior_weight", "risk_bands", "category.half_life_days", "category.shrink",
				`"a" is repeated`, `share of "a" must be within 0 to 1`, "name is empty", "shares must add up to 1"}},
	} {
		_, err := ParseArtefact([]byte(c.doc))
		if err == nil {
			t.Errorf("%s: accepted", c.name)
			continue
		}
		for _, want := range c.want {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%s: error lacks %q:\n%v", c.name, want, err)
			}
		}
	}
}

func FuzzParseArtefact(f *testing.F) {
	f.Add([]byte("version: 1\nmbg: {r: 1, alpha: 2, a: 3, b: 4}\n"))
	f.Add([]byte("version: 1\ncategory:\n  popularity: [{name: a, share: 1}]\n"))
	f.Fuzz(func(t *testing.T, doc []byte) {
		a, err := ParseArtefact(doc)
		if err == nil && a.Validate() != nil {
			t.Errorf("accepted, yet invalid: %+v", a)
		}
	})
}
