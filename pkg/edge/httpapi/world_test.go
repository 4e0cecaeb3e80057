package httpapi_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"

	"github.com/ocelot-audit/ocelot/pkg/access"
	"github.com/ocelot-audit/ocelot/pkg/arrival"
	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/certificate"
	"github.com/ocelot-audit/ocelot/pkg/cleanup"
	"github.com/ocelot-audit/ocelot/pkg/cursor"
	"github.com/ocelot-audit/ocelot/pkg/edge/apispec"
	"github.com/ocelot-audit/ocelot/pkg/edge/httpapi"
	"github.com/ocelot-audit/ocelot/pkg/engine/localkeys"
	"github.com/ocelot-audit/ocelot/pkg/engine/sqlite"
	"github.com/ocelot-audit/ocelot/pkg/erasure"
	"github.com/ocelot-audit/ocelot/pkg/export"
	"github.com/ocelot-audit/ocelot/pkg/hold"
	"github.com/ocelot-audit/ocelot/pkg/ingest"
	"github.com/ocelot-audit/ocelot/pkg/jobs"
	"github.com/ocelot-audit/ocelot/pkg/local/localcloud"
	"github.com/ocelot-audit/ocelot/pkg/manifest"
	"github.com/ocelot-audit/ocelot/pkg/protect"
	"github.com/ocelot-audit/ocelot/pkg/quarantine"
	"github.com/ocelot-audit/ocelot/pkg/quota"
	"github.com/ocelot-audit/ocelot/pkg/restore"
	"github.com/ocelot-audit/ocelot/pkg/search"
	"github.com/ocelot-audit/ocelot/pkg/stream"
	"github.com/ocelot-audit/ocelot/pkg/tenants"
	"github.com/ocelot-audit/ocelot/pkg/wiring/exportfiles"
)

// world is every HTTP function over the use cases and the embedded engine, with
// a clock and a source of randomness that tests decide. What is enqueued is
// handled when processQueues is called.
type world struct {
	t       testing.TB
	handler http.Handler
	gate    *httpapi.Gate
	logs    *bytes.Buffer
	faults  *faults

	mu     sync.Mutex
	now    time.Time
	random uint64

	db                             *sqlite.DB
	standard, priority, index      *queue
	arrivals                       *queue
	work, live, dead               *queue
	sent                           []string // over connections
	cursors                        *cursor.Signer
	ingest                         *ingest.Service
	master                         *localkeys.Wrapper
	files                          exportfiles.Local
	exports                        *export.Jobs
	revealer                       *protect.Revealer
	matcher                        *protect.Matcher
	limiter                        *quota.Limiter
	jobs                           *jobs.Service
	keys                           *protect.Keyring
	search                         *search.Service
	feed                           *arrival.Feed
	quarantine                     *quarantine.Service
	tenants                        *tenants.Service
	stream                         *stream.Service
	dependencyDown, essentialsDown bool
	silent                         func(ctx context.Context) error // the check of a third dependency; nil: there is none
}

// start is the world's first moment.
var start = time.Date(2026, 3, 2, 9, 30, 0, 0, time.UTC)

// queue keeps what is sent until it is taken.
type queue struct {
	faults *faults
	mu     sync.Mutex
	bodies []string
}

