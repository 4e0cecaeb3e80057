package conformance

import (
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/access"
	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/cursor"
	"github.com/ocelot-audit/ocelot/pkg/search"
)

// ExpiryUnderTest is what the Expiry suite works with: a way to store entries, and ways to
// read them. The suite skips the ways that are nil.
type ExpiryUnderTest struct {
	// Put stores the tenant's entries and waits until reads return them.
	Put func(t *testing.T, tenant audit.TenantID, entries []audit.Entry)
	// Index is read through search.Service: lists and, with Counts, statistics.
	Index  search.Index
	Counts bool
	// Reader is read through search.Service too: single entries.
	Reader search.Reader
	// Stream returns the ids that a subscriber receives who replays the tenant's stream.
	Stream func(t *testing.T, tenant audit.Tenant, now time.Time) []audit.EntryID
}

// Expiry tests that every way to read hides what the tenant's current settings hide, and
// nothing else.
func Expiry(t *testing.T, open func(t *testing.T) ExpiryUnderTest) {
	for name, test := range map[string]func(t *testing.T, x ExpiryUnderTest){
		"TheFirstRuleThatMatchesCounts":  expiryObeysRules,
		"AnEntryEndsToTheMillisecond":    expiryIsExact,
		"SearchableDaysAreABound":        expiryHidesWhatIsNotSearchable,
		"RestoredEntriesAreShown":        expiryShowsWhatWasRestored,
		"ChangesApplyToStoredEntries":    expiryFollowsSettings,
		"RandomSettings":                 expiryAgreesWithTheOracle,
		"CursorsSurviveChanges":          expiryKeepsCursors,
		"RulesDoNotCountAgainstAFilter":  expiryLeavesFiltersTheirLimits,
		"AListIsLateByLessThanOneMinute": expiryIsRounded,
	} {
		t.Run(name, func(t *testing.T) { test(t, open(t)) })
	}
}

// noon is the time of reading of most tests. It is a whole minute.
var noon = time.Date(2026, 6, 15, 12, 0, 0, 0, time.UTC)

const day = 24 * time.Hour

// service returns the read side with its clock at now.
func (x ExpiryUnderTest) service(now time.Time) *search.Service {
	return &search.Service{
		Index: x.Index, Reader: x.Reader, Cursors: cursor.NewSigner(make([]byte, cursor.MinKeyBytes)), Now: func() time.Time { return now },
	}
}

// aged is an entry by its age at noon, and whether reads show it then.
type aged struct {
	action      string
	severity    audit.Severity
	submittedBy string
	age         time.Duration
	visible     bool
}

// entryOf makes the entry. Its request_id is its id, so that counts show which entries
// they have.
func (a aged) entryOf(g *generator) audit.Entry {
	e := g.plain(noon.Add(-a.age)).Entry
	e.Action, e.Severity, e.SubmittedBy = a.action, a.severity, a.submittedBy
	e.RequestID = e.ID.String()
	return e
}

func tenantWith(id audit.TenantID, settings audit.Settings) audit.Tenant {
	return audit.Tenant{ID: id, Status: audit.TenantActive, Settings: settings}
}

// wantVisible puts the entries and checks every way to read.
func (x ExpiryUnderTest) wantVisible(t *testing.T, settings audit.Settings, cases []aged) {
	t.Helper()
	g := newGenerator(newTenant(t), 50)
	var entries, want []audit.Entry
	for _, c := range cases {
		e := c.entryOf(g)
		entries = append(entries, e)
		if c.visible {
			want = append(want, e)
		}
	}
	x.Put(t, g.tenant, entries)
	x.wantRead(t, tenantWith(g.tenant, settings), noon, entries, want)
}

// wantRead checks that every way to read shows exactly the wanted ones of all entries.
func (x ExpiryUnderTest) wantRead(t *testing.T, tenant audit.Tenant, now time.Time, all, want []audit.Entry) {
	t.Helper()
	for name, got := range x.read(t, tenant, now, all) {
		wantIDs(t, name, got, want)
	}
}

