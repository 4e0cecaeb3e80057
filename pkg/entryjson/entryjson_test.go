package entryjson_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/entryjson"
)

func minimal(member string) string {
	return `{"user_id":"u","action":"CREATE","resource_type":"order",` + member + `}`
}

func TestParseSubmittedNamesTheFault(t *testing.T) {
	deep := func(levels int) string { return strings.Repeat(`{"a":`, levels) + "1" + strings.Repeat("}", levels) }
	for name, test := range map[string]struct{ text, pointer, code string }{
		"not an object":        {`[1]`, "", "invalid_json"},
		"empty":                {``, "", "invalid_json"},
		"cut off":              {`{"user_id":"u"`, "", "invalid_json"},
		"something after":      {minimal(`"message":"m"`) + `{}`, "", "invalid_json"},
		"unknown field":        {minimal(`"color":"red"`), "/color", "unknown_field"},
		"unknown odd field":    {minimal(`"a/b~c":1`), "/a~1b~0c", "unknown_field"},
		"wrong type":           {minimal(`"message":5`), "/message", "wrong_type"},
		"array for object":     {minimal(`"metadata":[]`), "/metadata", "wrong_type"},
		"bad id":               {minimal(`"id":"7"`), "/id", "invalid_id"},
		"UUIDv4":               {minimal(`"id":"9b2d3f60-1111-4222-8333-123456789abc"`), "/id", "invalid_id"},
		"hour of one digit":    {minimal(`"timestamp":"2026-01-31T9:30:00Z"`), "/timestamp", "invalid_timestamp"},
		"offset of a day":      {minimal(`"timestamp":"2026-01-31T09:30:00+24:00"`), "/timestamp", "invalid_timestamp"},
		"bad time":             {minimal(`"timestamp":"yesterday"`), "/timestamp", "invalid_timestamp"},
		"bad address":          {minimal(`"ip_address":"300.1.1.1"`), "/ip_address", "invalid_ip_address"},
		"address with zone":    {minimal(`"ip_address":"fe80::1%eth0"`), "/ip_address", "invalid_ip_address"},
		"bad severity":         {minimal(`"severity":"info"`), "/severity", "invalid_severity"},
		"duplicate field":      {minimal(`"user_id":"v"`), "/user_id", "duplicate_key"},
		"duplicate nested key": {minimal(`"metadata":{"a":{"b":1,"b":2}}`), "/metadata/a/b", "duplicate_key"},
		"same key escaped":     {minimal(`"metadata":{"a":1,"\u0061":2}`), "/metadata/a", "duplicate_key"},
		"lone surrogate":       {minimal(`"metadata":{"a":"\ud800"}`), "/metadata/a", "lone_surrogate"},
		"invalid UTF-8":        {minimal("\"message\":\"\xff\""), "/message", "invalid_utf8"},
		"number with zero":     {minimal(`"metadata":{"n":01}`), "/metadata/n", "invalid_json"},
		"NaN":                  {minimal(`"metadata":{"n":NaN}`), "/metadata/n", "invalid_json"},
		"too deep":             {minimal(`"metadata":` + deep(64)), "/metadata", "too_deep"},
		"too large":            {minimal(`"message":"` + strings.Repeat("x", audit.MaxEntryBytes) + `"`), "", "too_large"},
	} {
		t.Run(name, func(t *testing.T) {
			_, invalid := entryjson.ParseSubmitted([]byte(test.text))
			if invalid == nil {
				t.Fatal("got no fault, want one")
			}
			got := invalid.Fields[0]
			pointerMatches := got.Pointer == test.pointer || test.code == "invalid_json" && strings.HasPrefix(test.pointer, got.Pointer)
			if !pointerMatches {
				t.Errorf("got pointer %q, want %q", got.Pointer, test.pointer)
			}
			if got.Code != test.code {
				t.Errorf("got code %q, want %q", got.Code, test.code)
			}
		})
	}
}

func TestParseSubmittedFindsEveryFault(t *testing.T) {
	_, invalid := entryjson.ParseSubmitted([]byte(`{"severity":"LOUD","ip_address":"x","color":1,"message":[]}`))
	if invalid == nil {
		t.Fatal("got no faults, want 4")
	}
	if len(invalid.Fields) != 4 {
		t.Fatalf("got %d faults, want 4: %v", len(invalid.Fields), invalid)
	}
}