func (q *queue) Send(_ context.Context, _ audit.TenantID, bodies []string) error {
	if err := q.faults.get("queue"); err != nil {
		return err
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	q.bodies = append(q.bodies, bodies...)
	return nil
}

// SendAfter keeps the body; what is done with it later is not this test's concern.
func (q *queue) SendAfter(ctx context.Context, tenant audit.TenantID, _ time.Duration, body string) error {
	return q.Send(ctx, tenant, []string{body})
}

// sockets keeps what is sent over connections. Frames that are too long are refused,
// as by every gateway.
type sockets struct{ *world }

func (s sockets) Send(_ context.Context, connection string, text []byte) error {
	if err := s.faults.get("sockets"); err != nil {
		return err
	}
	if len(text) > stream.MaxFrameBytes {
		return fmt.Errorf("a frame of %d bytes", len(text))
	}
	s.sent = append(s.sent, connection+" "+string(text))
	return nil
}

func (s sockets) Cut(_ context.Context, connection string) error {
	s.sent = append(s.sent, connection+" cut")
	return nil
}

func (q *queue) take() []string {
	q.mu.Lock()
	defer q.mu.Unlock()
	bodies := q.bodies
	q.bodies = nil
	return bodies
}

// faults are the errors that ports answer with, by the port's name.
type faults struct {
	mu    sync.Mutex
	by    map[string]error
	panic bool
}

func (f *faults) get(port string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.panic && port == "index" {
		panic("secret entry content")
	}
	return f.by[port]
}

func (f *faults) set(port string, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.by[port] = err
}

// faultyTenants and faultyIndex put the faults before the engine.
type faultyTenants struct {
	tenants.Store
	faults *faults
}

func (f faultyTenants) Tenant(ctx context.Context, id audit.TenantID) (audit.Tenant, error) {
	if err := f.faults.get("tenants"); err != nil {
		return audit.Tenant{}, err
	}
	return f.Store.Tenant(ctx, id)
}

type faultyIndex struct {
	search.Index
	faults *faults
}

func (f faultyIndex) Find(ctx context.Context, tenant audit.TenantID, filter audit.Filter, page audit.PageRequest) (audit.Page, error) {
	if err := f.faults.get("index"); err != nil {
		return audit.Page{}, err
	}
	return f.Index.Find(ctx, tenant, filter, page)
}

// faultyMasterKey puts the faults before the key that wraps the tenants' keys.
type faultyMasterKey struct {
	protect.KeyWrapper
	faults *faults
}

func (f faultyMasterKey) Wrap(ctx context.Context, tenant audit.TenantID, key []byte) ([]byte, error) {
	if err := f.faults.get("master key"); err != nil {
		return nil, err
	}
	return f.KeyWrapper.Wrap(ctx, tenant, key)
}

func (f faultyMasterKey) Unwrap(ctx context.Context, tenant audit.TenantID, wrapped []byte) ([]byte, error) {
	if err := f.faults.get("master key"); err != nil {
		return nil, err
	}
	return f.KeyWrapper.Unwrap(ctx, tenant, wrapped)
}

// principals are who the world's credentials belong to: "Bearer <name>".
func principals() map[string]access.Principal {
	in := func(subject string, tenant audit.TenantID, role access.Role) access.Principal {
		return access.Principal{Subject: subject, Grants: map[audit.TenantID][]access.Permission{tenant: role.Permissions()}}
	}
	orders := in("scoped", "acme", access.RoleAdmin)
	orders.Resources = []access.Resource{{Type: "order"}}
	return map[string]access.Principal{
		"both": {Subject: "both", Grants: map[audit.TenantID][]access.Permission{
			"acme": access.RoleAdmin.Permissions(), "globex": access.RoleAdmin.Permissions(),
		}},
		"admin":    in("admin", "acme", access.RoleAdmin),
		"auditor":  in("auditor", "acme", access.RoleAuditor),
		"user":     in("ann", "acme", access.RoleUser),
		"sleeper":  in("sleeper", "sleepy", access.RoleAdmin),
		"operator": in("op", access.AnyTenant, access.RoleOperator),
		"foreign":  in("eve", "globex", access.RoleAdmin),
		"scoped":   orders,
		"writer":   {Subject: "key:1", Grants: map[audit.TenantID][]access.Permission{"acme": {access.LogsWrite}}},
		"exporter": {Subject: "exporter", Grants: map[audit.TenantID][]access.Permission{"acme": {access.LogsExport}}},
		"nobody":   {Subject: "nobody"},
		"admin's key": {
			Subject: "key:2", KeyID: "2", Creator: "admin",
			Grants: map[audit.TenantID][]access.Permission{"acme": {access.SubjectsErase}},
		},
	}
}

type authenticator struct{ faults *faults }

func (a authenticator) Authenticate(_ context.Context, authorization string) (access.Principal, error) {
	if err := a.faults.get("authenticator"); err != nil {
		return access.Principal{}, err
	}
	name, isBearer := strings.CutPrefix(authorization, "Bearer ")
	if p, known := principals()[name]; known && isBearer {
		return p, nil
	}
	return access.Principal{}, fmt.Errorf("credential %q: %w", authorization, audit.ErrUnauthenticated)
}

func newWorld(t testing.TB) *world {
	t.Helper()
	w := &world{t: t, now: start, logs: &bytes.Buffer{}, faults: &faults{by: map[string]error{}}}
	db, err := sqlite.Open(t.Context(), filepath.Join(t.TempDir(), "ocelot.db"), sqlite.WithClock(w.clock))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	w.db = db
	if w.master, err = localkeys.Open(t.TempDir()); err != nil {
		t.Fatal(err)
	}
	if w.files, err = exportfiles.OpenFolder(t.TempDir()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := w.files.Close(); err != nil {
			t.Error(err)
		}
	})
	for _, q := range []**queue{&w.standard, &w.priority, &w.index, &w.arrivals, &w.work, &w.live, &w.dead} {
		*q = &queue{faults: w.faults}
	}
	w.build()
	w.seed()
	return w
}

