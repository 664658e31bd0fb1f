package config

import (
	"bufio"
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"
	"time"
)

// Print writes the effective settings as YAML that Load reads, with the origin of each; secrets are redacted.
func (c Config) Print(w io.Writer) error {
	out := bufio.NewWriter(w)
	var section []string
	for _, f := range fields(&c) {
		path := strings.Split(f.key, ".")
		name := path[len(path)-1]
		path = path[:len(path)-1]
		for depth := range path {
			if depth >= len(section) || !slices.Equal(section[:depth+1], path[:depth+1]) {
				fmt.Fprintf(out, "%s%s:\n", strings.Repeat("  ", depth), path[depth])
			}
		}
		section = path
		line := strings.Repeat("  ", len(path)) + name + ": " + f.yaml()
		fmt.Fprintf(out, "%-44s # %s\n", line, cmp.Or(c.origins[f.key], c.derived(f.key)))
	}
	return out.Flush()
}

// derived says where a setting that is not given comes from.
func (c Config) derived(key string) string {
	rest, ok := strings.CutPrefix(key, sourcesKey+".")
	if !ok {
		return "default"
	}
	_, name, _ := strings.Cut(rest, ".")
	if c.origins.given("source." + name) {
		return "as source." + name
	}
	return "default"
}

// Reference writes all settings as Markdown, with type, default, environment variable, flag and meaning.
func Reference(w io.Writer) error {
	out := bufio.NewWriter(w)
	fmt.Fprint(out, `# Configuration of Zyklus

A setting comes from its default, the YAML file, the environment or a flag; later ones win. Every setting can be given as
`+"`--set section.key=value`"+`. Secrets are refused there, because flags are seen by all users of the machine.

Of several sources, `+"`sources.NAME.KEY`"+` is a setting of each, and `+"`source.KEY`"+` what they have in common.
`)
	defaults := Default()
	list, section := fields(&defaults), "?"
	slices.SortStableFunc(list, func(a, b field) int { // what is of no section comes first
		return min(strings.Count(a.key, "."), 1) - min(strings.Count(b.key, "."), 1)
	})
	for _, f := range list {
		if name, _ := splitKey(f.key); name != section {
			section = name
			fmt.Fprintf(out, "\n## %s\n", cmp.Or(section, "General"))
		}
		f.reference(out)
	}
	return out.Flush()
}

func (f field) reference(out io.Writer) {
	fmt.Fprintf(out, "\n### `%s`\n\n%s.\n\n- %s", f.key, f.doc, f.typ())
	if f.oneOf != nil {
		fmt.Fprintf(out, ", one of `%s`", strings.Join(f.oneOf, "`, `"))
	}
	if text := f.yaml(); text != `""` {
		fmt.Fprintf(out, "; default `%s`", text)
	}
	fmt.Fprintf(out, "\n- environment `%s`", f.env)
	if f.flag != "" {
		fmt.Fprintf(out, ", flag `--%s`", f.flag)
	}
	fmt.Fprintln(out)
}

// yaml writes the value of a setting.
func (f field) yaml() string {
	switch p := f.value.(type) {
	case *string:
		return quote(*p)
	case *time.Duration:
		return formatDuration(*p)
	case *bool:
		return fmt.Sprint(*p)
	case *int:
		return fmt.Sprint(*p)
	case *[]string:
		items := make([]string, len(*p))
		for i, item := range *p {
			items[i] = quote(item)
		}
		return "[" + strings.Join(items, ", ") + "]"
	case *Secret:
		if p.file != "" {
			return quote("") // it is where the next line says
		}
		return quote(p.String())
	case secretFile:
		return quote(p.secret.file)
	case fmt.Stringer:
		return p.String()
	default:
		panic("BUG: " + f.key + " has a type that cannot be written")
	}
}

// plain matches texts that YAML reads as themselves.
var plain = regexp.MustCompile(`^[A-Za-z/.][A-Za-z0-9_./-]*$`)

// quote writes a text as YAML: plain where that is safe, else as JSON, which YAML contains.
func quote(text string) string {
	switch strings.ToLower(text) {
	case "true", "false", "null", "yes", "no", "on", "off", ".inf", ".nan", "y", "n":
	default:
		if plain.MatchString(text) {
			return text
		}
	}
	var b strings.Builder
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(text); err != nil {
		panic("BUG: a text that is no JSON: " + err.Error())
	}
	return strings.TrimSuffix(b.String(), "\n")
}