// A name that is given twice and text that is not Unicode hide no other fault.
func TestParseSubmittedReadsOnAfterFaultsOfSpelling(t *testing.T) {
	got, invalid := entryjson.ParseSubmitted([]byte(`{"user_id":"u","metadata":{"a":1,"a":2,"b":[{"c":"\ud800","d":"\udead"},"\u0061"],"\u0061":3,"x":{"a":1}},` +
		"\"message\":\"\xff\"," + `"after_state":{"k":{"z":1,"z":{}}},"user_id":"v","severity":"LOUD","color":1}`))
	if invalid == nil {
		t.Fatal("got no faults, want 9")
	}
	var faults []string
	for _, f := range invalid.Fields {
		faults = append(faults, f.Pointer+" "+f.Code)
	}
	want := []string{
		"/metadata/a duplicate_key", "/metadata/b/0/c lone_surrogate", "/metadata/b/0/d lone_surrogate", "/metadata/a duplicate_key", "/message invalid_utf8",
		"/after_state/k/z duplicate_key", "/user_id duplicate_key", "/severity invalid_severity", "/color unknown_field",
	}
	if diff := cmp.Diff(want, faults); diff != "" {
		t.Errorf("faults (-want +got):\n%s", diff)
	}
	if got.Unreadable {
		t.Error("unreadable is true, want false: every member was read")
	}
	got, invalid = entryjson.ParseSubmitted([]byte(`{"metadata":{"a":1,"a":2},"color":1,"message":nix`))
	if invalid == nil || len(invalid.Fields) != 3 || invalid.Fields[2].Code != "invalid_json" {
		t.Errorf("got %v, want a duplicate name, an unknown field and a syntax error", invalid)
	}
	if !got.Unreadable {
		t.Error("unreadable is false, want true: a member could not be read")
	}
}

func TestNullMeansAbsentAndKeepsNoDefault(t *testing.T) {
	got, invalid := entryjson.ParseSubmitted([]byte(minimal(`"ip_address":null,"user_agent":null,"metadata":null,"message":null`)))
	if invalid != nil {
		t.Fatalf("got %v, want no fault", invalid)
	}
	if !got.HasIPAddress {
		t.Error("has IP address is false, want true")
	}
	if !got.HasUserAgent {
		t.Error("has user agent is false, want true")
	}
	if got.IPAddress.IsValid() {
		t.Errorf("got IP address %v, want none", got.IPAddress)
	}
	if got.Metadata != nil {
		t.Errorf("got metadata %q, want none", got.Metadata)
	}
	if got.HasTimestamp {
		t.Error("has timestamp is true, want false")
	}
}

// hostileObjects are objects that must come back exactly: every string's
// content, every key, every number's spelling.
var hostileObjects = []string{
	`{}`, `{"":""}`, `{"a":{}}`, `{"a":[]}`, `{"a":[[],[[]],{}]}`, `{"a":null,"b":true,"c":false}`,
	`{"n":1.0}`, `{"n":1e21}`, `{"n":1E+2}`, `{"n":-0}`, `{"n":-0.0}`, `{"n":12345678901234567890}`,
	`{"n":0.1000000000000000055511151231257827}`, `{"n":9007199254740993}`, `{"n":-9223372036854775808}`, `{"n":1e400}`,
	`{"a.b":1,"a":{"b":2}}`, `{"$where":1,"$":2,"a$b":3}`, `{"nul\u0000key":"nul\u0000value"}`,
	`{"__proto__":1,"constructor":2,"_id":3}`, `{"ключ":"значение","鍵":"値","🔑":"💥"}`, `{"e":"\ud83d\ude00"}`,
	`{"slash":"\/","quote":"\"","back":"\\","tab":"\t","u":"\u0041","html":"<&>\u2028"}`, `{"rtl":"\u202eabc","zw":"a\u200bb"}`,
	`{"a":"` + strings.Repeat("é", 50_000) + `"}`, `{"` + strings.Repeat("k", 100_000) + `":1}`,
	`{"a":[1,"1",1.0,true,null,{"b":[{"c":[]}]}]}`, strings.Repeat(`{"d":`, 62) + `{}` + strings.Repeat(`}`, 62),
}