func (w *world) build() {
	store := faultyTenants{w.db.Tenants(), w.faults}
	w.cursors = cursor.NewSigner([]byte("0123456789abcdef0123456789abcdef"))
	w.gate = &httpapi.Gate{
		Authenticator: authenticator{w.faults}, Tenants: store, Log: slog.New(slog.NewJSONHandler(w.logs, nil)),
		Now: w.clock, NewRequestID: func() string { return "req-1" },
	}
	w.keys = protect.NewKeyring(w.db.TenantKeys(), faultyMasterKey{w.master, w.faults}, w.clock, w.fill)
	w.ingest = &ingest.Service{Standard: w.standard, Priority: w.priority, Now: w.clock, Random: w.fill, Keys: w.keys}
	w.revealer = &protect.Revealer{Keys: w.keys, Recorder: w.ingest}
	w.matcher = &protect.Matcher{Keys: w.keys, Recorder: w.ingest}
	w.search = &search.Service{Index: faultyIndex{w.db.Index(), w.faults}, Reader: w.db.Entries(), Cursors: w.cursors, TimeZone: time.LoadLocation, Now: w.clock}
	w.feed = &arrival.Feed{Log: w.db.Arrivals(), Reader: w.db.Entries(), Cursors: w.cursors, Now: w.clock}
	w.quarantine = &quarantine.Service{
		Store: w.db.Quarantine(), Standard: w.standard, Priority: w.priority, Index: w.index, Holds: w.db.Holds(), Recorder: w.ingest, Now: w.clock,
	}
	w.jobs = &jobs.Service{Store: w.db.Jobs(), Queues: jobs.Queues{Jobs: w.work, Archive: w.work}, Recorder: w.ingest, Now: w.clock}
	w.exports = &export.Jobs{Jobs: w.jobs, Entries: w.search, Holds: w.db.Holds(), Files: w.files, Texts: w.keys, Recorder: w.ingest, Now: w.clock, Random: w.fill}
	w.tenants = &tenants.Service{
		Tenants: store, Keys: w.db.Keys(), Jobs: w.jobs, Holds: w.db.Holds(), Recorder: w.ingest, SettleTime: 45 * time.Second, Now: w.clock, Random: w.fill,
	}
	w.stream = &stream.Service{
		Arrivals: w.db.Arrivals(), Streams: w.db.Streams(), Connections: w.db.Connections(), Reader: w.db.Entries(), Sender: sockets{w}, Queue: w.live,
		Tenants: store, Keys: tenants.KeyFinder{Store: w.db.Keys()}, Cursors: w.cursors,
		Problem: httpapi.StreamProblem(w.gate.NewRequestID), Now: w.clock, Pause: w.pause, Random: w.fill, Log: w.gate.Log,
	}
	w.limit(quota.Limits{})
}

// limit sets the quotas.
func (w *world) limit(limits quota.Limits) {
	w.limiter = quota.NewLimiter(limits, w.db.Quotas(), w.clock, w.gate.Log)
	w.handler = httpapi.Router(w.gate, localcloud.HTTPFunctions(worldServices{w}))
}

// worldServices gives the handlers the parts of a world.
type worldServices struct{ w *world }

func (s worldServices) Gate() *httpapi.Gate     { return s.w.gate }
func (s worldServices) Cursors() *cursor.Signer { return s.w.cursors }

