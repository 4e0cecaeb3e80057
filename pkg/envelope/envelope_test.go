package envelope_test

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/envelope"
)

func entry(n int, message string) audit.Entry {
	at := time.UnixMilli(1_700_000_000_000 + int64(n)).UTC()
	return audit.Entry{
		ID: audit.DeriveEntryID("acme", at, fmt.Sprint(n)), Tenant: "acme", UserID: "u", Action: "CREATE",
		ResourceType: "order", Timestamp: at, Message: message,
	}
}

// noise returns text that does not compress.
func noise(n int) string {
	b := make([]byte, (n*3+3)/4)
	_, _ = rand.Read(b)
	return base64.StdEncoding.EncodeToString(b)[:n]
}

func TestPackKeepsEveryEntryInOrder(t *testing.T) {
	for name, size := range map[string]func(i int) int{
		"small": func(int) int { return 20 }, "large": func(int) int { return 8000 },
		"one giant among small ones": func(i int) int { return map[bool]int{true: 200_000, false: 10}[i == 50] },
	} {
		t.Run(name, func(t *testing.T) {
			var want []audit.Entry
			for i := range 100 {
				want = append(want, entry(i, noise(size(i))))
			}
			bodies, err := envelope.Pack("acme", want)
			if err != nil {
				t.Fatal(err)
			}
			var got []audit.Entry
			for _, body := range bodies {
				contents, err := envelope.Unpack(body)
				if err != nil {
					t.Fatal(err)
				}
				if len(contents.Entries) > 1 && len(body) > envelope.TargetBytes {
					t.Errorf("a message of %d entries has %d bytes, want at most %d", len(contents.Entries), len(body), envelope.TargetBytes)
				}
				got = append(got, contents.Entries...)
			}
			if diff := cmp.Diff(want, got, cmpopts.EquateComparable(netip.Addr{})); diff != "" {
				t.Errorf("entries (-want +got):\n%s", diff)
			}
		})
	}
}

func TestPackOfNothingIsNothing(t *testing.T) {
	if bodies, err := envelope.Pack("acme", nil); err != nil {
		t.Error(err)
	} else if len(bodies) != 0 {
		t.Errorf("packed into %d messages, want 0", len(bodies))
	}
}

func TestABulkOfHundredIsOneMessage(t *testing.T) {
	var entries []audit.Entry
	for i := range 100 {
		entries = append(entries, entry(i, strings.Repeat("the quick brown fox ", 40)+noise(100)))
	}
	if bodies, err := envelope.Pack("acme", entries); err != nil {
		t.Error(err)
	} else if len(bodies) != 1 {
		t.Errorf("packed into %d messages, want 1", len(bodies))
	}
}

// TestLargeBulksFillTheirMessages: the number of messages is estimated, and still about as small as it can be.
func TestLargeBulksFillTheirMessages(t *testing.T) {
	for name, text := range map[string]func(i int) string{
		"alike":     func(int) string { return strings.Repeat("the quick brown fox ", 40) },
		"mixed":     func(int) string { return strings.Repeat("the quick brown fox ", 40) + noise(100) },
		"different": func(int) string { return noise(900) },
		"unlike their beginning": func(i int) string {
			if i < 200 {
				return strings.Repeat("fox ", 200)
			}
			return noise(700)
		},
	} {
		t.Run(name, func(t *testing.T) {
			var entries []audit.Entry
			for i := range 1000 {
				entries = append(entries, entry(i, text(i)))
			}
			bodies, err := envelope.Pack("acme", entries)
			if err != nil {
				t.Fatal(err)
			}
			size := 0
			for _, body := range bodies {
				if size += len(body); len(body) > envelope.TargetBytes {
					t.Errorf("a message has %d bytes, want at most %d", len(body), envelope.TargetBytes)
				}
			}
			if least := size/envelope.TargetBytes + 1; len(bodies) > 2*least {
				t.Errorf("packed %d bytes into %d messages, want about %d", size, len(bodies), least)
			}
		})
	}
}

func TestAMessageTellsItsEntries(t *testing.T) {
	for _, n := range []int{1, 7, 300} {
		p := envelope.Packer{Tenant: "acme", Random: func(b []byte) { clear(b) }, Time: time.Unix(1, 0)}
		for i := range n {
			e := entry(i, "text")
			p.Add(&e)
		}
		bodies, err := p.Messages()
		if err != nil {
			t.Fatal(err)
		}
		if got := envelope.CountOf(bodies[0]); len(bodies) != 1 || got != n {
			t.Errorf("the first of %d messages has %d entries, want %d in one", len(bodies), got, n)
		}
	}
	for _, body := range []string{"", "x", `{"count":`, `{"count":0}`, `{"count":-3}`, `{"count":99999999999999999999}`} {
		if got := envelope.CountOf(body); got != 1 {
			t.Errorf("%q has %d entries, want 1", body, got)
		}
	}
}

