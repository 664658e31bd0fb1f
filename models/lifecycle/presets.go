package lifecycle

import (
	"embed"
	"fmt"
	"strings"
)

//go:embed presets/*.yaml
var presets embed.FS

// Presets lists the names of the lifecycles that are built in, sorted.
func Presets() []string {
	entries, err := presets.ReadDir("presets")
	if err != nil {
		panic("BUG: embedded presets: " + err.Error())
	}
	names := make([]string, len(entries))
	for i, e := range entries {
		names[i] = strings.TrimSuffix(e.Name(), ".yaml")
	}
	return names
}

// Preset gives the document of a built-in lifecycle.
func Preset(name string) ([]byte, error) {
	doc, err := presets.ReadFile("presets/" + name + ".yaml")
	if err != nil {
		return nil, fmt.Errorf("preset %q: unknown, known are %s", name, strings.Join(Presets(), ", "))
	}
	return doc, nil
}