func wantIDs(t *testing.T, name string, got []audit.EntryID, want []audit.Entry) {
	t.Helper()
	wanted := map[audit.EntryID]audit.Entry{}
	for _, e := range want {
		wanted[e.ID] = e
	}
	seen := map[audit.EntryID]bool{}
	for _, id := range got {
		if seen[id] {
			t.Errorf("%s: shows %s twice, want it once", name, id)
		}
		seen[id] = true
		if _, ok := wanted[id]; !ok {
			t.Errorf("%s: shows %s of %s, want it hidden", name, id, id.Time())
		}
	}
	for id, e := range wanted {
		if !seen[id] {
			t.Errorf("%s: hides %s of %s (%s, %s, %q), want it shown", name, id, id.Time(), e.Action, e.Severity, e.SubmittedBy)
		}
	}
}

// read reads in every way.
func (x ExpiryUnderTest) read(t *testing.T, tenant audit.Tenant, now time.Time, all []audit.Entry) map[string][]audit.EntryID {
	t.Helper()
	ways := map[string][]audit.EntryID{}
	if x.Index != nil {
		for _, sort := range []string{"-timestamp", "+timestamp"} {
			ways["list "+sort] = x.list(t, tenant, now, url.Values{"sort": {sort}, "limit": {"3"}})
		}
		ways["list with a filter"] = x.list(t, tenant, now, url.Values{"user_id": {"ann", "bob", "Ann"}, "limit": {"100"}})
	}
	if x.Counts {
		ways["counts"] = x.count(t, tenant, now)
	}
	if x.Reader != nil {
		ways["single entries"] = x.single(t, tenant, now, all)
	}
	if x.Stream != nil {
		ways["stream"] = x.Stream(t, tenant, now)
	}
	return ways
}

// list pages through a list.
func (x ExpiryUnderTest) list(t *testing.T, tenant audit.Tenant, now time.Time, query url.Values) (ids []audit.EntryID) {
	t.Helper()
	for {
		page := must[search.List](t)(x.service(now).Find(t.Context(), tenant, access.Scope{}, query))
		for i := range page.Entries {
			ids = append(ids, page.Entries[i].ID)
		}
		if page.Next == "" {
			return ids
		}
		query.Set("cursor", page.Next)
	}
}

// count returns the ids that statistics count.
func (x ExpiryUnderTest) count(t *testing.T, tenant audit.Tenant, now time.Time) (ids []audit.EntryID) {
	t.Helper()
	stats, err := x.service(now).Stats(t.Context(), tenant, access.Scope{}, url.Values{"group_by": {"request_id"}, "top": {"1000"}})
	noError(t, err)
	for _, group := range stats.Groups {
		ids = append(ids, must[audit.EntryID](t)(audit.ParseEntryID(group.Values[0])))
	}
	if int(stats.Total) != len(ids) {
		t.Errorf("the total is %d, want %d", stats.Total, len(ids))
	}
	return ids
}

// single returns the ids of the entries that can be read by their ids.
func (x ExpiryUnderTest) single(t *testing.T, tenant audit.Tenant, now time.Time, all []audit.Entry) (ids []audit.EntryID) {
	t.Helper()
	for i := range all {
		_, err := x.service(now).Entry(t.Context(), tenant, access.Scope{}, all[i].ID)
		switch {
		case err == nil:
			ids = append(ids, all[i].ID)
		case !errors.Is(err, audit.ErrNotFound):
			t.Fatalf("read %s: got error %v, want none or %v", all[i].ID, err, audit.ErrNotFound)
		}
	}
	return ids
}

func bySeverity(severity audit.Severity, days int) audit.RetentionRule {
	return audit.RetentionRule{Severity: &severity, Days: days}
}

