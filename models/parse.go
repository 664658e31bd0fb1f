package models

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
)

// artefactFile is an artefact as written; a section left out is nil and keeps
// the built-in values. A section is taken whole, because half a fit joined with
// half a default is no fit: a parameter missing in it is refused.
type artefactFile struct {
	Version        int           `yaml:"version"`
	MBG            *MBG          `yaml:"mbg"`
	HorizonDays    *float64      `yaml:"horizon_days"`
	GapPriorDays   *float64      `yaml:"gap_prior_days"`
	GapPriorWeight *float64      `yaml:"gap_prior_weight"`
	RiskBands      *RiskBands    `yaml:"risk_bands"`
	Category       *categoryFile `yaml:"category"`
}

type categoryFile struct {
	HalfLifeDays *float64        `yaml:"half_life_days"`
	Shrink       *float64        `yaml:"shrink"`
	Popularity   []CategoryShare `yaml:"popularity"`
}

// ParseArtefact reads one YAML document with the keys named in the types. Keys
// left out have the values of BuiltIn, shrink that of DefaultShrink; popularity
// may come in any order. Unknown and repeated keys are refused with their line,
// then all problems of the values are reported together. Version must be 1 or
// above: 0 is the built-in artefact.
func ParseArtefact(doc []byte) (Artefact, error) {
	if err := plainYAML(doc); err != nil {
		return Artefact{}, fmt.Errorf("parse artefact: %w", err)
	}
	var file artefactFile
	dec := yaml.NewDecoder(bytes.NewReader(doc), yaml.Strict())
	if err := dec.Decode(&file); errors.Is(err, io.EOF) {
		return Artefact{}, errors.New("parse artefact: the document is empty")
	} else if err != nil {
		return Artefact{}, fmt.Errorf("parse artefact: %w", err)
	}
	if err := dec.Decode(new(any)); !errors.Is(err, io.EOF) {
		return Artefact{}, errors.New("parse artefact: more than one YAML document")
	}
	a := file.artefact()
	err := a.Validate()
	if file.Version < 1 {
		err = errors.Join(fmt.Errorf("version: must be 1 or above (0 is the built-in artefact), is %d", file.Version), err)
	}
	if err != nil {
		return Artefact{}, fmt.Errorf("parse artefact: %w", err)
	}
	return a, nil
}

// plainYAML refuses tags, anchors and aliases: an artefact needs none, and the decoder panics at a tag in the place of a
// list.
func plainYAML(doc []byte) error {
	file, err := parser.ParseBytes(doc, 0)
	if err != nil {
		return err
	}
	var v plainVisitor
	for _, d := range file.Docs {
		if d.Body != nil {
			ast.Walk(&v, d.Body)
		}
	}
	if v.found == nil {
		return nil
	}
	t := v.found.GetToken()
	return fmt.Errorf("[%d:%d] tags, anchors and aliases are not allowed, found %q: write the value itself", t.Position.Line, t.Position.Column, t.Value)
}

// plainVisitor finds the first node that is not plain.
type plainVisitor struct{ found ast.Node }

// Visit implements ast.Visitor.
func (v *plainVisitor) Visit(n ast.Node) ast.Visitor {
	switch n.Type() {
	case ast.TagType, ast.AnchorType, ast.AliasType, ast.MergeKeyType:
		if v.found == nil {
			v.found = n
		}
		return nil
	}
	return v
}

func (f *artefactFile) artefact() Artefact {
	a := BuiltIn()
	a.Version = f.Version
	set(&a.MBG, f.MBG)
	set(&a.HorizonDays, f.HorizonDays)
	set(&a.GapPriorDays, f.GapPriorDays)
	set(&a.GapPriorWeight, f.GapPriorWeight)
	set(&a.RiskBands, f.RiskBands)
	if c := f.Category; c != nil {
		a.Category.Popularity = c.Popularity
		a.Category.Shrink = DefaultShrink(len(c.Popularity))
		set(&a.Category.HalfLifeDays, c.HalfLifeDays)
		set(&a.Category.Shrink, c.Shrink)
	}
	slices.SortStableFunc(a.Category.Popularity, func(x, y CategoryShare) int { return cmp.Compare(x.Name, y.Name) })
	return a
}

// set assigns a value that was given.
func set[T any](to *T, given *T) {
	if given != nil {
		*to = *given
	}
}