func TestUnpackSeparatesPoison(t *testing.T) {
	good := entry(1, "good")
	foreign := entry(2, "foreign")
	foreign.Tenant = "other"
	shifted := entry(3, "shifted")
	shifted.Timestamp = shifted.Timestamp.Add(time.Second)
	bodies, err := envelope.Pack("acme", []audit.Entry{good, foreign, shifted})
	if err != nil {
		t.Fatal(err)
	}
	contents, err := envelope.Unpack(bodies[0])
	if err != nil {
		t.Fatal(err)
	} else if len(contents.Entries) != 1 {
		t.Fatalf("got %d entries, want 1", len(contents.Entries))
	} else if contents.Entries[0].ID != good.ID {
		t.Fatalf("got ID %v, want %v", contents.Entries[0].ID, good.ID)
	} else if len(contents.Poison) != 2 {
		t.Fatalf("got %d poison lines, want 2", len(contents.Poison))
	}
	dead, err := envelope.PackPoison("acme", envelope.Poison{Line: []byte(`{"broken`), Reason: "why"})
	if err != nil {
		t.Fatal(err)
	}
	if contents, err = envelope.Unpack(dead); err != nil {
		t.Error(err)
	} else if len(contents.Poison) != 1 {
		t.Errorf("got %d poison lines, want 1", len(contents.Poison))
	} else if string(contents.Poison[0].Line) != `{"broken` {
		t.Errorf("got line %q, want %q", string(contents.Poison[0].Line), `{"broken`)
	}
}

func TestUnpackRefusesWhatIsNoMessage(t *testing.T) {
	for _, body := range []string{
		``, `[]`, `{}`, `{"v":0,"tenant":"acme","encoding":"zstd","data":""}`, `{"v":1,"tenant":"../x","encoding":"zstd","data":""}`,
		`{"v":1,"tenant":"acme","encoding":"lz4","data":""}`, `{"v":1,"tenant":"acme","encoding":"zstd","data":"%%"}`,
		`{"v":1,"tenant":"acme","encoding":"zstd","data":"AAAA"}`,
	} {
		if _, err := envelope.Unpack(body); !errors.Is(err, audit.ErrUnreadable) {
			t.Errorf("%s: got error %v, want %v", body, err, audit.ErrUnreadable)
		}
	}
	// A later release may read it.
	later := `{"v":2,"tenant":"acme","encoding":"zstd","data":""}`
	if _, err := envelope.Unpack(later); !errors.Is(err, envelope.ErrVersion) {
		t.Errorf("a later version: got error %v, want %v", err, envelope.ErrVersion)
	} else if errors.Is(err, audit.ErrUnreadable) {
		t.Errorf("a later version: got error %v, want one that is not %v", err, audit.ErrUnreadable)
	}
}

// The sizes are those around which the frame's form changes.
func TestFramesOfEverySizeAreCheckedAndRead(t *testing.T) {
	for _, size := range []int{1, 255, 256, 257, 4 << 10, 4<<10 + 1, 64 << 10} {
		line := []byte(noise(size))
		body, err := envelope.PackPoison("acme", envelope.Poison{Line: line})
		if err != nil {
			t.Fatal(err)
		}
		if contents, err := envelope.Unpack(body); err != nil {
			t.Errorf("%d bytes: %v", size, err)
		} else if got := contents.Poison[0].Line; !bytes.Equal(got, line) {
			t.Errorf("%d bytes: got %.40q, want %.40q", size, got, line)
		}
		if _, err := envelope.Unpack(withFlippedBit(t, body)); !errors.Is(err, audit.ErrUnreadable) {
			t.Errorf("%d bytes and a flipped bit: got error %v, want %v", size, err, audit.ErrUnreadable)
		}
	}
}

// withFlippedBit returns the message with one bit of its lines changed.
func withFlippedBit(t *testing.T, body string) string {
	t.Helper()
	var m map[string]any
	if err := json.Unmarshal([]byte(body), &m); err != nil {
		t.Fatal(err)
	}
	frame, err := base64.StdEncoding.DecodeString(m["data"].(string))
	if err != nil {
		t.Fatal(err)
	}
	const checksum = 4 // bytes, at the end
	frame[len(frame)-checksum-1] ^= 1
	m["data"] = base64.StdEncoding.EncodeToString(frame)
	changed, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return string(changed)
}

