package config

import (
	"fmt"
	"maps"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"time"

	"zyklus/pipeline"
)

const sourcesKey = "sources"

// sourceName is short and of few letters, because it becomes a metric label and part of environment variables.
var sourceName = regexp.MustCompile(`^[a-z][a-z0-9_]{0,31}$`)

// Inputs returns the sources in the order of their names: those in Sources, or else the one in Source.
func (c Config) Inputs() []Source {
	if len(c.Sources) == 0 {
		return []Source{c.Source}
	}
	list := make([]Source, 0, len(c.Sources))
	for _, name := range slices.Sorted(maps.Keys(c.Sources)) {
		list = append(list, *c.Sources[name])
	}
	return list
}

// Rekeyed reports whether events pass the re-keying stage: there are several sources, or one not keyed by customer.
func (c Config) Rekeyed() bool {
	inputs := c.Inputs()
	return len(inputs) > 1 || inputs[0].Key != "customer"
}

// Input returns the source of a name, or the only one if name is empty.
func (c Config) Input(name string) (Source, bool) {
	inputs := c.Inputs()
	if name == "" {
		return inputs[0], len(inputs) == 1
	}
	i := slices.IndexFunc(inputs, func(s Source) bool { return s.Name == name })
	if i < 0 {
		return Source{}, false
	}
	return inputs[i], true
}

// Lateness is the allowed lateness of all sources together: their greatest.
func (c Config) Lateness() time.Duration {
	var most time.Duration
	for _, s := range c.Inputs() {
		most = max(most, s.Lateness)
	}
	return most
}

// addSource makes room for the source that key is of, if it is of one that there is not yet: sources.NAME or
// sources.NAME.SETTING. It reports whether there is one now.
func (l *loader) addSource(key string) bool {
	section, rest, _ := strings.Cut(key, ".")
	name, _, _ := strings.Cut(rest, ".")
	if section != sourcesKey || !sourceName.MatchString(name) {
		return false
	}
	if l.config.Sources[name] == nil {
		if l.config.Sources == nil {
			l.config.Sources = Sources{}
		}
		l.config.Sources[name] = &Source{}
		l.fields = fields(&l.config)
	}
	return true
}

// completeSources fills in what sources do not say.
func (c *Config) completeSources() {
	common := fieldsOf(&c.Source)
	for name, s := range c.Sources {
		for i, f := range fieldsOf(s) {
			if !c.origins.given(sourcesKey + "." + name + "." + f.key) {
				reflect.ValueOf(f.value).Elem().Set(reflect.ValueOf(common[i].value).Elem())
			}
		}
		if !c.origins.given(sourcesKey + "." + name + ".topic") {
			s.Topic = name
		}
		if s.Name == "" || !c.origins.given(sourcesKey+"."+name+".name") {
			s.Name = name
		}
	}
	if c.Source.Name == "" {
		c.Source.Name = c.Source.Topic
	}
}

// fieldsOf lists the settings of a source by their short names.
func fieldsOf(s *Source) []field { return sectionFields(reflect.ValueOf(s).Elem(), "") }

// Stalls returns how long each family of the source may be silent; that of the source as a whole is under "".
func (s Source) Stalls() (map[string]time.Duration, error) {
	limits := map[string]time.Duration{}
	if s.StallAfter > 0 {
		limits[""] = s.StallAfter
	}
	for _, item := range s.Families {
		name, text, _ := strings.Cut(item, "=")
		d, err := parseDuration(strings.TrimSpace(text))
		if err != nil {
			return nil, fmt.Errorf("%q: %w", item, err)
		}
		name = strings.TrimSpace(name)
		if !slices.Contains(pipeline.Families(), name) {
			return nil, fmt.Errorf("%q: %q is no family of events%s: families are %s", item, name,
				didYouMean(name, "", pipeline.Families()), strings.Join(pipeline.Families(), ", "))
		}
		limits[name] = d
	}
	return limits, nil
}
