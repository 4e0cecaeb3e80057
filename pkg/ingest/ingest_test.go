package ingest_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ocelot-audit/ocelot/pkg/activity"
	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/envelope"
	"github.com/ocelot-audit/ocelot/pkg/ingest"
	"github.com/ocelot-audit/ocelot/pkg/jobs"
)

var now = time.Date(2026, 11, 23, 12, 0, 0, 123_000_000, time.UTC)

func clock() time.Time { return now }

// queue keeps what was sent; err makes it refuse.
type queue struct {
	bodies []string
	err    error
}

func (q *queue) Send(_ context.Context, _ audit.TenantID, bodies []string) error {
	if q.err != nil {
		return q.err
	}
	q.bodies = append(q.bodies, bodies...)
	return nil
}

func (q *queue) entries(t *testing.T) []audit.Entry {
	t.Helper()
	var all []audit.Entry
	for _, body := range q.bodies {
		contents, err := envelope.Unpack(body)
		if err != nil {
			t.Fatal(err)
		} else if len(contents.Poison) > 0 {
			t.Fatalf("got %d unreadable lines, want none", len(contents.Poison))
		}
		all = append(all, contents.Entries...)
	}
	return all
}

func service() (*ingest.Service, *queue, *queue) {
	standard, priority := &queue{}, &queue{}
	n := byte(0)
	return &ingest.Service{
		Standard: standard, Priority: priority, Now: func() time.Time { return now },
		Random: func(b []byte) { n++; b[0], b[len(b)-1] = n, n },
	}, standard, priority
}

func tenant(change func(*audit.Settings)) audit.Tenant {
	t := audit.Tenant{ID: "acme", Name: "Acme", Status: audit.TenantActive, Settings: audit.DefaultSettings()}
	if change != nil {
		change(&t.Settings)
	}
	return t
}

func text(members string) []byte {
	return []byte(`{"user_id":"u","action":"CREATE","resource_type":"order"` + members + `}`)
}

var origin = ingest.Origin{IPAddress: netip.MustParseAddr("192.0.2.9"), UserAgent: "agent/1"}

func TestSubmitDecidesOnEachEntryAlone(t *testing.T) {
	derived := audit.DeriveEntryID("acme", now, "k")
	failure, critical := audit.SeverityError, audit.SeverityCritical
	rules := func(s *audit.Settings) {
		s.RetentionRules = []audit.RetentionRule{{Severity: &failure}, {Action: "CREATE", Days: 10}, {Severity: &critical}}
	}
	searchable := func(s *audit.Settings) { s.SearchableDays = 30 }
	for name, test := range map[string]struct {
		members, pointer, code string
		status                 ingest.OutcomeStatus
		settings               func(*audit.Settings)
	}{
		"plain":               {status: ingest.Accepted},
		"own id":              {members: `,"id":"019ab0c4-d9fb-7000-8000-000000000001"`, status: ingest.Accepted},
		"own id, other time":  {members: `,"id":"019ab0c4-d9fb-7000-8000-000000000001","timestamp":"2026-01-01T00:00:00Z"`, status: ingest.Rejected, pointer: "/id", code: "id_mismatch"},
		"key":                 {members: `,"idempotency_key":"k","timestamp":"2026-11-23T12:00:00.123Z"`, status: ingest.Accepted},
		"key, no time":        {members: `,"idempotency_key":"k"`, status: ingest.Rejected, pointer: "/timestamp", code: "required"},
		"key and its id":      {members: `,"idempotency_key":"k","timestamp":"2026-11-23T12:00:00.123Z","id":"` + derived.String() + `"`, status: ingest.Accepted},
		"key, id, other time": {members: `,"idempotency_key":"k","timestamp":"2026-11-23T12:00:00.123Z","id":"019ab0c4-d9fb-7000-8000-000000000001"`, status: ingest.Rejected, pointer: "/id", code: "id_mismatch"},
		"23 h ahead":          {members: `,"timestamp":"2026-11-24T11:00:00Z"`, status: ingest.Accepted},
		"a day ahead":         {members: `,"timestamp":"2026-11-24T12:00:00.123Z"`, status: ingest.Accepted},
		"1 ms over a day":     {members: `,"timestamp":"2026-11-24T12:00:00.124Z"`, status: ingest.Rejected, pointer: "/timestamp", code: "in_future"},
		"before 1970":         {members: `,"timestamp":"1969-12-31T23:59:59Z"`, status: ingest.Rejected, pointer: "/timestamp", code: "too_old"},
		"at retention":        {members: `,"timestamp":"2025-11-23T12:00:00.123Z"`, status: ingest.Expired},
		"just in retention":   {members: `,"timestamp":"2025-11-23T12:00:00.124Z"`, status: ingest.Accepted},
		"kept for ever":       {members: `,"timestamp":"1970-01-01T00:00:00Z"`, status: ingest.Accepted, settings: func(s *audit.Settings) { s.RetentionDays = 0 }},
		"rule, at its end":    {members: `,"timestamp":"2026-11-13T12:00:00.123Z"`, status: ingest.Expired, settings: rules},
		"rule, before":        {members: `,"timestamp":"2026-11-13T12:00:00.124Z"`, status: ingest.Accepted, settings: rules},
		"the first rule":      {members: `,"timestamp":"1970-01-01T00:00:00Z","severity":"CRITICAL"`, status: ingest.Expired, settings: rules},
		"other severity":      {members: `,"timestamp":"2020-01-01T00:00:00Z","severity":"ERROR"`, status: ingest.Accepted, settings: rules},
		"as old as lists":     {members: `,"timestamp":"2026-10-24T12:00:00.123Z"`, status: ingest.Accepted, settings: searchable},
		"older than lists":    {members: `,"timestamp":"2026-10-24T12:00:00.122Z"`, status: ingest.Expired, settings: searchable},
		"filtered":            {members: `,"severity":"INFO"`, status: ingest.Filtered, settings: func(s *audit.Settings) { s.LogLevels = []audit.Severity{audit.SeverityError} }},
		"own tenant":          {members: `,"tenant_id":"acme"`, status: ingest.Accepted},
		"foreign tenant":      {members: `,"tenant_id":"other"`, status: ingest.Rejected, pointer: "/tenant_id", code: "tenant_mismatch"},
		"made by the service": {members: `,"received_at":5,"expires_at":"x","changed":[1],"removed":"x","submitted_by":{}`, status: ingest.Accepted},
		"message at limit":    {members: `,"message":"` + strings.Repeat("m", audit.MaxMessage) + `"`, status: ingest.Accepted},
		"message over limit":  {members: `,"message":"` + strings.Repeat("m", audit.MaxMessage+1) + `"`, status: ingest.Rejected, pointer: "/message", code: "too_long"},
		"odd action":          {members: `,"action":"x"`, status: ingest.Rejected, pointer: "/action", code: "duplicate_key"},
	} {
		t.Run(name, func(t *testing.T) {
			s, standard, _ := service()
			outcomes, err := s.Submit(t.Context(), tenant(test.settings), origin, [][]byte{text(test.members)})
			if err != nil {
				t.Fatal(err)
			}
			got := outcomes[0]
			if got.Status != test.status {
				t.Fatalf("status %s (%v), want %s", got.Status, got.Err, test.status)
			}
			if test.code != "" {
				fault := got.Err.Fields[0]
				if fault.Code != test.code {
					t.Errorf("got code %q in the fault %+v, want %q", fault.Code, fault, test.code)
				}
				if fault.Pointer != test.pointer {
					t.Errorf("got pointer %q in the fault %+v, want %q", fault.Pointer, fault, test.pointer)
				}
			}
			if stored, want := len(standard.entries(t)), test.status == ingest.Accepted; (stored == 1) != want {
				t.Errorf("%d entries on the queue, want one: %t", stored, want)
			}
		})
	}
}

