package main

import (
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
