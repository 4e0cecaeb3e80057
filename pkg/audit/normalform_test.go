package audit_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ocelot-audit/ocelot/pkg/audit"
)

func equals(value string) audit.Expr {
	return audit.Equals{Field: audit.FieldUserID, Values: []string{value}}
}

func TestNormalize(t *testing.T) {
	a, b, c := equals("a"), equals("b"), equals("c")
	always, never := audit.And{}, audit.Or{}
	noon := time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC)
	for name, test := range map[string]struct{ in, want audit.Expr }{
		"nil":                      {nil, always},
		"empty and":                {audit.And(nil), always},
		"empty or":                 {audit.Or(nil), never},
		"condition":                {a, a},
		"single part":              {audit.And{audit.Or{a}}, a},
		"nested and":               {audit.And{a, audit.And{b, c}}, audit.And{a, b, c}},
		"nested or":                {audit.Or{audit.Or{a, b}, c}, audit.Or{a, b, c}},
		"or in and":                {audit.And{a, audit.Or{b, c}}, audit.And{a, audit.Or{b, c}}},
		"nested through one part":  {audit.And{a, audit.Or{audit.And{b, c}}}, audit.And{a, b, c}},
		"always in and":            {audit.And{a, nil, always}, a},
		"never in and":             {audit.And{a, never, b}, never},
		"always in or":             {audit.Or{a, always, b}, always},
		"never in or":              {audit.Or{a, never}, a},
		"only always":              {audit.And{always, always}, always},
		"only never":               {audit.Or{never, never}, never},
		"not always":               {audit.Not{}, never},
		"not never":                {audit.Not{Expr: never}, always},
		"double not":               {audit.Not{Expr: audit.Not{Expr: audit.And{a, b}}}, audit.And{a, b}},
		"double not joins its and": {audit.And{a, audit.Not{Expr: audit.Not{Expr: audit.And{b, c}}}}, audit.And{a, b, c}},
		"not":                      {audit.Not{Expr: audit.Or{a}}, audit.Not{Expr: a}},
		"no values":                {audit.Equals{Field: audit.FieldAction}, never},
		"no words":                 {audit.Text{Prefix: true}, always},
		"open time":                {audit.Time{}, always},
		"half-open time":           {audit.Time{From: noon}, audit.Time{From: noon}},
	} {
		if diff := cmp.Diff(test.want, audit.Normalize(test.in)); diff != "" {
			t.Errorf("%s: Normalize(%v) differs (-want +got):\n%s", name, test.in, diff)
		}
	}
}

// TestNormalizeKeepsTheMeaning compares random expressions with their normal
// forms under every assignment of their conditions.
func TestNormalizeKeepsTheMeaning(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for range 2000 {
		e := randomExpr(random, 5)
		normal := audit.Normalize(e)
		if fault := formFault(normal, true); fault != "" {
			t.Fatalf("Normalize(%v) = %v, want it without %s", e, normal, fault)
		}
		for holds := range 8 {
			if got, want := evaluate(normal, holds), evaluate(e, holds); got != want {
				t.Fatalf("Normalize(%v) = %v, which is %t for assignment %03b, want %t", e, normal, got, holds, want)
			}
		}
	}
}

// randomExpr returns an expression of at most depth levels over the conditions "0" to "2".
func randomExpr(random *rand.Rand, depth int) audit.Expr {
	kind := random.IntN(6)
	if depth == 0 {
		kind = random.IntN(3)
	}
	parts := func() (parts []audit.Expr) {
		for range random.IntN(4) {
			parts = append(parts, randomExpr(random, depth-1))
		}
		return parts
	}
	switch kind {
	case 0, 1:
		return equals(fmt.Sprint(random.IntN(3)))
	case 2:
		return []audit.Expr{nil, audit.Equals{}, audit.Time{}}[random.IntN(3)]
	case 3:
		return audit.And(parts())
	case 4:
		return audit.Or(parts())
	}
	return audit.Not{Expr: randomExpr(random, depth-1)}
}

