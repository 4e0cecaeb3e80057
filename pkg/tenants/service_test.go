package tenants_test

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/ocelot-audit/ocelot/pkg/access"
	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/engine/sqlite"
	"github.com/ocelot-audit/ocelot/pkg/hold"
	"github.com/ocelot-audit/ocelot/pkg/jobs"
	"github.com/ocelot-audit/ocelot/pkg/tenants"
)

var (
	epoch    = time.Date(2026, 3, 1, 12, 0, 0, 123456789, time.UTC)
	errDown  = errors.New("down")
	operator = access.Principal{Subject: "op", Grants: map[audit.TenantID][]access.Permission{access.AnyTenant: access.RoleOperator.Permissions()}}
	admin    = access.Principal{Subject: "ada", Grants: map[audit.TenantID][]access.Permission{"acme": access.RoleAdmin.Permissions()}}
)

// recorder keeps what is recorded, or refuses it.
type recorder struct {
	entries []audit.Entry
	err     error
	before  func() // called before anything else
	after   func() // called after an entry was recorded
}

func (r *recorder) Record(_ context.Context, tenant audit.Tenant, entry audit.Entry) error {
	if r.before != nil {
		r.before()
	}
	if r.err != nil {
		return r.err
	}
	if tenant.ID == "" || entry.UserID == "" || entry.ResourceType == "" || entry.ResourceID == "" {
		return errors.New("an incomplete entry")
	}
	entry.Tenant = tenant.ID
	r.entries = append(r.entries, entry)
	if r.after != nil {
		r.after()
	}
	return nil
}

// queue keeps what is sent, or refuses it.
type queue struct {
	bodies []string
	err    error
}

func (q *queue) Send(_ context.Context, _ audit.TenantID, bodies []string) error {
	if q.err == nil {
		q.bodies = append(q.bodies, bodies...)
	}
	return q.err
}

func (q *queue) SendAfter(ctx context.Context, tenant audit.TenantID, _ time.Duration, body string) error {
	return q.Send(ctx, tenant, []string{body})
}

// store is a real one whose updates a test can come between.
type store struct {
	tenants.Store
	beforeUpdate func(t audit.Tenant) error
	afterUpdate  func()
	reads        int
}

func (s *store) Tenant(ctx context.Context, id audit.TenantID) (audit.Tenant, error) {
	s.reads++
	return s.Store.Tenant(ctx, id)
}

func (s *store) Update(ctx context.Context, t audit.Tenant) error {
	if s.beforeUpdate != nil {
		if err := s.beforeUpdate(t); err != nil {
			return err
		}
	}
	err := s.Store.Update(ctx, t)
	if err == nil && s.afterUpdate != nil {
		s.afterUpdate()
	}
	return err
}

// fixture is a Service over the embedded engine.
type fixture struct {
	*tenants.Service
	db       *sqlite.DB
	store    *store
	recorder *recorder
	queue    *queue
	now      time.Time
	random   byte
}

func newFixture(t *testing.T) *fixture {
	t.Helper()
	f := &fixture{recorder: &recorder{}, queue: &queue{}, now: epoch}
	db, err := sqlite.Open(t.Context(), filepath.Join(t.TempDir(), "test.db"), sqlite.WithClock(f.clock))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	f.db, f.store = db, &store{Store: db.Tenants()}

	f.Service = &tenants.Service{
		Tenants: f.store, Keys: db.Keys(), Jobs: &jobs.Service{Store: db.Jobs(), Queues: jobs.Queues{Jobs: f.queue, Archive: f.queue}, Now: f.clock}, Recorder: f.recorder,
		Holds: db.Holds(), Now: f.clock, Log: slog.New(slog.DiscardHandler),
		Random: func(b []byte) {
			for i := range b {
				f.random++
				b[i] = f.random
			}
		},
	}
	return f
}

func (f *fixture) clock() time.Time { return f.now }

// acme creates the tenant that most tests are about.
func (f *fixture) acme(t *testing.T) audit.Tenant {
	t.Helper()
	tenant, err := f.Create(t.Context(), operator, audit.Tenant{ID: "acme", Name: "Acme", Settings: audit.DefaultSettings()})
	if err != nil {
		t.Fatal(err)
	}
	return tenant
}

func (f *fixture) stored(t *testing.T) audit.Tenant {
	t.Helper()
	tenant, err := f.db.Tenants().Tenant(t.Context(), "acme")
	if err != nil {
		t.Fatal(err)
	}
	return tenant
}

// wantStored compares the whole record of the tenant.
func (f *fixture) wantStored(t *testing.T, want audit.Tenant) {
	t.Helper()
	if diff := cmp.Diff(want, f.stored(t)); diff != "" {
		t.Errorf("stored tenant (-want +got):\n%s", diff)
	}
}

func (f *fixture) wantName(t *testing.T, want string) {
	t.Helper()
	if got := f.stored(t).Name; got != want {
		t.Errorf("stored the name %q, want %q", got, want)
	}
}

func (f *fixture) wantKeys(t *testing.T, want int) {
	t.Helper()
	keys, _, err := f.Keys.Keys(t.Context(), "acme", nil, 100)
	if err != nil {
		t.Fatal(err)
	}
	if len(keys) != want {
		t.Errorf("stored %d keys, want %d: %+v", len(keys), want, keys)
	}
}

