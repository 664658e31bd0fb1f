package config

import (
	"fmt"
	"reflect"
	"strings"
	"time"
)

// The forms of texts, as parseDuration, parseSize and parseDate read them.
const (
	durationPattern = `^([0-9]+d|[-+]?(0|([0-9]+(\.[0-9]*)?|\.[0-9]+)(ns|us|µs|μs|ms|s|m|h))+)$`
	sizePattern     = `^[0-9]+ *(|B|KiB|MiB|GiB|TiB|kB|MB|GB|TB)$`
	datePattern     = `^[0-9]{4}-[0-9]{2}-[0-9]{2}$`
)

// node is a JSON Schema.
type node = map[string]any

// Schema returns the JSON Schema (2020-12) of the file, for editors. It knows keys, types and listed values; Load
// knows more.
func Schema() map[string]any {
	defaults := Default()
	root := object("Configuration of Zyklus. Every setting can also be given as ZYKLUS_SECTION_KEY in the environment.")
	for _, f := range fields(&defaults) {
		section := root
		path := strings.Split(f.key, ".")
		for _, name := range path[:len(path)-1] {
			properties := section["properties"].(node)
			if properties[name] == nil {
				properties[name] = object("")
			}
			section = properties[name].(node)
		}
		section["properties"].(node)[path[len(path)-1]] = f.schema()
	}
	source := object("One source. What it does not say is as in the section source.")
	for _, f := range fieldsOf(&Source{}) {
		f.preset = ""
		source["properties"].(node)[f.key] = f.schema()
	}
	root["properties"].(node)[sourcesKey] = node{
		"type": []string{"object", "null"}, "description": "several sources by name, in place of the section source",
		"propertyNames": node{"pattern": sourceName.String()}, "additionalProperties": source,
	}
	root["$schema"] = "https://json-schema.org/draft/2020-12/schema"
	root["title"] = "zyklus.yaml"
	return root
}

// object is the schema of a section. It may be empty, which YAML reads as null.
func object(description string) node {
	n := node{"type": []string{"object", "null"}, "additionalProperties": false, "properties": node{}}
	if description != "" {
		n["description"] = description
	}
	return n
}

// schema is that of one setting.
func (f field) schema() node {
	n := node{"type": "string", "description": f.doc}
	if f.oneOf != nil {
		n["enum"] = f.oneOf
	}
	switch f.value.(type) {
	case *bool:
		n["type"] = "boolean"
	case *int:
		n["type"] = "integer"
	case *[]string:
		n["type"], n["items"] = "array", node{"type": "string"}
	case *time.Duration:
		n["pattern"] = durationPattern
	case *Size:
		n["type"], n["pattern"], n["minimum"] = []string{"string", "integer"}, sizePattern, 0
	case *Date:
		n["pattern"] = datePattern
	}
	if f.preset != "" {
		n["default"] = f.plain()
	}
	return n
}

// plain returns the value as JSON and YAML have it; of a secret only that there is one.
func (f field) plain() any {
	switch p := f.value.(type) {
	case *bool, *int, *string, *[]string:
		return reflect.ValueOf(p).Elem().Interface()
	case *time.Duration:
		return formatDuration(*p)
	case *Secret:
		if p.file != "" {
			return "" // it is where the next setting says
		}
		return p.String()
	case secretFile:
		return p.secret.file
	case fmt.Stringer: // secrets redact themselves
		return p.String()
	default:
		panic("BUG: " + f.key + " has a type that cannot be written")
	}
}

// Setting is one effective setting.
type Setting struct {
	Key    string `json:"key"`
	Value  any    `json:"value"`  // secrets are [redacted]
	Origin string `json:"origin"` // file and line, environment variable, flag, or default
}

// Settings lists the effective settings.
func (c Config) Settings() []Setting {
	var list []Setting
	for _, f := range fields(&c) {
		origin := c.origins[f.key]
		if origin == "" {
			origin = c.derived(f.key)
		}
		list = append(list, Setting{Key: f.key, Value: f.plain(), Origin: origin})
	}
	return list
}

// Keys lists the keys of all settings that have a name of their own; those of several sources are as those of source.
func Keys() []string {
	defaults := Default()
	var keys []string
	for _, f := range fields(&defaults) {
		keys = append(keys, f.key)
	}
	return keys
}

// Choices lists the values of the flags that have listed ones, by the flag's name.
func Choices() map[string][]string {
	defaults, choices := Default(), map[string][]string{}
	for _, f := range fields(&defaults) {
		if f.flag != "" && f.oneOf != nil {
			choices[f.flag] = f.oneOf
		}
	}
	return choices
}
