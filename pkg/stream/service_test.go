package stream_test

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/access"
	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/cursor"
	"github.com/ocelot-audit/ocelot/pkg/envelope"
	"github.com/ocelot-audit/ocelot/pkg/stream"
)

func TestSubscribersGetWhatIsStored(t *testing.T) {
	w := newWorld(t)
	w.publish(w.entry(nil)) // nobody listens
	all := w.subscribe("all", `{}`, "")
	errorsOnly := w.subscribe("errors", `{"severity":["ERROR","CRITICAL"],"q":"paid"}`, "")
	silent := w.connect("silent", auditor, tenant)
	a, b, c := w.entry(nil), w.entry(func(e *audit.Entry) { e.Severity = audit.SeverityError }), w.entry(nil)
	w.publish(a, b)
	w.publish(c)
	all.wants(t, a, b, c)
	errorsOnly.wants(t, b)
	all.wantsFrames(t, "subscribed", "entries", "entries")
	silent.wantsFrames(t)
	for range 2 { // queues can deliver a message twice
		if err := w.Deliver(t.Context(), nudge); err != nil {
			t.Fatal(err)
		}
	}
	all.wants(t, a, b, c)
}

// nudge asks to look at the stream of the tenant.
const nudge = `{"v":1,"tenant":"acme"}`

func TestStreamsAreNarrowedAndKeptApart(t *testing.T) {
	w := newWorld(t)
	narrowed := auditor
	narrowed.Resources = []access.Resource{{Type: "order", ID: "7"}}
	seven := w.connect("seven", narrowed, tenant)
	w.say("seven", `{}`, "")
	globex := access.Principal{Subject: "bob", Grants: map[audit.TenantID][]access.Permission{access.AnyTenant: {access.LogsStream}}}
	foreign := w.connect("foreign", globex, "globex")
	w.say("foreign", `{}`, "")
	of7 := w.entry(func(e *audit.Entry) { e.ResourceID = "7" })
	w.publish(w.entry(nil), of7)
	seven.wants(t, of7)
	foreign.wants(t)
	theirs := w.entry(func(e *audit.Entry) { e.Tenant = "globex" })
	w.publish(theirs)
	foreign.wants(t, theirs)
	seven.wants(t, of7)
}

func TestResumeWithoutGapOrRepeat(t *testing.T) {
	w := newWorld(t)
	first := w.subscribe("c1", `{}`, "")
	before := w.entries(3)
	w.publish(before...)
	at := first.last().Cursor
	w.gateway.Cut(t.Context(), "c1") //nolint:errcheck // never fails
	missed := w.entries(150)         // of more than one frame
	for _, e := range missed {
		w.publish(e)
	}
	if _, err := w.Connections.Connection(t.Context(), "c1"); !errors.Is(err, audit.ErrNotFound) {
		t.Errorf("the connection that is gone: got error %v, want %v", err, audit.ErrNotFound)
	}
	second := w.subscribe("c2", `{}`, at)
	second.wants(t, missed...)
	live := w.entry(nil)
	w.publish(live)
	second.wants(t, append(missed, live)...)
	first.wants(t, before...)

	w.pass(400 * 24 * time.Hour)
	w.subscribe("c3", `{}`, at).wants(t, append(missed, live)...)
}

