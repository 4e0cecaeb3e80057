package stream_test

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/access"
	"github.com/ocelot-audit/ocelot/pkg/arrival"
	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/cursor"
	"github.com/ocelot-audit/ocelot/pkg/engine/sqlite"
	"github.com/ocelot-audit/ocelot/pkg/envelope"
	"github.com/ocelot-audit/ocelot/pkg/stream"
	"github.com/ocelot-audit/ocelot/pkg/tenants"
)

const tenant audit.TenantID = "acme"

// auditor may listen to everything of the tenant.
var auditor = access.Principal{Subject: "ann", Grants: map[audit.TenantID][]access.Permission{tenant: {access.LogsStream}}}

// world is the service over the embedded engine, with a clock, a gateway and a
// queue that tests decide.
type world struct {
	*stream.Service
	t       *testing.T
	db      *sqlite.DB
	gateway *gateway
	queue   *queue
	log     *logged
	orderer *arrival.Orderer

	mu     sync.Mutex
	now    time.Time
	random uint64
	made   int // entries
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{t: t, now: time.Date(2026, 3, 2, 9, 30, 0, 0, time.UTC), gateway: &gateway{clients: map[string]*client{}}, queue: &queue{}, log: &logged{}}
	var err error
	if w.db, err = sqlite.Open(t.Context(), filepath.Join(t.TempDir(), "ocelot.db"), sqlite.WithClock(w.clock)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = w.db.Close() })
	for _, id := range []audit.TenantID{tenant, "globex"} {
		if err := w.db.Tenants().Create(t.Context(), audit.Tenant{ID: id, Status: audit.TenantActive}); err != nil {
			t.Fatal(err)
		}
	}
	w.queue.world = w
	w.Service = &stream.Service{
		Arrivals: w.db.Arrivals(), Streams: w.db.Streams(), Connections: w.db.Connections(), Reader: w.db.Entries(), Sender: w.gateway, Queue: w.queue,
		Tenants: w.db.Tenants(), Keys: tenants.KeyFinder{Store: w.db.Keys()}, Problem: problemOf,
		Cursors: cursor.NewSigner(make([]byte, cursor.MinKeyBytes)), Now: w.clock, Pause: w.pause, Random: w.bits,
		Log: slog.New(slog.NewTextHandler(w.log, nil)),
	}
	w.orderer = &arrival.Orderer{
		Log: w.db.Arrivals(), Tenants: anyTenant{}, Now: w.clock, Nudger: &arrival.Nudger{Streams: w.db.Streams(), Queue: w.queue},
	}
	return w
}

// anyTenant says that every tenant is active.
type anyTenant struct{}

func (anyTenant) Tenant(_ context.Context, id audit.TenantID) (audit.Tenant, error) {
	return audit.Tenant{ID: id, Status: audit.TenantActive}, nil
}

// problemOf is a problem document whose detail is the reason.
func problemOf(reason error) []byte {
	text, _ := json.Marshal(map[string]string{"detail": reason.Error()}) // never fails
	return text
}

func (w *world) clock() time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.now
}

func (w *world) pass(d time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.now = w.now.Add(d)
}

func (w *world) bits(b []byte) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.random++
	binary.BigEndian.PutUint64(b, w.random)
}

// logged keeps what the service logs.
type logged struct {
	mu   sync.Mutex
	text []byte
}

func (l *logged) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.text = append(l.text, p...)
	return len(p), nil
}

func (l *logged) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return string(l.text)
}

// entry makes another entry of the tenant.
func (w *world) entry(change func(e *audit.Entry)) audit.Entry {
	w.mu.Lock()
	w.made++
	var random [10]byte
	binary.BigEndian.PutUint64(random[2:], uint64(w.made))
	e := audit.Entry{
		ID: audit.NewEntryID(w.now, random), Tenant: tenant, UserID: "ann", Action: "UPDATE", ResourceType: "order",
		Timestamp: w.now, ReceivedAt: w.now, Message: fmt.Sprintf("Order %d was paid", w.made),
	}
	w.mu.Unlock()
	if change != nil {
		change(&e)
	}
	return e
}

func (w *world) entries(n int) []audit.Entry {
	entries := make([]audit.Entry, n)
	for i := range entries {
		entries[i] = w.entry(nil)
	}
	return entries
}

// pause lets the clock run. Other goroutines have some time meanwhile.
func (w *world) pause(ctx context.Context, d time.Duration) error {
	w.pass(d)
	time.Sleep(time.Millisecond)
	return ctx.Err()
}

