package ingest_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/entryjson"
	"github.com/ocelot-audit/ocelot/pkg/envelope"
	"github.com/ocelot-audit/ocelot/pkg/ingest"
	"github.com/ocelot-audit/ocelot/pkg/protect"
)

// errKeys is why keys are missing.
var errKeys = &audit.UnavailableError{Err: errors.New("the key store is down")}

// keys has one root. Without it, and for the subjects in missing, it returns errKeys.
type keys struct {
	root    *protect.TenantKeys
	err     error // of Existing; nil: the root exists
	missing []string
	asked   [][]string // the subjects of each call of Current
}

func newKeys(t *testing.T, missing ...string) *keys {
	t.Helper()
	root, err := protect.NewTenantKeys(make([]byte, protect.KeyBytes))
	if err != nil {
		t.Fatal(err)
	}
	return &keys{root: root, missing: missing}
}

func (k *keys) Tenant(context.Context, audit.TenantID) (*protect.TenantKeys, error) {
	if k.root == nil {
		return nil, errKeys
	}
	return k.root, nil
}

func (k *keys) Existing(ctx context.Context, tenant audit.TenantID) (*protect.TenantKeys, error) {
	if k.err != nil {
		return nil, k.err
	}
	return k.Tenant(ctx, tenant)
}

// Destroyed implements protect.Destruction: the first generation of each key was destroyed.
func (k *keys) Destroyed(_ context.Context, _ audit.TenantID, refs []protect.KeyRef) (map[protect.KeyRef]bool, error) {
	destroyed := map[protect.KeyRef]bool{}
	for _, ref := range refs {
		destroyed[ref] = ref.Generation == 1
	}
	return destroyed, k.err
}

// TestALateMessageBringsNoTokenBack: neither to the store nor, through it, to the index.
func TestALateMessageBringsNoTokenBack(t *testing.T) {
	at := clock()
	e := audit.Entry{ID: audit.NewEntryID(at, [10]byte{1}), Tenant: "acme", UserID: "u", Action: "A", ResourceType: "r", Timestamp: at, ReceivedAt: at}
	for generation := range uint32(2) {
		e.Encrypted = append(e.Encrypted, audit.Encrypted{
			Paths: []string{"/message"}, Key: protect.SubjectID{1}.String(), Generation: generation + 1, Data: []byte("data"), Tokens: []audit.ValueToken{{1}},
		})
	}
	bodies, err := envelope.Pack("acme", []audit.Entry{e})
	if err != nil {
		t.Fatal(err)
	}
	stored, k := &store{}, newKeys(t)
	p := &ingest.Persister{Now: clock, Store: stored, Index: &queue{}, Arrivals: &queue{}, DeadLetters: &queue{}, Tenants: directory{"acme": tenant(nil)}, Keys: k}
	if err := persist(t, p, bodies[0]); err != nil {
		t.Fatal(err)
	}
	for i, want := range []int{0, 1} {
		if got := len(stored.entries[0].Encrypted[i].Tokens); got != want {
			t.Errorf("generation %d is stored with %d tokens, want %d", i+1, got, want)
		}
	}
	if k.err = errKeys; persist(t, p, bodies[0]) == nil {
		t.Error("without the store of keys: got no error, want the message to come again")
	}
}

func (k *keys) Current(_ context.Context, _ audit.TenantID, subjects []string) (map[string]protect.Key, error) {
	k.asked = append(k.asked, subjects)
	found, err := map[string]protect.Key{}, error(nil)
	for _, s := range subjects {
		if slices.Contains(k.missing, s) {
			err = errKeys
			continue
		}
		found[s] = protect.Key{Ref: protect.KeyRef{Subject: k.root.SubjectID(s), Generation: 1}, Secret: [protect.KeyBytes]byte{1}}
	}
	return found, err
}

// ruled is a tenant that encrypts an email of the user's, and a text of nobody's.
func ruled() audit.Tenant {
	return tenant(func(s *audit.Settings) {
		s.SensitiveFields = []audit.SensitiveField{
			audit.SensitiveField{Path: "metadata.email", Subject: "user_id"}.WithDefaults(),
			audit.SensitiveField{Path: "metadata.note"}.WithDefaults(),
		}
	})
}

