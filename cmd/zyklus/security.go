package main

import (
	"strings"

	"zyklus/cmd/zyklus/internal/config"
	"zyklus/pipeline/kafka"
)

// kafkaSecurity says how to get in. Certificates, and secrets that are in files, are read whenever they are needed.
func kafkaSecurity(cfg *config.Kafka) kafka.Security {
	var s kafka.Security
	if cfg.TLS.Enabled {
		s.TLS = cfg.TLS.Client
	}
	sasl := &cfg.SASL
	s.SASL = kafka.SASL{Mechanism: sasl.Mechanism, Username: sasl.Username, Password: sasl.Password.Read}
	switch {
	case sasl.Mechanism != kafka.OAuthBearer:
	case sasl.TokenFile != "":
		s.SASL.Token = kafka.TokenFile(sasl.TokenFile)
	default:
		s.SASL.Token = kafka.ClientCredentials(kafka.ClientCredentialsOptions{
			URL: sasl.TokenURL, ID: sasl.ClientID, Secret: sasl.ClientSecret.Read, Scope: sasl.Scope,
		})
	}
	return s
}

// exposures says what anybody on the network could read or forge, one line each.
func exposures(cfg *config.Config) (lines []string) {
	sasl, secure := cfg.Kafka.SASL.Mechanism, cfg.Kafka.TLS.Enabled
	if !secure && (sasl == kafka.Plain || sasl == kafka.OAuthBearer) {
		lines = append(lines, "kafka.sasl.mechanism "+sasl+" sends its secret readably: set kafka.tls.enabled, or take a scram mechanism")
	}
	if strings.HasPrefix(cfg.Kafka.SASL.TokenURL, "http://") {
		lines = append(lines, "kafka.sasl.token_url is sent the client's secret readably: take an https address")
	}
	for _, s := range []struct {
		key string
		tls config.TLS
	}{{"kafka.tls", cfg.Kafka.TLS}, {"clickhouse.tls", cfg.ClickHouse.TLS}} {
		if s.tls.InsecureSkipVerify {
			lines = append(lines, s.key+".insecure_skip_verify is true: anybody on the way can read and change everything")
		}
	}
	return lines
}
