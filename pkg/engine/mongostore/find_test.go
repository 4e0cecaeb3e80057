package mongostore_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/engine/mongostore"
	"github.com/ocelot-audit/ocelot/pkg/testkit/enginetest"
)

// choices are the values that entries and filters of these tests have.
var choices = map[audit.Field][]string{
	audit.FieldUserID: {"ann", "bob", "Ann"}, audit.FieldSessionID: {"", "s1", "s2"}, audit.FieldRequestID: {"", "r1"},
	audit.FieldAction: {"CREATE", "DELETE", "user.login"}, audit.FieldResourceType: {"order", "invoice", "user"}, audit.FieldResourceID: {"", "1", "10"},
	audit.FieldSeverity: {"INFO", "WARNING", "ERROR", "CRITICAL"}, audit.FieldIPAddress: {"", "10.0.0.1", "2001:db8::1"}, audit.FieldChanged: {"", "a", "b.c"},
	audit.FieldSubmittedBy: {"", "key:1", "service"},
}

type corpus struct{ *rand.Rand }

func (c corpus) value(field audit.Field) string {
	return choices[field][c.IntN(len(choices[field]))]
}

// time is in one of three months, often in a millisecond that others have too.
func (c corpus) time() time.Time {
	return march.AddDate(0, c.IntN(3)-1, 0).Add(time.Duration(c.IntN(5)) * time.Millisecond)
}

func (c corpus) entry(tenant audit.TenantID) audit.Entry {
	e := newEntry(tenant, c.time(), c.Uint32())
	e.UserID, e.SessionID, e.RequestID, e.Action = c.value(audit.FieldUserID), c.value(audit.FieldSessionID), c.value(audit.FieldRequestID), c.value(audit.FieldAction)
	e.ResourceType, e.ResourceID = c.value(audit.FieldResourceType), c.value(audit.FieldResourceID)
	e.SubmittedBy = c.value(audit.FieldSubmittedBy)
	e.Severity, _ = audit.ParseSeverity(c.value(audit.FieldSeverity))
	e.IPAddress, _ = netip.ParseAddr(c.value(audit.FieldIPAddress))
	if changed := c.value(audit.FieldChanged); changed != "" {
		e.Changed = []string{changed, "total"}
	}
	return e
}

// expr is a condition over any field, with up to depth levels below it.
func (c corpus) expr(depth int) audit.Expr {
	parts := func() []audit.Expr {
		exprs := make([]audit.Expr, c.IntN(3))
		for i := range exprs {
			exprs[i] = c.expr(depth - 1)
		}
		return exprs
	}
	kinds := 6
	if depth > 0 {
		kinds = 9
	}
	switch c.IntN(kinds) {
	case 0:
		return audit.Time{From: c.time(), To: c.time().Add(time.Millisecond)}
	case 6:
		return audit.Not{Expr: c.expr(depth - 1)}
	case 7:
		return audit.And(parts())
	case 8:
		return audit.Or(parts())
	}
	fields := audit.FilterFields()
	e := audit.Equals{Field: fields[c.IntN(len(fields))]}
	for range c.IntN(3) + c.IntN(2) {
		e.Values = append(e.Values, c.value(e.Field))
	}
	return e
}

func valuesOf(e *audit.Entry, field audit.Field) []string {
	values := map[audit.Field]string{
		audit.FieldUserID: e.UserID, audit.FieldSessionID: e.SessionID, audit.FieldRequestID: e.RequestID, audit.FieldAction: e.Action,
		audit.FieldResourceType: e.ResourceType, audit.FieldResourceID: e.ResourceID, audit.FieldSeverity: e.Severity.String(),
	}
	if e.IPAddress.IsValid() {
		values[audit.FieldIPAddress] = e.IPAddress.Unmap().String()
	}
	switch {
	case field == audit.FieldChanged:
		return e.Changed
	case values[field] == "":
		return nil
	}
	return []string{values[field]}
}

func within(at, from, to time.Time) bool {
	return (from.IsZero() || !at.Before(from)) && (to.IsZero() || at.Before(to))
}

// matches is the oracle.
func matches(e *audit.Entry, condition audit.Expr) bool {
	switch c := condition.(type) {
	case nil:
		return true
	case audit.And:
		return !slices.ContainsFunc(c, func(part audit.Expr) bool { return !matches(e, part) })
	case audit.Or:
		return slices.ContainsFunc(c, func(part audit.Expr) bool { return matches(e, part) })
	case audit.Not:
		return !matches(e, c.Expr)
	case audit.Time:
		return within(e.Timestamp, c.From, c.To)
	case audit.Received:
		return within(e.ReceivedAt, c.From, c.To)
	case audit.Equals:
		return slices.ContainsFunc(valuesOf(e, c.Field), func(v string) bool { return slices.Contains(c.Values, v) })
	}
	panic(fmt.Sprintf("no oracle for %T", condition))
}

