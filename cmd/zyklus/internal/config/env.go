package config

import (
	"regexp"
	"slices"
	"strings"
)

const envPrefix = "ZYKLUS_"

// otherEnv lists variables of ours that are no settings.
func otherEnv() []string {
	return []string{
		"ZYKLUS_CONFIG",          // path of the configuration, for commands that read one
		"ZYKLUS_SHARED",          // folder of reference data, for tests
		"ZYKLUS_STOP_WITH_STDIN", // set by a process for its embedded engine
	}
}

var (
	servicePort = regexp.MustCompile(`_?PORT(_[0-9]+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)?$`)
	serviceHost = regexp.MustCompile(`_?SERVICE_(HOST|PORT(_[A-Z0-9_]+)?)$`)
)

// ofKubernetes reports whether a variable is one that Kubernetes gives to containers in a namespace with a service named
// zyklus or zyklus-something. Refusing these would make the name of a service break the process.
func ofKubernetes(name, value string) bool {
	name = strings.TrimPrefix(name, envPrefix)
	if suffix := servicePort.FindString(name); suffix != "" && !strings.HasSuffix(name, "SERVICE_PORT") {
		return len(suffix) > len("_PORT") || strings.Contains(value, "://") // ZYKLUS_HTTP_PORT=80 is a mistake
	}
	return serviceHost.MatchString(name)
}

// readEnv takes the settings from variables NAME=value. An empty one counts as not set.
func (l *loader) readEnv(env []string) {
	env = slices.Clone(env)
	slices.Sort(env)
	for _, variable := range env {
		name, text, _ := strings.Cut(variable, "=")
		if !strings.HasPrefix(name, envPrefix) || slices.Contains(otherEnv(), name) || ofKubernetes(name, text) {
			continue
		}
		if f, ok := l.fieldOfEnv(name); !ok {
			l.add(name, "", "unknown variable%s", l.suggestEnv(name))
		} else if text != "" {
			l.set(f, name, text)
		}
	}
}

func (l *loader) fieldOfEnv(name string) (field, bool) {
	for _, f := range l.fields {
		if f.env == name {
			return f, true
		}
	}
	return field{}, false
}

func (l *loader) suggestEnv(name string) string {
	var names []string
	for _, f := range l.fields {
		names = append(names, strings.TrimPrefix(f.env, envPrefix))
	}
	return didYouMean(strings.TrimPrefix(name, envPrefix), envPrefix, names)
}