// testVersion is the version that the tested service has.
const testVersion httpapi.Version = "v1.4.0"

func (worldServices) Version() httpapi.Version { return testVersion }

func (s worldServices) Dependencies() []httpapi.Dependency { return s.w.dependencies() }
func (s worldServices) Exports() *export.Service {
	return &export.Service{Entries: s.w.search, Recorder: s.w.ingest, Now: s.w.clock}
}
func (s worldServices) Certificates() certificate.Store { return s.w.db.Certificates() }
func (s worldServices) Feed() *arrival.Feed             { return s.w.feed }
func (s worldServices) Erasures() *erasure.Service {
	return &erasure.Service{Jobs: s.w.jobs, Subjects: s.w.keys, Holds: s.w.db.Holds(), Recorder: s.w.ingest, Now: s.w.clock, Random: s.w.fill}
}
func (s worldServices) Restores() *restore.Service {
	return &restore.Service{Jobs: s.w.jobs, Recorder: s.w.ingest, Now: s.w.clock, Random: s.w.fill}
}
func (s worldServices) LegalHolds() *hold.Service {
	return &hold.Service{
		Store: s.w.db.Holds(), Tenants: s.w.db.Tenants(), Jobs: s.w.jobs, Recorder: s.w.ingest, Now: s.w.clock, Random: s.w.fill,
		Released: func(ctx context.Context, tenant audit.TenantID) error {
			return jobs.SendTask(ctx, s.w.work, tenant, jobs.TaskRetainAgain, nil)
		},
	}
}
func (s worldServices) Cleanups() *cleanup.Service {
	return &cleanup.Service{
		Jobs: s.w.jobs, Entries: s.w.search, Holds: s.w.db.Holds(), Texts: s.w.keys, Recorder: s.w.ingest, Now: s.w.clock, Random: s.w.fill,
	}
}
func (s worldServices) ExportJobs() *export.Jobs        { return s.w.exports }
func (s worldServices) Ingest() *ingest.Service         { return s.w.ingest }
func (s worldServices) Jobs() *jobs.Service             { return s.w.jobs }
func (s worldServices) Quarantine() *quarantine.Service { return s.w.quarantine }
func (s worldServices) Quotas() *quota.Limiter          { return s.w.limiter }
func (s worldServices) Revealer() *protect.Revealer     { return s.w.revealer }
func (s worldServices) Matcher() *protect.Matcher       { return s.w.matcher }
func (s worldServices) Search() *search.Service         { return s.w.search }
func (s worldServices) Stream() *stream.Service         { return s.w.stream }
func (s worldServices) StreamURL() httpapi.StreamURL    { return "wss://stream.acme.example" }
func (s worldServices) Tenants() *tenants.Service       { return s.w.tenants }

func (w *world) dependencies() []httpapi.Dependency {
	down := errors.New("dial mongodb.internal:27017: refused")
	all := []httpapi.Dependency{
		{Name: "entries", Essential: true, Check: func(ctx context.Context) error {
			if w.essentialsDown {
				return down
			}
			return w.db.Ping(ctx)
		}},
		{Name: "search", Check: func(ctx context.Context) error {
			if w.dependencyDown {
				panic(down)
			}
			return w.db.Ping(ctx)
		}},
	}
	if w.silent != nil {
		all = append(all, httpapi.Dependency{Name: "silent", Check: w.silent})
	}
	return all
}

// seed makes three tenants: acme is active, sleepy suspended, leaving is being deleted.
func (w *world) seed() {
	w.t.Helper()
	for id, status := range map[audit.TenantID]audit.TenantStatus{
		"acme": audit.TenantActive, "globex": audit.TenantActive, "sleepy": audit.TenantSuspended, "leaving": audit.TenantDeleting,
	} {
		err := w.db.Tenants().Create(w.t.Context(), audit.Tenant{
			ID: id, Name: strings.ToUpper(string(id[:1])) + string(id[1:]), Status: status, CreatedAt: start, UpdatedAt: start,
			Settings: audit.DefaultSettings(), Version: 1,
		})
		if err != nil {
			w.t.Fatal(err)
		}
	}
}

func (w *world) clock() time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.now
}

func (w *world) advance(d time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.now = w.now.Add(d)
}