// walk pages through the list, forth and, where backwards, back again.
func walk(ctx context.Context, x *mongostore.Index, tenant audit.TenantID, filter audit.Filter, request audit.PageRequest, backwards bool) (found []audit.Entry, err error) {
	var last *audit.Position
	for more := true; more; {
		page, err := x.Find(ctx, tenant, filter, request)
		if err != nil {
			return nil, err
		}
		found = append(found, page.Entries...)
		if page.Last != nil {
			last = page.Last
		}
		request.From, more = last, page.More
	}
	if !backwards || len(found) == 0 {
		return found, nil
	}
	found = found[len(found)-1:]
	request.Backwards = true
	for more := true; more; {
		page, err := x.Find(ctx, tenant, filter, request)
		if err != nil {
			return nil, err
		}
		found = append(slices.Clone(page.Entries), found...)
		request.From, more = page.First, page.More
	}
	return found, nil
}

func wantNoIndex(t *testing.T, err error) {
	t.Helper()
	var unavailable *audit.UnavailableError
	if !errors.Is(err, mongostore.ErrNoIndex) {
		t.Fatalf("got error %v, want %v", err, mongostore.ErrNoIndex)
	}
	if !errors.As(err, &unavailable) {
		t.Fatalf("got error %v, want one of type %T", err, unavailable)
	}
	if unavailable.RetryAfter <= 0 {
		t.Fatalf("got retry after %v, want more than 0", unavailable.RetryAfter)
	}
}

// TestListsAreWhatTheOracleFinds: what is answered is right, and what an index
// can answer is answered.
func TestListsAreWhatTheOracleFinds(t *testing.T) {
	uri := enginetest.Mongo(t)
	for name, test := range map[string]struct {
		isolation mongostore.IsolationFunc
		indexes   mongostore.Indexes
	}{
		"shared":         {shared, mongostore.IndexesFull},
		"shared, lean":   {shared, mongostore.IndexesLean},
		"dedicated":      {dedicated, mongostore.IndexesFull},
		"dedicated lean": {dedicated, mongostore.IndexesLean},
	} {
		t.Run(name, func(t *testing.T) {
			db := open(t, uri, newDatabase(t, uri), mongostore.WithIndexes(test.indexes))
			listsAreWhatTheOracleFinds(t, db, test.isolation, test.indexes)
		})
	}
}

func listsAreWhatTheOracleFinds(t *testing.T, db *mongostore.DB, isolation mongostore.IsolationFunc, indexes mongostore.Indexes) {
	c := corpus{rand.New(rand.NewPCG(1, 2))}
	var entries []audit.Entry
	for range 400 {
		entries = append(entries, c.entry("acme"))
	}
	appendAll(t, db.Entries(isolation), "acme", entries...)
	appendAll(t, db.Entries(isolation), "neighbour", newEntry("neighbour", march, 1))
	slices.SortFunc(entries, func(a, b audit.Entry) int { return slices.Compare(a.ID[:], b.ID[:]) })
	answered, refused := 0, 0
	for range 400 {
		filter := audit.Filter{}
		if c.IntN(3) == 0 {
			filter.From = c.time()
		}
		if c.IntN(3) == 0 {
			filter.To = c.time()
		}
		if c.IntN(10) > 0 {
			filter.Where = c.expr(2)
		}
		request := audit.PageRequest{Order: audit.Order(c.IntN(2)), Limit: 1 + c.IntN(200), MaxBytes: []int{0, 20_000}[c.IntN(2)]}
		found, err := walk(t.Context(), db.Index(isolation), "acme", filter, request, c.IntN(2) == 0)
		if err != nil {
			wantNoIndex(t, err)
			if mustAnswer(filter.Where, indexes) {
				t.Fatalf("filter %+v: got error %v, want none", filter, err)
			}
			refused++
			continue
		}
		answered++
		var want []audit.Entry
		for _, e := range entries {
			if within(e.Timestamp, filter.From, filter.To) && matches(&e, filter.Where) {
				want = append(want, e)
			}
		}
		if request.Order == audit.NewestFirst {
			slices.Reverse(want)
		}
		if !slices.EqualFunc(found, want, func(a, b audit.Entry) bool { return a.ID == b.ID && a.UserID == b.UserID }) {
			t.Fatalf("filter %+v, request %+v: %d entries, want %d, or in another order", filter, request, len(found), len(want))
		}
	}
	if answered < 80 {
		t.Fatalf("answered %d filters, want at least 80", answered)
	}
	if refused < 50 {
		t.Fatalf("refused %d filters, want at least 50", refused)
	}
}

// mustAnswer reports whether a condition consists of nothing or has one at its top that an index answers.
func mustAnswer(where audit.Expr, indexes mongostore.Indexes) bool {
	fields := []audit.Field{audit.FieldUserID, audit.FieldResourceID}
	if indexes == mongostore.IndexesFull {
		fields = append(fields, audit.FieldAction, audit.FieldSeverity)
	}
	switch e := where.(type) {
	case nil, audit.Time:
		return true
	case audit.Equals:
		return slices.Contains(fields, e.Field)
	case audit.And:
		return slices.ContainsFunc(e, func(part audit.Expr) bool {
			equals, ok := part.(audit.Equals)
			return ok && mustAnswer(equals, indexes)
		})
	}
	return false
}

