package mongostore_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.mongodb.org/mongo-driver/v2/bson"
	"pgregory.net/rapid"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/engine/mongostore"
	"github.com/ocelot-audit/ocelot/pkg/entryjson"
)

var march = time.Date(2026, 3, 29, 0, 59, 59, 123e6, time.UTC)

func newEntry(tenant audit.TenantID, at time.Time, n uint32) audit.Entry {
	return audit.Entry{
		ID: audit.NewEntryID(at, [10]byte{0, 0, 0, 0, 0, 0, byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)}), Tenant: tenant,
		UserID: fmt.Sprintf("user-%d", n%7), Action: "UPDATE", ResourceType: "order", ResourceID: fmt.Sprint(n % 11),
		Timestamp: at, ReceivedAt: at.Add(time.Second), Severity: audit.Severity(n % 4), Digest: audit.Digest{Sum: [32]byte{1, byte(n), byte(n >> 8)}},
	}
}

// wantBack fails the test unless the entry's document says all of its text.
func wantBack(t interface {
	Helper()
	Fatalf(string, ...any)
}, e audit.Entry) bson.Raw {
	t.Helper()
	doc, err := mongostore.EntryDocument(&e)
	if err != nil {
		t.Fatalf("make the document: %v", err)
	}
	if err := doc.Validate(); err != nil {
		t.Fatalf("the document is no BSON: %v", err)
	}
	back, err := mongostore.ReadEntry(doc)
	if err != nil {
		t.Fatalf("read the document: %v", err)
	}
	if got, want := entryjson.AppendStored(nil, &back), entryjson.AppendStored(nil, &e); !bytes.Equal(got, want) {
		t.Fatalf("comes back otherwise:\n got %s\nwant %s", got, want)
	}
	return doc
}

func TestDocumentHoldsFieldsUnderTheirOwnNames(t *testing.T) {
	e := newEntry("acme", march, 1)
	e.SessionID, e.RequestID, e.UserAgent, e.Message, e.IdempotencyKey = "s", "r", "agent", "text", "key"
	e.IPAddress, e.SubmittedBy, e.Changed = netip.MustParseAddr("::ffff:10.0.0.1"), "key:7", []string{"a.b", "c"}
	e.Before, e.After = audit.Object(`{"state":"new","lines":[{"n":1},[2,[3]]]}`), audit.Object(`{}`)
	e.Metadata = audit.Object(`{"count":9007199254740993,"rate":0.25,"ok":true,"none":null,"tags":["x","é"]}`)
	var got bson.M
	if err := bson.Unmarshal(wantBack(t, e), &got); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]any{
		"id": e.ID.String(), "tenant_id": "acme", "user_id": "user-1", "session_id": "s", "request_id": "r",
		"action": "UPDATE", "resource_type": "order", "resource_id": "1", "timestamp": bson.NewDateTimeFromTime(march), "ip_address": "::ffff:10.0.0.1",
		"user_agent": "agent", "severity": "WARNING", "message": "text", "idempotency_key": "key",
		"received_at": bson.NewDateTimeFromTime(e.ReceivedAt), "submitted_by": "key:7",
	} {
		if got[name] != want {
			t.Errorf("%s is %v (%T), want %v", name, got[name], got[name], want)
		}
	}
	sum := sha256.Sum256([]byte("acme"))
	if diff := cmp.Diff(bson.Binary{Data: slices.Concat(sum[:16], e.ID[:])}, got["_id"]); diff != "" {
		t.Errorf("_id (-want +got):\n%s", diff)
	}
	metadata := map[string]any{}
	for _, element := range got["metadata"].(bson.D) {
		metadata[element.Key] = element.Value
	}
	if metadata["count"] != int64(9007199254740993) {
		t.Errorf("metadata: got count %v, want %d", metadata["count"], int64(9007199254740993))
	}
	if metadata["rate"] != 0.25 {
		t.Errorf("metadata: got rate %v, want %v", metadata["rate"], 0.25)
	}
	if metadata["ok"] != true {
		t.Errorf("metadata: got ok %v, want true", metadata["ok"])
	}
	if metadata["none"] != nil {
		t.Errorf("metadata: got none %v, want <nil>", metadata["none"])
	}
	if _, doubled := got["exact"]; doubled {
		t.Errorf("got the text %v beside objects that BSON holds exactly, want none", got["exact"])
	}
	minimal := newEntry("acme", march, 1)
	wantBack(t, minimal)
}