func expiryObeysRules(t *testing.T, x ExpiryUnderTest) {
	const info, critical, key = audit.SeverityInfo, audit.SeverityCritical, "key:1"
	settings := audit.Settings{RetentionDays: 100, RetentionRules: []audit.RetentionRule{
		{Action: "user.login", Days: 10}, bySeverity(critical, 0), {Action: "VIEW", Days: 5}, {Action: "DELETE", Days: 200}, bySeverity(info, 90),
	}}
	x.wantVisible(t, settings, []aged{
		{"user.login", info, key, 9 * day, true},
		{"user.login", info, key, 11 * day, false},
		{"user.login", critical, key, 11 * day, false}, // the rule of the action is first
		{"VIEW", critical, key, 6 * day, true},         // the rule of the severity is first
		{"VIEW", critical, key, 10_000 * day, true},    // 0 days: for ever
		{"VIEW", audit.SeverityError, key, 4 * day, true},
		{"VIEW", audit.SeverityError, key, 6 * day, false},
		{"DELETE", info, key, 199 * day, true}, // longer than retention_days
		{"DELETE", info, key, 201 * day, false},
		{"CREATE", info, key, 89 * day, true},
		{"CREATE", info, key, 91 * day, false},
		{"CREATE", audit.SeverityWarning, key, 99 * day, true}, // no rule matches
		{"CREATE", audit.SeverityWarning, key, 101 * day, false},
		// Rules do not touch the service's own entries. retention_days does.
		{"user.login", info, audit.SubmittedByService, 99 * day, true},
		{"user.login", info, audit.SubmittedByService, 101 * day, false},
		{"VIEW", critical, audit.SubmittedByService, 101 * day, false},
		{"DELETE", info, "", 199 * day, true}, // from before entries had the field
	})
	settings.RetentionDays = 0
	x.wantVisible(t, settings, []aged{
		{"CREATE", audit.SeverityWarning, key, 10_000 * day, true},
		{"user.login", info, audit.SubmittedByService, 10_000 * day, true},
		{"user.login", info, key, 11 * day, false},
		{"VIEW", audit.SeverityError, key, 6 * day, false},
	})
	x.wantVisible(t, audit.Settings{}, []aged{{"CREATE", info, key, noon.Sub(time.UnixMilli(0)), true}})
}

func expiryIsExact(t *testing.T, x ExpiryUnderTest) {
	rules := []audit.RetentionRule{{Action: "VIEW", Days: 5}, bySeverity(audit.SeverityError, 20)}
	for _, settings := range []audit.Settings{{RetentionDays: 10}, {RetentionDays: 10, RetentionRules: rules}} {
		x.wantVisible(t, settings, []aged{
			{"CREATE", 0, "", 10*day - time.Millisecond, true},
			{"CREATE", 0, "", 10 * day, false},
			{"CREATE", 0, "", 10*day + time.Millisecond, false},
			{"CREATE", 0, "", -day, true},
		})
	}
	x.wantVisible(t, audit.Settings{RetentionDays: 10, RetentionRules: rules}, []aged{
		{"VIEW", 0, "", 5*day - time.Millisecond, true},
		{"VIEW", 0, "", 5 * day, false},
		{"CREATE", audit.SeverityError, "", 20*day - time.Millisecond, true},
		{"CREATE", audit.SeverityError, "", 20 * day, false},
	})
}

func expiryHidesWhatIsNotSearchable(t *testing.T, x ExpiryUnderTest) {
	for _, settings := range []audit.Settings{
		{SearchableDays: 7}, {RetentionDays: 365, SearchableDays: 7},
		{RetentionDays: 365, SearchableDays: 7, RetentionRules: []audit.RetentionRule{bySeverity(audit.SeverityCritical, 0)}},
	} {
		x.wantVisible(t, settings, []aged{
			{"CREATE", 0, "", 7*day - time.Millisecond, true},
			{"CREATE", 0, "", 7 * day, true}, // as old, not older
			{"CREATE", 0, "", 7*day + time.Millisecond, false},
			{"CREATE", audit.SeverityCritical, "", 8 * day, false},
			{"CREATE", 0, audit.SubmittedByService, 8 * day, false},
		})
	}
	x.wantVisible(t, audit.Settings{RetentionDays: 30, SearchableDays: 7, RetentionRules: []audit.RetentionRule{{Action: "VIEW", Days: 2}}}, []aged{
		{"VIEW", 0, "", 3 * day, false}, // expired before it is no longer searchable
		{"CREATE", 0, "", 3 * day, true},
	})
}

