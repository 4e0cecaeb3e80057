package search_test

import (
	"errors"
	"fmt"
	"net/url"
	"testing"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/google/go-cmp/cmp"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/search"
)

func TestParseFilterIn(t *testing.T) {
	got, err := search.ParseFilterIn(map[string]jsontext.Value{
		"q": jsontext.Value(`"a \"b\""`), "action": jsontext.Value(`["A", "B"]`),
		"metadata.n": jsontext.Value(`[1.0,true,"x"]`), "user_id": jsontext.Value(`[]`),
	}, "/filter")
	want := url.Values{"q": {`a "b"`}, "action": {"A", "B"}, "metadata.n": {"1.0", "true", "x"}, "user_id": {}}
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("parameters (-want +got):\n%s", diff)
	}
	for _, value := range []string{`1`, `[true]`, `null`, `{}`, `[null]`, `[["a"]]`, `[{}]`} {
		_, err := search.ParseFilterIn(map[string]jsontext.Value{"user_id": jsontext.Value(value)}, "/filter")
		wantFault(t, value, err, "/filter/user_id")
		_, err = search.ParseFilterIn(map[string]jsontext.Value{"a/b": jsontext.Value(value)}, "")
		wantFault(t, value, err, "/a~1b")
	}
}

// TestFaultsOfABodyComeAtOnce: those of shape, names and values.
func TestFaultsOfABodyComeAtOnce(t *testing.T) {
	_, err := search.ParseFilterIn(map[string]jsontext.Value{
		"action": jsontext.Value(`{}`), "color": jsontext.Value(`1`), "from": jsontext.Value(`"soon"`), "q": jsontext.Value(`"(a"`),
	}, "")
	var invalid *audit.ValidationError
	if !errors.As(err, &invalid) {
		t.Fatalf("got error %v, want a %T", err, invalid)
	}
	var got []string
	for _, fault := range invalid.Fields {
		got = append(got, fault.Pointer+" "+fault.Code)
	}
	want := []string{"/action wrong_type", "/color unknown_parameter", "/from invalid_time", "/q invalid_query"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("faults (-want +got):\n%s", diff)
	}
}

// TestManyParametersAreRefusedAtOnce: neither names nor empty arrays cost work beyond the bound.
func TestManyParametersAreRefusedAtOnce(t *testing.T) {
	for _, value := range []string{`[]`, `"x"`, `{}`} {
		for _, name := range []string{"metadata.a%d", "unknown%d"} {
			members := map[string]jsontext.Value{}
			for i := range 40_000 {
				members[fmt.Sprintf(name, i)] = jsontext.Value(value)
			}
			_, err := search.ParseFilterIn(members, "")
			wantFault(t, name+" "+value, err, "")
		}
	}
	params := url.Values{}
	for i := range search.MaxFilterValues + 1 {
		params[fmt.Sprintf("metadata.a%d", i)] = nil
	}
	_, err := search.ParseFilter(params)
	wantFault(t, "fields without values", err, "?")
	for i := range 40_000 {
		params[fmt.Sprintf("unknown%d", i)] = []string{"x"}
	}
	_, err = search.ParseFilter(params)
	wantFault(t, "unknown names", err, "?")
}