// Subscribers that are cut again and again, while entries are stored and
// delivered by several workers at once, get every entry once and in one order.
func TestEveryEntryOnceUnderLoad(t *testing.T) {
	w := newWorld(t)
	const writers, each, subscribers = 4, 60, 3
	opener := w.subscribe("opener", `{}`, "")
	first := opener.last().Cursor
	var running sync.WaitGroup
	for range writers {
		running.Go(func() {
			for range each {
				w.store(w.entries(5)...)
				w.deliverQueued()
			}
		})
	}
	got := make([][]string, subscribers)
	for i := range subscribers {
		running.Go(func() {
			random := rand.New(rand.NewPCG(uint64(i), 1))
			after := first
			for life := 0; len(got[i]) < 5*writers*each && life < 10_000; life++ {
				id := fmt.Sprintf("s%d-%d", i, life)
				c := w.connect(id, auditor, tenant)
				w.send(id, `{}`, after)
				until := time.Now().Add(time.Duration(random.IntN(40)) * time.Millisecond)
				for time.Now().Before(until) {
					w.deliverQueued()
				}
				if random.IntN(2) == 0 {
					c.set(func(c *client) { c.stuck = stream.ErrGone })
				}
				_ = errors.Join(w.gateway.Cut(t.Context(), id), w.Disconnect(t.Context(), id, nil))
				got[i] = append(got[i], c.once(t)...)
				if f := c.last(); f.Cursor != "" {
					after = f.Cursor
				}
			}
		})
	}
	running.Wait()
	w.pass(time.Minute)
	w.deliverQueued()
	for i := range got {
		if want := 5 * writers * each; len(got[i]) != want {
			t.Errorf("subscriber %d got %d entries, want the %d stored", i, len(got[i]), want)
		}
		if !slices.Equal(got[i], got[0]) {
			t.Errorf("subscriber %d got the order %v, want %v as the first", i, got[i], got[0])
		}
	}
	if !slices.Equal(opener.once(t), got[0]) {
		t.Errorf("the live subscriber got %d entries in another order than those that came back", len(opener.once(t)))
	}
}

func TestSlowClientsAreTriedAgainAndThenCut(t *testing.T) {
	w := newWorld(t)
	slow, other := w.subscribe("slow", `{}`, ""), w.subscribe("other", `{}`, "")
	slow.set(func(c *client) { c.fails = []error{stream.ErrBusy, errors.New("bad gateway")} })
	a, b := w.entry(nil), w.entry(nil)
	w.publish(a)
	w.publish(b)
	other.wants(t, a, b)
	for range 3 {
		w.pass(2 * time.Second)
		w.deliverQueued()
	}
	slow.wants(t, a, b)

	slow.set(func(c *client) { c.stuck = stream.ErrBusy })
	w.publish(w.entry(nil))
	w.pass(30 * time.Second)
	w.deliverQueued()
	if slow.cut {
		t.Error("the slow connection is cut after half a minute, want it tried for a minute")
	}
	for range 20 {
		w.pass(15 * time.Second)
		w.deliverQueued()
	}
	if !slow.cut {
		t.Error("the slow connection is not cut, want it cut")
	}
	if w.queue.len() != 1 { // the next check of the other connection
		t.Errorf("the queue has %d messages, want 1", w.queue.len())
	}
	if _, err := w.Connections.Connection(t.Context(), "slow"); !errors.Is(err, audit.ErrNotFound) {
		t.Errorf("the connection that was cut: got error %v, want %v", err, audit.ErrNotFound)
	}
	if want := "too slow"; !strings.Contains(w.log.String(), want) {
		t.Errorf("got log %s, want it to contain %q", w.log, want)
	}
}

func TestASlowClientDelaysNobody(t *testing.T) {
	w := newWorld(t)
	slow := w.subscribe("slow", `{}`, "")
	other := w.subscribe("other", `{}`, "")
	release := make(chan struct{})
	slow.set(func(c *client) { c.hang = release })
	a, b := w.entry(nil), w.entry(nil)
	w.store(a)
	var running sync.WaitGroup
	running.Go(w.deliverQueued)
	other.awaits(t, a)
	w.store(b)
	running.Go(w.deliverQueued)
	other.awaits(t, a, b)
	slow.wants(t)
	close(release)
	running.Wait()
	w.pass(time.Minute)
	w.deliverQueued()
	if got, want := slow.once(t), idsOf(a, b); !slices.Equal(got, want) {
		t.Errorf("the slow client got %v, want %v", got, want)
	}
}

// TestAHangingClientIsCut: a frame that is being sent when a pump ends counts as an attempt, so
// that a client that hangs is soon tried less often, and cut after a minute.
func TestAHangingClientIsCut(t *testing.T) {
	w := newWorld(t)
	hanging, other := w.subscribe("hanging", `{}`, ""), w.subscribe("other", `{}`, "")
	hanging.set(func(c *client) { c.hang = make(chan struct{}) })
	var sent []audit.Entry
	for range 12 {
		sent = append(sent, w.entry(nil))
		w.publish(sent[len(sent)-1])
		w.pass(15 * time.Second)
		w.deliverQueued()
	}
	other.wants(t, sent...)
	if !hanging.cut {
		t.Error("the hanging connection is open after three minutes, want it cut")
	}
}