func TestRequiredFieldsAndLimits(t *testing.T) {
	long := func(n int) string { return strings.Repeat("x", n) }
	limits := map[string]int{
		"user_id": audit.MaxUserID, "session_id": audit.MaxSessionID, "request_id": audit.MaxRequestID, "action": audit.MaxAction,
		"resource_type": audit.MaxResourceType, "resource_id": audit.MaxResourceID, "user_agent": audit.MaxUserAgent,
		"message": audit.MaxMessage, "idempotency_key": audit.MaxIdempotencyKey,
	}
	for field, limit := range limits {
		for length, fits := range map[int]bool{limit: true, limit + 1: false} {
			members := map[string]string{"user_id": "u", "action": "A", "resource_type": "r", "timestamp": "2026-11-23T12:00:00Z"}
			members[field] = long(length)
			var parts []string
			for name, value := range members {
				parts = append(parts, fmt.Sprintf("%q:%q", name, value))
			}
			s, _, _ := service()
			outcomes, err := s.Submit(t.Context(), tenant(nil), origin, [][]byte{[]byte("{" + strings.Join(parts, ",") + "}")})
			if err != nil {
				t.Error(err)
			} else if (outcomes[0].Status == ingest.Accepted) != fits {
				t.Errorf("%s of %d bytes: got status %s (%v), want accepted: %t", field, length, outcomes[0].Status, outcomes[0].Err, fits)
			}
		}
	}
	s, _, _ := service()
	outcomes, _ := s.Submit(t.Context(), tenant(nil), origin, [][]byte{[]byte(`{}`)})
	if got := len(outcomes[0].Err.Fields); got != 3 {
		t.Errorf("%d faults in an empty entry, want user_id, action and resource_type", got)
	}
}

