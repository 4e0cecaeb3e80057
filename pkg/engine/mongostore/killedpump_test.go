package mongostore_test

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/access"
	"github.com/ocelot-audit/ocelot/pkg/arrival"
	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/backoff"
	"github.com/ocelot-audit/ocelot/pkg/cursor"
	"github.com/ocelot-audit/ocelot/pkg/engine/mongostore"
	"github.com/ocelot-audit/ocelot/pkg/envelope"
	"github.com/ocelot-audit/ocelot/pkg/stream"
	"github.com/ocelot-audit/ocelot/pkg/tenants"
	"github.com/ocelot-audit/ocelot/pkg/testkit/enginetest"
)

// received collects the ids of what a client gets. It is a stream.Sender.
type received struct {
	mu  sync.Mutex
	ids map[string]bool
}

func (r *received) Send(_ context.Context, _ string, text []byte) error {
	var frame struct{ Items []struct{ ID string } }
	if err := json.Unmarshal(text, &frame); err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, item := range frame.Items {
		r.ids[item.ID] = true
	}
	return nil
}

func (*received) Cut(context.Context, string) error { return nil }

// killedAfterAcquire are the streams of a process that is killed once it has the lease.
type killedAfterAcquire struct{ stream.Streams }

var errKilled = errors.New("killed")

func (killedAfterAcquire) Save(context.Context, audit.TenantID, string, map[string]stream.Progress, time.Time, time.Time) error {
	return errKilled
}

func (killedAfterAcquire) Release(context.Context, audit.TenantID, string, stream.Rest) error {
	return errKilled
}

// dead is the Sender of the process that was killed.
type dead struct{ stream.Sender }

func (dead) Send(context.Context, string, []byte) error { return errKilled }

// pumping returns the live stream of a process whose clock is ahead.
func pumping(t *testing.T, uri, name string, ahead time.Duration, sender stream.Sender, queue stream.Queue) *stream.Service {
	t.Helper()
	now := func() time.Time { return time.Now().Add(ahead) }
	db := open(t, uri, name, mongostore.WithClock(now))
	return &stream.Service{
		Arrivals: db.Arrivals(), Connections: db.Connections(), Streams: db.Streams(), Reader: db.Entries(shared), Sender: sender, Queue: queue,
		Tenants: db.Tenants(), Keys: tenants.KeyFinder{Store: db.Keys()}, Cursors: cursor.NewSigner(make([]byte, cursor.MinKeyBytes)),
		Problem: func(error) []byte { return []byte("{}") }, Now: now, Pause: backoff.Sleep,
		Random: func(b []byte) { _, _ = rand.Read(b) }, Log: slog.New(slog.DiscardHandler),
	}
}

// TestAKilledPumpWithAWrongClock: a worker whose clock is a day off subscribes a client, acquires
// the lease, and is killed. Another worker continues once the lease has expired.
func TestAKilledPumpWithAWrongClock(t *testing.T) {
	uri := enginetest.Mongo(t)
	for name, ahead := range map[string]time.Duration{"ahead": 24 * time.Hour, "behind": -24 * time.Hour} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			database := newDatabase(t, uri)
			client, queue := &received{ids: map[string]bool{}}, new(sentMessages)
			right := pumping(t, uri, database, 0, client, queue)
			wrong := pumping(t, uri, database, ahead, dead{client}, queue)
			wrong.Streams = killedAfterAcquire{wrong.Streams}
			listener := access.Principal{Subject: "ann", Grants: map[audit.TenantID][]access.Permission{"acme": {access.LogsStream}}}
			db := open(t, uri, database)
			noError(t, db.Tenants().Create(t.Context(), audit.Tenant{ID: "acme", Status: audit.TenantActive, CreatedAt: march, Settings: audit.DefaultSettings()}))
			noError(t, wrong.Connect(t.Context(), "c", listener, "acme"))
			noError(t, wrong.Subscribe(t.Context(), "c", []byte(`{"action":"subscribe"}`)))
			e := newEntry("acme", time.Now().UTC().Truncate(time.Millisecond), 1)
			_, err := db.Entries(shared).Append(t.Context(), "acme", []audit.Entry{e})
			noError(t, err)
			noError(t, db.Arrivals().Append(t.Context(), "acme", arrival.Segment{First: 1, IDs: []audit.EntryID{e.ID}, Messages: []audit.MessageID{{1}}, WrittenAt: time.Now()}))
			nudge, err := envelope.PackNudge("acme")
			noError(t, err)
			if err := wrong.Deliver(t.Context(), nudge); !errors.Is(err, errKilled) {
				t.Fatalf("got error %v, want %v", err, errKilled)
			}
			noError(t, right.Deliver(t.Context(), nudge))
			if len(client.ids) > 0 {
				t.Fatal("another worker delivered during the lease, want it to wait")
			}
			time.Sleep(6 * time.Second) // after the lease
			noError(t, right.Deliver(t.Context(), nudge))
			if !client.ids[e.ID.String()] {
				t.Errorf("the client got %v after the lease, want %s", client.ids, e.ID)
			}
		})
	}
}

func noError(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
