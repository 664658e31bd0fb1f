package codec

import (
	"embed"
	"fmt"
	"slices"
	"strings"
)

//go:embed presets/*.yaml
var presetFiles embed.FS

// Preset is a source that is known by name.
type Preset struct {
	Name   string
	Format string // FormatSegment, or FormatMapping
	About  string // one line: what it reads
	Text   []byte // the mapping; nil unless the format is FormatMapping
}

// Presets lists the known sources, sorted by name.
func Presets() []Preset {
	list := []Preset{
		{Name: "segment", Format: FormatSegment, About: "Segment, track, identify, page and screen calls"},
		{Name: "rudderstack", Format: FormatSegment, About: "RudderStack, the same calls"},
		{Name: "jitsu", Format: FormatSegment, About: "Jitsu from version 2, the same calls"},
	}
	files, err := presetFiles.ReadDir("presets")
	if err != nil {
		panic("BUG: embedded presets: " + err.Error())
	}
	for _, f := range files {
		text, err := presetFiles.ReadFile("presets/" + f.Name())
		if err != nil {
			panic("BUG: embedded presets: " + err.Error())
		}
		list = append(list, Preset{
			Name: strings.TrimSuffix(f.Name(), ".yaml"), Format: FormatMapping, About: description(text), Text: text,
		})
	}
	slices.SortFunc(list, func(a, b Preset) int { return strings.Compare(a.Name, b.Name) })
	return list
}

// FindPreset returns the preset of a name.
func FindPreset(name string) (Preset, error) {
	list := Presets()
	names := make([]string, len(list))
	for i, p := range list {
		if p.Name == name {
			return p, nil
		}
		names[i] = p.Name
	}
	return Preset{}, fmt.Errorf("unknown preset %q: choose one of %s", name, strings.Join(names, ", "))
}

// description reads what a mapping says of itself, without compiling it.
func description(text []byte) string {
	r := yamlReader{text: text}
	for _, f := range r.section(r.root(), "") {
		if f.key == "description" {
			return r.word(f)
		}
	}
	return ""
}