// keyed is an entry of a user with an identity and metadata.
func keyed(user, key, metadata string) []byte {
	return []byte(`{"user_id":"` + user + `","action":"A","resource_type":"r","timestamp":"2026-03-01T10:00:00Z","idempotency_key":"` + key + `","metadata":` + metadata + `}`)
}

func statusesOf(outcomes []ingest.Outcome) []ingest.OutcomeStatus {
	statuses := make([]ingest.OutcomeStatus, len(outcomes))
	for i, o := range outcomes {
		statuses[i] = o.Status
	}
	return statuses
}

func TestEntriesWithoutTheirKeyAreRejectedAlone(t *testing.T) {
	texts := [][]byte{
		keyed("ann", "1", `{"email":"marked1"}`), keyed("bob", "2", `{"email":"marked2"}`), keyed("bob", "3", `{"plain":1}`),
		keyed("bob", "4", `{"note":"marked3"}`), keyed("bob", "2", `{"email":"marked2"}`), keyed("bob", "2", `{"email":"other"}`),
		keyed("ann", "1", `{"email":"marked1"}`), keyed("cid", "5", `{"email":"marked4"}`),
	}
	for name, test := range map[string]struct {
		keys   *keys
		want   string // the first letters of the statuses
		queued []string
		lack   int // entries, without repetitions
	}{
		"all keys":         {newKeys(t), "aaaadrda", []string{"ann", "bob", "bob", "bob", "cid"}, 0},
		"one is missing":   {newKeys(t, "bob"), "araarrda", []string{"ann", "bob", "bob", "cid"}, 1},
		"none of subjects": {newKeys(t, "ann", "bob", "cid"), "rraarrrr", []string{"bob", "bob"}, 3},
		"no root":          {&keys{}, "rrarrrrr", []string{"bob"}, 4},
	} {
		t.Run(name, func(t *testing.T) {
			s, standard, _ := service()
			s.Keys = test.keys
			lack := 0
			s.Unencrypted = func(_ context.Context, _ audit.TenantID, entries int) { lack += entries }
			outcomes, err := s.Submit(t.Context(), ruled(), origin, texts)
			if err != nil {
				t.Fatal(err)
			}
			if lack != test.lack {
				t.Errorf("counted %d entries without a key, want %d", lack, test.lack)
			}
			got := ""
			for i, o := range outcomes {
				got += string(o.Status[:1])
				if o.Status != ingest.Rejected || i == 5 { // which is another entry of the same identity
					continue
				}
				if !errors.Is(o.Unavailable, errKeys.Err) || !audit.IsUnavailable(o.Unavailable) {
					t.Errorf("entry %d: got error %v, want %v", i, o.Unavailable, errKeys)
				}
				if o.Err != nil {
					t.Errorf("entry %d: got the fault %v, want none", i, o.Err)
				}
			}
			if got != test.want {
				t.Errorf("got statuses %s, want %s", got, test.want)
			}
			var queued []string
			for _, e := range standard.entries(t) {
				queued = append(queued, e.UserID)
			}
			if diff := cmp.Diff(test.queued, queued); diff != "" {
				t.Errorf("queued (-want +got):\n%s", diff)
			}
			for _, body := range standard.entries(t) {
				if stored := string(entryjson.AppendStored(nil, &body)); strings.Contains(stored, "marked") {
					t.Errorf("queued a plain value: %s", stored)
				}
			}
			if test.keys.root == nil {
				return
			}
			if diff := cmp.Diff([][]string{{"ann", "bob", "cid"}}, test.keys.asked); diff != "" {
				t.Errorf("asked for the keys of subjects (-want +got):\n%s", diff)
			}
		})
	}
}

