package mongostore_test

import (
	"context"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/ocelot-audit/ocelot/pkg/arrival"
	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/engine/mongostore"
	"github.com/ocelot-audit/ocelot/pkg/envelope"
	"github.com/ocelot-audit/ocelot/pkg/ingest"
	"github.com/ocelot-audit/ocelot/pkg/tenants"
	"github.com/ocelot-audit/ocelot/pkg/testkit/enginetest"
)

// sentMessages counts the messages of a queue.
type sentMessages int

func (n *sentMessages) SendAfter(ctx context.Context, tenant audit.TenantID, _ time.Duration, body string) error {
	return n.Send(ctx, tenant, []string{body})
}

func (n *sentMessages) Send(_ context.Context, _ audit.TenantID, bodies []string) error {
	*n += sentMessages(len(bodies))
	return nil
}

// persisting is a persister over MongoDB whose commands are counted.
type persisting struct {
	ingest.Persister
	now             time.Time
	commands        commands
	index, arrivals sentMessages
}

func newPersisting(t *testing.T) *persisting {
	t.Helper()
	p := &persisting{now: march.Add(time.Hour)}
	uri := enginetest.Mongo(t)
	clock := func() time.Time { return p.now }
	db := open(t, uri, newDatabase(t, uri), mongostore.WithMonitor(p.commands.monitor()), mongostore.WithClock(clock))
	tenant := audit.Tenant{ID: "acme", Name: "Acme", Status: audit.TenantActive, CreatedAt: march, UpdatedAt: march, Settings: audit.DefaultSettings()}
	if err := db.Tenants().Create(t.Context(), tenant); err != nil {
		t.Fatal(err)
	}
	cache := tenants.NewCache(db.Tenants(), 5*time.Second, clock)
	p.Persister = ingest.Persister{
		Store: db.Entries(shared), Tenants: cache.WithMaxAge(time.Minute), Index: &p.index, Arrivals: &p.arrivals,
		Days: &ingest.ActiveDays{Register: db.Activity(), Grace: time.Hour, Now: clock}, Now: clock,
	}
	return p
}

// persist handles messages of one entry each and returns the commands that it sent.
func (p *persisting) persist(t *testing.T, first, n uint32) []bson.Raw {
	t.Helper()
	before := len(p.commands.all())
	var bodies []string
	for i := range n {
		packed, err := envelope.Pack("acme", []audit.Entry{newEntry("acme", march, first+i)})
		if err != nil {
			t.Fatal(err)
		}
		bodies = append(bodies, packed...)
	}
	for i, err := range p.Persist(t.Context(), bodies) {
		if err != nil {
			t.Fatalf("message %d: %v", i, err)
		}
	}
	return p.commands.all()[before:]
}

// TestCommandsOfPersisting: 100 messages of one entry of one tenant cost three commands at
// most, counted as they leave the driver.
func TestCommandsOfPersisting(t *testing.T) {
	p := newPersisting(t)
	p.persist(t, 0, 1) // what a process does once
	for _, c := range []struct {
		name        string
		after       time.Duration
		first, most int
	}{
		{"while tenant and day are known", time.Second, 1000, 2},
		{"once the tenant's record is old", time.Minute, 2000, 3},
	} {
		p.now = p.now.Add(c.after)
		if sent := p.persist(t, uint32(c.first), 100); len(sent) > c.most {
			t.Errorf("%s: 100 messages cost %d commands, want at most %d: %v", c.name, len(sent), c.most, names(sent))
		}
	}
	if p.index == 0 {
		t.Error("no message went to the index queue, want the entries of all")
	}
}

// TestCommandsOfPersistingInTheWorstMinute: the tenant's record is old, and the day is to be
// registered, at the same time. The registration is one command.
func TestCommandsOfPersistingInTheWorstMinute(t *testing.T) {
	p := newPersisting(t)
	p.persist(t, 0, 1) // what a process does once
	p.now = p.now.Add(ingest.TouchTTL)
	if sent := p.persist(t, 1000, 100); len(sent) > 3 {
		t.Errorf("100 messages cost %d commands, want at most 3: %v", len(sent), names(sent))
	}
}

// ordering is an orderer over MongoDB whose commands are counted.
type ordering struct {
	arrival.Orderer
	now      time.Time
	commands commands
	nudges   sentMessages
}

func newOrdering(t *testing.T) *ordering {
	t.Helper()
	o := &ordering{now: march.Add(time.Hour)}
	uri := enginetest.Mongo(t)
	clock := func() time.Time { return o.now }
	db := open(t, uri, newDatabase(t, uri), mongostore.WithMonitor(o.commands.monitor()), mongostore.WithClock(clock))
	tenant := audit.Tenant{ID: "acme", Name: "Acme", Status: audit.TenantActive, CreatedAt: march, UpdatedAt: march, Settings: audit.DefaultSettings()}
	if err := db.Tenants().Create(t.Context(), tenant); err != nil {
		t.Fatal(err)
	}
	if err := db.Streams().Open(t.Context(), "acme", o.now.Add(2*time.Hour)); err != nil {
		t.Fatal(err)
	}
	cache := tenants.NewCache(db.Tenants(), 5*time.Second, clock)
	o.Orderer = arrival.Orderer{
		Log: db.Arrivals(), Tenants: cache.WithMaxAge(time.Minute), Now: clock, Nudger: &arrival.Nudger{Streams: db.Streams(), Queue: &o.nudges},
	}
	return o
}

// order handles messages of one entry each and returns the commands that it sent.
func (o *ordering) order(t *testing.T, bodies []string) []bson.Raw {
	t.Helper()
	before := len(o.commands.all())
	for i, err := range o.Order(t.Context(), bodies) {
		if err != nil {
			t.Fatalf("message %d: %v", i, err)
		}
	}
	return o.commands.all()[before:]
}

// TestCommandsOfOrdering: 100 messages of one entry of one tenant with subscribers cost five
// commands at most, counted as they leave the driver. So do messages that all come again. If
// only some of them come again, one more finds out which.
func TestCommandsOfOrdering(t *testing.T) {
	o := newOrdering(t)
	bodies, ids := arrivalMessages(t, 251)
	o.order(t, bodies[:1]) // what a process does once
	for _, c := range []struct {
		name   string
		after  time.Duration
		bodies []string
		most   int
	}{
		{"while the tenant is known", time.Second, bodies[1:101], 5},
		{"once the tenant's record is old", time.Minute, bodies[101:201], 5},
		{"while all of them come again", time.Second, bodies[101:201], 5},
		{"while half of them come again", time.Second, bodies[151:251], 6},
	} {
		o.now = o.now.Add(c.after)
		nudged := o.nudges
		if sent := o.order(t, c.bodies); len(sent) > c.most {
			t.Errorf("%s: %d messages cost %d commands, want at most %d: %v", c.name, len(c.bodies), len(sent), c.most, names(sent))
		} else {
			t.Logf("%s: %v", c.name, names(sent))
		}
		if got := o.nudges - nudged; got != 1 {
			t.Errorf("%s: %d nudges were sent, want 1", c.name, got)
		}
	}
	wantPlaces(t, o.Log.(*mongostore.Arrivals), ids)
}
