package ingest_test

import (
	"context"
	"errors"
	"slices"
	"testing"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/ingest"
	"github.com/ocelot-audit/ocelot/pkg/trace"
)

// committer keeps what was committed. It fails loads with an entry of the user "bad", and panics
// at one of the user "worse".
type committer struct {
	calls   int
	entries []audit.Entry
	result  ingest.Committed
	err     error // of loads of "bad"
}

func (c *committer) Commit(_ context.Context, loads []ingest.Load) []ingest.Committed {
	c.calls++
	results := make([]ingest.Committed, len(loads))
	for i, l := range loads {
		results[i] = c.result
		for _, e := range l.Entries {
			switch e.UserID {
			case "bad":
				results[i].Err = c.err
			case "worse":
				panic("an entry that the engine cannot bear")
			}
			if e.QueueMessage.IsZero() {
				results[i].Err = errors.New("an entry does not name its message")
			}
		}
		if results[i].Err == nil {
			c.entries = append(c.entries, l.Entries...)
		}
	}
	return results
}

// committing returns a Persister whose next steps refuse everything.
func committing(c *committer, q *held) *ingest.Persister {
	unused := &queue{err: errors.New("a step of its own")}
	return &ingest.Persister{
		Committer: c, Store: &store{err: unused.err}, Index: unused, Arrivals: unused, Quarantine: q, DeadLetters: &queue{}, Now: clock,
		Tenants: directory{"acme": tenant(nil), "globex": {ID: "globex", Status: audit.TenantActive, Settings: audit.DefaultSettings()}},
	}
}

func TestPersistCommitsABatchAtOnce(t *testing.T) {
	c := &committer{}
	p := committing(c, &held{})
	var nudged []audit.TenantID
	p.Nudge = func(_ context.Context, tenants []audit.TenantID, _ map[audit.TenantID][]trace.Trace) []error {
		nudged = append(nudged, tenants...)
		return make([]error, len(tenants))
	}
	bodies := []string{messageOf(t, "acme", "u"), messageOf(t, "deleted", "u"), messageOf(t, "globex", "u"), messageOf(t, "acme", "v")}
	for i, err := range p.Persist(t.Context(), bodies) {
		if err != nil {
			t.Errorf("message %d: %v, want nil", i, err)
		}
	}
	if got, want := c.calls, 1; got != want {
		t.Errorf("%d commits, want %d", got, want)
	}
	if got, want := len(c.entries), 3; got != want {
		t.Errorf("committed %d entries, want %d", got, want)
	}
	if want := []audit.TenantID{"acme", "globex"}; !slices.Equal(nudged, want) {
		t.Errorf("told the streams of %v, want %v", nudged, want)
	}
}

func TestPersistQuarantinesWhatACommitRefuses(t *testing.T) {
	for name, test := range map[string]struct {
		result ingest.Committed
		step   string
	}{
		"the store": {ingest.Committed{Appended: ingest.Appended{Rejections: []audit.Rejection{{Index: 1}}}}, audit.StepPersist},
		"the index": {ingest.Committed{Unindexed: []audit.Rejection{{Index: 0}}}, audit.StepIndex},
	} {
		t.Run(name, func(t *testing.T) {
			quarantine := &held{}
			if err := persist(t, committing(&committer{result: test.result}, quarantine), packed(t, 2)); err != nil {
				t.Fatal(err)
			}
			if got, want := quarantine.step, test.step; got != want {
				t.Errorf("got the step %q, want %q", got, want)
			}
			if got, want := len(quarantine.reasons), 1; got != want {
				t.Errorf("%d entries in quarantine, want %d", got, want)
			}
		})
	}
}

// TestPersistCommitsOthersWithoutTheFaulty: whatever one message does, only it fails.
func TestPersistCommitsOthersWithoutTheFaulty(t *testing.T) {
	for _, user := range []string{"bad", "worse"} {
		t.Run(user, func(t *testing.T) {
			c := &committer{err: errors.New("no")}
			bodies := []string{messageOf(t, "globex", "u"), messageOf(t, "acme", "u"), messageOf(t, "acme", user), messageOf(t, "acme", "v")}
			for i, err := range committing(c, &held{}).Persist(t.Context(), bodies) {
				if got, want := err != nil, i == 2; got != want {
					t.Errorf("message %d: got the error %v, want one: %t", i, err, want)
				}
			}
			messages := map[audit.MessageID]bool{}
			for i := range c.entries {
				messages[c.entries[i].QueueMessage] = true
			}
			if got, want := len(messages), 3; got != want {
				t.Errorf("committed the entries of %d messages, want %d", got, want)
			}
		})
	}
}

func TestPersistDoesNotTryAgainWhileTheEngineIsUnavailable(t *testing.T) {
	c := &committer{err: &audit.UnavailableError{Err: errors.New("down")}}
	outcomes := committing(c, &held{}).Persist(t.Context(), []string{messageOf(t, "acme", "bad"), messageOf(t, "acme", "u")})
	for i, err := range outcomes {
		if !audit.IsUnavailable(err) {
			t.Errorf("message %d: got the error %v, want that of the engine", i, err)
		}
	}
	if got, want := c.calls, 1; got != want {
		t.Errorf("%d commits, want %d", got, want)
	}
}

// TestPersistFailsUntilTheStreamsKnow: the message comes again, or subscribers would wait.
func TestPersistFailsUntilTheStreamsKnow(t *testing.T) {
	p := committing(&committer{}, &held{})
	down := errors.New("down")
	p.Nudge = func(context.Context, []audit.TenantID, map[audit.TenantID][]trace.Trace) []error {
		return []error{down}
	}
	if err := persist(t, p, packed(t, 1)); !errors.Is(err, down) {
		t.Errorf("got error %v, want %v", err, down)
	}
}