// evaluate evaluates an expression of randomExpr. Condition n is bit n of holds.
func evaluate(e audit.Expr, holds int) bool {
	switch e := e.(type) {
	case audit.And:
		for _, part := range e {
			if !evaluate(part, holds) {
				return false
			}
		}
		return true
	case audit.Or:
		for _, part := range e {
			if evaluate(part, holds) {
				return true
			}
		}
		return false
	case audit.Not:
		return !evaluate(e.Expr, holds)
	case audit.Equals:
		return len(e.Values) == 1 && holds>>(e.Values[0][0]-'0')&1 == 1
	}
	return true // nil and an open Time
}

// formFault describes the first violation of the normal form, "" if there is none.
func formFault(e audit.Expr, top bool) string {
	var parts []audit.Expr
	switch e := e.(type) {
	case nil:
		return "a nil"
	case audit.And:
		parts = e
	case audit.Or:
		parts = e
	case audit.Not:
		if _, ok := e.Expr.(audit.Not); ok {
			return "a Not in a Not"
		}
		return formFault(e.Expr, false)
	case audit.Equals:
		if len(e.Values) == 0 {
			return "an Equals without values"
		}
		return ""
	case audit.Time:
		return "an open Time"
	}
	if len(parts) == 1 || len(parts) == 0 && !top {
		return fmt.Sprintf("a %T of %d parts", e, len(parts))
	}
	for _, part := range parts {
		if fmt.Sprintf("%T", part) == fmt.Sprintf("%T", e) {
			return fmt.Sprintf("a %T in a %T", part, e)
		}
		if fault := formFault(part, false); fault != "" {
			return fault
		}
	}
	return ""
}

func TestReplaceConditions(t *testing.T) {
	a, b := equals("a"), equals("b")
	text := audit.Text{Words: []string{"word"}}
	e := audit.And{a, nil, audit.Not{Expr: audit.Or{text, audit.Time{}}}}
	got := audit.ReplaceConditions(e, func(condition audit.Expr) audit.Expr {
		if _, ok := condition.(audit.Text); ok {
			return condition
		}
		return audit.Not{Expr: b}
	})
	want := audit.And{audit.Not{Expr: b}, nil, audit.Not{Expr: audit.Or{text, audit.Not{Expr: b}}}}
	if diff := cmp.Diff(audit.Expr(want), got); diff != "" {
		t.Errorf("ReplaceConditions differs (-want +got):\n%s", diff)
	}
}

func TestConditions(t *testing.T) {
	a, b := equals("a"), equals("b")
	e := audit.And{a, nil, audit.Not{Expr: audit.Or{b, audit.Time{}}}, a}
	want := []audit.Expr{a, b, audit.Time{}, a}
	if diff := cmp.Diff(want, slices.Collect(audit.Conditions(e))); diff != "" {
		t.Errorf("Conditions differ (-want +got):\n%s", diff)
	}
	if n := audit.CountConditions(e); n != len(want) {
		t.Errorf("CountConditions = %d, want %d", n, len(want))
	}
	for condition := range audit.Conditions(e) {
		if diff := cmp.Diff(a, condition); diff != "" {
			t.Errorf("the first condition differs (-want +got):\n%s", diff)
		}
		break
	}
}

func TestSplitNegations(t *testing.T) {
	a, b, c := equals("a"), equals("b"), equals("c")
	positive, negative := audit.And{a, audit.Not{Expr: b}, audit.Or{b, c}, audit.Not{Expr: audit.Or{a, c}}}.SplitNegations()
	if diff := cmp.Diff([]audit.Expr{a, audit.Or{b, c}}, positive); diff != "" {
		t.Errorf("positive differs (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]audit.Expr{b, audit.Or{a, c}}, negative); diff != "" {
		t.Errorf("negative differs (-want +got):\n%s", diff)
	}
}
