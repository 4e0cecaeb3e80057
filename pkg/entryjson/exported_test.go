package entryjson_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/entryjson"
)

func isStandIn(text string) bool { return strings.HasPrefix(text, "[masked") }

// changedPaths returns what changed in an entry with these members.
func changedPaths(t *testing.T, members string) []string {
	t.Helper()
	s, invalid := entryjson.ParseSubmitted([]byte(minimal(members)))
	if invalid != nil {
		t.Fatal(invalid)
	}
	changed, err := s.ChangedPaths(isStandIn)
	if err != nil {
		t.Fatal(err)
	}
	return changed
}

// An entry's own `changed` counts only where values cannot be compared.
func TestChangedPathsOfAnExportedEntry(t *testing.T) {
	for name, test := range map[string]struct {
		members string
		want    []string
	}{
		"equal masks":             {`"before_state":{"a":"[masked]"},"after_state":{"a":"[masked]"},"changed":["a"],"masked":["/before_state/a","/after_state/a"]`, []string{"a"}},
		"they did not change":     {`"before_state":{"a":"[masked]"},"after_state":{"a":"[masked]"},"masked":["/before_state/a","/after_state/a"]`, nil},
		"a copy of a copy":        {`"before_state":{"a":"[masked]"},"after_state":{"a":"[masked]"},"changed":["a"]`, []string{"a"}},
		"another member":          {`"changed":["a","c"],"before_state":{"a":{"b":"[masked]"},"c":1,"d":1},"after_state":{"a":{"b":"[masked]"},"c":1,"d":2}`, []string{"a", "d"}},
		"below an object":         {`"before_state":{"a":{"b":"[masked]","c":1}},"after_state":{"a":{"b":"[masked]","c":2}},"changed":["a.b","a.c"],"removed":["/before_state/a/b"]`, []string{"a.b", "a.c"}},
		"top-level names alone":   {`"before_state":{"a":{"b":"[masked]","c":1}},"after_state":{"a":{"b":"[masked]","c":2}},"changed":["a"],"removed":["/before_state/a/b"]`, []string{"a"}},
		"in an array":             {`"before_state":{"a":[{"b":"[masked]"}]},"after_state":{"a":[{"b":"[masked]"}]},"changed":["a","a.b"]`, []string{"a"}},
		"masked in one state":     {`"before_state":{"a":"x"},"after_state":{"a":"[masked]"},"masked":["/after_state/a"]`, nil},
		"a client's own text":     {`"before_state":{"a":"x"},"after_state":{"a":"[masked]"}`, []string{"a"}},
		"a plain value":           {`"before_state":{"a":"x"},"after_state":{"a":"x"},"changed":["a"],"masked":["/before_state/a","/after_state/a"]`, nil},
		"a plain change":          {`"before_state":{"a":"x","b":"[masked]"},"after_state":{"a":"y","b":"[masked]"},"changed":[],"masked":["/before_state/b"]`, []string{"a"}},
		"no states":               {`"changed":["a"],"masked":["/metadata/a"],"metadata":{"a":"[masked]"}`, nil},
		"other types":             {`"before_state":{"a":"[masked]"},"after_state":{"a":"[masked]"},"changed":[1,null,{"a":1},["a"]],"masked":"x"`, nil},
		"no array":                {`"before_state":{"a":"[masked]"},"after_state":{"a":"[masked]"},"changed":"a"`, nil},
		"escapes and white space": {`"before_state":{"\u0061.b":"[masked]"},"after_state":{"a.b":"[masked]"},"changed":[ "a\u002eb" , "a.b" ]`, []string{"a.b"}},
	} {
		t.Run(name, func(t *testing.T) {
			if got := changedPaths(t, test.members); !slices.Equal(got, test.want) {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
}

// The paths of very many masks, and long ones, are kept by their top-level names.
func TestChangedPathsOfManyMasksAreBounded(t *testing.T) {
	long := strings.Repeat("x", 2000)
	var many strings.Builder
	for i := range 2000 {
		fmt.Fprintf(&many, `"k%d":"[masked]",`, i)
	}
	for name, object := range map[string]string{
		"many": `{"m":{` + many.String() + `"n":1},"other":1}`,
		"long": `{"m":{"` + long + `":{"a":"[masked]","b":"[masked]"},"k7":"[masked]"},"other":1}`,
	} {
		for claimed, want := range map[string][]string{`["m"]`: {"m"}, `["m.k7","other"]`: {"m.k7"}, `[]`: nil} {
			got := changedPaths(t, `"masked":["/before_state"],"before_state":`+object+`,"after_state":`+object+`,"changed":`+claimed)
			if !slices.Equal(got, want) {
				t.Errorf("%s with %s: got %.100q, want %q", name, claimed, got, want)
			}
		}
	}
}

// What the service added to an entry does not count when it is sent again.
func TestAnExportedEntryOfTheMaximumSizeCanBeSent(t *testing.T) {
	answered := `"id":"018bcfe5-687b-7000-8000-000000000001","severity":"INFO","timestamp":"2023-11-14T22:13:20.123Z","received_at":"2023-11-14T22:13:20.123Z","submitted_by":"sub:ann"`
	sized := func(size int, further string) string {
		text := minimal(`"metadata":{"a":""}`)
		text = strings.Replace(text, `""`, `"`+strings.Repeat("x", size-len(text))+`"`, 1)
		return strings.TrimSuffix(text, "}") + "," + further + "}"
	}
	removed := answered + `,"removed":["/metadata/a"]`
	grown := strings.Repeat("x", audit.MaxObjectBytes-len(`{"a":""}`))
	for name, test := range map[string]struct {
		text string
		fits bool
	}{
		"the maximum":                    {sized(audit.MaxEntryBytes, answered), true},
		"one more":                       {sized(audit.MaxEntryBytes+1, answered), false},
		"the maximum of objects":         {minimal(`"metadata":{"a":"` + grown + `"},` + removed), true},
		"one more byte in objects":       {minimal(`"metadata":{"a":"x` + grown + `"},` + removed), false},
		"the same without a stand-in":    {minimal(`"metadata":{"a":"` + grown + `"},` + answered), false},
		"no entry of a service":          {sized(audit.MaxEntryBytes, `"severity":"INFO"`), false},
		"more than a service can answer": {sized(audit.MaxEntryBytes, answered+`,"changed":["`+strings.Repeat("x", 3*audit.MaxEntryBytes)+`"]`), false},
	} {
		s, invalid := entryjson.ParseSubmitted([]byte(test.text))
		if got := invalid == nil; got != test.fits {
			t.Errorf("%s: got %v, want that it fits: %t", name, invalid, test.fits)
		} else if !got && (invalid.Fields[0].Code != "too_large" || !s.Unreadable) {
			t.Errorf("%s: got %v, want too_large", name, invalid)
		}
	}
}
