package models

import (
	"errors"
	"fmt"
)

// Artefact is everything of the models that is fitted or tuned, frozen under one
// version: between two versions every population figure is a constant. It is
// read-only once validated and may be shared between goroutines.
type Artefact struct {
	// Version identifies the artefact in rows and checkpoints; 0 is BuiltIn,
	// fitted ones count from 1.
	Version int `yaml:"version"`
	// MBG holds the parameters of the purchase model, fitted in weeks.
	MBG MBG `yaml:"mbg"`
	// HorizonDays is H of the churn risk, "no order within H"; default 90.
	HorizonDays float64 `yaml:"horizon_days"`
	// GapPriorDays is the gap expected of a customer without one; default 60.
	GapPriorDays float64 `yaml:"gap_prior_days"`
	// GapPriorWeight is the number of observed gaps the prior counts for;
	// default 1.
	GapPriorWeight float64 `yaml:"gap_prior_weight"`
	// RiskBands cut the churn risk into bands.
	RiskBands RiskBands `yaml:"risk_bands"`
	// Category proposes the next categories.
	Category CategoryModel `yaml:"category"`
}

// Band names a range of the churn risk.
type Band string

// The bands of the churn risk.
const (
	BandLow    Band = "low"
	BandMedium Band = "medium"
	BandHigh   Band = "high"
)

// RiskBands are the lower limits, inclusive, of the medium and the high band;
// defaults 0.5 and 0.8. 0 < Medium < High < 1.
type RiskBands struct {
	Medium float64 `yaml:"medium"`
	High   float64 `yaml:"high"`
}

// Band is the band in which a churn risk lies.
func (b RiskBands) Band(risk float64) Band {
	switch {
	case risk >= b.High:
		return BandHigh
	case risk >= b.Medium:
		return BandMedium
	}
	return BandLow
}

// Validate reports limits that are out of range or order.
func (b RiskBands) Validate() error {
	if 0 < b.Medium && b.Medium < b.High && b.High < 1 {
		return nil
	}
	return fmt.Errorf("risk_bands: must be 0 < medium < high < 1, are medium %v, high %v", b.Medium, b.High)
}

// BuiltIn is artefact version 0, in force until a fit replaces it: the published
// MBG/NBD parameters of the CDNOW 1/10 sample, no popularity, and defaults.
func BuiltIn() Artefact {
	return Artefact{
		MBG:            MBG{R: 0.525, Alpha: 6.183, A: 0.891, B: 1.614},
		HorizonDays:    90,
		GapPriorDays:   60,
		GapPriorWeight: 1,
		RiskBands:      RiskBands{Medium: 0.5, High: 0.8},
		Category:       CategoryModel{HalfLifeDays: 180, Shrink: DefaultShrink(0)},
	}
}

// HorizonWeeks is the horizon of the churn risk in the unit of MBG.
func (a *Artefact) HorizonWeeks() float64 { return a.HorizonDays / DaysPerWeek }

// ExpectedGap is ExpectedGap with the artefact's prior: days between two
// purchase days of a customer with x gaps, together spanDays long.
func (a *Artefact) ExpectedGap(x, spanDays float64) float64 {
	return ExpectedGap(x, spanDays, a.GapPriorDays, a.GapPriorWeight)
}

// OverdueRatio is the time since the last purchase, in milliseconds, over
// ExpectedGap.
func (a *Artefact) OverdueRatio(silent int64, x, spanDays float64) float64 {
	return OverdueRatio(silent, x, spanDays, a.GapPriorDays, a.GapPriorWeight)
}

// Validate reports all problems of the artefact at once.
func (a *Artefact) Validate() error {
	var version error
	if a.Version < 0 {
		version = fmt.Errorf("version: must be 0 or above, is %d", a.Version)
	}
	return errors.Join(
		version,
		a.MBG.Validate(),
		positive("horizon_days", a.HorizonDays),
		positive("gap_prior_days", a.GapPriorDays),
		positive("gap_prior_weight", a.GapPriorWeight),
		a.RiskBands.Validate(),
		a.Category.Validate(),
	)
}