// wantActions compares the actions of all entries that were recorded.
func (f *fixture) wantActions(t *testing.T, want ...string) {
	t.Helper()
	var got []string
	for _, e := range f.recorder.entries {
		got = append(got, e.Action)
	}
	if !slices.Equal(got, want) {
		t.Errorf("recorded the actions %q, want %q", got, want)
	}
}

func (f *fixture) recorded(t *testing.T, i int) audit.Entry {
	t.Helper()
	if n := len(f.recorder.entries); n <= i {
		t.Fatalf("recorded %d entries, want at least %d", n, i+1)
	}
	return f.recorder.entries[i]
}

// wantActor compares who did what to what, and leaves the rest of the entry.
func wantActor(t *testing.T, got, want audit.Entry) {
	t.Helper()
	got = audit.Entry{Tenant: got.Tenant, UserID: got.UserID, Action: got.Action, ResourceType: got.ResourceType, ResourceID: got.ResourceID}
	if diff := cmp.Diff(want, got, cmpopts.EquateComparable(netip.Addr{})); diff != "" {
		t.Errorf("recorded (-want +got):\n%s", diff)
	}
}

// wantUnavailable fails the test unless err says that the recorder is down.
func wantUnavailable(t *testing.T, what string, err error) {
	t.Helper()
	var unavailable *audit.UnavailableError
	if !errors.As(err, &unavailable) {
		t.Fatalf("%s: got error %v, want a %T", what, err, unavailable)
	}
	if !errors.Is(err, errDown) {
		t.Errorf("%s: got error %v, want %v", what, err, errDown)
	}
}

func pointers(err error) []string {
	var invalid *audit.ValidationError
	if !errors.As(err, &invalid) {
		return nil
	}
	var found []string
	for _, f := range invalid.Fields {
		found = append(found, f.Pointer+" "+f.Code)
	}
	return found
}

func TestCreate(t *testing.T) {
	f := newFixture(t)
	settings := audit.DefaultSettings()
	settings.SensitiveFields = nil
	created, err := f.Create(t.Context(), operator, audit.Tenant{ID: "acme", Name: "Acme", Status: "whatever", Version: 9, Settings: settings})
	if err != nil {
		t.Fatal(err)
	}
	if created.Status != audit.TenantActive {
		t.Errorf("created with the status %s, want %s", created.Status, audit.TenantActive)
	}
	if created.Version != 1 {
		t.Errorf("created with the version %d, want 1", created.Version)
	}
	if want := epoch.Truncate(time.Millisecond); !created.CreatedAt.Equal(want) {
		t.Errorf("created at %v, want %v", created.CreatedAt, want)
	}
	if created.Settings.SensitiveFields == nil {
		t.Error("created without a list of sensitive fields, want an empty one")
	}
	f.wantStored(t, created)
	if _, err := f.Create(t.Context(), operator, created); !errors.Is(err, audit.ErrConflict) {
		t.Errorf("again: %v, want ErrConflict", err)
	}
	_, err = f.Create(t.Context(), operator, audit.Tenant{ID: "*", Settings: audit.Settings{RetentionDays: -1}})
	want := []string{"/id invalid_tenant_id", "/name required", "/settings/retention_days out_of_range", "/settings/log_levels required", "/settings/tier invalid_choice", "/settings/isolation invalid_choice"}
	if got := pointers(err); !slices.Equal(got, want) {
		t.Errorf("faults %v, want %v", got, want)
	}
	f.wantActions(t)
}

func TestUpdate(t *testing.T) {
	f := newFixture(t)
	tenant := f.acme(t)
	settings := tenant.Settings
	settings.RetentionDays = 30
	f.now = f.now.Add(time.Hour)
	updated, err := f.Update(t.Context(), admin, "acme", tenants.Change{Name: "Acme & Söhne", Settings: settings}, 1)
	if err != nil {
		t.Fatal(err)
	}
	if updated.Version != 2 {
		t.Errorf("updated to the version %d, want 2", updated.Version)
	}
	want := tenant
	want.Version, want.Name, want.Settings, want.UpdatedAt = 2, "Acme & Söhne", settings, f.now.Truncate(time.Millisecond)
	f.wantStored(t, want)
	f.wantActions(t, "tenant.update")
	e := f.recorded(t, 0)
	var before, after struct {
		Name     string
		Settings audit.Settings
	}
	if err := errors.Join(json.Unmarshal(e.Before, &before), json.Unmarshal(e.After, &after)); err != nil {
		t.Fatal(err)
	}
	wantActor(t, e, audit.Entry{Tenant: "acme", UserID: "ada", Action: "tenant.update", ResourceType: "tenant", ResourceID: "acme"})
	if before.Name != "Acme" {
		t.Errorf("recorded the name %q before, want %q", before.Name, "Acme")
	}
	if got := before.Settings.RetentionDays; got != 365 {
		t.Errorf("recorded %d days of retention before, want 365", got)
	}
	if after.Name != "Acme & Söhne" {
		t.Errorf("recorded the name %q after, want %q", after.Name, "Acme & Söhne")
	}
	if got := after.Settings.RetentionDays; got != 30 {
		t.Errorf("recorded %d days of retention after, want 30", got)
	}

	for _, version := range []int64{1, 3, -1} {
		if _, err := f.Update(t.Context(), admin, "acme", tenants.Change{Name: "x", Settings: settings}, version); !errors.Is(err, audit.ErrPrecondition) {
			t.Errorf("version %d: %v, want ErrPrecondition", version, err)
		}
	}
	if overwritten, err := f.Update(t.Context(), admin, "acme", tenants.Change{Name: "y", Settings: settings}, 0); err != nil {
		t.Error(err)
	} else if overwritten.Version != 3 {
		t.Errorf("overwriting: got version %d, want 3", overwritten.Version)
	}
	_, err = f.Update(t.Context(), admin, "acme", tenants.Change{Settings: settings}, 0)
	if got, want := pointers(err), []string{"/name required"}; !slices.Equal(got, want) {
		t.Errorf("no name: got faults %v, want %v", got, want)
	}
	if _, err := f.Update(t.Context(), admin, "globex", tenants.Change{Name: "x", Settings: settings}, 0); !errors.Is(err, audit.ErrNotFound) {
		t.Errorf("unknown: %v, want ErrNotFound", err)
	}
	f.wantActions(t, "tenant.update", "tenant.update")
	if got := f.stored(t).Version; got != 3 {
		t.Errorf("stored the version %d after two changes, want 3", got)
	}
}

