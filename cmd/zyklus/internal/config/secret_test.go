package config_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"

	"zyklus/cmd/zyklus/internal/config"
)

func TestSecretsAreNotPrinted(t *testing.T) {
	type hidden struct{ secret config.Secret } // fmt does not call methods of unexported fields
	c := config.Default()
	c.ClickHouse.Password = config.NewSecret("s3cret")
	for _, value := range []any{c, &c, c.ClickHouse, c.ClickHouse.Password, &c.ClickHouse.Password, hidden{c.ClickHouse.Password}} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
			if text := fmt.Sprintf(verb, value); strings.Contains(text, "s3cret") || strings.Contains(text, "733363726574") {
				t.Errorf("%s of %T: %s", verb, value, text)
			}
		}
		for _, marshal := range []func(any) ([]byte, error){json.Marshal, yaml.Marshal} {
			if text, err := marshal(value); err != nil || strings.Contains(string(text), "s3cret") {
				t.Errorf("%T: %s, %v", value, text, err)
			}
		}
	}
	if got := c.ClickHouse.Password.Reveal(); got != "s3cret" {
		t.Errorf("revealed %q", got)
	}
	if s := fmt.Sprint(config.NewSecret("")); s != "" {
		t.Errorf("an empty secret prints %q", s)
	}
	if err := fmt.Errorf("login: %w", errors.New(c.ClickHouse.Password.String())); err.Error() != "login: [redacted]" {
		t.Error(err)
	}
}

func TestProblemsShowNoSecret(t *testing.T) {
	for _, text := range []string{
		"clickhouse: {password: \"s3cret", "clickhouse:\n  password: s3cret: x", "clickhouse:\n  password: 's3cret\n x: 1",
		"clickhouse:\n  password: [s3cret]", "clickhouse:\n  password: {s3cret: 1}", "clickhouse:\n  password: s3cret\n   x: 2",
		"clickhouse:\n  password: @s3cret", "clickhouse:\n  password: `s3cret", "clickhouse:\n  password: \"s3cret\\q\"",
		"clickhouse:\n  password: s3cret\n\tx: y", "clickhouse:\n  password: &s3cret", "clickhouse:\n  password: *s3cret", "clickhouse:\n  password: !s3cret x",
	} {
		_, err := config.Load(inFile(t, text), nil, nil)
		if err == nil || strings.Contains(err.Error(), "s3cret") {
			t.Errorf("%q: %v", text, err)
		} else if strings.Contains(err.Error(), "\n") || !strings.HasPrefix(err.Error(), "zyklus.yaml:") {
			t.Errorf("%q: %q", text, err)
		}
	}
}