// store stores the entries as persist-logs does, and gives them places as order-logs does.
func (w *world) store(entries ...audit.Entry) {
	w.t.Helper()
	w.storeFor(entries[0].Tenant, entries...)
}

func (w *world) storeFor(id audit.TenantID, entries ...audit.Entry) {
	w.t.Helper()
	if _, err := w.db.Entries().Append(w.t.Context(), id, entries); err != nil {
		w.t.Fatal(err)
	}
	ids := make([]audit.EntryID, len(entries))
	for i := range entries {
		ids[i] = entries[i].ID
	}
	w.place(id, ids...)
}

// place gives ids their places, as one message of persist-logs has them, and nudges.
func (w *world) place(id audit.TenantID, ids ...audit.EntryID) {
	w.t.Helper()
	for _, err := range w.orderer.Order(w.t.Context(), []string{w.arrivalOf(id, ids...)}) {
		if err != nil {
			w.t.Fatal(err)
		}
	}
}

// arrivalOf returns a message of persist-logs about ids.
func (w *world) arrivalOf(id audit.TenantID, ids ...audit.EntryID) string {
	w.t.Helper()
	var message audit.MessageID
	w.bits(message[:8])
	bodies, err := envelope.PackArrivals(id, []envelope.Arrival{{Message: message, IDs: ids}})
	if err != nil {
		w.t.Fatal(err)
	}
	return bodies[0]
}

// publish stores the entries and delivers them.
func (w *world) publish(entries ...audit.Entry) {
	w.t.Helper()
	w.store(entries...)
	w.deliverQueued()
}

// deliverQueued handles every message of the queue that is due.
func (w *world) deliverQueued() {
	w.t.Helper()
	for body, due := w.queue.take(w.clock()); due; body, due = w.queue.take(w.clock()) {
		if err := w.Deliver(w.t.Context(), body); err != nil {
			w.t.Fatal(err)
		}
	}
}

// deliverUntilKilled is deliverQueued by a process that is killed before its call killAt.
func (w *world) deliverUntilKilled(victim *stream.Service, killAt int64) {
	w.t.Helper()
	for body, due := w.queue.take(w.clock()); due; body, due = w.queue.take(w.clock()) {
		if err := victim.Deliver(w.t.Context(), body); err != nil && !errors.Is(err, errKilled) {
			w.t.Fatalf("killed before call %d: %v", killAt, err)
		}
	}
}

// connect makes a client, which has not subscribed.
func (w *world) connect(id string, principal access.Principal, to audit.TenantID) *client {
	w.t.Helper()
	if err := w.Connect(w.t.Context(), id, principal, to); err != nil {
		w.t.Fatal(err)
	}
	return w.gateway.add(id)
}

// subscribe connects and subscribes; filter is JSON.
func (w *world) subscribe(id, filter, after string) *client {
	w.t.Helper()
	c := w.connect(id, auditor, tenant)
	w.say(id, filter, after)
	return c
}

// say subscribes and delivers.
func (w *world) say(id, filter, after string) {
	w.t.Helper()
	w.send(id, filter, after)
	w.deliverQueued()
}

// send subscribes.
func (w *world) send(id, filter, after string) {
	w.t.Helper()
	message := map[string]any{"action": "subscribe", "filter": json.RawMessage(filter)}
	if after != "" {
		message["after"] = after
	}
	text, err := json.Marshal(message)
	if err != nil {
		w.t.Fatal(err)
	}
	if err := w.Subscribe(w.t.Context(), id, text); err != nil {
		w.t.Fatal(err)
	}
}

// frame is what a client gets.
type frame struct {
	Type   string
	Cursor string
	Places []int64
	Items  []struct {
		ID        string
		Omitted   []string
		ExpiresAt time.Time `json:"expires_at"`
	}
	Error *struct{ Detail string }
}

// client is a client behind the gateway.
type client struct {
	gateway *gateway
	frames  []frame
	fails   []error       // what the next sends are answered with
	stuck   error         // what every send is answered with
	before  func()        // called before every send
	hang    chan struct{} // every send waits until it is closed
	cut     bool
}

// gateway is strict: it refuses frames that are too long or no JSON.
type gateway struct {
	mu      sync.Mutex
	clients map[string]*client
}

func (g *gateway) add(id string) *client {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.clients[id] = &client{gateway: g}
	return g.clients[id]
}

