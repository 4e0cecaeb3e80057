package search_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/search"
)

// wantFault checks that err is about this pointer, and returns its first fault.
func wantFault(t *testing.T, what string, err error, pointer string) audit.FieldError {
	t.Helper()
	var invalid *audit.ValidationError
	if !errors.As(err, &invalid) {
		t.Errorf("%s: got error %v, want a %T of %s", what, err, invalid, pointer)
		return audit.FieldError{}
	}
	if got := invalid.Fields[0].Pointer; got != pointer {
		t.Errorf("%s: got a fault of %s, want %s: %v", what, got, pointer, err)
	}
	return invalid.Fields[0]
}

func equals(field audit.Field, values ...string) audit.Equals {
	return audit.Equals{Field: field, Values: values}
}

func words(w ...string) audit.Text { return audit.Text{Words: w} }

func TestParseQuery(t *testing.T) {
	day := time.Date(2026, 1, 31, 0, 0, 0, 0, time.UTC)
	for text, want := range map[string]audit.Expr{
		``:                                     nil,
		"  \t ":                                nil,
		`Invoice`:                              words("invoice"),
		`"Payment  failed!"`:                   words("payment", "failed"),
		`order-17`:                             words("order", "17"),
		`fail*`:                                audit.Text{Words: []string{"fail"}, Prefix: true},
		`"fail*"`:                              words("fail"),
		`a b`:                                  audit.And{words("a"), words("b")},
		`a AND b`:                              audit.And{words("a"), words("b")},
		`a OR b c`:                             audit.Or{words("a"), audit.And{words("b"), words("c")}},
		`(a OR b) c`:                           audit.And{audit.Or{words("a"), words("b")}, words("c")},
		`-word`:                                audit.Not{Expr: words("word")},
		`NOT -word`:                            words("word"),
		`-(a b)`:                               audit.Not{Expr: audit.And{words("a"), words("b")}},
		`action:DELETE`:                        equals(audit.FieldAction, "DELETE"),
		`action=iam:PassRole`:                  equals(audit.FieldAction, "iam:PassRole"),
		`user_id:"Ann \"A\" Smith"`:            equals(audit.FieldUserID, `Ann "A" Smith`),
		`resource_id:arn:aws:s3:::b`:           equals(audit.FieldResourceID, "arn:aws:s3:::b"),
		`metadata.a.b:1.0`:                     equals("metadata.a.b", "1.0"),
		`metadata.q:""`:                        equals("metadata.q", ""),
		`ip_address:2001:DB8::1`:               equals(audit.FieldIPAddress, "2001:db8::1"),
		`severity>=ERROR`:                      equals(audit.FieldSeverity, "ERROR", "CRITICAL"),
		`severity<WARNING`:                     equals(audit.FieldSeverity, "INFO"),
		`severity>CRITICAL`:                    audit.Or{},
		`timestamp>=2026-01-31`:                audit.Time{From: day},
		`timestamp<2026-01-31T00:00:00.0005Z`:  audit.Time{To: day.Add(time.Millisecond)},
		`timestamp<=2026-01-31T01:00:00+01:00`: audit.Time{To: day.Add(time.Millisecond)},
		`timestamp:2026-01-31T00:00:00Z`:       audit.Time{From: day, To: day.Add(time.Millisecond)},
		`timestamp>2026-01-31T00:00:00Z`:       audit.Time{From: day.Add(time.Millisecond)},
		`timestamp:2026-01-31`:                 audit.Time{From: day, To: day.AddDate(0, 0, 1)},
		`timestamp="2026-01-31"`:               audit.Time{From: day, To: day.AddDate(0, 0, 1)},
		`-timestamp:2026-01-31`:                audit.Not{Expr: audit.Time{From: day, To: day.AddDate(0, 0, 1)}},
		`timestamp<2026-01-31`:                 audit.Time{To: day},
		`timestamp<=2026-01-31`:                audit.Time{To: day.AddDate(0, 0, 1)},
		`timestamp>2026-01-31`:                 audit.Time{From: day.AddDate(0, 0, 1)},
		`timestamp<=2026-01-31T00:00:00.0005Z`: audit.Time{To: day.Add(time.Millisecond)},
		`timestamp>2026-01-31T00:00:00.0005Z`:  audit.Time{From: day.Add(time.Millisecond)},
		`timestamp:2026-01-31T00:00:00.0005Z`:  audit.Or{},
		`user_id:"ann*"`:                       equals(audit.FieldUserID, "ann*"),
		`action:DELETE severity>=ERROR "exact phrase" -word`: audit.And{
			equals(audit.FieldAction, "DELETE"), equals(audit.FieldSeverity, "ERROR", "CRITICAL"),
			words("exact", "phrase"), audit.Not{Expr: words("word")},
		},
		`Überweisung 支払い`: audit.And{words("überweisung"), words("支払い")},
	} {
		got, err := search.ParseQuery(text)
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", text, diff)
		}
	}
}

func TestParseQueryRefuses(t *testing.T) {
	for _, text := range []string{
		`(`, `)`, `a)`, `(a`, `()`, `"open`, `a OR`, `OR a`, `AND a`, `-`, `NOT`, `:x`, `=x`, `action:`, `color:red`, `metadata.:x`,
		`user_id:ann*`, `resource_id=*`, `metadata.a:x*y`, `-action:user.*`, `timestamp:2026-01-31*`, `timestamp:2026-02-30`,
		`severity:LOUD`, `action>DELETE`, `timestamp:yesterday`, `ip_address:x`, `!!!`, `*`, "\xff",
		strings.Repeat("(", 100) + "a" + strings.Repeat(")", 100), strings.Repeat("a ", search.MaxQueryTerms+1),
		strings.Repeat("a", search.MaxQueryBytes+1), strings.Repeat("-", 3000) + "(",
	} {
		_, err := search.ParseQuery(text)
		wantFault(t, fmt.Sprintf("%.40q", text), err, "?q")
	}
}

// A wildcard that finds nothing would look like an answer.
func TestParseQueryNamesTheFieldOfAWildcard(t *testing.T) {
	_, err := search.ParseQuery(`paid user_id:ann*`)
	fault := wantFault(t, "a wildcard", err, "?q")
	for _, want := range []string{"user_id", "wildcard"} {
		if !strings.Contains(fault.Detail, want) {
			t.Errorf("got detail %q, want it to contain %q", fault.Detail, want)
		}
	}
}

func FuzzParseQuery(f *testing.F) {
	f.Add(`action:DELETE severity>=ERROR "exact phrase" -word (a OR b*)`)
	f.Fuzz(func(t *testing.T, text string) {
		_, err := search.ParseQuery(text)
		var invalid *audit.ValidationError
		if err != nil && !errors.As(err, &invalid) {
			t.Fatalf("%q: got error %v, want none or a %T", text, err, invalid)
		}
	})
}
