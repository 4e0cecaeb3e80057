package ingest_test

import (
	"bytes"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/entryjson"
	"github.com/ocelot-audit/ocelot/pkg/ingest"
)

func TestSecretsDoNotReachTheQueue(t *testing.T) {
	s, standard, _ := service()
	detecting := tenant(func(s *audit.Settings) { s.Detect = []audit.Detector{audit.DetectAWSKey} })
	from := ingest.Origin{UserAgent: "cli AKIAIOSFODNN7EXAMPLE"}
	outcomes, err := s.Submit(t.Context(), detecting, from, [][]byte{
		text(`,"before_state":{"password":"marked1","n":1},"after_state":{"password":"marked2","n":1},"metadata":{"token":"marked"}`),
	})
	if err != nil {
		t.Fatal(err)
	}
	if outcomes[0].Status != ingest.Accepted {
		t.Fatalf("got %s %v, want %s", outcomes[0].Status, outcomes[0].Err, ingest.Accepted)
	}
	if err := s.Record(t.Context(), detecting, audit.Entry{UserID: "ann", Action: "A", ResourceType: "r", Metadata: audit.Object(`{"secret":"marked"}`)}); err != nil {
		t.Fatal(err)
	}
	got := standard.entries(t)
	for i := range got {
		if stored := entryjson.AppendStored(nil, &got[i]); bytes.Contains(stored, []byte("marked")) {
			t.Errorf("entry %d has a secret: %s", i, stored)
		}
	}
	if want := []string{"password"}; !slices.Equal(got[0].Changed, want) {
		t.Errorf("changed %q, want %q, which differed as it was sent", got[0].Changed, want)
	}
	if diff := cmp.Diff([]string{"/before_state/password", "/after_state/password", "/metadata/token", "/user_agent"}, got[0].Removed); diff != "" {
		t.Errorf("removed (-want +got):\n%s", diff)
	}
	if want := "cli [removed]"; got[0].UserAgent != want {
		t.Errorf("got the agent %q, want %q", got[0].UserAgent, want)
	}
	if diff := cmp.Diff([]string{"/metadata/secret"}, got[1].Removed); diff != "" {
		t.Errorf("removed from the service's own entry (-want +got):\n%s", diff)
	}
}

// TestTheDigestIsOfWhatIsLeft: a retry is the same entry, and nobody can test a guess of a secret.
func TestTheDigestIsOfWhatIsLeft(t *testing.T) {
	digest := func(settings func(*audit.Settings), password string) audit.Digest {
		s, standard, _ := service()
		if _, err := s.Submit(t.Context(), tenant(settings), origin, [][]byte{
			text(`,"timestamp":"2026-11-01T00:00:00Z","idempotency_key":"k","metadata":{"password":` + password + `}`),
		}); err != nil {
			t.Fatal(err)
		}
		return standard.entries(t)[0].Digest
	}
	kept := func(s *audit.Settings) { s.RemoveSecrets = false }
	want := digest(nil, `"one"`)
	for _, password := range []string{`"one"`, `"two"`, `3`, `"[removed]"`} {
		if got := digest(nil, password); got != want {
			t.Errorf("%s: got another digest, want that of what is left", password)
		}
	}
	if digest(kept, `"one"`) == digest(kept, `"two"`) {
		t.Error("without removal, two values have one digest, want two")
	}
}

func TestAnEntryOfVeryManySecretsIsRefused(t *testing.T) {
	s, standard, _ := service()
	many := text(`,"metadata":{"token":[1` + strings.Repeat(",1", 100_000) + `]}`)
	outcomes, err := s.Submit(t.Context(), tenant(nil), origin, [][]byte{many, text("")})
	if err != nil {
		t.Fatal(err)
	}
	if outcomes[0].Status != ingest.Rejected {
		t.Fatalf("got %s, want %s", outcomes[0].Status, ingest.Rejected)
	}
	if got, want := outcomes[0].Err.Fields[0].Code, "too_large"; got != want {
		t.Errorf("got the code %s, want %s", got, want)
	}
	if got := len(standard.entries(t)); got != 1 {
		t.Errorf("queued %d entries, want 1", got)
	}
}