// expiryShowsWhatWasRestored: entries older than searchable_days that came back, among others of their time
// that are not searchable.
func expiryShowsWhatWasRestored(t *testing.T, x ExpiryUnderTest) {
	g := newGenerator(newTenant(t), 53)
	tenant := tenantWith(g.tenant, audit.Settings{RetentionDays: 60, SearchableDays: 7, RetentionRules: []audit.RetentionRule{{Action: "VIEW", Days: 25}}})
	tenant.Restored = []audit.Restored{
		{From: noon.Add(-30 * day), To: noon.Add(-20 * day), Until: noon.Add(day)},
		{From: noon.Add(-28 * day), To: noon.Add(-25 * day), Until: noon.Add(2 * day)},
		{From: noon.Add(-50 * day), To: noon.Add(-40 * day), Until: noon}, // has ended
	}
	var all, want []audit.Entry
	for _, c := range []struct {
		aged
		until time.Duration // after noon
	}{
		{aged{"CREATE", 0, "", day, true}, 0},
		{aged{"CREATE", 0, "", 8 * day, false}, 0},
		{aged{"CREATE", 0, "", 20 * day, false}, 0}, // not before the end
		{aged{"CREATE", 0, "", 20*day + time.Millisecond, true}, day},
		{aged{"CREATE", 0, "", 26 * day, true}, 2 * day},
		{aged{"VIEW", 0, "", 24 * day, true}, day},
		{aged{"VIEW", 0, "", 26 * day, false}, 2 * day}, // has expired
		{aged{"VIEW", 0, audit.SubmittedByService, 26 * day, true}, 2 * day},
		{aged{"CREATE", 0, "", 30 * day, true}, day},
		{aged{"CREATE", 0, "", 30*day + time.Millisecond, false}, 0},
		{aged{"CREATE", 0, "", 45 * day, false}, -time.Millisecond},
	} {
		e := c.entryOf(g)
		if c.until != 0 {
			e.RestoredUntil = noon.Add(c.until)
		}
		all = append(all, e)
		if c.visible {
			want = append(want, e)
		}
	}
	x.Put(t, g.tenant, all)
	x.wantRead(t, tenant, noon, all, want)
}

// expiryFollowsSettings shortens and lengthens the retention while entries are stored.
func expiryFollowsSettings(t *testing.T, x ExpiryUnderTest) {
	g := newGenerator(newTenant(t), 51)
	var all []audit.Entry
	put := func() {
		var more []audit.Entry
		for age := range 6 {
			more = append(more, aged{action: pick(g, "VIEW", "CREATE"), age: time.Duration(10*age+5) * day}.entryOf(g))
		}
		x.Put(t, g.tenant, more)
		all = append(all, more...)
	}
	youngerThan := func(days int) (want []audit.Entry) {
		for _, e := range all {
			if noon.Sub(e.Timestamp) < time.Duration(days)*day {
				want = append(want, e)
			}
		}
		return want
	}
	put()
	for _, days := range []int{40, 20, 1, 60, 10, 1000} {
		var storing sync.WaitGroup
		before := slices.Clone(all)
		storing.Go(put)
		for _, ids := range x.read(t, tenantWith(g.tenant, audit.Settings{RetentionDays: days}), noon, before) {
			for _, id := range ids {
				if noon.Sub(id.Time()) >= time.Duration(days)*day {
					t.Errorf("shows %s while entries are stored, want it hidden", id)
				}
			}
		}
		storing.Wait()
		x.wantRead(t, tenantWith(g.tenant, audit.Settings{RetentionDays: days}), noon, all, youngerThan(days))
	}
}

// expiryOracle says by itself whether an entry is visible.
func expiryOracle(s *audit.Settings, e *audit.Entry, now time.Time) bool {
	days := s.RetentionDays
	if e.SubmittedBy != "service" {
		for i := len(s.RetentionRules) - 1; i >= 0; i-- { // the first one is last
			r := s.RetentionRules[i]
			if r.Action == e.Action || r.Severity != nil && *r.Severity == e.Severity {
				days = r.Days
			}
		}
	}
	age := now.Sub(e.Timestamp)
	return (days == 0 || age < time.Duration(days)*day) && (s.SearchableDays == 0 || age <= time.Duration(s.SearchableDays)*day)
}