func TestDefaultsAreFilledInOnlyWhereNothingWasSent(t *testing.T) {
	s, standard, _ := service()
	_, err := s.Submit(t.Context(), tenant(nil), origin, [][]byte{
		text(``), text(`,"ip_address":null,"user_agent":null`), text(`,"ip_address":"2001:db8::1","user_agent":"own"`),
	})
	if err != nil {
		t.Fatal(err)
	}
	got := standard.entries(t)
	for i, want := range []struct{ ip, agent string }{{"192.0.2.9", "agent/1"}, {"invalid IP", ""}, {"2001:db8::1", "own"}} {
		if got[i].IPAddress.String() != want.ip {
			t.Errorf("entry %d: got IP address %q, want %q", i, got[i].IPAddress.String(), want.ip)
		}
		if got[i].UserAgent != want.agent {
			t.Errorf("entry %d: got user agent %q, want %q", i, got[i].UserAgent, want.agent)
		}
	}
	if got[0].Timestamp != now {
		t.Errorf("got timestamp %v, want %v", got[0].Timestamp, now)
	}
	if got[0].ReceivedAt != now {
		t.Errorf("got received at %v, want %v", got[0].ReceivedAt, now)
	}
	if got[0].Tenant != "acme" {
		t.Errorf("got tenant %q, want %q", got[0].Tenant, "acme")
	}
}

func TestSubmittedByIsTheCredential(t *testing.T) {
	s, standard, _ := service()
	from := origin
	from.SubmittedBy = "key:7"
	if _, err := s.Submit(t.Context(), tenant(nil), from, [][]byte{text(`,"submitted_by":"service"`)}); err != nil {
		t.Fatal(err)
	}
	if err := s.Record(t.Context(), tenant(nil), audit.Entry{UserID: "ann", Action: "A", ResourceType: "r", SubmittedBy: "key:7"}); err != nil {
		t.Fatal(err)
	}
	for i, want := range []string{"key:7", audit.SubmittedByService} {
		if got := standard.entries(t)[i].SubmittedBy; got != want {
			t.Errorf("entry %d was submitted by %q, want %q", i, got, want)
		}
	}
}

func TestRetriesHaveOneIdentityWhateverTheCaller(t *testing.T) {
	s, standard, _ := service()
	body := text(`,"idempotency_key":"k","timestamp":"2026-11-01T00:00:00Z"`)
	for _, from := range []ingest.Origin{origin, {UserAgent: "another", SubmittedBy: "key:7"}} {
		if _, err := s.Submit(t.Context(), tenant(nil), from, [][]byte{body}); err != nil {
			t.Fatal(err)
		}
	}
	got := standard.entries(t)
	if got[0].ID != got[1].ID {
		t.Errorf("the retry has ID %v, want %v", got[1].ID, got[0].ID)
	}
	if got[0].Digest != got[1].Digest {
		t.Errorf("the retry has digest %v, want %v", got[1].Digest, got[0].Digest)
	}
}

func TestEntriesOfOneRequestKeepTheirOrder(t *testing.T) {
	s, q, _ := service()
	s.Random = func(b []byte) { _, _ = rand.Read(b) } // never fails, see crypto/rand
	texts := make([][]byte, audit.MaxBulkEntries)
	for i := range texts {
		texts[i] = text(fmt.Sprintf(`,"resource_id":"%d"`, i))
	}
	outcomes, err := s.Submit(t.Context(), tenant(nil), origin, texts)
	if err != nil {
		t.Fatal(err)
	}
	for i := 1; i < len(outcomes); i++ {
		if before, id := outcomes[i-1].ID, outcomes[i].ID; bytes.Compare(before[:], id[:]) >= 0 {
			t.Fatalf("entry %d: got id %s after %s, want a greater one", i, id, before)
		}
	}
	stored := q.entries(t)
	if len(stored) != len(texts) {
		t.Fatalf("queued %d entries, want %d", len(stored), len(texts))
	}
	for i := range stored {
		if stored[i].ID != outcomes[i].ID {
			t.Fatalf("queued entry %d: got id %s, want %s", i, stored[i].ID, outcomes[i].ID)
		}
	}
}

func TestTheSameIdentityTwiceInOneRequest(t *testing.T) {
	s, standard, _ := service()
	const key = `,"idempotency_key":"k","timestamp":"2026-11-01T00:00:00Z"`
	outcomes, err := s.Submit(t.Context(), tenant(nil), origin, [][]byte{text(key), text(key), text(key + `,"message":"other"`)})
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []ingest.OutcomeStatus{ingest.Accepted, ingest.Duplicate, ingest.Rejected} {
		if outcomes[i].Status != want {
			t.Errorf("entry %d is %s, want %s", i, outcomes[i].Status, want)
		}
	}
	if n := len(standard.entries(t)); n != 1 {
		t.Errorf("%d entries on the queue, want 1", n)
	}
}

// submit submits the texts in one request.
func submit(t *testing.T, texts ...string) []ingest.Outcome {
	t.Helper()
	s, _, _ := service()
	bodies := make([][]byte, len(texts))
	for i := range texts {
		bodies[i] = []byte(texts[i])
	}
	outcomes, err := s.Submit(t.Context(), tenant(nil), origin, bodies)
	if err != nil {
		t.Fatal(err)
	}
	return outcomes
}