func TestUpdateOfTheStatusIsRecordedAndReversible(t *testing.T) {
	f := newFixture(t)
	tenant := f.acme(t)
	for i, status := range []audit.TenantStatus{audit.TenantSuspended, audit.TenantActive} {
		updated, err := f.Update(t.Context(), admin, "acme", tenants.Change{Name: tenant.Name, Settings: tenant.Settings, Status: status}, 0)
		if err != nil {
			t.Fatal(err)
		}
		if updated.Status != status {
			t.Errorf("got status %q, want %q", updated.Status, status)
		}
		var before, after struct{ Status audit.TenantStatus }
		e := f.recorded(t, i)
		if err := errors.Join(json.Unmarshal(e.Before, &before), json.Unmarshal(e.After, &after)); err != nil {
			t.Fatal(err)
		}
		if after.Status != status {
			t.Errorf("recorded the status %q after, want %q", after.Status, status)
		}
		if before.Status == status {
			t.Errorf("recorded the status %q before, want another", before.Status)
		}
	}
	kept, err := f.Update(t.Context(), admin, "acme", tenants.Change{Name: tenant.Name, Settings: tenant.Settings}, 0)
	if err != nil {
		t.Fatal(err)
	}
	if kept.Status != audit.TenantActive {
		t.Errorf("without a status: got %q, want it as it was: %q", kept.Status, audit.TenantActive)
	}
}

func TestUpdateAgainstOthers(t *testing.T) {
	f := newFixture(t)
	tenant := f.acme(t)
	interfere := func(times int) {
		f.store.beforeUpdate = func(audit.Tenant) error {
			if times--; times >= 0 {
				other := f.stored(t)
				other.Version++
				return f.db.Tenants().Update(t.Context(), other)
			}
			return nil
		}
	}
	interfere(3)
	if updated, err := f.Update(t.Context(), admin, "acme", tenants.Change{Name: "new", Settings: tenant.Settings}, 0); err != nil {
		t.Error(err)
	} else if updated.Version != 5 {
		t.Errorf("overwriting: got version %d, want 5", updated.Version)
	}
	f.wantName(t, "new")
	interfere(1)
	if _, err := f.Update(t.Context(), admin, "acme", tenants.Change{Name: "newer", Settings: tenant.Settings}, 5); !errors.Is(err, audit.ErrPrecondition) {
		t.Errorf("of a version: %v, want ErrPrecondition", err)
	}
	f.wantName(t, "new")
	interfere(1000)
	if _, err := f.Update(t.Context(), admin, "acme", tenants.Change{Name: "newest", Settings: tenant.Settings}, 0); !errors.Is(err, audit.ErrPrecondition) {
		t.Errorf("for ever: %v, want ErrPrecondition", err)
	}
	// Each is recorded once, before it is made: the last two were not.
	f.wantActions(t, "tenant.update", "tenant.update", "tenant.update")
}