// fill is a random source that never repeats itself and is the same every time.
func (w *world) fill(b []byte) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for i := range b {
		if i%8 == 0 {
			w.random++
		}
		var word [8]byte
		binary.BigEndian.PutUint64(word[:], w.random*0x9e3779b97f4a7c15)
		b[i] = word[i%8]
	}
}

// pause lets the clock run. Other goroutines have some time meanwhile.
func (w *world) pause(ctx context.Context, d time.Duration) error {
	w.advance(d)
	time.Sleep(time.Millisecond)
	return ctx.Err()
}

// processStream handles every queued message of the stream.
func (w *world) processStream() {
	w.t.Helper()
	for _, body := range w.live.take() {
		if err := w.stream.Deliver(w.t.Context(), body); err != nil {
			w.t.Fatal(err)
		}
	}
}

// processQueues stores and indexes every queued entry.
func (w *world) processQueues() {
	w.t.Helper()
	persister := &ingest.Persister{Keys: w.keys, Store: w.db.Entries(), Quarantine: w.quarantine, Tenants: w.db.Tenants(), Index: w.index, Arrivals: w.arrivals, DeadLetters: w.dead, Now: w.clock}
	indexer := &search.Indexer{Keys: w.keys, Index: w.db.Index(), Quarantine: w.quarantine, Tenants: w.db.Tenants(), Now: w.clock}
	for _, body := range append(w.standard.take(), w.priority.take()...) {
		if err := persister.Persist(w.t.Context(), []string{body})[0]; err != nil {
			w.t.Fatal(err)
		}
	}
	orderer := &arrival.Orderer{Log: w.db.Arrivals(), Tenants: w.db.Tenants(), Now: w.clock}
	for _, body := range w.arrivals.take() {
		if err := orderer.Order(w.t.Context(), []string{body})[0]; err != nil {
			w.t.Fatal(err)
		}
	}
	for _, body := range w.index.take() {
		if err := indexer.IndexMessages(w.t.Context(), []string{body})[0]; err != nil {
			w.t.Fatal(err)
		}
	}
}

// reply is an answer that was checked against the OpenAPI document.
type reply struct {
	status int
	header http.Header
	body   string
}

// call sends a request as the named principal in tenant acme. Of header, an
// empty value takes a field away.
func (w *world) call(as, method, target, body string, header map[string]string) reply {
	w.t.Helper()
	r := httptest.NewRequestWithContext(w.t.Context(), method, manifest.BasePath+target, strings.NewReader(body))
	if body == "" {
		r.Body, r.ContentLength = http.NoBody, 0
	} else {
		r.Header.Set("Content-Type", "application/json")
	}
	if as != "" {
		r.Header.Set("Authorization", "Bearer "+as)
	}
	if !strings.HasPrefix(target, "/tenants") {
		r.Header.Set("X-Tenant-ID", "acme")
	}
	for name, value := range header {
		if value == "" {
			r.Header.Del(name)
			continue
		}
		r.Header.Set(name, value)
	}
	return w.send(r)
}

func (w *world) send(r *http.Request) reply {
	w.t.Helper()
	recorder := httptest.NewRecorder()
	w.handler.ServeHTTP(recorder, r)
	got := reply{recorder.Code, recorder.Header(), recorder.Body.String()}
	if r.Method != http.MethodHead && got.header.Get("Content-Encoding") == "" {
		w.conforms(r, got)
	}
	return got
}

// conforms checks an answer against the document: its status, headers, type and body.
func (w *world) conforms(r *http.Request, got reply) {
	w.t.Helper()
	document := document(w.t)
	path, item := pathOf(document, strings.TrimPrefix(r.URL.Path, manifest.BasePath))
	if item == nil || item.GetOperation(r.Method) == nil {
		return // a 404 or 405 of the router, which belongs to no operation
	}
	input := &openapi3filter.ResponseValidationInput{
		RequestValidationInput: &openapi3filter.RequestValidationInput{
			Request: r, Route: &routers.Route{Spec: document, Path: path, PathItem: item, Method: r.Method, Operation: item.GetOperation(r.Method)},
		},
		Status: got.status, Header: got.header, Options: &openapi3filter.Options{IncludeResponseStatus: true, MultiError: true},
	}
	input.SetBodyBytes([]byte(got.body))
	if err := openapi3filter.ValidateResponse(r.Context(), input); err != nil {
		w.t.Errorf("%s %s: the answer %d %.500s does not conform to the document: %v", r.Method, r.URL.Path, got.status, got.body, err)
	}
	if got.header.Get("X-Request-Id") == "" {
		w.t.Errorf("%s %s: got no X-Request-Id, want one", r.Method, r.URL.Path)
	}
	for name, want := range map[string]string{"X-Content-Type-Options": "nosniff", "Cache-Control": "no-store"} {
		if value := got.header.Get(name); value != want {
			w.t.Errorf("%s %s: got %s %q, want %q", r.Method, r.URL.Path, name, value, want)
		}
	}
}