// TestExactness: either BSON alone gives the text back, or the text stands beside it.
func TestExactness(t *testing.T) {
	deep := func(levels int, leaf string) string {
		return strings.Repeat(`{"a":`, levels-1) + leaf + strings.Repeat("}", levels-1)
	}
	for _, test := range []struct {
		text  string
		exact bool
	}{
		{`{}`, true},
		{`{"a":0,"b":-1,"c":2147483648,"d":9223372036854775807,"e":-9223372036854775808}`, true},
		{`{"a":1.5,"b":-0.1,"c":0.000001,"d":100000000000000000000}`, true},
		{`{"b":1,"a":2,"A":3}`, true},
		{`{"a":"é\n\"\\","\"":[]}`, true},
		{`{"a":"\u0000"}`, true},
		{`{"a":[{},[],[[]],null,true,false,""]}`, true},
		{deep(audit.MaxDepth-1, `{}`), true},
		{`{"a":1.0}`, false}, {`{"a":-0}`, false}, {`{"a":1e2}`, false}, {`{"a":1E400}`, false}, {`{"a":-1E400}`, false}, {`{"a":1e-400}`, false},
		{`{"a":12345678901234567890}`, false}, {`{"a":0.10000000000000000001}`, false}, {`{"a":1e21}`, false}, {`{"a":9223372036854775808}`, false},
		{`{"":1}`, false}, {`{"a.b":1}`, false}, {`{"$set":1}`, false}, {`{"\u0000":1}`, false}, {`{"a":{"b.c":{"$d":1}}}`, false}, {`{"a":[{"x.y":1}]}`, false},
		{`{"a":"\u00e9"}`, false}, {`{"a":"\/"}`, false}, {`{"\u0061":1}`, false}, {`{ "a":1}`, false},
		{deep(500, `1`), false},
		{`{"a":1,"a":2}`, false}, {`not JSON`, false}, {`[]`, false}, {`{"a":`, false}, {`{"a":1}x`, false},
	} {
		if _, exact := mongostore.Convert(audit.Object(test.text)); exact != test.exact {
			t.Errorf("%.60s: exact is %v, want %v", test.text, exact, test.exact)
		}
		e := newEntry("acme", march, 1)
		e.Before, e.After, e.Metadata = audit.Object(`{"a":1}`), audit.Object(test.text), audit.Object(test.text)
		doc := wantBack(t, e)
		text, kept := doc.Lookup("exact", "metadata").StringValueOK()
		if kept == test.exact {
			t.Errorf("%.60s: kept is %v, want %v", test.text, kept, !test.exact)
		}
		if kept && text != test.text {
			t.Errorf("got the kept text %.60q, want %.60q", text, test.text)
		}
		if _, kept := doc.Lookup("exact", "before_state").StringValueOK(); kept {
			t.Errorf("%.60s: the text of an exact neighbour is kept as well, want none", test.text)
		}
	}
}

// TestEverySpellingComesBack makes objects of every shape and spells each value in several ways.
func TestEverySpellingComesBack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		e := newEntry("acme", march, 1)
		e.Before, e.After, e.Metadata = drawObject(t, "before", 4), drawObject(t, "after", 4), drawObject(t, "metadata", 6)
		e.Message, e.UserID = rapid.String().Draw(t, "message"), rapid.StringN(1, 20, -1).Draw(t, "user")
		e.Changed = rapid.SliceOf(rapid.String()).Draw(t, "changed")
		e.Removed = rapid.SliceOf(rapid.String()).Draw(t, "removed")
		wantBack(t, e)
	})
}

func drawObject(t *rapid.T, name string, depth int) audit.Object {
	return audit.Object(drawMembers(t, name, depth))
}

func drawMembers(t *rapid.T, name string, depth int) string {
	keys := rapid.SliceOfNDistinct(rapid.OneOf(
		rapid.SampledFrom([]string{"a", "b", "_id", "", "$a", "a.b", "\x00", "é", "length"}), rapid.String(),
	), 0, 4, rapid.ID).Draw(t, name+" keys")
	members := make([]string, len(keys))
	for i, key := range keys {
		quoted, _ := json.Marshal(key) // a string
		members[i] = string(quoted) + ":" + drawValue(t, name, depth-1)
	}
	return "{" + strings.Join(members, ",") + "}"
}

func drawValue(t *rapid.T, name string, depth int) string {
	kinds := 4
	if depth > 0 {
		kinds = 6
	}
	switch rapid.IntRange(0, kinds-1).Draw(t, name+" kind") {
	case 0:
		return rapid.StringMatching(`-?(0|[1-9][0-9]{0,24})(\.[0-9]{1,20})?([eE][-+]?[0-9]{1,3})?`).Draw(t, name+" number")
	case 1:
		return fmt.Sprint(rapid.Int64().Draw(t, name+" integer"))
	case 2:
		quoted, _ := json.Marshal(rapid.String().Draw(t, name+" text")) // escapes < and >, which others do not
		return string(quoted)
	case 3:
		return rapid.SampledFrom([]string{"null", "true", "false", `"\u00e9"`, `"\/"`, `""`}).Draw(t, name+" word")
	case 4:
		return drawMembers(t, name, depth)
	}
	elements := make([]string, rapid.IntRange(0, 3).Draw(t, name+" length"))
	for i := range elements {
		elements[i] = drawValue(t, name, depth-1)
	}
	return "[" + strings.Join(elements, ",") + "]"
}

func TestDocumentsOfOthersAreErrorsWithoutContent(t *testing.T) {
	good, err := mongostore.EntryDocument(&audit.Entry{ID: audit.NewEntryID(march, [10]byte{}), Timestamp: march, UserID: "someone"})
	if err != nil {
		t.Fatal(err)
	}
	for name, bad := range map[string]any{
		"id": "secret", "timestamp": "secret", "severity": "secret", "ip_address": "secret", "changed": bson.A{1}, "digest": "secret", "metadata": "secret",
		"before_state": bson.D{{Key: "secret", Value: bson.NewObjectID()}},
	} {
		var doc bson.M
		if err := bson.Unmarshal(good, &doc); err != nil {
			t.Fatal(err)
		}
		doc[name] = bad
		raw, err := bson.Marshal(doc)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := mongostore.ReadEntry(raw); err == nil || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: error = %v, want one without the value", name, err)
		}
	}
}