func (g *gateway) Send(ctx context.Context, id string, text []byte) error {
	g.mu.Lock()
	c := g.clients[id]
	g.mu.Unlock()
	if c != nil && c.before != nil {
		c.before()
	}
	if c != nil && c.hang != nil {
		select {
		case <-c.hang:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	var f frame
	switch {
	case len(text) > stream.MaxFrameBytes:
		return fmt.Errorf("a frame of %d bytes", len(text))
	case json.Unmarshal(text, &f) != nil:
		return fmt.Errorf("no JSON: %s", text)
	case c == nil:
		return stream.ErrGone
	case c.stuck != nil:
		return c.stuck
	case len(c.fails) > 0:
		err := c.fails[0]
		c.fails = c.fails[1:]
		return err
	}
	if len(f.Places) != len(f.Items) {
		return fmt.Errorf("a frame of %d entries has %d places", len(f.Items), len(f.Places))
	}
	c.frames = append(c.frames, f)
	return ctx.Err()
}

func (g *gateway) Cut(_ context.Context, id string) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if c := g.clients[id]; c != nil {
		c.cut = true
	}
	delete(g.clients, id)
	return nil
}

// got returns the types of the frames.
func (c *client) got() (types []string) {
	c.gateway.mu.Lock()
	defer c.gateway.mu.Unlock()
	for _, f := range c.frames {
		types = append(types, f.Type)
	}
	return types
}

// ids returns the ids of all entries, in their order.
func (c *client) ids() (ids []string) {
	c.gateway.mu.Lock()
	defer c.gateway.mu.Unlock()
	for _, f := range c.frames {
		for _, item := range f.Items {
			ids = append(ids, item.ID)
		}
	}
	return ids
}

// last returns the last frame.
func (c *client) last() frame {
	c.gateway.mu.Lock()
	defer c.gateway.mu.Unlock()
	if len(c.frames) == 0 {
		return frame{}
	}
	return c.frames[len(c.frames)-1]
}

func (c *client) set(change func(c *client)) {
	c.gateway.mu.Lock()
	defer c.gateway.mu.Unlock()
	change(c)
}

func idsOf(entries ...audit.Entry) (ids []string) {
	for _, e := range entries {
		ids = append(ids, e.ID.String())
	}
	return ids
}

func (c *client) wantsFrames(t *testing.T, types ...string) {
	t.Helper()
	if got := c.got(); !slices.Equal(got, types) {
		t.Errorf("got frames %v, want %v", got, types)
	}
}

func (c *client) wants(t *testing.T, entries ...audit.Entry) {
	t.Helper()
	if got, want := c.ids(), idsOf(entries...); !slices.Equal(got, want) {
		t.Fatalf("%d entries, want %d:\n%v\n%v", len(got), len(want), got, want)
	}
}

// awaits is wants for a client to which a pump sends at this moment.
func (c *client) awaits(t *testing.T, entries ...audit.Entry) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); len(c.ids()) < len(entries) && time.Now().Before(end); {
		time.Sleep(time.Millisecond)
	}
	c.wants(t, entries...)
}

// once returns the ids of the entries as a client handles them: it drops what it has by place.
// It fails the test if anything else comes twice or in another order.
func (c *client) once(t *testing.T) (ids []string) {
	t.Helper()
	c.gateway.mu.Lock()
	defer c.gateway.mu.Unlock()
	var last int64
	byPlace := map[int64]string{}
	for _, f := range c.frames {
		for i, item := range f.Items {
			switch place := f.Places[i]; {
			case place > last:
				last, byPlace[place] = place, item.ID
				ids = append(ids, item.ID)
			case byPlace[place] != item.ID:
				t.Fatalf("place %d came again with %s, want %s", place, item.ID, byPlace[place])
			}
		}
	}
	return ids
}

// queue keeps what is sent, with the time from which it may be handled.
type queue struct {
	world *world
	mu    sync.Mutex
	wait  []waiting
	fail  error
}

type waiting struct {
	due  time.Time
	body string
}

func (q *queue) SendAfter(_ context.Context, _ audit.TenantID, delay time.Duration, body string) error {
	due := q.world.clock().Add(delay)
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.fail == nil {
		q.wait = append(q.wait, waiting{due, body})
	}
	return q.fail
}

func (q *queue) put(due time.Time, body string) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.wait = append(q.wait, waiting{due, body})
}

func (q *queue) take(now time.Time) (body string, due bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	i := slices.IndexFunc(q.wait, func(w waiting) bool { return !w.due.After(now) })
	if i < 0 {
		return "", false
	}
	body = q.wait[i].body
	q.wait = slices.Delete(q.wait, i, i+1)
	return body, true
}

func (q *queue) len() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.wait)
}
