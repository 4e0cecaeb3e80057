package mongostore_test

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/arrival"
	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/engine/mongostore"
	"github.com/ocelot-audit/ocelot/pkg/envelope"
	"github.com/ocelot-audit/ocelot/pkg/testkit/enginetest"
)

// arrivalMessages returns messages that each bring one entry of acme.
func arrivalMessages(t *testing.T, count int) (bodies []string, ids map[audit.EntryID]bool) {
	t.Helper()
	ids = map[audit.EntryID]bool{}
	for i := range count {
		id := newEntry("acme", march, uint32(i)).ID
		ids[id] = true
		packed, err := envelope.PackArrivals("acme", []envelope.Arrival{{Message: audit.MessageID{0: 1, 14: byte(i >> 8), 15: byte(i)}, IDs: []audit.EntryID{id}}})
		if err != nil {
			t.Fatal(err)
		}
		bodies = append(bodies, packed...)
	}
	return bodies, ids
}

// wantPlaces fails unless acme's log has these entries, each once and without a gap.
func wantPlaces(t *testing.T, log *mongostore.Arrivals, want map[audit.EntryID]bool) {
	t.Helper()
	segments, err := log.Read(t.Context(), "acme", 0, 10_000)
	if err != nil {
		t.Fatal(err)
	}
	next, seen := int64(1), map[audit.EntryID]bool{}
	for _, s := range segments {
		if s.First != next {
			t.Fatalf("a segment begins at %d, want %d", s.First, next)
		}
		next = s.Last() + 1
		for _, id := range s.IDs {
			if seen[id] {
				t.Errorf("entry %s has two places, want one", id)
			}
			seen[id] = true
		}
	}
	if len(seen) != len(want) {
		t.Errorf("%d entries have a place, want %d", len(seen), len(want))
	}
}

// allTenants finds every tenant.
type allTenants struct{}

func (allTenants) Tenant(_ context.Context, id audit.TenantID) (audit.Tenant, error) {
	return audit.Tenant{ID: id, Settings: audit.DefaultSettings()}, nil
}

// TestOrderersOfManyProcesses: each connects by itself and gives its time to others between its
// read and its insert. Answers are lost after the work was done.
func TestOrderersOfManyProcesses(t *testing.T) {
	engine := enginetest.StartMongo(t)
	name := newDatabase(t, engine.URL())
	proxy := enginetest.NewTCPProxy(t, engine.Addr())
	var inserts, lost atomic.Int64
	proxy.Inject(func(request []byte) enginetest.TCPFault {
		if !bytes.Contains(request, []byte("insert\x00")) {
			return enginetest.TCPFault{}
		}
		switch n := inserts.Add(1); {
		case n%7 == 0:
			lost.Add(1)
			return enginetest.TCPFault{LoseAnswer: true}
		case n%3 == 0:
			return enginetest.TCPFault{Delay: 10 * time.Millisecond}
		}
		return enginetest.TCPFault{}
	})
	bodies, ids := arrivalMessages(t, 120)
	var running sync.WaitGroup
	for n := range 4 {
		log := open(t, engine.URLAt(proxy.Addr()), name).Arrivals()
		running.Go(func() {
			o := &arrival.Orderer{Log: log, Tenants: allTenants{}, Now: time.Now}
			mine := slices.Concat(bodies[20*n:], bodies[:20*n])
			for batch := range slices.Chunk(mine, 6+n) {
				orderUntilDone(t, o, batch)
			}
		})
	}
	running.Wait()
	proxy.Inject(nil)
	if got := lost.Load(); got < 3 {
		t.Errorf("lost %d answers, want at least 3 for the test to prove something", got)
	}
	wantPlaces(t, open(t, engine.URL(), name).Arrivals(), ids)
}

// orderUntilDone delivers the messages that failed again.
func orderUntilDone(t *testing.T, o *arrival.Orderer, bodies []string) {
	for delivery := 0; len(bodies) > 0; delivery++ {
		if delivery == 50 {
			t.Errorf("%d messages fail at each delivery, want none", len(bodies))
			return
		}
		var failed []string
		for i, err := range o.Order(t.Context(), bodies) {
			if err != nil {
				failed = append(failed, bodies[i])
			}
		}
		bodies = failed
	}
}

// TestPlacesTakeLittleSpace: in full batches, at most 40 bytes an entry, without the index.
func TestPlacesTakeLittleSpace(t *testing.T) {
	uri := enginetest.Mongo(t)
	name := newDatabase(t, uri)
	db := open(t, uri, name)
	const batch, perMessage = 100, 100
	var bodies []string
	for m := range batch {
		a := envelope.Arrival{Message: audit.MessageID{15: byte(m), 0: 1}}
		for i := range perMessage {
			a.IDs = append(a.IDs, audit.DeriveEntryID("acme", march, fmt.Sprint(m, i)))
		}
		packed, err := envelope.PackArrivals("acme", []envelope.Arrival{a})
		if err != nil {
			t.Fatal(err)
		}
		bodies = append(bodies, packed...)
	}
	o := &arrival.Orderer{Log: db.Arrivals(), Tenants: allTenants{}, Now: time.Now}
	for _, err := range o.Order(t.Context(), bodies) {
		if err != nil {
			t.Fatal(err)
		}
	}
	cursor, err := client(t, uri).Database(name).Collection("arrivals").Find(t.Context(), map[string]any{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = cursor.Close(t.Context()) }()
	size := 0
	for cursor.Next(t.Context()) {
		size += len(cursor.Current)
	}
	if got := float64(size) / (batch * perMessage); got > 40 {
		t.Errorf("a place takes %.1f bytes, want at most 40", got)
	} else {
		t.Logf("a place takes %.1f bytes", got)
	}
}