// lock acquires the lease on the tenant's stream, as a pump that is killed then.
func (w *world) lock(holder string, d time.Duration) {
	w.t.Helper()
	until := w.clock().Add(d)
	if _, acquired, err := w.Streams.Acquire(w.t.Context(), tenant, holder, until, until); err != nil {
		w.t.Fatal(err)
	} else if !acquired {
		w.t.Fatal("acquired is false, want true")
	}
}

func TestAPingResumesDelivery(t *testing.T) {
	w := newWorld(t)
	c := w.subscribe("c", `{}`, "")
	w.lock("killed", 30*time.Second)
	e := w.entry(nil)
	w.publish(e)
	c.wants(t)
	w.pass(31 * time.Second)
	if err := w.Ping(t.Context(), "c", []byte(`{"action":"ping"}`)); err != nil {
		t.Fatal(err)
	}
	w.deliverQueued()
	c.wants(t, e)
	c.wantsFrames(t, "subscribed", "pong", "entries")
}

func TestAStreamThatFallsFarBehindGoesOnLive(t *testing.T) {
	w := newWorld(t)
	c := w.subscribe("c", `{}`, "")
	w.lock("stuck", time.Minute)
	for range 26 {
		ids := make([]audit.EntryID, 4000)
		for i := range ids {
			ids[i] = w.entry(nil).ID
		}
		w.place(tenant, ids...)
	}
	w.pass(time.Minute)
	w.publish(w.entry(nil))
	if got, want := c.got(), []string{"subscribed", "lagged"}; !slices.Equal(got, want) {
		t.Fatalf("got frames %v, want %v", got, want)
	}
	after := c.last().Cursor
	next := w.entry(nil)
	w.publish(next)
	c.wants(t, next)

	// Asked for, all of it comes.
	w.say("c", `{}`, after)
	w.deliverQueued()
	if got := c.got(); slices.Contains(got[3:], "lagged") {
		t.Errorf("got frames %v, want none of type %q after the third", got, "lagged")
	}
	if got := len(c.ids()); got != 3 { // what has a place without being stored is gone, as if it was deleted
		t.Errorf("got %d entries, want 3", got)
	}
}

// TestAnEntryWithManyMaskedPlacesIsSent: without their names, which do not fit.
func TestAnEntryWithManyMaskedPlacesIsSent(t *testing.T) {
	w := newWorld(t)
	c := w.subscribe("c", `{}`, "")
	e := w.entry(func(e *audit.Entry) {
		element := audit.Encrypted{Key: "tenant", Data: []byte("x")}
		for i := range 1000 {
			element.Paths = append(element.Paths, fmt.Sprintf("/metadata/customers/%03d/email", i)+strings.Repeat("x", 30))
		}
		e.Encrypted = []audit.Encrypted{element}
	})
	next := w.entry(nil)
	w.publish(e, next)
	c.wants(t, e, next)
	if got, want := c.frames[1].Items[0].Omitted, []string{"masked"}; !slices.Equal(got, want) {
		t.Errorf("omitted %v, want %v", got, want)
	}
}

func TestLongEntriesLackWhatDoesNotFit(t *testing.T) {
	w := newWorld(t)
	c := w.subscribe("c", `{}`, "")
	object := func(size int) audit.Object { return audit.Object(`{"text":"` + strings.Repeat("x", size) + `"}`) }
	e := w.entry(func(e *audit.Entry) {
		e.Metadata, e.After, e.Before = object(1), object(40<<10), object(41<<10)
		e.Message = strings.Repeat("\x01", audit.MaxMessage)
	})
	fits := w.entry(func(e *audit.Entry) { e.Metadata = object(31 << 10) })
	w.publish(e, fits)
	c.wants(t, e, fits)
	items := c.frames[1].Items // both in one frame: what was left out made room
	if got, want := items[0].Omitted, []string{"before_state", "after_state", "message"}; !slices.Equal(got, want) {
		t.Errorf("omitted %v, want %v", got, want)
	}
	if got := items[1].Omitted; got != nil {
		t.Errorf("omitted %v of an entry that fits, want nothing", got)
	}
}

func TestDeletedTenantsAndEntriesAreNotStreamed(t *testing.T) {
	w := newWorld(t)
	c := w.subscribe("c", `{}`, "")
	w.store(w.entry(nil))
	if err := w.db.Tenants().Update(t.Context(), audit.Tenant{ID: tenant, Status: audit.TenantDeleting, Version: 2}); err != nil {
		t.Fatal(err)
	}
	w.deliverQueued()
	c.wants(t)
}

func TestConnectionsEnd(t *testing.T) {
	w := newWorld(t)
	brief := auditor
	brief.ExpiresAt = w.clock().Add(time.Minute)
	c := w.connect("c", brief, tenant)
	w.say("c", `{}`, "")
	w.pass(time.Minute)
	if err := w.Ping(t.Context(), "c", []byte(`{}`)); !errors.Is(err, audit.ErrNotFound) {
		t.Errorf("a ping when the credential has ended: got error %v, want %v", err, audit.ErrNotFound)
	}
	c.wantsFrames(t, "subscribed")
	if err := w.Subscribe(t.Context(), "c", []byte(`{"action":"subscribe"}`)); !errors.Is(err, audit.ErrNotFound) {
		t.Errorf("a subscription when the credential has ended: got error %v, want %v", err, audit.ErrNotFound)
	}
	w.publish(w.entry(nil))
	if c.wants(t); !c.cut {
		t.Error("a connection whose credential has ended is not cut, want it cut")
	}
	if err := w.Connect(t.Context(), "d", brief, tenant); !errors.Is(err, audit.ErrUnauthenticated) {
		t.Errorf("a connection with a credential that has ended: got error %v, want %v", err, audit.ErrUnauthenticated)
	}

	u := w.subscribe("u", `{}`, "")
	for range 2 { // without a subscription too
		if err := w.Unsubscribe(t.Context(), "u", []byte(`{"action":"unsubscribe"}`)); err != nil {
			t.Fatal(err)
		}
		w.deliverQueued()
	}
	w.publish(w.entry(nil))
	u.wantsFrames(t, "subscribed", "unsubscribed", "unsubscribed")
	if err := w.Disconnect(t.Context(), "u", nil); err != nil {
		t.Fatal(err)
	}
	if err := w.Ping(t.Context(), "u", []byte(`{}`)); !errors.Is(err, audit.ErrNotFound) {
		t.Errorf("a ping over a connection that has ended: got error %v, want %v", err, audit.ErrNotFound)
	}
}

func TestFaultyMessages(t *testing.T) {
	w := newWorld(t)
	w.connect("c", auditor, tenant)
	for _, tt := range []struct{ message, pointer, code string }{
		{``, "", "invalid_json"},
		{`[]`, "", "wrong_type"},
		{`{"action":"subscribe"} {}`, "", "invalid_json"},
		{`{"action":"subscribe","action":"subscribe"}`, "", "invalid_json"},
		{`{"action":"subscribe","filters":{}}`, "/filters", "unknown_field"},
		{`{"action":"subscribe","filter":[]}`, "/filter", "wrong_type"},
		{`{"action":"subscribe","filter":{"action":7}}`, "/filter/action", "wrong_type"},
		{`{"action":"subscribe","filter":{"action":["A",null]}}`, "/filter/action", "wrong_type"},
		{`{"action":"subscribe","filter":{"limit":"7"}}`, "/filter/limit", "unknown_parameter"},
		{`{"action":"subscribe","filter":{"a/b":"7"}}`, "/filter/a~1b", "unknown_parameter"},
		{`{"action":"subscribe","filter":{"severity":"LOUD"}}`, "/filter/severity", "invalid_value"},
		{`{"action":"subscribe","filter":{"q":"\"open"}}`, "/filter/q", ""},
		{`{"action":"subscribe","after":7}`, "/after", "wrong_type"},
		{`{"action":"subscribe","after":""}`, "/after", "invalid_cursor"},
		{`{"action":"subscribe","after":"bogus"}`, "/after", "invalid_cursor"},
	} {
		var invalid *audit.ValidationError
		err := w.Subscribe(t.Context(), "c", []byte(tt.message))
		switch {
		case !errors.As(err, &invalid):
			t.Errorf("%s: got error %v, want one of type %T", tt.message, err, invalid)
		case invalid.Fields[0].Pointer != tt.pointer:
			t.Errorf("%s: got pointer %q, want %q", tt.message, invalid.Fields[0].Pointer, tt.pointer)
		case tt.code != "" && invalid.Fields[0].Code != tt.code:
			t.Errorf("%s: got code %q, want %q", tt.message, invalid.Fields[0].Code, tt.code)
		}
	}
	for message, want := range map[string]string{
		`{"action":"subscribe","fliter":{}}`:  "action, filter, after",
		`{"action":"subscribe","filter":"x"}`: "must be a JSON object",
		`{"action":"subscribe","after":7}`:    "must be a JSON string",
		`{"action":"subscribe","after":""}`:   "leave it out",
	} {
		if err := w.Subscribe(t.Context(), "c", []byte(message)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got the error %v, want it to contain %q", message, err, want)
		}
	}
	for _, message := range hugeSubscriptions() {
		var invalid *audit.ValidationError
		if err := w.Subscribe(t.Context(), "c", []byte(message)); !errors.As(err, &invalid) {
			t.Fatalf("%.50s…: got error %.500v, want one of type %T", message, err, invalid)
		} else if len(invalid.Fields) > audit.MaxFaults {
			t.Fatalf("%.50s…: got %d faults, want at most %d", message, len(invalid.Fields), audit.MaxFaults)
		}
		for _, fault := range invalid.Fields {
			if most := 200; len(fault.Pointer) > most {
				t.Errorf("%.50s…: got a pointer of %d bytes, want at most %d", message, len(fault.Pointer), most)
			}
		}
	}
	for _, message := range []string{`{}`, `{"action":"shout"}`, `no`, ``} {
		var invalid *audit.ValidationError
		if err := w.Refuse(t.Context(), "c", []byte(message)); !errors.As(err, &invalid) {
			t.Errorf("%s: got error %v, want a %T", message, err, invalid)
		}
	}
}

// hugeSubscriptions have more, or longer, faults than a frame has room for.
func hugeSubscriptions() []string {
	var unknown, mistyped strings.Builder
	for i := range 500 {
		fmt.Fprintf(&unknown, `,"field%d":"x"`, i)
		fmt.Fprintf(&mistyped, `,"field%d":7`, i)
	}
	long := strings.Repeat("~", 30_000)
	return []string{
		`{"action":"subscribe","filter":{` + unknown.String()[1:] + `}}`,
		`{"action":"subscribe","filter":{` + mistyped.String()[1:] + `}}`,
		`{"action":"subscribe","filter":{"severity":["LOUD"` + strings.Repeat(`,"LOUD"`, 499) + `]}}`,
		`{"action":"subscribe","filter":{"` + long + `":"x"}}`,
		`{"action":"subscribe","filter":{"` + long + `":7}}`,
		`{"action":"subscribe","` + long + `":7}`,
	}
}

// A ticket gives rights: a key of long ago must not make one.
func TestATicketOfAnOldKeyIsRefused(t *testing.T) {
	w := newWorld(t)
	text, _, err := w.Ticket(w.createKey("k"), tenant)
	if err != nil {
		t.Fatal(err)
	}
	keys := [][]byte{make([]byte, cursor.MinKeyBytes)} // of the world
	w.Cursors = cursor.NewRotatingSigner(func() [][]byte { return keys })
	for i := range 6 {
		_, _, err := w.Redeem(text)
		if want := i < 3; (err == nil) != want { // its key signs before and after the first rotation
			t.Errorf("after %d rotations: got error %v, want the ticket good %t", i, err, want)
		}
		keys = cursor.NextRing(keys, bytes.Repeat([]byte{byte(i + 1)}, cursor.MinKeyBytes))
	}
}

