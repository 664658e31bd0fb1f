package config

import (
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
)

const redacted = "[redacted]"

// Secret is a text that prints as [redacted] in every way of printing: fmt with any verb, slog, JSON, YAML. Only Reveal
// and Read give it away. The text is behind a pointer because fmt prints unexported fields of unexported fields raw.
//
// A secret with the key k may also be given as k_file: the file that holds it, as Kubernetes and Docker mount secrets.
type Secret struct {
	text *string
	file string // that it came from
}

// NewSecret makes a secret of a text.
func NewSecret(text string) Secret {
	if text == "" {
		return Secret{}
	}
	return Secret{text: &text}
}

// Reveal returns the text. What is done with it is the caller's responsibility.
func (s Secret) Reveal() string {
	if s.text == nil {
		return ""
	}
	return *s.text
}

// Read returns the text, which is read again if it is in a file: what it was exchanged for while this process runs.
func (s Secret) Read() (string, error) {
	if s.file == "" {
		return s.Reveal(), nil
	}
	return readSecret(s.file)
}

// given reports whether there is one.
func (s Secret) given() bool { return s.text != nil || s.file != "" }

// maxSecret bounds a file, lest one takes a wrong one for a secret.
const maxSecret = 64 << 10

// readSecret reads a secret from a file, without the line break at its end.
func readSecret(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", fileError(path, err)
	}
	defer f.Close()
	raw, err := io.ReadAll(io.LimitReader(f, maxSecret+1))
	if err != nil {
		return "", fileError(path, err)
	}
	text := strings.TrimSuffix(strings.TrimSuffix(string(raw), "\n"), "\r")
	switch err := checkText(text); {
	case len(raw) > maxSecret:
		return "", fmt.Errorf("%q is greater than %s: is it a secret?", path, Size(maxSecret))
	case text == "":
		return "", fmt.Errorf("%q is empty", path)
	case err != nil:
		return "", fmt.Errorf("%q %w", path, err)
	}
	return text, nil
}

// fileSuffix ends the key of the file of a secret.
const fileSuffix = "_file"

// inFile is the setting of the file of a secret, which every secret has.
func (f field) inFile(secret *Secret) field {
	return field{key: f.key + fileSuffix, env: f.env + "_FILE", value: secretFile{secret},
		doc: "file that holds " + f.key + ", instead of the setting itself; a line break at its end does not count"}
}

// secretFile is the setting of the file of a secret.
type secretFile struct{ secret *Secret }

// readSecrets reads the secrets that are given as files.
func (l *loader) readSecrets() {
	for _, f := range l.fields {
		p, ok := f.value.(secretFile)
		if !ok || p.secret.file == "" {
			continue
		}
		if own, _ := strings.CutSuffix(f.key, fileSuffix); p.secret.text != nil {
			l.add(l.config.origins[f.key], f.key, "is given, and %s as well (%s): keep one of them", own, l.config.origins[own])
			continue
		}
		text, err := readSecret(p.secret.file)
		if err != nil {
			l.add(l.config.origins[f.key], f.key, "%v", err)
			continue
		}
		p.secret.text = &text
	}
}

// String is [redacted], or empty if there is no secret.
func (s Secret) String() string {
	if s.text == nil {
		return ""
	}
	return redacted
}

// Format redacts for every verb of fmt.
func (s Secret) Format(state fmt.State, _ rune) { fmt.Fprint(state, s.String()) }

// LogValue redacts for slog.
func (s Secret) LogValue() slog.Value { return slog.StringValue(s.String()) }

// MarshalText redacts for JSON, YAML and XML.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }
