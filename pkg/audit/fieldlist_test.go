package audit_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ocelot-audit/ocelot/pkg/audit"
)

func TestSplitFields(t *testing.T) {
	for list, want := range map[string][]audit.Field{
		``:                              {""},
		`action`:                        {"action"},
		`action,metadata.a b:c`:         {"action", "metadata.a b:c"},
		`metadata."a,b",severity`:       {"metadata.a,b", "severity"},
		`metadata.x."a,b".y`:            {"metadata.x.a,b.y"},
		`metadata.".b",metadata.""b`:    {"metadata..b", "metadata.b"},
		`metadata."",action`:            {"metadata.", "action"},
		`metadata."say \"a\\b\" \c,"`:   {`metadata.say "a\b" \c,`},
		`"user_id","metadata.a"`:        {"user_id", "metadata.a"},
		`metadata.a,`:                   {"metadata.a", ""},
		`metadata.größe,metadata."日,本"`: {"metadata.größe", "metadata.日,本"},
	} {
		got, err := audit.SplitFields(list)
		if diff := cmp.Diff(want, got); diff != "" || err != nil {
			t.Errorf("%s: %v, -want +got\n%s", list, err, diff)
		}
	}
	for _, list := range []string{`metadata.`, `action,metadata.`, `metadata."a`, `metadata."a\"`, `"`, `action,"`, `"metadata."`, `metadata."".b`} {
		if got, err := audit.SplitFields(list); err == nil {
			t.Errorf("%s: got %q, want an error", list, got)
		}
	}
}
