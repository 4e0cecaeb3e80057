package localcloud_test

import (
	"net/url"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/config"
	"github.com/ocelot-audit/ocelot/pkg/local/localcloud"
	"github.com/ocelot-audit/ocelot/pkg/testkit/enginetest"
)

// The index is an address where nothing listens.
func TestEndToEndWhileTheIndexIsDown(t *testing.T) {
	data := t.TempDir()
	engines := servers(t, data)
	s := startWith(t, localcloud.Options{Data: data, Log: discard(), Engines: engines})
	admin := s.tenantAdmin("acme")
	admin.bulk([]string{entryText(1), entryText(2)})
	admin.eventually(2)
	s.stop()
	engines.OpenSearchURL = config.Secret("http://127.0.0.1:1")
	down := startWith(t, localcloud.Options{Data: data, Log: discard(), Engines: engines})
	admin = down.as(admin.authorization, "acme")
	switch got := admin.get("/logs", url.Values{"user_id": {"user-1"}}); {
	case got.status != 200:
		t.Errorf("filter for MongoDB: got status %d, want 200: %s", got.status, got.body)
	case got.header.Get("Ocelot-Degraded") != "search":
		t.Errorf("filter for MongoDB: got Ocelot-Degraded %q, want %q", got.header.Get("Ocelot-Degraded"), "search")
	case !strings.Contains(string(got.body), `"order-1"`):
		t.Errorf("filter for MongoDB: got body %q, want it to contain %q", string(got.body), `"order-1"`)
	}
	for _, path := range []string{"/logs?q=entry", "/logs/stats"} {
		if got := admin.get(path, nil); got.status != 503 {
			t.Errorf("%s: got status %d, want 503: %s", path, got.status, got.body)
		} else if got.header.Get("Retry-After") == "" {
			t.Errorf("%s: got no Retry-After, want one", path)
		}
	}
	admin.bulk([]string{entryText(3)}) // entries are still accepted
	if got := admin.get("/health", nil); got.status != 200 {
		t.Errorf("health: got status %d, want 200: %s", got.status, got.body)
	} else if !strings.Contains(string(got.body), "degraded") {
		t.Errorf("health: got body %q, want it to contain %q", string(got.body), "degraded")
	}
}

// MongoDB is down for longer than a cached tenant's record is fresh. The service still accepts
// entries. When MongoDB is back, each is stored once.
func TestEndToEndWhileTheStoreIsDown(t *testing.T) {
	if os.Getenv("MONGODB_URI") != "" {
		t.Skip("wants to stop MongoDB, so it needs the engine that this package starts: unset MONGODB_URI")
	}
	data := t.TempDir()
	engines := servers(t, data)
	engine := enginetest.StartMongo(t)
	engines.MongoURI = config.Secret(engine.URL())
	admin := startWith(t, localcloud.Options{Data: data, Log: discard(), Engines: engines}).tenantAdmin("acme")
	admin.bulk([]string{entryText(0)})
	admin.eventually(1)
	if err := engine.Stop(); err != nil {
		t.Fatal(err)
	}
	sent := 1
	for began := time.Now(); time.Since(began) < 12*time.Second; sent++ {
		admin.bulk([]string{entryText(sent)})
		time.Sleep(200 * time.Millisecond)
	}
	if got := admin.get("/health", nil); got.status != 200 {
		t.Errorf("health: got status %d, want 200: %s", got.status, got.body)
	} else if !strings.Contains(string(got.body), "degraded") {
		t.Errorf("health: got body %q, want it to contain %q", string(got.body), "degraded")
	}
	if err := engine.Start(); err != nil {
		t.Fatal(err)
	}
	admin.eventually(sent)
}
