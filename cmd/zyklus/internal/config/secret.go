package config

import (
	"fmt"
	"log/slog"
)

const redacted = "[redacted]"

// Secret is a text that prints as [redacted] in every way of printing: fmt with any verb, slog, JSON, YAML. Only Reveal
// gives it away. The text is behind a pointer because fmt prints unexported fields of unexported fields raw.
type Secret struct{ text *string }

// NewSecret makes a secret of a text.
func NewSecret(text string) Secret {
	if text == "" {
		return Secret{}
	}
	return Secret{&text}
}

// Reveal returns the text. What is done with it is the caller's responsibility.
func (s Secret) Reveal() string {
	if s.text == nil {
		return ""
	}
	return *s.text
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
