package search_test

import (
	"fmt"
	"net/url"
	"testing"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/google/go-cmp/cmp"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/search"
)

func TestParams(t *testing.T) {
	got, err := search.Params(map[string]jsontext.Value{
		"q": jsontext.Value(`"a \"b\""`), "limit": jsontext.Value(`10`), "action": jsontext.Value(`["A", "B"]`),
		"metadata.n": jsontext.Value(`[1.0,true,"x"]`), "user_id": jsontext.Value(`[]`),
	})
	want := url.Values{"q": {`a "b"`}, "limit": {"10"}, "action": {"A", "B"}, "metadata.n": {"1.0", "true", "x"}, "user_id": {}}
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("parameters (-want +got):\n%s", diff)
	}
	for _, value := range []string{`1`, `[true]`, `null`, `{}`, `[null]`, `[["a"]]`, `[{}]`} {
		_, err := search.Params(map[string]jsontext.Value{"a/b": jsontext.Value(value)})
		wantFault(t, value, err, "/a~1b")
	}
}

func TestInBody(t *testing.T) {
	for pointer, want := range map[string]string{"?q": "/filter/q", "?": "/filter", "/other": "/other", "?metadata.a/b": "/filter/metadata.a~1b"} {
		err := search.InBody(audit.Invalid(pointer, "code", "detail"), "/filter")
		wantFault(t, pointer, err, want)
	}
	if err := search.InBody(nil, ""); err != nil {
		t.Errorf("got error %v, want none", err)
	}
	if err := search.InBody(audit.ErrNotFound, ""); err != audit.ErrNotFound { //nolint:errorlint // it is the same one
		t.Errorf("got error %v, want %v", err, audit.ErrNotFound)
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
			_, err := search.Params(members)
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
