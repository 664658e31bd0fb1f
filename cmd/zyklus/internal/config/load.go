package config

import (
	"errors"
	"fmt"
)

// origins says of each setting that was given where: "zyklus.yaml:3:5", "ZYKLUS_GROUP", "--group".
type origins map[string]string

// given reports whether a setting is not just its default.
func (o origins) given(key string) bool { return o[key] != "" }

// loader collects settings and all that is wrong with them.
type loader struct {
	config   Config
	fields   []field // of config
	problems []error
}

// Load returns the settings from the file at path (none if it is empty), the environment (as os.Environ gives it) and
// flags (may be nil), later ones winning. The error lists everything that is wrong, one problem a line.
func Load(path string, env []string, flags *Flags) (Config, error) {
	l := &loader{config: Default()}
	// What complete derives must be derived again from the settings that are given.
	l.config.Source.Name, l.config.ClickHouse.Addrs = "", nil
	l.config.origins = origins{}
	l.fields = fields(&l.config)
	l.readFile(path)
	l.readEnv(env)
	l.readFlags(flags)
	l.readSecrets()
	l.config = l.config.complete()
	l.problems = append(l.problems, l.config.problems()...)
	if len(l.problems) > 0 {
		return Config{}, errors.Join(l.problems...)
	}
	return l.config, nil
}

// add notes a problem with a setting; where is the place that it was given at.
func (l *loader) add(where, key, format string, args ...any) {
	l.problems = append(l.problems, problem(where, key, format, args...))
}

// problem makes one line: where the value comes from, which setting, what is wrong.
func problem(where, key, format string, args ...any) error {
	if key != "" {
		where += ": " + key
	} else {
		where += ":"
	}
	return fmt.Errorf("%s %s", where, fmt.Sprintf(format, args...))
}

// set gives a setting a text that was found at where.
func (l *loader) set(f field, where, text string) {
	if err := f.set(text); err != nil {
		l.add(where, f.key, "%v", err)
		return
	}
	l.config.origins[f.key] = where
}