func TestObjectsComeBackByteForByte(t *testing.T) {
	for _, object := range hostileObjects {
		text := minimal(`"metadata": ` + object + ` ,"before_state":` + object + `,"after_state":` + object)
		if len(text) > audit.MaxEntryBytes {
			text = minimal(`"metadata":` + object)
		}
		submitted, invalid := entryjson.ParseSubmitted([]byte(text))
		if invalid != nil {
			t.Errorf("%.60s: got %v, want no fault", object, invalid)
			continue
		}
		submitted.ID = audit.NewEntryID(time.UnixMilli(1), [10]byte{})
		stored, err := entryjson.ParseStored(entryjson.AppendStored(nil, &submitted.Entry))
		if err != nil {
			t.Errorf("%.60s: %v", object, err)
			continue
		}
		public := entryjson.AppendPublic(nil, &stored, time.Time{})
		var fields map[string]json.RawMessage
		if err := json.Unmarshal(public, &fields); err != nil {
			t.Errorf("%.60s: %v", object, err)
		}
		if got := string(fields["metadata"]); got != object {
			t.Errorf("got metadata %.80s, want %.80s", got, object)
		}
	}
}

func TestWhiteSpaceIsDroppedOutsideStringsOnly(t *testing.T) {
	submitted, invalid := entryjson.ParseSubmitted([]byte(minimal("\"metadata\": { \"a b\" :\t[ 1 , \"x \\\" y\" ] ,\n \"c\" : { } }")))
	if invalid != nil {
		t.Fatalf("got %v, want no fault", invalid)
	}
	if got, want := string(submitted.Metadata), `{"a b":[1,"x \" y"],"c":{}}`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func fullEntry() audit.Entry {
	return audit.Entry{
		ID: audit.NewEntryID(time.UnixMilli(1_700_000_000_123), [10]byte{1, 2, 3}), Tenant: "acme",
		UserID: "ü\"\\\x00 ", SessionID: "s", RequestID: "r", Action: "user.login", ResourceType: "order", ResourceID: "42",
		Timestamp: time.UnixMilli(1_700_000_000_123).UTC(), IPAddress: netip.MustParseAddr("2001:db8::1"), UserAgent: "<agent>",
		Before: audit.Object(`{"a":1}`), After: audit.Object(`{"a":2}`), Metadata: audit.Object(`{"b":[1.0]}`),
		Severity: audit.SeverityCritical, Message: "line\nbreak", IdempotencyKey: "k",
		ReceivedAt: time.UnixMilli(1_700_000_001_000).UTC(), SubmittedBy: "sub:ü",
		Changed: []string{"a", "b.c\"d"}, Removed: []string{"/metadata/b/0", "/message"},
		RestoredUntil: time.UnixMilli(1_700_000_002_000).UTC(), Digest: audit.Digest{Sum: [32]byte{1, 2, 3}},
	}
}

func TestStoredFormRoundTrips(t *testing.T) {
	for name, entry := range map[string]audit.Entry{"full": fullEntry(), "bare": {
		ID: audit.NewEntryID(time.UnixMilli(5), [10]byte{}), Tenant: "a", UserID: "u", Action: "A", ResourceType: "r", Timestamp: time.UnixMilli(5).UTC(),
	}} {
		got, err := entryjson.ParseStored(entryjson.AppendStored(nil, &entry))
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(entry, got, cmpopts.EquateComparable(netip.Addr{})); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

// TestSubmittedIgnoresWhatTheServiceSets sends an entry as the service answers with it.
func TestSubmittedIgnoresWhatTheServiceSets(t *testing.T) {
	want, invalid := entryjson.ParseSubmitted([]byte(minimal(`"message":"m"`)))
	if invalid != nil {
		t.Fatal(invalid)
	}
	for _, name := range entryjson.ServiceFields() {
		for _, value := range []string{`null`, `"stored"`, `["/metadata/a"]`, `[{"paths":["metadata.a"],"data":"AAAA"}]`} {
			got, invalid := entryjson.ParseSubmitted([]byte(minimal(`"message":"m","` + name + `":` + value)))
			if invalid != nil {
				t.Errorf("%s %s: got %v, want no fault", name, value, invalid)
			}
			if diff := cmp.Diff(want, got, cmpopts.EquateComparable(netip.Addr{})); diff != "" {
				t.Errorf("%s %s (-want +got):\n%s", name, value, diff)
			}
		}
	}
}

func TestPublicFieldsAreThoseOfTheText(t *testing.T) {
	entry := fullEntry()
	entry.Encrypted = []audit.Encrypted{{Paths: []string{"/message"}, Key: "k", Data: []byte{1}}}
	var members map[string]json.RawMessage
	if err := json.Unmarshal(entryjson.AppendPublic(nil, &entry, time.UnixMilli(1)), &members); err != nil {
		t.Fatal(err)
	}
	got, want := entryjson.PublicFields(), slices.Collect(maps.Keys(members))
	slices.Sort(got)
	slices.Sort(want)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestAnEntryHasTheRequiredFields(t *testing.T) {
	entry, invalid := entryjson.ParseSubmitted([]byte(minimal(`"severity":"INFO"`)))
	if invalid != nil {
		t.Fatal(invalid)
	}
	entry.Tenant, entry.Timestamp, entry.ReceivedAt = "acme", time.UnixMilli(1), time.UnixMilli(2)
	var members map[string]json.RawMessage
	if err := json.Unmarshal(entryjson.AppendPublic(nil, &entry.Entry, time.Time{}), &members); err != nil {
		t.Fatal(err)
	}
	got, want := entryjson.RequiredFields(), slices.Collect(maps.Keys(members))
	slices.Sort(got)
	slices.Sort(want)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestParseStoredIgnoresFieldsOfLaterVersions(t *testing.T) {
	entry := fullEntry()
	text := bytes.Replace(entryjson.AppendStored(nil, &entry), []byte(`{`), []byte(`{"later":{"x":[1]},`), 1)
	if _, err := entryjson.ParseStored(text); err != nil {
		t.Error(err)
	}
}

func TestParseStoredErrorsCarryNoContent(t *testing.T) {
	for _, text := range []string{`{"message":"secret-content","severity":7}`, `{"message":"secret-content`, `{"timestamp":"secret-content"}`} {
		_, err := entryjson.ParseStored([]byte(text))
		if err == nil || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: got error %v, want one without content", text, err)
		}
	}
}

func TestAncestors(t *testing.T) {
	for path, want := range map[string][]string{"": nil, "a": nil, "a.b.c": {"a", "a.b"}, ".a": {""}, "a..b": {"a", "a."}} {
		if got := slices.Collect(entryjson.Ancestors(path)); !slices.Equal(got, want) {
			t.Errorf("ancestors of %q: got %q, want %q", path, got, want)
		}
	}
	if got := len(slices.Collect(entryjson.Ancestors(strings.Repeat(".", 1000)))); got != entryjson.MaxAncestors {
		t.Errorf("got %d ancestors of a long path, want %d", got, entryjson.MaxAncestors)
	}
}

func TestPublicFormHasNoDigest(t *testing.T) {
	entry := fullEntry()
	if text := entryjson.AppendPublic(nil, &entry, time.Time{}); bytes.Contains(text, []byte("digest")) {
		t.Errorf("got text %q, want it without %q", text, []byte("digest"))
	} else if !json.Valid(text) {
		t.Errorf("got text %q, want valid JSON", text)
	}
}

func TestLeaves(t *testing.T) {
	var got []string
	err := entryjson.Leaves(audit.Object(`{"a":{"b":"x\n\u0041"},"c":[1.0,{"d":null},[true]],"e.f":"","g":{},"h":[]}`), func(leaf entryjson.Leaf) {
		got = append(got, leaf.Path+"="+leaf.Value)
	})
	want := []string{"a.b=x\nA", "c=1", "c.d=null", "c=true", "e.f="}
	if err != nil {
		t.Error(err)
	} else if !slices.Equal(got, want) {
		t.Errorf("got %q; want %q", got, want)
	}
}

func TestLeavesLeaveOutLongPaths(t *testing.T) {
	long := strings.Repeat("k", entryjson.MaxLeafPath+1)
	count := 0
	if err := entryjson.Leaves(audit.Object(`{"`+long+`":1,"a":{"`+long+`":2},"b":3}`), func(entryjson.Leaf) { count++ }); err != nil {
		t.Error(err)
	} else if count != 1 {
		t.Errorf("got %d leaves, want 1", count)
	}
}

func TestWalkersRefuseMalformedObjects(t *testing.T) {
	for _, text := range []string{`{`, `{"`, `{"a`, `{"a"`, `{"a":`, `{"a":1`, `{"a":[1`, `{"a":{`, `x`, `{"a":"\`} {
		if err := entryjson.Leaves(audit.Object(text), func(entryjson.Leaf) {}); err == nil && text != `{"a":` {
			t.Errorf("Leaves of %s: got no error, want one", text)
		}
		if _, err := entryjson.Changed(audit.Object(text), audit.Object(`{"z":0}`)); err == nil && text != `{"a":` {
			t.Errorf("Changed of %s: got no error, want one", text)
		}
	}
}

func TestChanged(t *testing.T) {
	for name, test := range map[string]struct {
		before, after string
		want          []string
	}{
		"nothing":              {`{"a":1}`, `{"a":1}`, nil},
		"both absent":          {``, ``, nil},
		"created":              {``, `{"b":1,"a":{"c":1}}`, []string{"a", "b"}},
		"deleted":              {`{"a":1}`, ``, []string{"a"}},
		"nested":               {`{"a":{"b":1,"c":2},"d":3}`, `{"a":{"b":1,"c":9},"d":3}`, []string{"a.c"}},
		"order does not count": {`{"a":1,"b":{"x":1,"y":2}}`, `{"b":{"y":2,"x":1},"a":1}`, nil},
		"spelling of a string": {`{"a":"A"}`, `{"a":"\u0041"}`, nil},
		"spelling of a key":    {`{"a":1}`, `{"\u0061":1}`, nil},
		"spelling of a number": {`{"a":1,"b":0.10}`, `{"a":1.0,"b":1e-1}`, nil},
		"numbers in an array":  {`{"a":[1,{"b":2.50}]}`, `{"a":[1.0,{"b":2.5}]}`, nil},
		"digits in a string":   {`{"a":["1.0"]}`, `{"a":["1"]}`, []string{"a"}},
		"large integers":       {`{"a":9007199254740993}`, `{"a":9007199254740992}`, []string{"a"}},
		"arrays are whole":     {`{"a":[1,{"b":2,"c":3}]}`, `{"a":[1,{"c":3,"b":2}]}`, nil},
		"an array's element":   {`{"a":[1,2]}`, `{"a":[2,1]}`, []string{"a"}},
		"type":                 {`{"a":{}}`, `{"a":[]}`, []string{"a"}},
		"null is not absent":   {`{"a":null}`, `{}`, []string{"a"}},
		"object to scalar":     {`{"a":{"b":1}}`, `{"a":1}`, []string{"a"}},
		"dotted key":           {`{"a.b":1,"a":{"b":1}}`, `{"a.b":2,"a":{"b":2}}`, []string{"a.b"}},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := entryjson.Changed(audit.Object(test.before), audit.Object(test.after))
			if err != nil {
				t.Error(err)
			} else if !slices.Equal(got, test.want) {
				t.Errorf("got %q; want %q", got, test.want)
			}
		})
	}
}

func TestChangedIsBounded(t *testing.T) {
	var many strings.Builder
	for i := range 5000 {
		fmt.Fprintf(&many, `,"k%d":%d`, i, i)
	}
	inner := `{` + many.String()[1:] + `}`
	got, err := entryjson.Changed(audit.Object(`{"x":{"y":{}}}`), audit.Object(`{"x":{"y":`+inner+`}}`))
	if err != nil {
		t.Error(err)
	} else if want := []string{"x"}; !slices.Equal(got, want) {
		t.Errorf("got %d paths, want only %q", len(got), want)
	}
}

// randomObject builds an object together with its leaves.
func randomObject(random *rand.Rand, depth int) any {
	switch random.IntN(6) {
	case 0, 1:
		if depth > 0 {
			object := map[string]any{}
			for range random.IntN(4) {
				object[string(rune('a'+random.IntN(4)))] = randomObject(random, depth-1)
			}
			return object
		}
		return nil
	case 2:
		return []any{randomObject(random, 0), random.IntN(3)}
	case 3:
		return `"` + strings.Repeat(`\`, random.IntN(3)) + `{[,:`
	default:
		return random.IntN(3)
	}
}

func TestWalkersAgreeWithEncodingJSON(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for range 2000 {
		value := map[string]any{"r": randomObject(random, 4), "s": randomObject(random, 4)}
		text, err := json.Marshal(value)
		if err != nil {
			t.Fatal(err)
		}
		spaced, _ := json.MarshalIndent(value, " ", "\t")
		submitted, invalid := entryjson.ParseSubmitted([]byte(minimal(`"metadata":` + string(spaced))))
		if invalid != nil {
			t.Fatalf("%s: got faults %v, want none", spaced, invalid)
		}
		if !bytes.Equal(submitted.Metadata, text) {
			t.Fatalf("got metadata %q, want %q", submitted.Metadata, text)
		}
		if changed, err := entryjson.Changed(audit.Object(text), submitted.Metadata); err != nil {
			t.Fatal(err)
		} else if changed != nil {
			t.Fatalf("%s differs from itself in %v, want no difference", text, changed)
		}
		leaves := 0
		if err := entryjson.Leaves(submitted.Metadata, func(entryjson.Leaf) { leaves++ }); err != nil {
			t.Fatal(err)
		} else if want := countLeaves(value); leaves != want {
			t.Fatalf("%s: got %d leaves, want %d", text, leaves, want)
		}
	}
}

func countLeaves(value any) int {
	switch v := value.(type) {
	case map[string]any:
		n := 0
		for _, member := range v {
			n += countLeaves(member)
		}
		return n
	case []any:
		n := 0
		for _, element := range v {
			n += countLeaves(element)
		}
		return n
	}
	return 1
}

func TestDigestTellsContentApart(t *testing.T) {
	digest := func(member string) audit.Digest {
		s, invalid := entryjson.ParseSubmitted([]byte(minimal(member)))
		if invalid != nil {
			t.Fatalf("got %v, want no fault", invalid)
		}
		return s.DigestOf()
	}
	same := digest(`"metadata":{"a":1},"message":"m"`)
	if other := digest(`"message":"m" , "metadata": { "a" : 1 }`); other != same {
		t.Errorf("other white space and field order: got digest %x, want %x", other, same)
	}
	for _, other := range []string{
		`"metadata":{"a":2},"message":"m"`, `"before_state":{"a":1},"message":"m"`, `"metadata":{"a":1},"user_agent":"m"`,
		`"metadata":{"a":1},"message":"m","severity":"ERROR"`, `"metadata":{"a":1},"message":"m","ip_address":"::1"`,
	} {
		if digest(other) == same {
			t.Errorf("%s has the digest %x of another content, want one of its own", other, same)
		}
	}
}

func FuzzParseSubmitted(f *testing.F) {
	for _, object := range hostileObjects[:20] {
		f.Add([]byte(minimal(`"metadata":` + object)))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		submitted, invalid := entryjson.ParseSubmitted(text)
		if invalid != nil {
			return
		}
		if _, err := entryjson.Changed(submitted.Before, submitted.After); err != nil {
			t.Fatal(err)
		}
		if err := entryjson.Leaves(submitted.Metadata, func(entryjson.Leaf) {}); err != nil {
			t.Fatal(err)
		}
		submitted.ID = audit.NewEntryID(time.UnixMilli(1), [10]byte{})
		again, err := entryjson.ParseStored(entryjson.AppendStored(nil, &submitted.Entry))
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(again.Metadata, submitted.Metadata) {
			t.Fatalf("got metadata %q, want %q", again.Metadata, submitted.Metadata)
		}
		if again.Message != submitted.Message {
			t.Fatalf("got message %q, want %q", again.Message, submitted.Message)
		}
	})
}

func TestALeapSecondIsTheMillisecondBefore(t *testing.T) {
	got, invalid := entryjson.ParseSubmitted([]byte(minimal(`"timestamp":"2016-12-31T23:59:60.5Z"`)))
	if invalid != nil {
		t.Fatal(invalid)
	}
	if want := time.Date(2016, 12, 31, 23, 59, 59, 999_000_000, time.UTC); !got.Timestamp.Equal(want) {
		t.Errorf("got %s, want %s", got.Timestamp, want)
	}
}

func TestDigestsCompareObjectsAsJSON(t *testing.T) {
	digest := func(metadata string) audit.Digest {
		submitted, invalid := entryjson.ParseSubmitted([]byte(minimal(`"metadata":` + metadata)))
		if invalid != nil {
			t.Fatal(invalid)
		}
		return submitted.DigestOf()
	}
	const text = `{"a":1,"b":{"c":[1,2],"d":"é/"}}`
	for _, same := range []string{`{"b":{"d":"é/","c":[1,2]},"a":1}`, ` { "a" : 1, "b": {"c" :[ 1,2 ],"d":"\u00e9\/"} } `} {
		if digest(same) != digest(text) {
			t.Errorf("%s has another digest than %s, want the same", same, text)
		}
	}
	for _, other := range []string{`{"a":1,"b":{"c":[2,1],"d":"é/"}}`, `{"a":"1","b":{"c":[1,2],"d":"é/"}}`, `{"a":1,"b":{"c":[1,2],"d":"É/"}}`, `{"a":1}`} {
		if digest(other) == digest(text) {
			t.Errorf("%s has the digest of %s, want another", other, text)
		}
	}
}