// document returns the document, as it is served, for kin-openapi.
var document = func() func(t testing.TB) *openapi3.T {
	loaded := sync.OnceValues(func() (*openapi3.T, error) {
		for _, media := range []string{"text/html", httpapi.MediaNDJSON} {
			openapi3filter.RegisterBodyDecoder(media, openapi3filter.RegisteredBodyDecoder("text/plain"))
		}
		return openapi3.NewLoader().LoadFromData(apispec.OpenAPI())
	})
	return func(t testing.TB) *openapi3.T {
		t.Helper()
		doc, err := loaded()
		if err != nil {
			t.Fatal(err)
		}
		return doc
	}
}()

// pathOf finds the path template, one without parameters first.
func pathOf(document *openapi3.T, path string) (string, *openapi3.PathItem) {
	if item := document.Paths.Value(path); item != nil {
		return path, item
	}
	for _, template := range document.Paths.InMatchingOrder() {
		want, got := strings.Split(template, "/"), strings.Split(path, "/")
		if len(want) == len(got) && !slices.ContainsFunc(want, func(part string) bool {
			i := slices.Index(want, part)
			return !strings.HasPrefix(part, "{") && part != got[i]
		}) {
			return template, document.Paths.Value(template)
		}
	}
	return "", nil
}

// want checks the status and, for a problem, its code.
func (r reply) want(t testing.TB, status int, code string) reply {
	t.Helper()
	if r.status != status {
		t.Fatalf("got %d %s, want %d %s", r.status, r.body, status, code)
	}
	if code == "" {
		return r
	}
	if got, want := r.problem(t).Type, "urn:ocelot:problem:"+code; got != want {
		t.Fatalf("got problem %s, want %s: %d %s", got, want, r.status, r.body)
	}
	return r
}

// is checks the whole body.
func (r reply) is(t testing.TB, body string) {
	t.Helper()
	if r.body != body {
		t.Errorf("got  %s\nwant %s", r.body, body)
	}
}

type problemDocument struct {
	Type, Title, Detail string
	Status              int
	RequestID           string `json:"request_id"`
	Errors              []audit.FieldError
}

func (r reply) problem(t testing.TB) (p problemDocument) {
	t.Helper()
	if got := r.header.Get("Content-Type"); got != "application/problem+json" {
		t.Fatalf("%d %s: got type %q, want a problem document", r.status, r.body, got)
	}
	r.decode(t, &p)
	if p.Status != r.status {
		t.Errorf("got status %d in the problem document %s, want %d", p.Status, r.body, r.status)
	}
	if want := r.header.Get("X-Request-Id"); p.RequestID != want {
		t.Errorf("got request id %q in the problem document %s, want %q", p.RequestID, r.body, want)
	}
	if p.Title == "" {
		t.Errorf("got no title in the problem document %s, want one", r.body)
	}
	if p.Detail == "" {
		t.Errorf("got no detail in the problem document %s, want one", r.body)
	}
	return p
}

func (r reply) decode(t testing.TB, to any) {
	t.Helper()
	decoder := json.NewDecoder(strings.NewReader(r.body))
	if err := decoder.Decode(to); err != nil {
		t.Fatalf("%d %s: %v", r.status, r.body, err)
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		t.Fatalf("got more after the JSON, want only one value: %s", r.body)
	}
}

// entry is the text of a valid entry; more are further members, each after a comma.
func entry(more string) string {
	return `{"user_id":"ann","action":"UPDATE","resource_type":"order"` + more + `}`
}
