package config

import (
	"errors"
	"slices"
	"strings"

	"github.com/spf13/pflag"
)

// Flags are the settings given on the command line, in its order. The zero value holds none.
type Flags struct{ given []given }

type given struct{ where, key, text string }

// RegisterFlags adds --set section.key=value, and the flags of their own of the settings that are named, all if none is.
// They count for Load after fs was parsed.
func RegisterFlags(fs *pflag.FlagSet, names ...string) *Flags {
	flags := &Flags{}
	defaults := Default()
	for _, f := range fields(&defaults) {
		if f.flag != "" && (len(names) == 0 || slices.Contains(names, f.flag)) {
			fs.Var(&flag{flags: flags, field: f}, f.flag, f.doc+" ("+f.key+")")
		}
	}
	for _, name := range names {
		if fs.Lookup(name) == nil {
			panic("BUG: no setting has the flag --" + name)
		}
	}
	fs.Var(&flag{flags: flags}, "set", "any setting, such as --set source.lateness=1h; may be repeated")
	return flags
}

// Set gives a setting a value as --set does, over those given before. A key or a value that is wrong is reported by Load.
func (f *Flags) Set(key, text string) {
	f.given = append(f.given, given{"--set", key, text})
}

// flag is one command-line flag: of one setting, or --set of any.
type flag struct {
	flags *Flags
	field field // zero for --set
	text  string
}

// Set notes a value.
func (f *flag) Set(text string) error {
	if f.field.key == "" {
		key, value, ok := strings.Cut(text, "=")
		if !ok {
			return errors.New("want section.key=value")
		}
		f.flags.Set(key, value)
		return nil
	}
	if f.text != "" {
		return errors.New("given twice; values of a list are separated by commas")
	}
	f.text = text
	f.flags.given = append(f.flags.given, given{"--" + f.field.flag, f.field.key, text})
	return nil
}

// String is the value, or the default.
func (f *flag) String() string {
	if f.text != "" {
		return f.text
	}
	return f.field.preset
}

// Type names the value in help texts.
func (f *flag) Type() string {
	if f.field.key == "" {
		return "key=value"
	}
	return f.field.typ()
}

func (l *loader) readFlags(flags *Flags) {
	if flags == nil {
		return
	}
	for _, g := range flags.given {
		l.addSource(g.key)
		f, ok := find(l.fields, g.key)
		switch {
		case !ok:
			l.add(g.where, "", "unknown key %q%s", g.key, suggestKey(g.key, l.fields))
		case f.secret():
			l.add(g.where, g.key, "is a secret, and flags are seen by all users of the machine: use %s, %s or the file", f.env, f.inFile(nil).env)
		default:
			l.set(f, g.where, g.text)
		}
	}
}

var _ pflag.Value = (*flag)(nil)