// TestFaultsOfShapeAndValuesComeTogether: a client need not mend its entry twice.
func TestFaultsOfShapeAndValuesComeTogether(t *testing.T) {
	outcome := submit(t, `{"action":"no action","resource_type":5,"message":true,"timestamp":"soon","ip_address":"x","user_id":""}`)[0]
	var got []string
	for _, fault := range outcome.Err.Fields {
		got = append(got, fault.Pointer+" "+fault.Code)
	}
	want := []string{
		"/resource_type wrong_type", "/message wrong_type", "/timestamp invalid_timestamp", "/ip_address invalid_ip_address",
		"/user_id required", "/action invalid_action",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("faults (-want +got):\n%s", diff)
	}
	if got := submit(t, `{"action":5,`)[0].Err.Fields; len(got) != 2 { // wrong_type and invalid_json
		t.Errorf("a text that ends early: got %+v, want no fault of members that may come later", got)
	}
}

// TestAnIDOfTheClientIsTheIdentity, with and without a key.
func TestAnIDOfTheClientIsTheIdentity(t *testing.T) {
	const id, other = "019ab0c4-d9fb-7000-8000-0000000000ab", "019ab0c4-d9fb-7000-8000-0000000000ac"
	entry := func(id, key, message string) string {
		return `{"id":"` + id + `","idempotency_key":"` + key + `","user_id":"u","action":"VIEW","resource_type":"r","message":"` + message + `"}`
	}
	outcomes := submit(t, entry(id, "k", "a"), entry(id, "k", "a"), entry(other, "k", "b"), entry(id, "k2", "c"))
	for i, want := range []ingest.OutcomeStatus{ingest.Accepted, ingest.Duplicate, ingest.Accepted, ingest.Rejected} {
		if got := outcomes[i].Status; got != want {
			t.Errorf("entry %d: got %s, want %s: %v", i, got, want, outcomes[i].Err)
		}
	}
	if got := outcomes[0].ID.String(); got != id {
		t.Errorf("got the id %s, want the client's %s", got, id)
	}
}

func TestSubmitKeyed(t *testing.T) {
	const at = `,"timestamp":"2026-11-01T00:00:00Z"`
	for members, want := range map[string]ingest.OutcomeStatus{
		at: ingest.Accepted, ``: ingest.Rejected, at + `,"idempotency_key":"k"`: ingest.Accepted, at + `,"idempotency_key":"other"`: ingest.Rejected,
	} {
		s, standard, _ := service()
		outcome, err := s.SubmitKeyed(t.Context(), tenant(nil), origin, text(members), "k")
		if err != nil {
			t.Error(err)
		} else if outcome.Status != want {
			t.Errorf("%s: got status %s, want %s", members, outcome.Status, want)
		}
		if want != ingest.Accepted {
			continue
		}
		if got := standard.entries(t)[0].IdempotencyKey; got != "k" {
			t.Errorf("%s: got idempotency key %q, want %q", members, got, "k")
		}
	}
}

func TestTheTierChoosesTheQueue(t *testing.T) {
	s, standard, priority := service()
	if _, err := s.Submit(t.Context(), tenant(func(s *audit.Settings) { s.Tier = audit.TierPriority }), origin, [][]byte{text(``)}); err != nil {
		t.Fatal(err)
	}
	if len(standard.bodies) != 0 {
		t.Errorf("the standard queue got %q, want nothing", standard.bodies)
	}
	if len(priority.bodies) != 1 {
		t.Errorf("the priority queue got %d messages, want 1", len(priority.bodies))
	}
}

func TestAQueueThatRefusesIsUnavailable(t *testing.T) {
	s, standard, _ := service()
	standard.err = errors.New("down")
	_, err := s.Submit(t.Context(), tenant(nil), origin, [][]byte{text(``)})
	var unavailable *audit.UnavailableError
	if !errors.As(err, &unavailable) {
		t.Errorf("got error %v, want a %T", err, unavailable)
	}
}

func TestRecordIgnoresLogLevels(t *testing.T) {
	s, standard, _ := service()
	critical := tenant(func(s *audit.Settings) { s.LogLevels = []audit.Severity{audit.SeverityCritical} })
	err := s.Record(t.Context(), critical, audit.Entry{
		UserID: "admin", Action: "tenant.update", ResourceType: "tenant", Before: audit.Object(`{"a":1}`), After: audit.Object(`{"a":2}`),
	})
	if err != nil {
		t.Fatal(err)
	}
	switch got := standard.entries(t); {
	case len(got) != 1:
		t.Errorf("got %d items, want 1", len(got))
	case len(got[0].Changed) != 1:
		t.Errorf("got %d changed fields, want 1", len(got[0].Changed))
	case got[0].ID.IsZero():
		t.Errorf("got ID %v, want one", got[0].ID)
	}
}

// store is a system of record that rejects and fails as it is told.
type store struct {
	entries  []audit.Entry
	appended ingest.Appended
	err      error
}

func (s *store) Append(_ context.Context, _ audit.TenantID, entries []audit.Entry) (ingest.Appended, error) {
	s.entries = append(s.entries, entries...)
	return s.appended, s.err
}

type held struct {
	step    string
	reasons []audit.Rejection
}

func (h *held) Add(_ context.Context, _ audit.TenantID, step string, _ []audit.Entry, reasons []audit.Rejection) error {
	h.step, h.reasons = step, append(h.reasons, reasons...)
	return nil
}

type directory map[audit.TenantID]audit.Tenant