func expiryAgreesWithTheOracle(t *testing.T, x ExpiryUnderTest) {
	g := newGenerator(newTenant(t), 52)
	var all []audit.Entry
	for range 60 {
		all = append(all, aged{
			action: pick(g, "CREATE", "DELETE", "user.login", "create", "VIEW"), severity: pick(g, audit.Severities()...),
			submittedBy: pick(g, "", "key:1", audit.SubmittedByService),
			age:         time.Duration(g.IntN(4))*day + pick(g, -time.Millisecond, 0, time.Millisecond),
		}.entryOf(g))
	}
	x.Put(t, g.tenant, all)
	for range 25 {
		settings := g.retention()
		var want []audit.Entry
		for i := range all {
			if expiryOracle(&settings, &all[i], noon) {
				want = append(want, all[i])
			}
		}
		x.wantRead(t, tenantWith(g.tenant, settings), noon, all, want)
		if t.Failed() {
			t.Fatalf("got the failures above with the settings %+v, want none", settings)
		}
	}
}

// expiryKeepsCursors continues a list after the entry of its cursor has vanished, and after
// it has come back.
func expiryKeepsCursors(t *testing.T, x ExpiryUnderTest) {
	if x.Index == nil {
		t.Skip("a stream's cursors do not name entries")
	}
	g := newGenerator(newTenant(t), 53)
	var all []audit.Entry
	for i := range 10 {
		all = append(all, aged{action: "CREATE", age: time.Duration(i+1) * day}.entryOf(g))
	}
	x.Put(t, g.tenant, all)
	query := url.Values{"sort": {"+timestamp"}, "limit": {"2"}}
	var got []audit.EntryID
	for i, days := range []int{100, 5, 100} { // the ages 10 and 9, then those below 5 days
		tenant := tenantWith(g.tenant, audit.Settings{RetentionDays: days, RetentionRules: []audit.RetentionRule{{Action: "VIEW", Days: 1}}})
		page := must[search.List](t)(x.service(noon).Find(t.Context(), tenant, access.Scope{}, query))
		for i := range page.Entries {
			got = append(got, page.Entries[i].ID)
		}
		if last := i == 2; (page.Next == "") != last {
			t.Fatalf("page %d: the list ends: %v, want %v", i, page.Next == "", last)
		}
		query.Set("cursor", page.Next)
	}
	var want []audit.EntryID
	for _, age := range []int{10, 9, 4, 3, 2, 1} {
		want = append(want, all[age-1].ID)
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

// manyRules are as many rules as a tenant can have, each with an end of its own.
func manyRules() audit.Settings {
	s := audit.Settings{RetentionDays: 50}
	for i, severity := range audit.Severities() {
		s.RetentionRules = append(s.RetentionRules, bySeverity(severity, 60+i))
	}
	for i := len(s.RetentionRules); i < audit.MaxRetentionRules; i++ {
		s.RetentionRules = append(s.RetentionRules, audit.RetentionRule{Action: "ACTION" + strconv.Itoa(i), Days: 80 + i})
	}
	s.RetentionRules[0].Days = 0 // so that no time bounds all of them
	return s
}

// expiryLeavesFiltersTheirLimits finds the most complex filter of each kind that is answered
// without rules. It must be answered with the most rules too.
func expiryLeavesFiltersTheirLimits(t *testing.T, x ExpiryUnderTest) {
	if x.Index == nil {
		t.Skip("filters of a stream have no limits of an index")
	}
	g := newGenerator(newTenant(t), 54)
	settings := manyRules()
	youngest := aged{action: "CREATE", age: day}.entryOf(g)
	entries := []audit.Entry{youngest}
	for hours := range 60 * 4 { // on both sides of every bound, so that an engine can leave out none
		e := aged{action: settings.RetentionRules[4+hours%12].Action, severity: audit.Severity(hours / 12 % 4), age: 50*day + time.Duration(hours)*6*time.Hour}.entryOf(g)
		entries = append(entries, e)
	}
	x.Put(t, g.tenant, entries)
	for name, kind := range complexFilters {
		find := func(n int, settings *audit.Settings) error {
			f := settings.Visible(audit.Filter{Where: kind(n)}, noon)
			page, err := x.Index.Find(t.Context(), g.tenant, f, audit.PageRequest{Limit: 1})
			if err != nil {
				return err
			}
			if len(page.Entries) != 1 {
				t.Fatalf("%s of %d: found %d entries, want 1", name, n, len(page.Entries))
			}
			if got, want := page.Entries[0].ID, youngest.ID; got != want {
				t.Errorf("%s of %d: found %s, want %s", name, n, got, want)
			}
			return nil
		}
		most := mostAnswered(t, func(n int) error { return find(n, &audit.Settings{}) })
		if err := find(most, &settings); err != nil {
			t.Errorf("%s of %d is answered without rules; with rules: %v", name, most, err)
		}
	}
}

// complexFilters make filters of a size. Each matches an entry of ann, bob or Ann.
var complexFilters = map[string]func(n int) audit.Expr{
	"nesting": func(n int) audit.Expr {
		var where audit.Expr = audit.Equals{Field: audit.FieldUserID, Values: []string{"ann", "bob", "Ann"}}
		for i := range n {
			if i%2 == 0 {
				where = audit.And{where, audit.Not{Expr: audit.Equals{Field: audit.FieldUserID, Values: []string{"nobody"}}}}
			} else {
				where = audit.Or{where, audit.Equals{Field: audit.FieldUserID, Values: []string{"nobody"}}}
			}
		}
		return audit.And{audit.Equals{Field: audit.FieldUserID, Values: []string{"ann", "bob", "Ann"}}, where}
	},
	"conditions": func(n int) audit.Expr {
		var others audit.Or
		for i := range n {
			others = append(others, audit.Equals{Field: audit.FieldSessionID, Values: []string{fmt.Sprint("nobody", i)}})
		}
		return audit.And{audit.Equals{Field: audit.FieldUserID, Values: []string{"ann", "bob", "Ann"}}, audit.Not{Expr: others}}
	},
	"times": func(n int) audit.Expr {
		var times audit.Or
		for i := range n {
			at := noon.AddDate(0, 0, -300-i)
			times = append(times, audit.Time{From: at, To: at.Add(time.Second)})
		}
		return audit.And{audit.Equals{Field: audit.FieldUserID, Values: []string{"ann", "bob", "Ann"}}, audit.Not{Expr: times}}
	},
}

// mostAnswered returns the largest size that is answered, up to 5,000. Larger sizes are refused.
func mostAnswered(t *testing.T, ask func(n int) error) int {
	t.Helper()
	most, low, high := 0, 1, 5000
	for low <= high {
		n := (low + high) / 2
		err := ask(n)
		var invalid *audit.ValidationError
		switch {
		case err == nil:
			most, low = n, n+1
		case errors.As(err, &invalid):
			high = n - 1
		default:
			t.Fatalf("a size of %d: got error %v, want none or a %T", n, err, invalid)
		}
	}
	if most == 0 {
		t.Fatal("no size is answered, want one")
	}
	return most
}

// expiryIsRounded reads within a minute: single entries vanish at their end, lists at the
// next whole minute.
func expiryIsRounded(t *testing.T, x ExpiryUnderTest) {
	g := newGenerator(newTenant(t), 55)
	e := aged{action: "CREATE", age: 10*day - 30*time.Second}.entryOf(g)
	x.Put(t, g.tenant, []audit.Entry{e})
	tenant := tenantWith(g.tenant, audit.Settings{RetentionDays: 10})
	end := e.Timestamp.Add(10 * day)
	for now, want := range map[time.Time]func(way string) bool{
		end.Add(-time.Millisecond): func(string) bool { return true },
		end:                        func(way string) bool { return way != "single entries" && way != "stream" },
		end.Add(30 * time.Second):  func(string) bool { return false },
	} {
		for way, ids := range x.read(t, tenant, now, []audit.Entry{e}) {
			if got := len(ids) == 1; got != want(way) {
				t.Errorf("%s %v after the end: shown %v, want %v", way, now.Sub(end), got, want(way))
			}
		}
	}
}
