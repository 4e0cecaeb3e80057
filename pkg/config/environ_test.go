package config_test

import (
	"log/slog"
	"reflect"
	"strings"
	"testing"

	"github.com/ocelot-audit/ocelot/pkg/config"
	"github.com/ocelot-audit/ocelot/pkg/manifest"
)

func TestEnvironIsReadBack(t *testing.T) {
	for _, want := range []config.Embedded{
		{Data: "/data", Sockets: "http://g", Function: config.Function{CursorKey: config.Secret(secret), LogLevel: slog.LevelWarn, MaxBacklog: 40_000}},
		{Data: "/data folder=", Sockets: "https://g/live", Function: config.Function{
			StreamURL: "wss://g/live", Origins: []string{"https://a.test"}, MaxBacklog: 5000,
			Rates:     config.Rates{Standard: config.Rate{PerSecond: 5, Burst: 70}, Credential: config.Rate{PerSecond: 1, Burst: 1}},
			CursorKey: config.Secret(secret + "="), LogLevel: slog.LevelDebug,
			Auth: config.Auth{JWKSURL: "https://issuer.test/keys", Issuer: "https://issuer.test", Audience: "ocelot"},
		}},
		{Data: "/data", Sockets: "http://g", Function: config.Function{
			CursorKey: config.Secret(secret), MaxBacklog: 40_000, Auth: config.Auth{JWTSecret: config.Secret(secret + "!")},
		}},
	} {
		variables := map[string]string{}
		for _, variable := range want.Environ() {
			name, value, _ := strings.Cut(variable, "=")
			variables[name] = value
		}
		setenv(t, variables)
		if got, err := config.ReadEmbedded(manifest.Dependencies()...); err != nil {
			t.Error(err)
		} else if !reflect.DeepEqual(got, want) {
			t.Errorf("ReadEmbedded = %+v, want %+v", got, want)
		}
	}
}