func (d directory) Tenant(_ context.Context, id audit.TenantID) (audit.Tenant, error) {
	t, ok := d[id]
	if !ok {
		return audit.Tenant{}, audit.ErrNotFound
	}
	return t, nil
}

func packed(t *testing.T, entries int) string {
	t.Helper()
	s, standard, _ := service()
	var texts [][]byte
	for range entries {
		texts = append(texts, text(``))
	}
	if _, err := s.Submit(t.Context(), tenant(nil), origin, texts); err != nil {
		t.Fatal(err)
	}
	return standard.bodies[0]
}

// persist hands over one message and returns its outcome.
func persist(t *testing.T, p *ingest.Persister, body string) error {
	t.Helper()
	outcomes := p.Persist(t.Context(), []string{body})
	if len(outcomes) != 1 {
		t.Fatalf("got %d outcomes, want 1", len(outcomes))
	}
	return outcomes[0]
}

func TestPersistPassesOnWhatWasStored(t *testing.T) {
	body := packed(t, 3)
	for name, test := range map[string]struct {
		appended ingest.Appended
		onward   int
	}{
		"all":      {ingest.Appended{}, 3},
		"some":     {ingest.Appended{Rejections: []audit.Rejection{{Index: 1, Code: audit.CodeIdentityConflict}}}, 2},
		"none":     {ingest.Appended{Rejections: []audit.Rejection{{Index: 0}, {Index: 1}, {Index: 2}}}, 0},
		"repeated": {ingest.Appended{Repeated: []int{0, 2}}, 1},
		"both":     {ingest.Appended{Rejections: []audit.Rejection{{Index: 0}}, Repeated: []int{1, 2}}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			index, arrivals, quarantine, conflicts := &queue{}, &queue{}, &held{}, 0
			p := ingest.Persister{
				Now: clock, Conflicts: func(_ context.Context, _ audit.TenantID, entries int) { conflicts += entries },
				Store: &store{appended: test.appended}, Quarantine: quarantine, Index: index, Arrivals: arrivals, DeadLetters: &queue{},
				Tenants: directory{"acme": tenant(nil)},
			}
			if err := persist(t, &p, body); err != nil {
				t.Fatal(err)
			}
			if want := map[string]int{"some": 1}[name]; conflicts != want {
				t.Errorf("counted %d conflicts of identity, want %d", conflicts, want)
			}
			if got := len(index.entries(t)); got != test.onward {
				t.Errorf("%d entries passed on, want %d", got, test.onward)
			}
			ids := map[audit.EntryID]bool{}
			for _, body := range arrivals.bodies {
				_, unpacked, err := envelope.UnpackArrivals(body)
				if err != nil {
					t.Fatal(err)
				}
				for _, a := range unpacked {
					for _, id := range a.IDs {
						ids[id] = true
					}
				}
			}
			if got := len(ids); got != test.onward {
				t.Errorf("%d entries arrive, want %d", got, test.onward)
			}
			if got, want := len(quarantine.reasons), len(test.appended.Rejections); got != want {
				t.Errorf("%d entries in quarantine, want %d", got, want)
			}
		})
	}
}

func TestPersistDropsEntriesOfDeletedTenants(t *testing.T) {
	for name, tenants := range map[string]directory{
		"gone": {}, "on its way": {"acme": {ID: "acme", Status: audit.TenantDeleting}},
	} {
		entries := &store{}
		p := ingest.Persister{Now: clock, Store: entries, Tenants: tenants, Index: &queue{}, Arrivals: &queue{}}
		if err := persist(t, &p, packed(t, 2)); err != nil {
			t.Error(err)
		} else if len(entries.entries) != 0 {
			t.Errorf("%s: stored %d entries, want 0", name, len(entries.entries))
		}
	}
}

func TestPersistRefusesUntilEveryStepIsDone(t *testing.T) {
	broken := errors.New("down")
	for name, p := range map[string]ingest.Persister{
		"store":    {Store: &store{err: broken}, Index: &queue{}, Arrivals: &queue{}},
		"index":    {Store: &store{}, Index: &queue{err: broken}, Arrivals: &queue{}},
		"arrivals": {Store: &store{}, Index: &queue{}, Arrivals: &queue{err: broken}},
	} {
		p.Tenants, p.Now = directory{"acme": tenant(nil)}, clock
		if err := persist(t, &p, packed(t, 1)); !errors.Is(err, broken) {
			t.Errorf("%s: got error %v, want %v", name, err, broken)
		}
	}
}