// TestRetentionIsToldOfChanges: a change that nobody can be told of does not remain.
func TestRetentionIsToldOfChanges(t *testing.T) {
	f := newFixture(t)
	tenant := f.acme(t)
	told, failure := 0, error(nil)
	f.RetentionChanged = func(_ context.Context, id audit.TenantID, delay time.Duration) error {
		if id != "acme" {
			t.Errorf("told of %s, want acme", id)
		}
		if want := delay > 0; (told == 0) != want {
			t.Errorf("told with a delay of %s at the call %d, want one before the change and none after it", delay, told+1)
		}
		told++
		return failure
	}
	update := func(change func(s *audit.Settings), want int) error {
		t.Helper()
		settings := tenant.Settings
		change(&settings)
		told = 0
		_, err := f.Update(t.Context(), admin, "acme", tenants.Change{Name: "Acme", Settings: settings}, 0)
		if told != want {
			t.Errorf("told %d times, want %d", told, want)
		}
		return err
	}
	rule := func(days int) func(s *audit.Settings) {
		return func(s *audit.Settings) { s.RetentionRules = []audit.RetentionRule{{Action: "VIEW", Days: days}} }
	}
	for _, c := range []struct {
		change func(s *audit.Settings)
		told   int
	}{
		{func(s *audit.Settings) { s.RetentionDays = 7 }, 2}, {func(s *audit.Settings) { s.RetentionDays = 7 }, 0},
		{rule(3), 2}, {rule(3), 0}, {rule(4), 2},
		{func(*audit.Settings) {}, 2}, {func(s *audit.Settings) { s.SearchableDays = 3 }, 2}, {func(s *audit.Settings) { s.SearchableDays = 3 }, 0},
		{func(*audit.Settings) {}, 2}, {func(s *audit.Settings) { s.RemoveSecrets = !s.RemoveSecrets }, 0},
	} {
		if err := update(c.change, c.told); err != nil {
			t.Fatal(err)
		}
	}
	failure = errDown
	wantUnavailable(t, "update", update(rule(5), 1))
	if got := len(f.stored(t).Settings.RetentionRules); got != 0 {
		t.Errorf("got %d rules after a change that failed, want 0", got)
	}
}

// killed is the panic of a step at which a test kills the process.
type killed struct{}

// TestUpdateKilledAtEveryStep kills the first try of a change before and after each of its writes, and
// repeats it. A change that stands was recorded, and retention looks at the entries after it.
func TestUpdateKilledAtEveryStep(t *testing.T) {
	const steps = 8 // before and after: the delayed message, the record, the change, the message
	for step := range steps + 1 {
		f := newFixture(t)
		settings := f.acme(t).Settings
		settings.RetentionDays, settings.Archive = 0, true
		at := 0
		kill := func() {
			if at++; at == step+1 {
				panic(killed{})
			}
		}
		delayed := 0
		f.RetentionChanged = func(_ context.Context, _ audit.TenantID, delay time.Duration) error {
			kill()
			if delay > 0 {
				delayed++
			}
			kill()
			return nil
		}
		f.recorder.before, f.recorder.after = kill, kill
		f.store.beforeUpdate = func(audit.Tenant) error { kill(); return nil }
		f.store.afterUpdate = kill
		update := func() (finished bool) {
			defer func() {
				if r := recover(); r != nil && r != (killed{}) {
					panic(r)
				}
			}()
			if _, err := f.Update(t.Context(), admin, "acme", tenants.Change{Name: "Acme", Settings: settings}, 0); err != nil {
				t.Fatal(err)
			}
			return true
		}
		if finished, want := update(), step == steps; finished != want {
			t.Fatalf("step %d: the first try finished %t, want %t", step, finished, want)
		}
		check := func(when string) {
			t.Helper()
			if f.stored(t).Settings.RetentionDays != 0 {
				return
			}
			if delayed == 0 {
				t.Errorf("step %d, %s: the change stands, and retention does not look at the entries after it", step, when)
			}
			if !f.recordedChange(t, 365, 0) {
				t.Errorf("step %d, %s: the change stands unrecorded", step, when)
			}
		}
		check("killed")
		if step < steps && !update() {
			t.Fatalf("step %d: the second try did not finish", step)
		}
		check("tried again")
		if got := f.stored(t).Settings.RetentionDays; got != 0 {
			t.Errorf("step %d: stored %d days of retention, want 0", step, got)
		}
	}
}

// recordedChange reports whether the log has a change of the days of retention.
func (f *fixture) recordedChange(t *testing.T, from, to int) bool {
	t.Helper()
	return slices.ContainsFunc(f.recorder.entries, func(e audit.Entry) bool {
		var before, after struct{ Settings audit.Settings }
		if err := errors.Join(json.Unmarshal(e.Before, &before), json.Unmarshal(e.After, &after)); err != nil {
			t.Fatal(err)
		}
		return before.Settings.RetentionDays == from && after.Settings.RetentionDays == to
	})
}

// TestRetentionThatIsNotToldAtOnce: the change is made, because retention looks at the entries a minute later.
func TestRetentionThatIsNotToldAtOnce(t *testing.T) {
	f := newFixture(t)
	settings := f.acme(t).Settings
	settings.RetentionDays = 0
	f.RetentionChanged = func(_ context.Context, _ audit.TenantID, delay time.Duration) error {
		if delay == 0 {
			return errDown
		}
		return nil
	}
	if _, err := f.Update(t.Context(), admin, "acme", tenants.Change{Name: "Acme", Settings: settings}, 1); err != nil {
		t.Error(err)
	}
	if got := f.stored(t).Settings.RetentionDays; got != 0 {
		t.Errorf("stored %d days of retention, want 0", got)
	}
}

