package access_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/ocelot-audit/ocelot/pkg/access"
	"github.com/ocelot-audit/ocelot/pkg/audit"
)

func TestParseResource(t *testing.T) {
	good := map[string]access.Resource{
		"order":                     {Type: "order"},
		"user:42":                   {Type: "user", ID: "42"},
		"bucket:arn:aws:s3:::b%":    {Type: "bucket", ID: "arn:aws:s3:::b%"},
		"user::":                    {Type: "user", ID: ":"},
		"AWS%3A%3AS3%3A%3ABucket:b": {Type: "AWS::S3::Bucket", ID: "b"},
		"100%25":                    {Type: "100%"},
		"%253A":                     {Type: "%3A"},
		strings.Repeat("t", 128) + ":" + strings.Repeat("i", 512): {Type: strings.Repeat("t", 128), ID: strings.Repeat("i", 512)},
	}
	for text, want := range good {
		got, err := access.ParseResource(text)
		if err != nil {
			t.Error(err)
		} else if got != want {
			t.Errorf("ParseResource(%q) = %+v, want %+v", text, got, want)
		}
		if got.String() != text {
			t.Errorf("got text %q, want %q", got, text)
		}
	}
	for _, text := range []string{
		"", ":", ":42", "user:", "a%", "a%2", "a%20b", "a%25%", "\xff", "a:\xff", strings.Repeat("t", 129), "a:" + strings.Repeat("i", 513),
	} {
		if got, err := access.ParseResource(text); err == nil {
			t.Errorf("ParseResource(%q) = %+v, want an error", text, got)
		}
	}
}

func FuzzResourceRoundTrip(f *testing.F) {
	for _, seed := range [][2]string{{"order", ""}, {"a:b%", ":c"}, {"%3A", "%"}, {"%", "x"}} {
		f.Add(seed[0], seed[1])
	}
	f.Fuzz(func(t *testing.T, resourceType, id string) {
		r := access.Resource{Type: resourceType, ID: id}
		text, err := r.MarshalText()
		if err != nil {
			return
		}
		var back access.Resource
		if err := back.UnmarshalText(text); err != nil {
			t.Error(err)
		} else if back != r {
			t.Errorf("got %+v from the text %q, want %+v", back, text, r)
		}
	})
}

// matches evaluates the kinds of condition that a Scope makes.
func matches(t *testing.T, expr audit.Expr, e *audit.Entry) bool {
	t.Helper()
	switch x := expr.(type) {
	case nil:
		return true
	case audit.And:
		return !slices.ContainsFunc(x, func(sub audit.Expr) bool { return !matches(t, sub, e) })
	case audit.Or:
		return slices.ContainsFunc(x, func(sub audit.Expr) bool { return matches(t, sub, e) })
	case audit.Equals:
		value := map[audit.Field]string{audit.FieldUserID: e.UserID, audit.FieldResourceType: e.ResourceType, audit.FieldResourceID: e.ResourceID}[x.Field]
		return slices.Contains(x.Values, value)
	}
	t.Fatalf("got an expression of type %T, want one a scope makes", expr)
	return false
}

// TestScope holds Allows and Expr against a list and against each other.
func TestScope(t *testing.T) {
	var entries []*audit.Entry
	for _, user := range []string{"u1", "u2"} {
		for _, kind := range []string{"order", "user", "file"} {
			for _, id := range []string{"", "1", "2", "3"} {
				entries = append(entries, &audit.Entry{UserID: user, ResourceType: kind, ResourceID: id})
			}
		}
	}
	tests := []struct {
		name      string
		owner     string
		resources []string
		want      int
	}{
		{"everything", "", nil, 24},
		{"owner", "u1", nil, 12},
		{"type", "", []string{"order"}, 8},
		{"type twice", "", []string{"order", "order"}, 8},
		{"one", "", []string{"order:1"}, 2},
		{"two of one type", "", []string{"order:1", "order:2"}, 4},
		{"type and one of it", "", []string{"order:1", "order"}, 8},
		{"types and ones", "", []string{"order", "user:1", "file:2", "user:3"}, 14},
		{"owner and resources", "u2", []string{"order", "user:1"}, 5},
		{"nobody", "u3", []string{"order"}, 0},
		{"id of another type", "", []string{"user:order"}, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			scope := access.Scope{Owner: tt.owner}
			for _, text := range tt.resources {
				r, err := access.ParseResource(text)
				if err != nil {
					t.Fatal(err)
				}
				scope.Resources = append(scope.Resources, r)
			}
			expr := scope.Expr()
			if want := tt.want == len(entries); (expr == nil) != want {
				t.Errorf("got expression %v, want none: %v", expr, want)
			}
			allowed := 0
			for _, e := range entries {
				if scope.Allows(e) {
					allowed++
				}
				if got, want := scope.Allows(e), matches(t, expr, e); got != want {
					t.Errorf("%s %s:%s: got Allows %v, want %v as Expr", e.UserID, e.ResourceType, e.ResourceID, got, want)
				}
			}
			if allowed != tt.want {
				t.Errorf("%d entries allowed, want %d", allowed, tt.want)
			}
		})
	}
}