func TestPersistDeadLettersPoisonAlone(t *testing.T) {
	good := audit.Entry{ID: audit.NewEntryID(now, [10]byte{1}), Tenant: "acme", UserID: "u", Action: "A", ResourceType: "r", Timestamp: now}
	foreign := good
	foreign.Tenant = "other"
	bodies, err := envelope.Pack("acme", []audit.Entry{good, foreign})
	if err != nil {
		t.Fatal(err)
	}
	dead, index, entries := &queue{}, &queue{}, &store{}
	p := ingest.Persister{Now: clock, Store: entries, Index: index, Arrivals: &lockedQueue{}, DeadLetters: dead, Tenants: directory{"acme": tenant(nil)}}
	if err := persist(t, &p, bodies[0]); err != nil {
		t.Fatal(err)
	}
	switch {
	case len(entries.entries) != 1:
		t.Errorf("stored %d entries, want 1", len(entries.entries))
	case len(index.entries(t)) != 1:
		t.Errorf("passed %d entries on, want 1", len(index.entries(t)))
	case len(dead.bodies) != 1:
		t.Errorf("got %d dead letters, want 1", len(dead.bodies))
	case !strings.Contains(dead.bodies[0], `"reason":"`):
		t.Errorf("got body %q, want it to contain %q", dead.bodies[0], `"reason":"`)
	}
}

// tenantStore counts the writes of each tenant and refuses the entries of a user.
type tenantStore struct {
	mu     sync.Mutex
	writes map[audit.TenantID]int
	stored map[audit.TenantID]int
	err    func(tenant audit.TenantID, entries []audit.Entry) error
}

func (s *tenantStore) Append(_ context.Context, tenant audit.TenantID, entries []audit.Entry) (ingest.Appended, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.writes[tenant]++
	if err := s.err(tenant, entries); err != nil {
		return ingest.Appended{}, err
	}
	s.stored[tenant] += len(entries)
	return ingest.Appended{}, nil
}

// lockedQueue is a queue for several senders.
type lockedQueue struct {
	mu sync.Mutex
	queue
}

func (q *lockedQueue) Send(ctx context.Context, tenant audit.TenantID, bodies []string) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.queue.Send(ctx, tenant, bodies)
}

func messageOf(t *testing.T, tenant audit.TenantID, user string) string {
	t.Helper()
	bodies, err := envelope.Pack(tenant, []audit.Entry{{
		ID: audit.NewEntryID(now, [10]byte{1}), Tenant: tenant, UserID: user, Action: "A", ResourceType: "r", Timestamp: now,
	}})
	if err != nil {
		t.Fatal(err)
	}
	return bodies[0]
}