func TestASingleEntryWithoutItsKeyIsUnavailable(t *testing.T) {
	s, standard, _ := service()
	s.Keys = newKeys(t, "ann")
	outcome, err := s.SubmitKeyed(t.Context(), ruled(), origin, keyed("ann", "k", `{"email":"x"}`), "k")
	if err != nil {
		t.Fatal(err)
	}
	if !errors.Is(outcome.Unavailable, errKeys.Err) {
		t.Errorf("got error %v, want %v", outcome.Unavailable, errKeys)
	}
	if got := len(standard.bodies); got != 0 {
		t.Errorf("queued %d messages, want none", got)
	}
}

// A tenant with rules whose entries have nothing to encrypt needs no key.
func TestNothingToEncryptNeedsNoKey(t *testing.T) {
	s, standard, _ := service()
	s.Keys = &keys{}
	outcomes, err := s.Submit(t.Context(), ruled(), origin, [][]byte{keyed("ann", "1", `{"plain":1}`)})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]ingest.OutcomeStatus{ingest.Accepted}, statusesOf(outcomes)); diff != "" {
		t.Errorf("statuses (-want +got):\n%s", diff)
	}
	if got, want := standard.entries(t)[0].Digest.Kind, audit.DigestPlain; got != want {
		t.Errorf("got the digest of kind %v, want %v", got, want)
	}
}

// A rule that came between an entry and its retry makes no conflict of identity, in either order.
func TestARuleBetweenAnEntryAndItsRetry(t *testing.T) {
	send := func(tenant audit.Tenant, email string) (body string, digest audit.Digest) {
		s, standard, _ := service()
		s.Keys = newKeys(t)
		if _, err := s.Submit(t.Context(), tenant, origin, [][]byte{keyed("ann", "k", `{"email":"`+email+`"}`)}); err != nil {
			t.Fatal(err)
		}
		return standard.bodies[0], standard.entries(t)[0].Digest
	}
	for name, test := range map[string]struct {
		before, after audit.Tenant
		email         string // of the retry; the first had x
		existing      error
		quarantined   int
		fails         bool
	}{
		"a new rule":         {before: tenant(nil), after: ruled(), email: "x"},
		"a rule that went":   {before: ruled(), after: tenant(nil), email: "x"},
		"other content":      {before: tenant(nil), after: ruled(), email: "y", quarantined: 1},
		"one kind":           {before: ruled(), after: ruled(), email: "y", quarantined: 1},
		"no root":            {before: tenant(nil), after: ruled(), email: "x", existing: audit.ErrNotFound, quarantined: 1},
		"a destroyed root":   {before: tenant(nil), after: ruled(), email: "x", existing: protect.ErrDestroyed, quarantined: 1},
		"no key store":       {before: tenant(nil), after: ruled(), email: "x", existing: errKeys, fails: true},
		"one kind, no store": {before: ruled(), after: ruled(), email: "y", existing: errKeys, quarantined: 1},
	} {
		_, stored := send(test.before, "x")
		body, _ := send(test.after, test.email)
		conflict := func() ingest.Appended {
			return ingest.Appended{Rejections: []audit.Rejection{{Index: 0, Code: audit.CodeIdentityConflict, StoredDigest: stored}}}
		}
		index, quarantines := &queue{}, map[string]*held{"store": {}, "committer": {}}
		persisters := map[string]*ingest.Persister{
			"store": {
				Now: clock, Store: &store{appended: conflict()}, Quarantine: quarantines["store"], Index: index, Arrivals: &queue{},
				DeadLetters: &queue{}, Tenants: directory{"acme": test.after},
			},
			"committer": committing(&committer{result: ingest.Committed{Appended: conflict()}}, quarantines["committer"]),
		}
		for kind, p := range persisters {
			t.Run(name+" "+kind, func(t *testing.T) {
				k := newKeys(t)
				k.err, p.Keys = test.existing, k
				if err := persist(t, p, body); (err != nil) != test.fails {
					t.Errorf("got error %v, want failure %t", err, test.fails)
				}
				if got := len(quarantines[kind].reasons); got != test.quarantined {
					t.Errorf("%d entries in quarantine, want %d", got, test.quarantined)
				}
				if got := len(index.bodies); got != 0 {
					t.Errorf("%d messages passed on, want none of a repetition", got)
				}
			})
		}
	}
}
