package protect_test

import (
	"encoding/json"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/entryjson"
	"github.com/ocelot-audit/ocelot/pkg/protect"
)

// TestACopyHasTheSameChanges sends protected entries of random states to a tenant that protects nothing, and
// from there to another one.
func TestACopyHasTheSameChanges(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	settings := audit.Settings{RemoveSecrets: true, Detect: []audit.Detector{audit.DetectAWSKey}, SensitiveFields: []audit.SensitiveField{
		{Path: "**.email", Mask: audit.MaskEmail}, {Path: "**.iban", Mask: audit.MaskLast4}, {Path: "**.ip", Mask: audit.MaskIP}, {Path: "**.whole", Mask: audit.MaskFull},
	}}
	hidden := 0
	for range 3000 {
		e := audit.Entry{
			ID: audit.NewEntryID(time.UnixMilli(1), [10]byte{}), UserID: "u", Action: "A", ResourceType: "r", Timestamp: time.UnixMilli(1).UTC(), ReceivedAt: time.UnixMilli(2).UTC(),
			Before: randomState(t, random), After: randomState(t, random),
		}
		var err error
		if e.Changed, err = entryjson.Changed(e.Before, e.After); err != nil {
			t.Fatal(err)
		}
		sent := e
		if invalid := protect.RemoveSecrets(&settings, &e); invalid != nil {
			t.Fatal(invalid)
		}
		covered, invalid := protect.NewRules(settings.SensitiveFields).Mask(&e)
		if invalid != nil {
			t.Fatal(invalid)
		}
		places := entryjson.Places{}
		if covered != nil {
			places.Masked = []string{"/before_state", "/after_state"}
		}
		for range 2 {
			copied, invalid := entryjson.ParseSubmitted(entryjson.AppendRevealed(nil, &e, places, time.Time{}))
			if invalid != nil {
				t.Fatal(invalid)
			}
			got, err := copied.ChangedPaths(protect.IsStandIn)
			if err != nil {
				t.Fatal(err)
			}
			if !slices.Equal(got, e.Changed) {
				t.Fatalf("got changed %q, want %q, of\n%s\n%s\nwhich was sent as\n%s\n%s", got, e.Changed, e.Before, e.After, sent.Before, sent.After)
			}
			if plain, err := entryjson.Changed(copied.Before, copied.After); err != nil {
				t.Fatal(err)
			} else if !slices.Equal(plain, e.Changed) {
				hidden++
			}
			copied.Changed, places = got, entryjson.Places{}
			e = copied.Entry
		}
	}
	if hidden == 0 {
		t.Error("no entry has a change that its masks hide, want some")
	}
}

var members = []struct {
	name   string
	values []any
}{
	{"password", []any{"a", "b", 7, true, nil}}, {"email", []any{"a@example.com", "b@example.com", "c@example.org", nil, 5}}, {"iban", []any{"DE89370400440532013000", "DE11370400440532013000", "x"}},
	{"ip", []any{"203.0.113.7", "203.0.113.8", "::1"}}, {"note", []any{"AKIAIOSFODNN7EXAMPLE", "AKIAIOSFODNN7EXAMPLX", "plain"}}, {"n", []any{1, 2, 1.5}}, {"a.b", []any{1, 2}},
	{"list", []any{[]any{1}, []any{map[string]any{"token": "a"}}, []any{map[string]any{"token": "b"}}}}, {"whole", []any{map[string]any{"a": 1}, map[string]any{"a": 2}, map[string]any{"b": "x"}, "s"}},
}

// randomState returns an object of a few members, whose values are often equal in two states.
func randomState(t *testing.T, random *rand.Rand) audit.Object {
	t.Helper()
	var object func(depth int) any
	object = func(depth int) any {
		o := map[string]any{}
		for _, m := range members {
			if random.IntN(3) == 0 {
				o[m.name] = m.values[random.IntN(len(m.values))]
			}
		}
		if depth > 0 && random.IntN(2) == 0 {
			o["o"] = object(depth - 1)
		}
		return o
	}
	text, err := json.Marshal(object(2))
	if err != nil {
		t.Fatal(err)
	}
	return text
}