// TestNothingStandsUnrecorded fails every recording and looks what is left.
func TestNothingStandsUnrecorded(t *testing.T) {
	f := newFixture(t)
	tenant := f.acme(t)
	key, _, err := f.CreateKey(t.Context(), admin, tenants.Key{Tenant: "acme", Name: "k", Permissions: []string{"logs:write"}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	f.recorder.before = cancel // the caller goes away in the middle
	f.recorder.err = errDown
	settings := tenant.Settings
	settings.RetentionDays = 7
	_, err = f.Update(ctx, admin, "acme", tenants.Change{Name: "new", Settings: settings}, 0)
	wantUnavailable(t, "update", err)
	f.wantStored(t, tenant)
	_, secret, err := f.CreateKey(t.Context(), admin, tenants.Key{Tenant: "acme", Name: "k2", Permissions: []string{"logs:write"}})
	wantUnavailable(t, "create key", err)
	if secret != "" {
		t.Errorf("create key: got the secret %q, want none", secret)
	}
	f.wantKeys(t, 1)
	wantUnavailable(t, "delete key", f.DeleteKey(t.Context(), admin, "acme", key.ID))
	f.wantKeys(t, 1)
	_, err = f.Delete(t.Context(), operator, "acme", tenants.Deletion{})
	wantUnavailable(t, "delete", err)
	if got := f.stored(t).Status; got != audit.TenantActive {
		t.Errorf("delete: got the status %s, want %s", got, audit.TenantActive)
	}
	if got := len(f.queue.bodies); got != 0 {
		t.Errorf("delete: sent %d messages, want 0", got)
	}
	f.wantActions(t, "key.create")

	f.recorder.err = nil // retries start over
	if _, err := f.Update(t.Context(), admin, "acme", tenants.Change{Name: "new", Settings: tenant.Settings}, 1); err != nil {
		t.Error(err)
	}
	if err := f.DeleteKey(t.Context(), admin, "acme", key.ID); err != nil {
		t.Error(err)
	}
	f.wantKeys(t, 0)
	if _, err := f.Delete(t.Context(), operator, "acme", tenants.Deletion{}); err != nil {
		t.Error(err)
	}
	f.wantActions(t, "key.create", "tenant.update", "key.delete", "tenant.delete")
}

func TestDelete(t *testing.T) {
	f := newFixture(t)
	f.acme(t)
	job, err := f.Delete(t.Context(), operator, "acme", tenants.Deletion{})
	if err != nil {
		t.Fatal(err)
	}
	if job.Kind != jobs.KindPurgeTenant {
		t.Errorf("got a job of the kind %q, want %q", job.Kind, jobs.KindPurgeTenant)
	}
	if job.Tenant != "acme" {
		t.Errorf("got a job of %q, want %q", job.Tenant, "acme")
	}
	if job.State != jobs.StateQueued {
		t.Errorf("got a job that is %q, want %q", job.State, jobs.StateQueued)
	}
	if len(job.ID) != 32 {
		t.Errorf("got the job id %q of %d characters, want 32", job.ID, len(job.ID))
	}
	want := `{"v":1,"tenant":"acme","job":"` + job.ID + `","generation":0}`
	if !slices.Equal(f.queue.bodies, []string{want}) {
		t.Errorf("sent %v, want %s", f.queue.bodies, want)
	}
	got := f.stored(t)
	if got.Status != audit.TenantDeleting {
		t.Errorf("stored the status %s, want %s", got.Status, audit.TenantDeleting)
	}
	if got.Version != 2 {
		t.Errorf("stored the version %d, want 2", got.Version)
	}
	f.wantActions(t, "tenant.delete")
	if got := f.recorded(t, 0).UserID; got != "op" {
		t.Errorf("recorded the user %q, want %q", got, "op")
	}
	if _, err := f.Delete(t.Context(), operator, "globex", tenants.Deletion{}); !errors.Is(err, audit.ErrNotFound) {
		t.Errorf("unknown: %v, want ErrNotFound", err)
	}
}

// TestTheArchiveIsDecidedOnce: a later deletion cannot change what becomes of it.
func TestTheArchiveIsDecidedOnce(t *testing.T) {
	for _, keep := range []bool{false, true} {
		f := newFixture(t)
		f.acme(t)
		first, other := tenants.Deletion{KeepArchive: keep}, tenants.Deletion{KeepArchive: !keep}
		job, err := f.Delete(t.Context(), operator, "acme", first)
		if err != nil {
			t.Fatal(err)
		}
		if got := f.stored(t).KeepArchive; got != keep {
			t.Errorf("the record keeps the archive: %t, want %t", got, keep)
		}
		if got := strings.Contains(string(f.recorded(t, 0).Metadata), "keep_archive"); got != keep {
			t.Errorf("recorded %s, want keep_archive there: %t", f.recorded(t, 0).Metadata, keep)
		}
		if _, err := f.Delete(t.Context(), operator, "acme", other); !errors.Is(err, tenants.ErrOtherDeletion) {
			t.Errorf("another deletion: got error %v, want %v", err, tenants.ErrOtherDeletion)
		}
		again, err := f.Delete(t.Context(), operator, "acme", first)
		if err != nil {
			t.Fatal(err)
		}
		if again.ID != job.ID {
			t.Errorf("the deletion again is job %s, want %s", again.ID, job.ID)
		}
	}
}

// TestDeleteAgain: the same job, and another message only if it waits or failed. The planner
// resumes a job that stands still.
func TestAHeldTenantIsNotDeleted(t *testing.T) {
	f := newFixture(t)
	f.acme(t)
	h := hold.Hold{ID: "h", Tenant: "acme", Version: 1}
	if err := f.db.Holds().CreateHold(t.Context(), h); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Delete(t.Context(), operator, "acme", tenants.Deletion{}); !errors.Is(err, hold.ErrHeld) {
		t.Errorf("got error %v, want %v", err, hold.ErrHeld)
	}
	if got := f.stored(t).Status; got != audit.TenantActive {
		t.Errorf("the tenant is %s, want %s", got, audit.TenantActive)
	}
	f.wantActions(t)
	h.ReleasedAt, h.Version = f.clock(), 2
	if err := f.db.Holds().UpdateHold(t.Context(), h); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Delete(t.Context(), operator, "acme", tenants.Deletion{}); err != nil {
		t.Errorf("after the release: got error %v, want none", err)
	}
}

func TestDeleteAgain(t *testing.T) {
	for state, wantState := range map[jobs.State]jobs.State{
		jobs.StateQueued: jobs.StateQueued, jobs.StateRunning: jobs.StateRunning, jobs.StateSucceeded: jobs.StateSucceeded,
		jobs.StateFailed: jobs.StateQueued,
	} {
		t.Run(string(state), func(t *testing.T) {
			f := newFixture(t)
			f.acme(t)
			first, err := f.Delete(t.Context(), operator, "acme", tenants.Deletion{})
			if err != nil {
				t.Fatal(err)
			}
			changed := first
			changed.State, changed.Count, changed.Error, changed.FinishedAt = state, 7, "e", f.now
			if err := f.db.Jobs().UpdateJob(t.Context(), changed, 0); err != nil {
				t.Fatal(err)
			}
			again, err := f.Delete(t.Context(), operator, "acme", tenants.Deletion{})
			if err != nil {
				t.Fatal(err)
			}
			if again.ID != first.ID {
				t.Errorf("deleting again returns job %s, want %s", again.ID, first.ID)
			}
			if again.State != wantState {
				t.Errorf("deleting again returns a job that is %s, want %s", again.State, wantState)
			}
			if again.Count != 7 {
				t.Errorf("the job's count is %d, want 7", again.Count)
			}
			wantSent := 1
			if state == jobs.StateFailed || state == jobs.StateQueued { // the first message may have been lost
				wantSent = 2
			}
			if got := len(f.queue.bodies); got != wantSent {
				t.Errorf("%d messages were sent, want %d", got, wantSent)
			}
			stored, err := f.db.Jobs().Job(t.Context(), "acme", first.ID)
			if err != nil {
				t.Fatal(err)
			}
			if stored.State != wantState {
				t.Errorf("the stored job is %s, want %s", stored.State, wantState)
			}
			if got := len(f.recorder.entries); got != 1 {
				t.Errorf("%d deletions are recorded, want 1", got)
			}
		})
	}
}

func TestDeleteInterrupted(t *testing.T) {
	f := newFixture(t)
	f.acme(t)
	f.queue.err = errDown
	if _, err := f.Delete(t.Context(), operator, "acme", tenants.Deletion{}); !errors.Is(err, errDown) {
		t.Fatalf("%v, want the queue's error", err)
	}
	f.queue.err = nil
	if _, err := f.Delete(t.Context(), operator, "acme", tenants.Deletion{}); err != nil {
		t.Error(err)
	} else if len(f.queue.bodies) != 1 {
		t.Errorf("sent %d messages, want 1", len(f.queue.bodies))
	}
}

func TestCreateKey(t *testing.T) {
	f := newFixture(t)
	f.acme(t)
	asked := tenants.Key{
		ID: "mine", Tenant: "acme", Name: "ingest", Permissions: []string{"logs:stats", "logs:write", "logs:write"}, Resources: []string{"order", "user:42"},
		ExpiresAt: epoch.Add(time.Hour), LastUsedAt: epoch, Hash: [32]byte{1},
	}
	key, secret, err := f.CreateKey(t.Context(), admin, asked)
	if err != nil {
		t.Fatal(err)
	}
	if want := len("ocelot_") + 43; len(secret) != want {
		t.Errorf("got a secret of %d characters, want %d", len(secret), want)
	}
	if !strings.HasPrefix(secret, "ocelot_") {
		t.Errorf("got the secret %q, want it to begin with %q", secret, "ocelot_")
	}
	if want := access.HashSecret(secret); key.Hash != want {
		t.Errorf("got the hash %x, want %x", key.Hash, want)
	}
	if len(key.ID) != 16 {
		t.Errorf("got the id %q of %d characters, want 16", key.ID, len(key.ID))
	}
	if key.CreatedBy != admin.Subject {
		t.Errorf("got a key of %q, want %q", key.CreatedBy, admin.Subject)
	}
	if !key.LastUsedAt.IsZero() {
		t.Errorf("got a key last used at %v, want never", key.LastUsedAt)
	}
	if want := []string{"logs:write", "logs:stats"}; !slices.Equal(key.Permissions, want) {
		t.Errorf("got permissions %v, want %v", key.Permissions, want)
	}
	a := &access.Authenticator{Keys: tenants.KeyFinder{Store: f.Keys}, Now: f.clock}
	p, err := a.Authenticate(t.Context(), "ApiKey "+secret)
	if err != nil {
		t.Fatal(err)
	} else if p.Subject != "key:"+key.ID {
		t.Fatalf("the key opens the principal %q, want %q", p.Subject, "key:"+key.ID)
	}
	if scope, err := p.Authorize("acme", access.LogsStats); err != nil {
		t.Error(err)
	} else if len(scope.Resources) != 2 {
		t.Errorf("got %d resources in the scope, want 2: %+v", len(scope.Resources), scope)
	}
	if _, err := p.Authorize("acme", access.LogsRead); err == nil {
		t.Errorf("the key reads, want it without %s", access.LogsRead)
	}
	if keys, _, err := f.Keys.Keys(t.Context(), "acme", nil, 100); err != nil {
		t.Error(err)
	} else if len(keys) != 1 {
		t.Errorf("got %d keys, want 1: %+v", len(keys), keys)
	} else if keys[0].LastUsedAt.IsZero() {
		t.Error("got a key that was never used, want the time of its last use")
	}
	e := f.recorded(t, 0)
	want := `{"name":"ingest","permissions":["logs:write","logs:stats"],"resources":["order","user:42"],"expires_at":"2026-03-01T13:00:00.123Z"}`
	wantActor(t, e, audit.Entry{Tenant: "acme", UserID: "ada", Action: "key.create", ResourceType: "api_key", ResourceID: key.ID})
	if string(e.After) != want {
		t.Errorf("recorded %s after, want %s", e.After, want)
	}
	if err := f.DeleteKey(t.Context(), admin, "acme", key.ID); err != nil {
		t.Fatal(err)
	}
	e = f.recorded(t, 1)
	wantActor(t, e, audit.Entry{Tenant: "acme", UserID: "ada", Action: "key.delete", ResourceType: "api_key", ResourceID: key.ID})
	if string(e.Before) != want {
		t.Errorf("recorded %s before, want %s", e.Before, want)
	}
	fresh := &access.Authenticator{Keys: tenants.KeyFinder{Store: f.Keys}, Now: f.clock}
	if _, err := fresh.Authenticate(t.Context(), "ApiKey "+secret); !errors.Is(err, audit.ErrUnauthenticated) {
		t.Errorf("a revoked key: %v, want ErrUnauthenticated", err)
	}
	if err := f.DeleteKey(t.Context(), admin, "acme", key.ID); !errors.Is(err, audit.ErrNotFound) {
		t.Errorf("again: %v, want ErrNotFound", err)
	}
	f.wantActions(t, "key.create", "key.delete")
}

func TestAKeysKeyHasTheSameCreator(t *testing.T) {
	f := newFixture(t)
	f.acme(t)
	by := admin
	for range 3 {
		_, secret, err := f.CreateKey(t.Context(), by, tenants.Key{Tenant: "acme", Name: "k", Permissions: []string{"keys:manage"}})
		if err != nil {
			t.Fatal(err)
		}
		a := &access.Authenticator{Keys: tenants.KeyFinder{Store: f.Keys}, Now: f.clock}
		if by, err = a.Authenticate(t.Context(), "ApiKey "+secret); err != nil {
			t.Fatal(err)
		}
		if got := by.Person(); got != admin.Subject {
			t.Errorf("the key is of %q, want %q", got, admin.Subject)
		}
	}
}

func TestAKeyDoesNotOutliveTheKeyThatCreatesIt(t *testing.T) {
	f := newFixture(t)
	f.acme(t)
	end := epoch.Add(time.Hour).Truncate(time.Millisecond)
	authenticated := func(by access.Principal, ends time.Time) access.Principal {
		t.Helper()
		_, secret, err := f.CreateKey(t.Context(), by, tenants.Key{Tenant: "acme", Name: "parent", Permissions: []string{"keys:manage"}, ExpiresAt: ends})
		if err != nil {
			t.Fatal(err)
		}
		p, err := (&access.Authenticator{Keys: tenants.KeyFinder{Store: f.Keys}, Now: f.clock}).Authenticate(t.Context(), "ApiKey "+secret)
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	parent, endless := authenticated(admin, end), authenticated(admin, time.Time{})
	token := admin
	token.ExpiresAt = end
	for _, tt := range []struct {
		name       string
		by         access.Principal
		ends       time.Time
		want, says string
	}{
		{"without an end", parent, time.Time{}, "/expires_at required", "is required, and must be at most 2026-03-01T13:00:00.123Z"},
		{"a millisecond later", parent, end.Add(time.Millisecond), "/expires_at out_of_range", "must be at most 2026-03-01T13:00:00.123Z"},
		{"a grandchild without an end", authenticated(parent, end.Add(-time.Minute)), end, "/expires_at out_of_range", "must be at most 2026-03-01T12:59:00.123Z"},
		{"at the same time, in another zone", parent, end.In(time.FixedZone("", 3600)), "", ""},
		{"earlier", parent, end.Add(-time.Minute), "", ""},
		{"by a key without an end", endless, time.Time{}, "", ""},
		{"by a token, which always has an end", token, time.Time{}, "", ""},
	} {
		_, secret, err := f.CreateKey(t.Context(), tt.by, tenants.Key{Tenant: "acme", Name: "child", Permissions: []string{"keys:manage"}, ExpiresAt: tt.ends})
		if tt.want == "" {
			if err != nil {
				t.Errorf("%s: %v", tt.name, err)
			}
			continue
		}
		if got := pointers(err); !slices.Equal(got, []string{tt.want}) {
			t.Errorf("%s: got faults %v, want %s", tt.name, got, tt.want)
		}
		if err == nil || !strings.Contains(err.Error(), tt.says) {
			t.Errorf("%s: got error %v, want %q in it", tt.name, err, tt.says)
		}
		if secret != "" {
			t.Errorf("%s: got the secret %q, want none", tt.name, secret)
		}
	}
}

func TestCreateKeyFaults(t *testing.T) {
	f := newFixture(t)
	f.acme(t)
	good := tenants.Key{Tenant: "acme", Name: "k", Permissions: []string{"logs:write"}}
	tests := []struct {
		name  string
		spoil func(k *tenants.Key)
		want  []string
	}{
		{"nothing", func(k *tenants.Key) { *k = tenants.Key{Tenant: "acme"} }, []string{"/name required", "/permissions required"}},
		{"long name", func(k *tenants.Key) { k.Name = strings.Repeat("n", tenants.MaxKeyName+1) }, []string{"/name too_long"}},
		{"broken name", func(k *tenants.Key) { k.Name = "\xff" }, []string{"/name invalid_utf8"}},
		{"unknown permission", func(k *tenants.Key) { k.Permissions = []string{"logs:write", "logs:all"} }, []string{"/permissions/1 invalid_choice"}},
		{"role for permission", func(k *tenants.Key) { k.Permissions = []string{"admin"} }, []string{"/permissions/0 invalid_choice"}},
		{"platform permission", func(k *tenants.Key) { k.Permissions = []string{"tenants:create"} }, []string{"/permissions/0 invalid_choice"}},
		{"malformed resources", func(k *tenants.Key) { k.Resources = []string{"user:", "order", ""} }, []string{"/resources/0 invalid_resource", "/resources/2 invalid_resource"}},
		{"many resources", func(k *tenants.Key) { k.Resources = slices.Repeat([]string{"order"}, tenants.MaxKeyResources+1) }, []string{"/resources too_many"}},
		{"expired", func(k *tenants.Key) { k.ExpiresAt = epoch.Truncate(time.Millisecond) }, []string{"/expires_at in_past"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			key := good
			tt.spoil(&key)
			_, secret, err := f.CreateKey(t.Context(), operator, key)
			if got := pointers(err); !slices.Equal(got, tt.want) {
				t.Errorf("got faults %v, want %v", got, tt.want)
			}
			if secret != "" {
				t.Errorf("got the secret %q, want none", secret)
			}
		})
	}
	narrowed := admin
	narrowed.Resources = []access.Resource{{Type: "order"}}
	for _, by := range []access.Principal{{Subject: "nobody"}, {Subject: "ada", Grants: map[audit.TenantID][]access.Permission{"globex": admin.Grants["acme"]}}, narrowed} {
		if _, _, err := f.CreateKey(t.Context(), by, good); !errors.Is(err, audit.ErrForbidden) {
			t.Errorf("by %+v: %v, want ErrForbidden", by, err)
		}
	}
	unknown := good
	unknown.Tenant = "globex"
	if _, _, err := f.CreateKey(t.Context(), operator, unknown); !errors.Is(err, audit.ErrNotFound) {
		t.Errorf("unknown tenant: %v, want ErrNotFound", err)
	}
	f.wantKeys(t, 0)
}

func TestTooManyKeys(t *testing.T) {
	f := newFixture(t)
	f.acme(t)
	f.Keys = fullKeys{f.Keys}
	_, _, err := f.CreateKey(t.Context(), admin, tenants.Key{Tenant: "acme", Name: "k", Permissions: []string{"logs:write"}})
	if !errors.Is(err, audit.ErrConflict) {
		t.Errorf("%v, want ErrConflict", err)
	}
}

type fullKeys struct{ tenants.KeyStore }

func (fullKeys) Keys(_ context.Context, _ audit.TenantID, _ *tenants.KeyPosition, limit int) ([]tenants.Key, bool, error) {
	return make([]tenants.Key, min(limit, tenants.MaxKeys)), limit < tenants.MaxKeys, nil
}

// TestKeyFinderFailsClosed: what is stored must not open more than was meant.
func TestKeyFinderFailsClosed(t *testing.T) {
	f := newFixture(t)
	f.acme(t)
	for i, resources := range [][]string{{"order", "user:"}, {""}} {
		key := tenants.Key{ID: strings.Repeat("0", 15) + string(rune('0'+i)), Tenant: "acme", Hash: [32]byte{byte(i)}, Permissions: []string{"logs:read"}, Resources: resources}
		if err := f.Keys.CreateKey(t.Context(), key); err != nil {
			t.Fatal(err)
		}
		if got, err := (tenants.KeyFinder{Store: f.Keys}).KeyByHash(t.Context(), key.Hash); err == nil {
			t.Errorf("a key with the resources %q: got %+v, want an error", resources, got)
		}
	}
}