func TestPersistWritesOnceForEachTenantOfABatch(t *testing.T) {
	unavailable := &audit.UnavailableError{Err: errors.New("down")}
	broken := errors.New("broken")
	closed := &audit.UnavailableError{Err: ingest.ErrPeriodClosed}
	entries := &tenantStore{writes: map[audit.TenantID]int{}, stored: map[audit.TenantID]int{}, err: func(tenant audit.TenantID, entries []audit.Entry) error {
		if tenant == "down" {
			return unavailable
		}
		for i := range entries {
			switch entries[i].UserID {
			case "broken":
				return broken
			case "late":
				return closed
			}
		}
		return nil
	}}
	index := &lockedQueue{}
	p := ingest.Persister{
		Now:   clock,
		Store: entries, Index: index, Arrivals: &lockedQueue{}, DeadLetters: &lockedQueue{},
		Tenants: directory{"acme": {ID: "acme"}, "globex": {ID: "globex"}, "initech": {ID: "initech"}, "down": {ID: "down"}},
	}
	var bodies []string
	var want []error
	for range 50 {
		bodies, want = append(bodies, messageOf(t, "acme", "u")), append(want, nil)
	}
	for i, err := range []error{nil, broken, nil} {
		bodies, want = append(bodies, messageOf(t, "globex", []string{"u", "broken", "u"}[i])), append(want, err)
	}
	for i, err := range []error{closed, nil, closed, nil} {
		bodies, want = append(bodies, messageOf(t, "initech", []string{"late", "u", "late", "u"}[i])), append(want, err)
	}
	for range 2 {
		bodies, want = append(bodies, messageOf(t, "down", "u")), append(want, unavailable)
	}
	bodies, want = append(bodies, "unreadable"), append(want, audit.ErrUnreadable)
	outcomes := p.Persist(t.Context(), bodies)
	if len(outcomes) != len(want) {
		t.Fatalf("got %d outcomes, want %d", len(outcomes), len(want))
	}
	for i := range want {
		if !errors.Is(outcomes[i], want[i]) {
			t.Errorf("message %d: got %v, want %v", i, outcomes[i], want[i])
		}
	}
	// A broken or late message fails alone: its tenant is written together, then message by message.
	if diff := cmp.Diff(map[audit.TenantID]int{"acme": 1, "globex": 1 + 3, "initech": 1 + 4, "down": 1}, entries.writes); diff != "" {
		t.Errorf("writes (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(map[audit.TenantID]int{"acme": 50, "globex": 2, "initech": 2}, entries.stored); diff != "" {
		t.Errorf("stored entries (-want +got):\n%s", diff)
	}
	if got, want := len(index.bodies), 1+2+2; got != want {
		t.Errorf("forwarded %d messages, want %d", got, want)
	}
}

// TestPersistDropsOnlyWhatExpiredLongAgo: an entry that was accepted is stored unless its end
// is over seven days past. The clock that accepted it can have been wrong, and settings can
// change.
func TestPersistDropsOnlyWhatExpiredLongAgo(t *testing.T) {
	const day = 24 * time.Hour
	ages := []time.Duration{0, 10 * day, 11 * day, 17 * day, 17*day + time.Millisecond, 400 * day}
	var entries []audit.Entry
	for i, age := range ages {
		at := now.Add(-age)
		entries = append(entries, audit.Entry{
			ID: audit.NewEntryID(at, [10]byte{byte(i)}), Tenant: "acme", UserID: "u", Action: "A", ResourceType: "r", Timestamp: at,
		})
	}
	bodies, err := envelope.Pack("acme", entries)
	if err != nil {
		t.Fatal(err)
	}
	short := func(s *audit.Settings) { s.RetentionDays = 10 }
	for name, test := range map[string]struct {
		settings func(*audit.Settings)
		stored   int
	}{
		"ten days":        {short, 4},
		"for ever":        {func(s *audit.Settings) { s.RetentionDays = 0 }, 6},
		"a rule":          {func(s *audit.Settings) { short(s); s.RetentionRules = []audit.RetentionRule{{Action: "A", Days: 1}} }, 1},
		"searchable_days": {func(s *audit.Settings) { s.RetentionDays, s.SearchableDays = 0, 1 }, 6},
	} {
		t.Run(name, func(t *testing.T) {
			system, index, dropped := &store{}, &queue{}, 0
			p := ingest.Persister{
				Now: clock, Store: system, Index: index, Arrivals: &queue{}, Tenants: directory{"acme": tenant(test.settings)},
				Dropped: func(_ context.Context, tenant audit.TenantID, entries int) {
					if tenant != "acme" {
						t.Errorf("counted for %s, want acme", tenant)
					}
					dropped += entries
				},
			}
			if err := persist(t, &p, bodies[0]); err != nil {
				t.Fatal(err)
			}
			if got := len(system.entries); got != test.stored {
				t.Errorf("stored %d entries, want %d", got, test.stored)
			}
			if got := len(index.entries(t)); got != test.stored {
				t.Errorf("forwarded %d entries, want %d", got, test.stored)
			}
			if want := len(entries) - test.stored; dropped != want {
				t.Errorf("counted %d entries, want %d", dropped, want)
			}
		})
	}
}

// TestAWorkerADayAheadDropsNothing: what is dropped does not come back, so the shared clock decides.
func TestAWorkerADayAheadDropsNothing(t *testing.T) {
	const day = 24 * time.Hour
	at := now.Add(-17 * day)
	entry := audit.Entry{ID: audit.NewEntryID(at, [10]byte{1}), Tenant: "acme", UserID: "u", Action: "A", ResourceType: "r", Timestamp: at}
	bodies, err := envelope.Pack("acme", []audit.Entry{entry})
	if err != nil {
		t.Fatal(err)
	}
	down := errors.New("down")
	for name, test := range map[string]struct {
		shared jobs.Clock
		stored int
		want   error
	}{
		"seven days past":      {func(context.Context) (time.Time, error) { return now, nil }, 1, nil},
		"over seven days past": {func(context.Context) (time.Time, error) { return now.Add(time.Second), nil }, 0, nil},
		"no clock":             {func(context.Context) (time.Time, error) { return time.Time{}, down }, 0, down},
	} {
		system, dropped := &store{}, 0
		p := ingest.Persister{
			Now: func() time.Time { return now.Add(day) }, Clock: test.shared, Store: system, Index: &queue{}, Arrivals: &queue{},
			Tenants: directory{"acme": tenant(func(s *audit.Settings) { s.RetentionDays = 10 })},
			Dropped: func(_ context.Context, _ audit.TenantID, entries int) { dropped += entries },
		}
		if err := persist(t, &p, bodies[0]); !errors.Is(err, test.want) {
			t.Errorf("%s: got error %v, want %v", name, err, test.want)
		}
		if got := len(system.entries); got != test.stored {
			t.Errorf("%s: stored %d entries, want %d", name, got, test.stored)
		}
		if want := 1 - test.stored; test.want == nil && dropped != want {
			t.Errorf("%s: counted %d entries, want %d", name, dropped, want)
		}
	}
}

// TestPersistCountsOnlyOnce: a message that fails is delivered again, and counts then.
func TestPersistCountsOnlyOnce(t *testing.T) {
	at := now.AddDate(-3, 0, 0)
	old := audit.Entry{ID: audit.NewEntryID(at, [10]byte{1}), Tenant: "acme", UserID: "u", Action: "A", ResourceType: "r", Timestamp: at}
	young := old
	young.ID, young.Timestamp = audit.NewEntryID(now, [10]byte{1}), now
	bodies, err := envelope.Pack("acme", []audit.Entry{old, young})
	if err != nil {
		t.Fatal(err)
	}
	dropped := 0
	p := ingest.Persister{
		Now: clock, Store: &store{err: errors.New("down")}, Index: &queue{}, Arrivals: &queue{}, Tenants: directory{"acme": tenant(nil)},
		Dropped: func(_ context.Context, _ audit.TenantID, entries int) { dropped += entries },
	}
	if err := persist(t, &p, bodies[0]); err == nil {
		t.Fatal("a store that is down: got no error, want one")
	}
	p.Store = &store{}
	if err := persist(t, &p, bodies[0]); err != nil {
		t.Fatal(err)
	}
	if dropped != 1 {
		t.Errorf("counted %d entries, want 1", dropped)
	}
}

// days records the registrations.
type days struct {
	touched []string
	err     error
}

func (d *days) Touch(_ context.Context, tenant audit.TenantID, receipts []activity.Receipt, due time.Time) error {
	for _, r := range receipts {
		d.touched = append(d.touched, fmt.Sprint(tenant, r.Received.Format(" 01-02"), r.Day.Format(" 01-02"), due.Sub(now)))
	}
	return d.err
}

// TestPersistRegistersTheDaysOfEntries: before it stores them, each day once in ten minutes.
func TestPersistRegistersTheDaysOfEntries(t *testing.T) {
	register, clockNow := &days{err: errors.New("down")}, now
	clock := func() time.Time { return clockNow }
	entries := &store{}
	p := ingest.Persister{
		Now: clock, Store: entries, Tenants: directory{"acme": tenant(nil)}, Index: &queue{}, Arrivals: &queue{},
		Days: &ingest.ActiveDays{Register: register, Grace: time.Hour, Now: clock},
	}
	send := func(ages ...int) error {
		var sent []audit.Entry
		for i, age := range ages {
			at := now.AddDate(0, 0, -age)
			sent = append(sent, audit.Entry{ID: audit.DeriveEntryID("acme", at, fmt.Sprint(i)), Tenant: "acme", UserID: "u", Action: "CREATE",
				ResourceType: "x", Timestamp: at, ReceivedAt: now})
		}
		bodies, err := envelope.Pack("acme", sent)
		if err != nil {
			t.Fatal(err)
		}
		return p.Persist(t.Context(), bodies)[0]
	}
	if err := send(0); err == nil {
		t.Error("the register is down: got no error, want one")
	}
	if len(entries.entries) > 0 {
		t.Errorf("stored %d entries although their day is not registered, want 0", len(entries.entries))
	}
	register.err, register.touched = nil, nil
	for range 3 {
		if err := send(0, 1, 0); err != nil {
			t.Fatal(err)
		}
	}
	day := func(age int) string {
		return fmt.Sprint("acme", now.Format(" 01-02"), now.AddDate(0, 0, -age).Format(" 01-02"))
	}
	if want := []string{day(0) + "1h0m0s", day(1) + "1h0m0s"}; !slices.Equal(register.touched, want) {
		t.Errorf("registered %v, want %v", register.touched, want)
	}
	clockNow = clockNow.Add(10 * time.Minute)
	if err := send(1); err != nil {
		t.Fatal(err)
	}
	if got, want := len(register.touched), 3; got != want {
		t.Errorf("registered %d times after ten minutes, want %d", got, want)
	}
}

// TestNoSpaceForEntries: a full disk refuses the entries of clients. The service's own records
// are queued nevertheless, because a deletion, which makes space, is recorded first.
func TestNoSpaceForEntries(t *testing.T) {
	s, standard, _ := service()
	s.CheckSpace = func(context.Context) error { return &audit.UnavailableError{Err: audit.ErrStorageFull} }
	if _, err := s.Submit(t.Context(), tenant(nil), origin, [][]byte{text("")}); !errors.Is(err, audit.ErrStorageFull) {
		t.Errorf("submit: %v, want ErrStorageFull", err)
	}
	if _, err := s.SubmitKeyed(t.Context(), tenant(nil), origin, text(""), ""); !errors.Is(err, audit.ErrStorageFull) {
		t.Errorf("submit one: %v, want ErrStorageFull", err)
	}
	if got := len(standard.bodies); got != 0 {
		t.Errorf("%d messages were sent, want 0", got)
	}
	if err := s.Record(t.Context(), tenant(nil), audit.Entry{UserID: "u", Action: "A", ResourceType: "r"}); err != nil {
		t.Errorf("record: %v, want nil", err)
	}
	if got := len(standard.entries(t)); got != 1 {
		t.Errorf("%d entries were sent, want the record alone", got)
	}
}

// A record that queues and stores could not take is refused before anything is sent.
func TestRecordChecksTheSize(t *testing.T) {
	s, standard, _ := service()
	entry := audit.Entry{UserID: "admin", Action: "tenant.update", ResourceType: "tenant"}
	for _, c := range []struct{ size, want int }{{audit.MaxObjectBytes, 1}, {audit.MaxObjectBytes + 1, 1}} {
		const frame = len(`{"a":""}`)
		entry.Metadata = audit.Object(`{"a":"` + strings.Repeat("x", c.size-frame) + `"}`)
		err := s.Record(t.Context(), tenant(func(*audit.Settings) {}), entry)
		if invalid := (*audit.ValidationError)(nil); errors.As(err, &invalid) != (c.size > audit.MaxObjectBytes) {
			t.Errorf("%d bytes: got error %v", c.size, err)
		}
		if got := len(standard.entries(t)); got != c.want {
			t.Errorf("%d bytes: %d entries are queued, want %d", c.size, got, c.want)
		}
	}
}