// TestMessagesUnpackToLittle packs entries that resemble each other so much that
// all of them would fit one message.
func TestMessagesUnpackToLittle(t *testing.T) {
	entries := make([]audit.Entry, 1000)
	at := time.Date(2026, 3, 1, 10, 20, 30, 0, time.UTC)
	for i := range entries {
		entries[i] = audit.Entry{
			ID: audit.DeriveEntryID("acme", at, strconv.Itoa(i)), Tenant: "acme", UserID: "u", Action: "A", ResourceType: "r", Timestamp: at,
			Metadata: audit.Object(`{"text":"` + strings.Repeat("abcdefgh", 2<<10) + `"}`),
		}
	}
	entries[500].Metadata = audit.Object(`{"text":"` + strings.Repeat("abcdefgh", 150<<10) + `"}`) // over the bound by itself
	messages, err := envelope.Pack("acme", entries)
	if err != nil {
		t.Fatal(err)
	}
	got := 0
	for _, body := range messages {
		contents, err := envelope.Unpack(body)
		if err != nil {
			t.Fatal(err)
		} else if len(contents.Poison) > 0 {
			t.Fatalf("got poison %v, want none", contents.Poison)
		}
		size := 0
		for _, e := range contents.Entries {
			if e.ID != entries[got].ID {
				t.Fatalf("entry %d is %s, want %s", got, e.ID, entries[got].ID)
			}
			size += len(e.Metadata)
			got++
		}
		if most := 1 << 20; size > most && len(contents.Entries) > 1 {
			t.Errorf("a message of %d bytes unpacks to %d entries with %d bytes, want at most %d", len(body), len(contents.Entries), size, most)
		}
	}
	if got != len(entries) {
		t.Errorf("got %d entries, want %d", got, len(entries))
	}
	if len(messages) > 40 {
		t.Errorf("got %d messages, want at most 40", len(messages))
	}
}

// versionOne are the entries of testdata/version-1.json, a message as the first
// release packed it. The file stays as it is: what is in a queue, or comes back
// from a dead-letter queue, must be read by every later release.
func versionOne() []audit.Entry {
	at := time.Date(2026, 3, 1, 10, 20, 30, 456_000_000, time.UTC)
	full := audit.Entry{
		ID: audit.DeriveEntryID("acme", at, "k-1"), Tenant: "acme", UserID: "ann@acme.example", SessionID: "s-1", RequestID: "r-1",
		Action: "user.login", ResourceType: "order", ResourceID: "47/11", Timestamp: at, IPAddress: netip.MustParseAddr("2001:db8::1"),
		UserAgent: "curl/8", Before: audit.Object(`{"total":1.0,"tags":[[],[null]]}`), After: audit.Object(`{"total":12345678901234567890}`),
		Metadata: audit.Object(`{"a.b":"$x","größe":"日本"}`), Severity: audit.SeverityCritical, Message: "Order 47/11 \"paid\"\n",
		IdempotencyKey: "k-1", ReceivedAt: at.Add(time.Second), Changed: []string{"tags", "total"}, Digest: audit.Digest{Sum: [32]byte{1, 2, 3}},
	}
	plain := audit.Entry{
		ID: audit.DeriveEntryID("acme", at, "k-2"), Tenant: "acme", UserID: "u", Action: "VIEW", ResourceType: "r", Timestamp: at, ReceivedAt: at,
	}
	return []audit.Entry{full, plain}
}

// A message is written by hand, and must be the JSON that others read.
func TestMessagesAreJSONWhateverTheirReasonIs(t *testing.T) {
	for _, reason := range []string{"", "why", `a "quoted" \ word`, "<a & b>\u2028", "line\n\x00", "half \xff rune", strings.Repeat("long ", 10_000)} {
		body, err := envelope.PackPoison("acme", envelope.Poison{Line: []byte(`{"broken`), Reason: reason})
		if err != nil {
			t.Errorf("reason %.20q: %v", reason, err)
			continue
		}
		var got map[string]any
		if err := json.Unmarshal([]byte(body), &got); err != nil {
			t.Errorf("reason %.20q: %v", reason, err)
			continue
		}
		delete(got, "data")
		want := map[string]any{"v": float64(envelope.Version), "tenant": "acme", "count": 1.0, "encoding": "zstd"}
		if reason != "" {
			want["reason"] = strings.ToValidUTF8(reason, "\uFFFD")
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("reason %.20q (-want +got):\n%s", reason, diff)
		}
	}
}

func TestMessagesOfTheFirstVersionAreRead(t *testing.T) {
	body, err := os.ReadFile("testdata/version-1.json")
	if err != nil {
		t.Fatal(err)
	}
	contents, err := envelope.Unpack(string(body))
	if err != nil {
		t.Fatal(err)
	} else if len(contents.Poison) > 0 {
		t.Fatalf("got %d lines of poison, want 0", len(contents.Poison))
	}
	if diff := cmp.Diff(versionOne(), contents.Entries, cmpopts.EquateComparable(netip.Addr{})); diff != "" {
		t.Errorf("entries (-want +got):\n%s", diff)
	}
}
