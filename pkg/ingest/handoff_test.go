package ingest_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/entryjson"
	"github.com/ocelot-audit/ocelot/pkg/envelope"
	"github.com/ocelot-audit/ocelot/pkg/ingest"
)

// handedTexts are entries whose text differs in form from what is stored of them.
func handedTexts(t *testing.T) [][]byte {
	t.Helper()
	texts := [][]byte{
		text(""),
		text(`,"metadata":{ "a" : [ 1.50 , 1e400, {"b" :null} ], "é\u0301\ud800":"\ud83d\ude00 \u0000 \/" , "" : {} }`),
		text(`,"metadata":{},"before_state":{ },"after_state":{"x": 1}`),
		text(`,"before_state":{"a": {"b": [1, 2]}, "c": 1.0},"after_state":{"a": {"b": [1, 3]}, "c": 1}`),
		text(`,"message":"line\u000a \"quoted\" \u00e9 e\u0301 \ud800","user_agent":null,"ip_address":null`),
		text(`,"ip_address":"::ffff:192.0.2.1","severity":"CRITICAL","session_id":"s","request_id":"r","resource_id":"1"`),
		text(`,"timestamp":"2026-11-01T12:00:00.123456789+05:30","idempotency_key":"k"`),
		text(`,"metadata":{"password":"hunter2","email":"ada@example.com","note":"see below","deep":{"token":["x",5,true]}}`),
		text(`,"metadata":{"email":["a@b.example","c@d.example"],"note":{"any":"thing"}}`),
		text(`,"encrypted":[1],"digest":"x","changed":["/a"],"removed":["/b"],"received_at":"never"`),
	}
	random := rand.New(rand.NewPCG(1, 2))
	for i := range 300 { // several messages: what is random cannot be compressed
		noise := make([]byte, 400)
		for j := range noise {
			noise[j] = 'a' + byte(random.IntN(26))
		}
		texts = append(texts, text(fmt.Sprintf(`,"resource_id":"%d","message":%q`, i, noise)))
	}
	files, err := filepath.Glob(filepath.Join("..", "..", "..", "shared", "cases", "*.ndjson"))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files { // none in a clone alone
		content, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for line := range bytes.Lines(content) {
			if line = bytes.TrimSpace(line); json.Valid(line) {
				texts = append(texts, line)
			}
		}
	}
	return texts
}

// TestHandoffGivesWhatTheMessagesHave: an entry must not depend on whether its process was restarted
// before it was stored.
func TestHandoffGivesWhatTheMessagesHave(t *testing.T) {
	for name, owner := range map[string]audit.Tenant{"plain": tenant(nil), "with encrypted values": ruled()} {
		t.Run(name, func(t *testing.T) {
			s, standard, _ := service()
			s.Keys, s.Handoff = newKeys(t), envelope.NewHandoff(8<<20, clock)
			texts := handedTexts(t)
			outcomes, err := s.Submit(t.Context(), owner, origin, texts)
			if err != nil {
				t.Fatal(err)
			}
			accepted := 0
			for _, o := range outcomes {
				if o.Status == ingest.Accepted {
					accepted++
				}
			}
			if accepted < 300 || len(standard.bodies) < 2 {
				t.Fatalf("got %d entries in %d messages, want at least 300 in 2", accepted, len(standard.bodies))
			}
			if _, err := s.SubmitKeyed(t.Context(), owner, origin, text(""), ""); err != nil {
				t.Fatal(err)
			}
			if err := s.Record(t.Context(), owner, audit.Entry{UserID: "u", Action: "TEST", ResourceType: "test", After: audit.Object(`{"a":1}`)}); err != nil {
				t.Fatal(err)
			}
			if n := s.Handoff.Len(); n != len(standard.bodies) {
				t.Errorf("%d of %d messages are kept, want all", n, len(standard.bodies))
			}
			collect := func(each func([]string, func(envelope.Batch, []error)) []error) (batches []envelope.Batch) {
				each(standard.bodies, func(b envelope.Batch, _ []error) { batches = append(batches, b) })
				return batches
			}
			want := collect(envelope.EachBatch)
			for _, times := range []string{"handed on", "forgotten since"} {
				got := collect(s.Handoff.EachBatch)
				if diff := cmp.Diff(want, got, cmpopts.EquateEmpty(), cmpopts.EquateComparable(netip.Addr{})); diff != "" {
					t.Errorf("%s (-read +got):\n%s", times, diff)
				}
				for i, m := range got[0] {
					for j := range m.Contents.Entries {
						read, handed := entryjson.AppendStored(nil, &want[0][i].Contents.Entries[j]), entryjson.AppendStored(nil, &m.Contents.Entries[j])
						if !bytes.Equal(read, handed) {
							t.Errorf("%s: got %s, want %s", times, handed, read)
						}
					}
				}
			}
		})
	}
}

// TestHandoffIsBounded: messages that another process receives do not stay for ever.
func TestHandoffIsBounded(t *testing.T) {
	at := now
	h := envelope.NewHandoff(100<<10, func() time.Time { return at })
	s, standard, _ := service()
	s.Handoff = h
	var bodies []string
	send := func() {
		t.Helper()
		standard.bodies = nil
		if _, err := s.Submit(t.Context(), tenant(nil), origin, [][]byte{text(`,"message":"` + strings.Repeat("m", 2048) + `"`)}); err != nil {
			t.Fatal(err)
		}
		bodies = append(bodies, standard.bodies...)
	}
	for range 100 {
		send()
	}
	if n := h.Len(); n < 30 || n > 50 {
		t.Errorf("%d messages are kept, want as many as 100 KiB hold", n)
	}
	at = at.Add(time.Minute) // nobody received them
	send()
	if n := h.Len(); n != 1 {
		t.Errorf("%d messages are kept a minute later, want 1", n)
	}
	handled := 0
	h.EachBatch(bodies, func(b envelope.Batch, _ []error) { handled += len(b) })
	if handled != len(bodies) || h.Len() != 0 {
		t.Errorf("%d of %d messages were handled and %d are kept, want all and none", handled, len(bodies), h.Len())
	}
}
