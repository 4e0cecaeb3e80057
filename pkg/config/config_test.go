package config_test

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"reflect"
	"strings"
	"testing"

	"github.com/ocelot-audit/ocelot/pkg/config"
)

const secret = "a secret of exactly 32 bytes ..."

// setenv sets these variables and clears all others that the package reads.
func setenv(t *testing.T, variables map[string]string) {
	t.Helper()
	for _, name := range []string{
		"OCELOT_DATA", "OCELOT_CURSOR_KEY", "OCELOT_LOG_LEVEL", "OCELOT_JWT_SECRET", "OIDC_JWKS_URL", "OIDC_ISSUER", "OIDC_AUDIENCE",
	} {
		t.Setenv(name, variables[name])
	}
}

func TestReadFunction(t *testing.T) {
	setenv(t, map[string]string{"OCELOT_DATA": "/data"})
	minimal := config.Function{Data: "/data", LogLevel: slog.LevelInfo}
	if got, err := config.ReadFunction(); err != nil || !reflect.DeepEqual(got, minimal) || got.Auth.Enabled() {
		t.Errorf("ReadFunction = %+v, %v", got, err)
	}
	setenv(t, map[string]string{
		"OCELOT_DATA": "/data", "OCELOT_CURSOR_KEY": secret, "OCELOT_LOG_LEVEL": "Debug", "OCELOT_JWT_SECRET": secret + "!",
		"OIDC_JWKS_URL": "https://issuer.test/keys", "OIDC_ISSUER": "https://issuer.test", "OIDC_AUDIENCE": "ocelot",
	})
	full := config.Function{
		Data: "/data", CursorKey: config.Secret(secret), LogLevel: slog.LevelDebug,
		Auth: config.Auth{JWKSURL: "https://issuer.test/keys", Issuer: "https://issuer.test", Audience: "ocelot", JWTSecret: config.Secret(secret + "!")},
	}
	if got, err := config.ReadFunction(); err != nil || !reflect.DeepEqual(got, full) || !got.Auth.Enabled() {
		t.Errorf("ReadFunction = %+v, %v", got, err)
	}
}

func TestReadDev(t *testing.T) {
	setenv(t, nil)
	if got, err := config.ReadDev(); err != nil || got.Auth.Enabled() || got.LogLevel != slog.LevelWarn {
		t.Errorf("ReadDev = %+v, %v", got, err)
	}
	setenv(t, map[string]string{"OCELOT_LOG_LEVEL": "error", "OCELOT_JWT_SECRET": secret})
	if got, err := config.ReadDev(); err != nil || !got.Auth.Enabled() || got.LogLevel != slog.LevelError {
		t.Errorf("ReadDev = %+v, %v", got, err)
	}
}

func TestFaults(t *testing.T) {
	tests := []struct{ variable, value, want string }{
		{"OCELOT_DATA", "", "required"},
		{"OCELOT_CURSOR_KEY", "hunter2-of-only-31-bytes-in-all", "32 bytes"},
		{"OCELOT_JWT_SECRET", "hunter2", "32 bytes"},
		{"OCELOT_LOG_LEVEL", "hunter2", "debug, info, warn, error"},
		{"OIDC_JWKS_URL", "hunter2", "absolute"},
		{"OIDC_JWKS_URL", "https:///hunter2", "absolute"},
		{"OIDC_JWKS_URL", "ftp://hunter2", "absolute"},
		{"OIDC_JWKS_URL", "http://[hunter2", "absolute"},
	}
	for _, tt := range tests {
		t.Run(tt.variable+" "+tt.want, func(t *testing.T) {
			variables := map[string]string{"OCELOT_DATA": "/data"}
			variables[tt.variable] = tt.value
			setenv(t, variables)
			_, err := config.ReadFunction()
			if err == nil || !strings.Contains(err.Error(), tt.variable) || !strings.Contains(err.Error(), tt.want) {
				t.Fatalf("error %v, want %s and %q in it", err, tt.variable, tt.want)
			}
			if strings.Contains(err.Error(), "hunter2") {
				t.Errorf("the error repeats the value: %v", err)
			}
		})
	}
	setenv(t, map[string]string{"OCELOT_CURSOR_KEY": "short", "OCELOT_LOG_LEVEL": "loud"})
	_, err := config.ReadFunction()
	for _, variable := range []string{"OCELOT_DATA", "OCELOT_CURSOR_KEY", "OCELOT_LOG_LEVEL"} {
		if err == nil || !strings.Contains(err.Error(), variable) {
			t.Errorf("error %v lacks %s", err, variable)
		}
	}
}

func TestSecretsDoNotPrint(t *testing.T) {
	f := config.Function{CursorKey: config.Secret(secret), Auth: config.Auth{JWTSecret: config.Secret(secret)}}
	var printed strings.Builder
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x", "%X", "%q", "%d"} {
		fmt.Fprintf(&printed, verb, f)
		fmt.Fprintf(&printed, verb, f.CursorKey)
	}
	slog.New(slog.NewTextHandler(&printed, nil)).Info("config", "key", f.CursorKey, "all", f)
	text, err := json.Marshal(f)
	if err != nil {
		t.Fatal(err)
	}
	printed.Write(text)
	for _, form := range []string{secret, fmt.Sprintf("%x", secret), fmt.Sprintf("%X", secret), "97 32 115", "YSBzZWNyZXQ"} {
		if strings.Contains(printed.String(), form) {
			t.Errorf("the secret came out as %q", form)
		}
	}
}
