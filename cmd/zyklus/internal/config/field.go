package config

import (
	"reflect"
	"slices"
	"strings"
	"time"
)

// field is one setting: its declaration, and where its value is.
type field struct {
	key    string // section.name
	env    string // environment variable
	flag   string // name of its own flag; empty: none
	preset string // default as text; empty: the zero value
	oneOf  []string
	doc    string
	value  any // pointer to the value, of one of the types in set
}

// fields lists the settings of c in the order of declaration.
func fields(c *Config) []field {
	return sectionFields(reflect.ValueOf(c).Elem(), "")
}

func sectionFields(section reflect.Value, prefix string) (list []field) {
	for i := range section.NumField() {
		tag := section.Type().Field(i).Tag
		name, ok := tag.Lookup("yaml")
		if !ok {
			continue // no setting
		}
		value := section.Field(i)
		if _, leaf := tag.Lookup("doc"); !leaf {
			list = append(list, subsections(value, prefix+name+".")...)
			continue
		}
		f := field{key: prefix + name, env: tag.Get("env"), flag: tag.Get("flag"), preset: tag.Get("default"),
			doc: tag.Get("doc"), value: value.Addr().Interface()}
		if f.env == "" {
			f.env = envPrefix + strings.ToUpper(strings.ReplaceAll(f.key, ".", "_"))
		}
		if values := tag.Get("oneof"); values != "" {
			f.oneOf = strings.Split(values, ",")
		}
		list = append(list, f)
		if secret, ok := f.value.(*Secret); ok {
			list = append(list, f.inFile(secret))
		}
	}
	return list
}

// subsections lists the settings of a section, or of each of the sections that a map holds by name.
func subsections(section reflect.Value, prefix string) (list []field) {
	if section.Kind() != reflect.Map {
		return sectionFields(section, prefix)
	}
	var names []string
	for _, name := range section.MapKeys() {
		names = append(names, name.String())
	}
	slices.Sort(names)
	for _, name := range names {
		for _, f := range sectionFields(section.MapIndex(reflect.ValueOf(name)).Elem(), prefix+name+".") {
			f.flag, f.preset = "", "" // flags are of the one source; the default is what sources have in common
			list = append(list, f)
		}
	}
	return list
}

// find returns the field with a key.
func find(list []field, key string) (field, bool) {
	for _, f := range list {
		if f.key == key {
			return f, true
		}
	}
	return field{}, false
}

// typ names the type of the value in help texts.
func (f field) typ() string {
	switch f.value.(type) {
	case *bool:
		return "bool"
	case *int:
		return "number"
	case *time.Duration:
		return "duration"
	case *Size:
		return "size"
	case *Date:
		return "date"
	case *Secret:
		return "secret"
	case *[]string:
		return "list"
	default:
		return "text"
	}
}

// secret reports whether the value must not be shown.
func (f field) secret() bool {
	_, ok := f.value.(*Secret)
	return ok
}
