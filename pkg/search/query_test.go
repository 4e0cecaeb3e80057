package search_test

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/decimal"
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

// byValue is the condition of a number that is not in its usual spelling.
func byValue(field audit.Field, value string) audit.Expr {
	key := decimal.KeyOf(value)
	return audit.Or{equals(field, value), audit.And{audit.Number{Field: field, From: key, To: decimal.After(key)}, equals(field, decimal.Canonical(value))}}
}

func words(w ...string) audit.Text { return audit.Text{Words: w} }

func TestParseQuery(t *testing.T) {
	day := time.Date(2026, 1, 31, 0, 0, 0, 0, time.UTC)
	ipv4 := audit.Network{Prefix: netip.MustParsePrefix("0.0.0.0/0")}
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
		`--word`:                               words("word"),
		`a - b`:                                audit.And{words("a"), words("b")},
		`a -- b`:                               audit.And{words("a"), words("b")},
		`a -> b`:                               audit.And{words("a"), words("b")},
		`a ->b`:                                audit.And{words("a"), words("b")},
		`a <-b`:                                audit.And{words("a"), words("b")},
		`a -= b`:                               audit.And{words("a"), words("b")},
		`a AND -- b`:                           audit.And{words("a"), words("b")},
		`a OR -`:                               words("a"),
		`(a -) -(b --)`:                        audit.And{words("a"), audit.Not{Expr: words("b")}},
		`action:(a - b)`:                       audit.And{equals(audit.FieldAction, "a"), equals(audit.FieldAction, "b")},
		`metadata.n:(NOT 5)`:                   audit.Not{Expr: equals("metadata.n", "5")},
		`metadata.n:(-x)`:                      audit.Not{Expr: equals("metadata.n", "x")},
		`metadata.n:("-5")`:                    equals("metadata.n", "-5"),
		`-(a b)`:                               audit.Not{Expr: audit.And{words("a"), words("b")}},
		`action:DELETE`:                        equals(audit.FieldAction, "DELETE"),
		`action=iam:PassRole`:                  equals(audit.FieldAction, "iam:PassRole"),
		`user_id:"Ann \"A\" Smith"`:            equals(audit.FieldUserID, `Ann "A" Smith`),
		`resource_id:arn:aws:s3:::b`:           equals(audit.FieldResourceID, "arn:aws:s3:::b"),
		`metadata.a.b:1.0`:                     byValue("metadata.a.b", "1.0"),
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
		`timestamp<0001-01-01`:                 audit.Time{To: time.Unix(0, 0).UTC()},
		`timestamp<0001-01-01T00:00:00Z`:       audit.Time{To: time.Unix(0, 0).UTC()},
		`timestamp<=0000-12-31`:                audit.Time{To: time.Unix(0, 0).UTC()},
		`received_at<0001-01-01`:               audit.Received{To: time.Unix(0, 0).UTC()},
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
		`Überweisung 支払い`: audit.And{words("überweisung"), words("支", "払", "い")},

		// Quotes and backslashes.
		`user_id:"NORTH\iris"`:      equals(audit.FieldUserID, `NORTH\iris`),
		`user_id:"NORTH\\iris"`:     equals(audit.FieldUserID, `NORTH\iris`),
		`"D:\pay\june.xlsx"`:        words("d", "pay", "june", "xlsx"),
		`user_id:"x\\" a`:           audit.And{equals(audit.FieldUserID, `x\`), words("a")},
		`metadata."":x`:             equals("metadata.", "x"),
		`metadata.a."":x`:           equals("metadata.a.", "x"),
		`"metadata.": x`:            audit.And{words("metadata"), words("x")},
		`metadata. x`:               audit.And{words("metadata"), words("x")},
		`metadata."a:b c":"d e"`:    equals("metadata.a:b c", "d e"),
		`metadata.x."a:b".c:d`:      equals("metadata.x.a:b.c", "d"),
		`"metadata.a:b":d`:          equals("metadata.a:b", "d"),
		`"error":disk`:              audit.And{words("error"), words("disk")},
		`metadata."http://x/y?z":1`: equals("metadata.http://x/y?z", "1"),

		// Symbols.
		`deploy 🚀 done`:     audit.And{words("deploy"), words("done")},
		`done - at last`:    audit.And{words("done"), words("at"), words("last")},
		`error: disk`:       audit.And{words("error"), words("disk")},
		`a = b`:             audit.And{words("a"), words("b")},
		`:x`:                words("x"),
		`action -> b`:       audit.And{words("action"), words("b")},
		`action - b`:        audit.And{words("action"), words("b")},
		`"action" = b`:      audit.And{words("action"), words("b")},
		`wow != b`:          audit.And{words("wow"), words("b")},
		`metadata.a:v1..v2`: equals("metadata.a", "v1..v2"),
		`metadata.a:"1..2"`: equals("metadata.a", "1..2"),
		`metadata.a:[x`:     equals("metadata.a", "[x"),
		`metadata."a!"=1`:   equals("metadata.a!", "1"),
		`metadata.a:">1"`:   equals("metadata.a", ">1"),
		`user_id:<a@b>`:     equals(audit.FieldUserID, "<a@b>"),
		`a OR 🚀`:            words("a"),
		`a -🚀`:              words("a"),
		`a (🚀 !!)`:          words("a"),
		`NOT 🚀 OR a AND !`:  words("a"),

		// Several values, beginnings, existence.
		`action:(a OR "b c")`:     equals(audit.FieldAction, "a", "b c"),
		`-action=(a OR x*) c`:     audit.And{audit.Not{Expr: audit.Or{equals(audit.FieldAction, "a"), audit.Prefix{Field: audit.FieldAction, Value: "x"}}}, words("c")},
		`metadata.n:(1 OR 2.0)`:   audit.Or{equals("metadata.n", "1"), byValue("metadata.n", "2.0")},
		`changed:(a -(b OR c))`:   audit.And{equals(audit.FieldChanged, "a"), audit.Not{Expr: equals(audit.FieldChanged, "b", "c")}},
		`timestamp:(2026-01-31)`:  audit.Time{From: day, To: day.AddDate(0, 0, 1)},
		`user_id:ann*`:            audit.Prefix{Field: audit.FieldUserID, Value: "ann"},
		`metadata.a:x*`:           audit.Prefix{Field: "metadata.a", Value: "x"},
		`user_id:"Ann S"*`:        audit.Prefix{Field: audit.FieldUserID, Value: "Ann S"},
		`user_id:("a b"* OR c)`:   audit.Or{audit.Prefix{Field: audit.FieldUserID, Value: "a b"}, equals(audit.FieldUserID, "c")},
		`user_id:"a*\"("* b`:      audit.And{audit.Prefix{Field: audit.FieldUserID, Value: `a*"(`}, words("b")},
		`(metadata."a b":"c d"*)`: audit.Prefix{Field: "metadata.a b", Value: "c d"},
		`user_id:""*`:             audit.Has{Field: audit.FieldUserID},
		`"payment fail"*`:         audit.Text{Words: []string{"payment", "fail"}, Prefix: true},
		`severity:err*`:           equals(audit.FieldSeverity, "ERROR"),
		`severity:x*`:             audit.Or{},
		`ip_address:2001:DB8*`:    audit.Prefix{Field: audit.FieldIPAddress, Value: "2001:db8"},
		`resource_id:*`:           audit.Has{Field: audit.FieldResourceID},
		`has:session_id`:          audit.Has{Field: audit.FieldSessionID},
		`has:metadata.aws:x`:      audit.Has{Field: "metadata.aws:x"},
		`has:metadata."a b"`:      audit.Has{Field: "metadata.a b"},
		`has:metadata.""`:         audit.Has{Field: "metadata."},
		`metadata."">=0`:          audit.Number{Field: "metadata.", From: decimal.KeyOf("0")},
		`metadata.".b":x*`:        audit.Prefix{Field: "metadata..b", Value: "x"},
		`has:"metadata.a b"`:      audit.Has{Field: "metadata.a b"},

		// Comparisons, addresses.
		`metadata.amount>=100`:             audit.Number{Field: "metadata.amount", From: decimal.KeyOf("100")},
		`metadata.amount>"1e2"`:            audit.Number{Field: "metadata.amount", From: decimal.After(decimal.KeyOf("100"))},
		`metadata.amount<-0.5`:             audit.Number{Field: "metadata.amount", To: decimal.KeyOf("-0.5")},
		`metadata."a b"<=0`:                audit.Number{Field: "metadata.a b", To: decimal.After(decimal.KeyOf("0"))},
		`received_at>=2026-01-31`:          audit.Received{From: day},
		`received_at:2026-01-31`:           audit.Received{From: day, To: day.AddDate(0, 0, 1)},
		`ip_address:203.0.113.9`:           equals(audit.FieldIPAddress, "203.0.113.9"),
		`ip_address:::ffff:203.0.113.9`:    equals(audit.FieldIPAddress, "203.0.113.9"),
		`ip_address:203.0*`:                audit.Prefix{Field: audit.FieldIPAddress, Value: "203.0"},
		`ip_address:::ffff:203*`:           audit.And{ipv4, audit.Prefix{Field: audit.FieldIPAddress, Value: "203"}},
		`ip_address:::FFFF:203.0.1*`:       audit.And{ipv4, audit.Prefix{Field: audit.FieldIPAddress, Value: "203.0.1"}},
		`ip_address:::ffff:*`:              audit.Or{ipv4, audit.Prefix{Field: audit.FieldIPAddress, Value: "::ffff:"}},
		`ip_address:::f*`:                  audit.Or{ipv4, audit.Prefix{Field: audit.FieldIPAddress, Value: "::f"}},
		`ip_address:::fffe*`:               audit.Prefix{Field: audit.FieldIPAddress, Value: "::fffe"},
		`ip_address:203.0.113.7/24`:        audit.Network{Prefix: netip.MustParsePrefix("203.0.113.0/24")},
		`ip_address:"2001:db8::/32"`:       audit.Network{Prefix: netip.MustParsePrefix("2001:db8::/32")},
		`ip_address:"::ffff:10.0.0.0/104"`: audit.Network{Prefix: netip.MustParsePrefix("10.0.0.0/8")},
	} {
		got, err := search.ParseQuery(text)
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		if diff := cmp.Diff(want, got, cmpopts.EquateComparable(netip.Prefix{})); diff != "" {
			t.Errorf("%s (-want +got):\n%s", text, diff)
		}
	}
}

func TestParseQueryRefuses(t *testing.T) {
	for _, text := range []string{
		`(`, `)`, `a)`, `(a`, `()`, `"open`, `a OR`, `OR a`, `AND a`, `-`, `NOT`, `action:`, `action: x`, `color:red`, `metadata.:x`,
		`metadata.a:x*y`, `user_id:a**`, `action:(`, `action:()`, `action:(a`, `action:(user_id:b)`, `action:(a OR)`, `action>(a)`, `has:color`, `has:`, `has:(a)`, `has>a`, `metadata.>1`, `metadata.=""`, `has:metadata.`, `has:"metadata."`, `metadata."".b:x`, `has:metadata."".b`,
		`metadata."a`, `metadata.a>x`, `metadata.a>1e500`, `ip_address:10.0.0.0/33`, `ip_address:"::ffff:0.0.0.0/95"`, `received_at:x`, `🚀`, `🚀 OR -!`, `user_id:` + strings.Repeat("x", audit.MaxPrefix+1) + "*",
		`timestamp:2026-01-31*`, `timestamp:2026-02-30`, `metadata.n:(-5)`, `metadata.n:(1 OR --5.0)`,
		`severity:LOUD`, `action>DELETE`, `timestamp:yesterday`, `ip_address:x`, `!!!`, `*`, "\xff",
		strings.Repeat("(", 100) + "a" + strings.Repeat(")", 100), strings.Repeat("a ", search.MaxQueryTerms+1),
		strings.Repeat("a", search.MaxQueryBytes+1), strings.Repeat("-", 3000) + "(",
	} {
		_, err := search.ParseQuery(text)
		wantFault(t, fmt.Sprintf("%.40q", text), err, "?q")
	}
}

// A fault in a long query is easy to find.
func TestParseQueryNamesThePlace(t *testing.T) {
	for text, want := range map[string]string{
		`paid "open`:           "byte 6",
		`paid (a OR b`:         "byte 6",
		`paid action:(a OR b`:  "byte 13",
		`paid a)`:              "byte 7",
		`paid OR`:              "byte 8",
		`paid user_id:a*b`:     "byte 6",
		`paid color:red`:       "byte 6",
		`paid metadata.a>x`:    "byte 6",
		`paid metadata.:x`:     `lacks a path after metadata. at byte 6; an empty name is written metadata.""`,
		`paid has:metadata.`:   `lacks a path after metadata. at byte 10`,
		`paid metadata.a:(-5)`: "byte 18; put a negative number into quotes",
	} {
		_, err := search.ParseQuery(text)
		if got := wantFault(t, text, err, "?q").Detail; !strings.Contains(got, want) {
			t.Errorf("%s: got detail %q, want it to contain %q", text, got, want)
		}
	}
}

// What would find other entries than its author expects is refused, with the right spelling.
func TestParseQueryGivesTheRightSpelling(t *testing.T) {
	for text, want := range map[string]string{
		`severity >= ERROR`:                "white space before the operator of severity at byte 10; write severity>=VALUE",
		`user_id = act`:                    "byte 9; write user_id=VALUE",
		`user_id :act`:                     "byte 9; write user_id:VALUE",
		`paid (metadata.amount  <-100)`:    "byte 24; write metadata.amount<VALUE",
		`metadata."a b" > 1`:               `write metadata."a b">VALUE`,
		`metadata."a b"!=1`:                `write -metadata."a b":VALUE`,
		`metadata."" = 1`:                  `write metadata.""=VALUE`,
		`metadata."a\"b\\"==1`:             `write metadata."a\"b\\"=VALUE`,
		`metadata.a\b==1`:                  `write metadata.a\b=VALUE`,
		`metadata."(a".b:1..2`:             `write metadata."(a.b">=1 metadata."(a.b"<=2`,
		`metadata."a:b":(>=100)`:           `write metadata."a:b">=VALUE outside of the parentheses`,
		`has :session_id`:                  "write has:VALUE",
		`timestamp <`:                      "write timestamp<VALUE",
		`metadata.amount!=100`:             "has !=, which is no operator, at byte 16; write -metadata.amount:VALUE",
		`user_id != act`:                   "at byte 9; write -user_id:VALUE",
		`metadata.amount:>=100`:            "two operators for metadata.amount at byte 17; write metadata.amount>=VALUE",
		`metadata.amount==100`:             "write metadata.amount=VALUE",
		`metadata.amount=>100`:             "write metadata.amount>=VALUE",
		`severity:>ERROR`:                  "write severity>VALUE",
		`metadata.amount:(>=100)`:          "at byte 18; write metadata.amount>=VALUE outside of the parentheses",
		`a metadata.amount:100..200`:       "range of metadata.amount at byte 3; write metadata.amount>=100 metadata.amount<=200",
		`metadata.amount:(1..*)`:           "write metadata.amount>=1,",
		`metadata.amount:[1 TO 200]`:       "write metadata.amount>=1 metadata.amount<=200",
		`metadata.amount:{* TO 200}`:       "write metadata.amount<=200,",
		`timestamp:2026-01-01..2026-02-01`: "write timestamp>=2026-01-01 timestamp<=2026-02-01",
		`user_id:[a TO b]`:                 "range of user_id at byte 1, which has none",
		`user_id:"Ann S"x`:                 "right after the closing quote of user_id at byte 1",
		`user_id:"Ann S"*x`:                "right after the closing quote of user_id",
		`user_id:"Ann" "S"y`:               "",
		`user_id:("a""b")`:                 "right after the closing quote of user_id at byte 10",
		`user_id:"a"(b)`:                   "right after the closing quote",
		`metadata.n>"1"*`:                  "a * after the value of metadata.n at byte 1",
		`timestamp:"2026"*`:                "a * after the value of timestamp",
		`has:"user_id"*`:                   "a * after the value of has",
		`color:red`:                        "there are user_id, session_id, request_id, action, resource_type, resource_id, severity, ip_address, changed, submitted_by, timestamp, received_at, has and metadata.<path>",
		`has:color`:                        "there are user_id, session_id",
	} {
		_, err := search.ParseQuery(text)
		if want == "" {
			if err != nil {
				t.Errorf("%s: got error %v, want none", text, err)
			}
			continue
		}
		if got := wantFault(t, text, err, "?q").Detail; !strings.Contains(got, want) {
			t.Errorf("%s: got detail %q, want it to contain %q", text, got, want)
		}
	}
}

// TestTheRightSpellingIsThatOfTheField: what an error says to write names the field that was meant.
func TestTheRightSpellingIsThatOfTheField(t *testing.T) {
	for _, path := range []string{"a", "a.b", "a b", "a:b", "a<b", `a"b`, `a\`, `a\b`, "a(b)", "a!", "", "-a", "é.ü", "a\tb", "a=b.c d", `"`, "*"} {
		text := `metadata."` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(path) + `"==1`
		_, err := search.ParseQuery(text)
		_, hint, _ := strings.Cut(wantFault(t, text, err, "?q").Detail, "; write ")
		hint, _, _ = strings.Cut(hint, "VALUE")
		got, err := search.ParseQuery(hint + "1")
		if err != nil {
			t.Errorf("%s: the spelling %s1 is refused: %v", text, hint, err)
			continue
		}
		want, err := search.ParseQuery(strings.Replace(text, "==", "=", 1))
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: the spelling %s1 is of another field (-want +got):\n%s", text, hint, diff)
		}
	}
}

func FuzzParseQuery(f *testing.F) {
	f.Add(`action:DELETE severity>=ERROR "exact phrase" -word (a OR b*)`)
	f.Add(`metadata."a:\"b".c:(x OR y*) has:session_id ip_address:10.0.0.0/8 metadata.n<=-1.5e3 - 🚀`)
	f.Fuzz(func(t *testing.T, text string) {
		_, err := search.ParseQuery(text)
		var invalid *audit.ValidationError
		if err != nil && !errors.As(err, &invalid) {
			t.Fatalf("%q: got error %v, want none or a %T", text, err, invalid)
		}
	})
}

// A number beyond the range of comparisons is told the range.
func TestNumbersBeyondTheRangeNameIt(t *testing.T) {
	for _, text := range []string{`metadata.a>1e300`, `metadata.a<=-1e99`, `metadata.a>=1e-101`} {
		_, err := search.ParseQuery(text)
		if err == nil {
			t.Errorf("%s: got no error, want one", text)
			continue
		}
		if want := "from 1e-100 to below 1e99"; !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got the error %q, want it to contain %q", text, err, want)
		}
	}
	for _, text := range []string{`metadata.a<9.99e98`, `metadata.a>1e-100`, `metadata.a>0`} {
		if _, err := search.ParseQuery(text); err != nil {
			t.Errorf("%s: got error %v, want none", text, err)
		}
	}
}