func TestListsThatNoIndexAnswersAreRefused(t *testing.T) {
	uri := enginetest.Mongo(t)
	db := open(t, uri, newDatabase(t, uri))
	appendAll(t, db.Entries(shared), "acme", newEntry("acme", march, 1))
	user := audit.Equals{Field: audit.FieldUserID, Values: []string{"user-1"}}
	many := audit.Equals{Field: audit.FieldUserID}
	for i := range 101 {
		many.Values = append(many.Values, fmt.Sprint(i))
	}
	for name, where := range map[string]audit.Expr{
		"session": audit.Equals{Field: audit.FieldSessionID, Values: []string{"s"}}, "text": audit.Text{Words: []string{"x"}},
		"text of a user": audit.And{user, audit.Text{Words: []string{"x"}}}, "metadata of a user": audit.And{user, audit.Equals{Field: "metadata.a", Values: []string{"1"}}},
		"not a user": audit.Not{Expr: user}, "one of two": audit.Or{user, audit.Equals{Field: audit.FieldAction, Values: []string{"UPDATE"}}}, "many values": many,
		"resource type alone": audit.Equals{Field: audit.FieldResourceType, Values: []string{"order"}},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := db.Index(shared).Find(t.Context(), "acme", audit.Filter{Where: where}, audit.PageRequest{Limit: 10})
			wantNoIndex(t, err)
		})
	}
	_, err := db.Index(shared).Stats(t.Context(), "acme", audit.Filter{}, audit.StatsRequest{})
	wantNoIndex(t, err)
}

func TestListsRefuseWhatIsNoRequest(t *testing.T) {
	uri := enginetest.Mongo(t)
	db := open(t, uri, newDatabase(t, uri))
	e := newEntry("acme", march, 1)
	appendAll(t, db.Entries(shared), "acme", e)
	user := audit.Equals{Field: audit.FieldUserID, Values: []string{"user-1"}}
	var deep audit.Expr = user
	for range 10_000 {
		deep = audit.Not{Expr: deep}
	}
	for name, test := range map[string]struct {
		request audit.PageRequest
		where   audit.Expr
		pointer string
	}{
		"no limit":       {audit.PageRequest{}, nil, "?limit"},
		"too many":       {audit.PageRequest{Limit: audit.MaxPageLimit + 1}, nil, "?limit"},
		"foreign tie":    {audit.PageRequest{Limit: 1, From: &audit.Position{Time: march, Tie: "12345"}}, nil, "?cursor"},
		"tie of another": {audit.PageRequest{Limit: 1, From: &audit.Position{Time: march.Add(time.Second), Tie: e.ID.String()}}, nil, "?cursor"},
		"too deep":       {audit.PageRequest{Limit: 1}, audit.And{user, deep}, "?q"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := db.Index(shared).Find(t.Context(), "acme", audit.Filter{Where: test.where}, test.request)
			var invalid *audit.ValidationError
			if !errors.As(err, &invalid) {
				t.Fatalf("got error %v, want one of type %T", err, invalid)
			}
			if invalid.Fields[0].Pointer != test.pointer {
				t.Fatalf("got pointer %q, want %q", invalid.Fields[0].Pointer, test.pointer)
			}
		})
	}
	// The deepest that is taken must be one that the server takes too.
	var nested audit.Expr = user
	for range 19 {
		nested = audit.Or{nested, user}
	}
	page, err := db.Index(shared).Find(t.Context(), "acme", audit.Filter{Where: audit.And{user, nested}}, audit.PageRequest{Limit: 1})
	if err != nil {
		t.Fatal(err)
	}
	if len(page.Entries) != 1 {
		t.Fatalf("the deepest filter: found %d entries, want 1", len(page.Entries))
	}
}

func TestPagesEndAtMaxBytes(t *testing.T) {
	uri := enginetest.Mongo(t)
	db := open(t, uri, newDatabase(t, uri))
	var entries []audit.Entry
	for i := range uint32(20) {
		e := newEntry("acme", march, i)
		e.After = audit.Object(`{"text":"` + strings.Repeat("x", 10_000) + `"}`)
		entries = append(entries, e)
	}
	appendAll(t, db.Entries(shared), "acme", entries...)
	for maxBytes, want := range map[int]int{1: 1, 35_000: 3, 1 << 20: 20} {
		page, err := db.Index(shared).Find(t.Context(), "acme", audit.Filter{}, audit.PageRequest{Limit: 50, MaxBytes: maxBytes})
		if err != nil {
			t.Error(err)
		} else if len(page.Entries) != want {
			t.Errorf("maxBytes %d: got %d entries, want %d", maxBytes, len(page.Entries), want)
		} else if page.More != (want < 20) {
			t.Errorf("maxBytes %d: more is %v, want %v", maxBytes, page.More, want < 20)
		}
	}
}