func TestTickets(t *testing.T) {
	w := newWorld(t)
	wide := access.Principal{Subject: "op", Grants: map[audit.TenantID][]access.Permission{
		access.AnyTenant: access.Permissions(), tenant: {access.LogsWrite},
	}, Resources: []access.Resource{{Type: "order"}}, ExpiresAt: w.clock().Add(time.Hour)}
	text, until, err := w.Ticket(wide, tenant)
	if err != nil {
		t.Fatal(err)
	} else if until.Sub(w.clock()) != stream.TicketTTL {
		t.Fatalf("the ticket lasts %v, want %v", until.Sub(w.clock()), stream.TicketTTL)
	} else if url.QueryEscape(text) != text {
		t.Fatalf("got ticket %q, want one that needs no escaping: %q", text, url.QueryEscape(text))
	}
	p, to, err := w.Redeem(text)
	want := []access.Permission{access.LogsStream}
	if err != nil {
		t.Error(err)
	} else if to != tenant {
		t.Errorf("got tenant %q, want %q", to, tenant)
	} else if len(p.Grants) != 1 {
		t.Errorf("got %d grants, want 1", len(p.Grants))
	} else if !slices.Equal(p.Grants[tenant], want) {
		t.Errorf("got grants %q, want %q", p.Grants[tenant], want)
	} else if len(p.Resources) != 1 {
		t.Errorf("got %d resources, want 1", len(p.Resources))
	} else if !p.ExpiresAt.Equal(wide.ExpiresAt) {
		t.Errorf("got expires at %v, want %v", p.ExpiresAt, wide.ExpiresAt)
	}
	c := w.subscribe("c", `{}`, "")
	for _, bogus := range []string{"", "x", text[:len(text)-2], c.last().Cursor} {
		if _, _, err := w.Redeem(bogus); !errors.Is(err, audit.ErrUnauthenticated) {
			t.Errorf("%q: got error %v, want %v", bogus, err, audit.ErrUnauthenticated)
		}
	}
	w.pass(stream.TicketTTL)
	if _, _, err := w.Redeem(text); !errors.Is(err, audit.ErrUnauthenticated) {
		t.Errorf("an old ticket: got error %v, want %v", err, audit.ErrUnauthenticated)
	}
	longest := 0
	for err == nil {
		longest = len(text)
		wide.Resources = append(wide.Resources, access.Resource{Type: "order", ID: "7"})
		text, _, err = w.Ticket(wide, tenant)
	}
	var invalid *audit.ValidationError
	switch {
	case !errors.As(err, &invalid):
		t.Errorf("got error %v, want one of type %T", err, invalid)
	case invalid.Fields[0].Code != "too_long":
		t.Errorf("got code %q, want %q", invalid.Fields[0].Code, "too_long")
	case longest > stream.MaxTicketBytes || longest < stream.MaxTicketBytes-50:
		t.Errorf("the longest ticket has %d bytes, want %d to %d", longest, stream.MaxTicketBytes-50, stream.MaxTicketBytes)
	}
}

func TestFailuresAreReportedAndRepeatable(t *testing.T) {
	w := newWorld(t)
	c := w.subscribe("c", `{}`, "")
	w.pass(time.Minute)
	e := w.entry(nil)
	w.store(e)
	down := errors.New("down")
	w.queue.fail = down
	if err := w.Deliver(t.Context(), nudge); !errors.Is(err, down) {
		t.Errorf("delivery with the queue down: got error %v, want %v", err, down)
	}
	w.queue.fail = nil
	if err := w.Deliver(t.Context(), nudge); err != nil {
		t.Fatal(err)
	}
	c.wants(t, e)
	for _, body := range []string{``, `{}`, `[]`, `{"v":1}`, `{"v":1,"tenant":"../x"}`} {
		if err := w.Deliver(t.Context(), body); !errors.Is(err, audit.ErrUnreadable) {
			t.Errorf("%q: got error %v, want %v", body, err, audit.ErrUnreadable)
		}
	}
	if err := w.Deliver(t.Context(), `{"v":2,"tenant":"acme"}`); !errors.Is(err, envelope.ErrVersion) {
		t.Errorf("a later version: got error %v, want %v", err, envelope.ErrVersion)
	}
	if err := w.Deliver(t.Context(), `{"v":1,"tenant":"unknown"}`); err != nil {
		t.Errorf("a nudge of an unknown tenant: got error %v, want none", err)
	}
}
