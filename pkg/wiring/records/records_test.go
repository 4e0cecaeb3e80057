//go:build !embedded

package records_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/config"
	"github.com/ocelot-audit/ocelot/pkg/engine/mongostore"
	"github.com/ocelot-audit/ocelot/pkg/wiring/fromenv"
	"github.com/ocelot-audit/ocelot/pkg/wiring/records"
)

// secretsOnce has a secret that can be fetched once.
type secretsOnce struct {
	value   string
	fetched []string // the ARNs
}

func (s *secretsOnce) Resolve(_ context.Context, arn string) (string, error) {
	s.fetched = append(s.fetched, arn)
	if len(s.fetched) > 1 {
		return "", errors.New("access to the secret is denied")
	}
	return s.value, nil
}

// A connection string with a port behind mongodb+srv cannot be used, so nothing connects.
func TestChangedConnectionStringsAreFetched(t *testing.T) {
	const arn = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:ocelot/mongodb-uri"
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		secrets := &secretsOnce{value: "mongodb+srv://database.example:27017"}
		o := &fromenv.Opening{Log: slog.New(slog.NewTextHandler(&log, nil)), Secrets: secrets}
		o.Settings.Engines = config.Engines{MongoURI: config.Secret(arn), MongoDatabase: "ocelot"}
		if err := records.FromEnv.Open(t.Context(), o); err != nil {
			t.Fatal(err)
		}
		check := o.Stores.Dependencies[0].Check

		_ = check(t.Context()) // fails, because nothing answers
		if got, want := len(secrets.fetched), 1; got != want {
			t.Fatalf("fetched the connection string %d times for a start, want %d", got, want)
		}
		time.Sleep(mongostore.URIMaxAge)
		_ = check(t.Context())
		if got, want := strings.Join(secrets.fetched, " "), arn+" "+arn; got != want {
			t.Errorf("fetched %s after %v, want %s", got, mongostore.URIMaxAge, want)
		}
		for _, want := range []string{"the earlier connection string of MongoDB remains in use", "access to the secret is denied"} {
			if got := log.String(); !strings.Contains(got, want) {
				t.Errorf("logged %q, want %q in it", got, want)
			}
		}
	})
}
