package sqlite_test

import (
	"cmp"
	"context"
	"database/sql"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/engine/sqlite"
	"github.com/ocelot-audit/ocelot/pkg/entryjson"
	"github.com/ocelot-audit/ocelot/pkg/search"
)

// history is a tenant's index beside a plain list of the same entries.
type history struct {
	db      *sqlite.DB
	tenant  audit.TenantID
	indexed map[audit.EntryID]audit.Entry
	made    int
}

const hours = time.Hour

// histories begin here, so that days and hours have boundaries within.
var historyStart = time.Date(2026, 9, 1, 22, 30, 0, 0, time.UTC)

func drawEntry(t *rapid.T, tenant audit.TenantID, made int) audit.Entry {
	at := historyStart.Add(time.Duration(rapid.Int64Range(0, int64(60*hours/time.Minute)).Draw(t, "minute")) * time.Minute)
	var random [10]byte
	random[0], random[1], random[2], random[3] = byte(made>>10), byte(made>>2), byte(made<<4), byte(made)
	e := audit.Entry{
		ID: audit.NewEntryID(at, random), Tenant: tenant, Timestamp: at, ReceivedAt: at,
		UserID: fmt.Sprintf("user-%d", rapid.IntRange(0, 9).Draw(t, "user")), RequestID: fmt.Sprintf("request-%d", made),
		Action:       rapid.SampledFrom([]string{"CREATE", "VIEW", "user.login"}).Draw(t, "action"),
		ResourceType: rapid.SampledFrom([]string{"order", "invoice"}).Draw(t, "type"),
		Severity:     audit.Severity(rapid.IntRange(0, 3).Draw(t, "severity")), Message: "a word",
		SubmittedBy: rapid.SampledFrom([]string{"key:1", "", audit.SubmittedByService}).Draw(t, "by"),
	}
	if rapid.IntRange(0, 9).Draw(t, "odd") == 0 {
		e.Action = fmt.Sprintf("odd.%d", made)
	}
	return e
}

func (h *history) put(t *rapid.T) {
	n := rapid.IntRange(1, 60).Draw(t, "entries")
	entries := make([]audit.Entry, n)
	for i := range entries {
		h.made++
		entries[i] = drawEntry(t, h.tenant, h.made)
	}
	if rapid.Bool().Draw(t, "again") && len(h.indexed) > 0 {
		ids := slices.SortedFunc(maps.Keys(h.indexed), func(a, b audit.EntryID) int { return slices.Compare(a[:], b[:]) })
		entries = append(entries, h.indexed[rapid.SampledFrom(ids).Draw(t, "repeated")])
	}
	ctx := context.Background()
	if _, err := h.db.Entries().Append(ctx, h.tenant, entries); err != nil {
		t.Fatal(err)
	}
	if _, err := search.PutEntries(ctx, h.db.Index(), h.tenant, entries); err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		h.indexed[e.ID] = e
	}
}

// purge removes the entries with the lowest keys, as the deletion of a tenant does.
func (h *history) purge(t *rapid.T) {
	limit := rapid.IntRange(1, 50).Draw(t, "limit")
	n, err := h.db.Index().Purge(context.Background(), h.tenant, limit)
	if err != nil {
		t.Fatal(err)
	}
	if want := min(limit, len(h.indexed)); n != want {
		t.Fatalf("removed %d entries, want %d", n, want)
	}
	left, err := h.db.Index().IDs(context.Background(), h.tenant, time.Time{}, time.Time{}, audit.EntryID{}, search.MaxIDs)
	if err != nil {
		t.Fatal(err)
	}
	maps.DeleteFunc(h.indexed, func(id audit.EntryID, _ audit.Entry) bool { return !slices.Contains(left, id) })
	if len(left) != len(h.indexed) {
		t.Fatalf("the index has %d entries, want %d", len(left), len(h.indexed))
	}
}

// remove removes some of the entries, from the index alone or as retention does.
func (h *history) remove(t *rapid.T) {
	ids := slices.SortedFunc(maps.Keys(h.indexed), func(a, b audit.EntryID) int { return slices.Compare(a[:], b[:]) })
	if len(ids) == 0 {
		return
	}
	chosen := rapid.SliceOfN(rapid.SampledFrom(ids), 1, 50).Draw(t, "removed")
	ctx := context.Background()
	if rapid.Bool().Draw(t, "index alone") {
		if err := h.db.Index().Remove(ctx, h.tenant, chosen); err != nil {
			t.Fatal(err)
		}
	} else {
		if err := h.db.Entries().Mark(ctx, h.tenant, chosen, -time.Second); err != nil {
			t.Fatal(err)
		}
		n, err := h.db.Entries().RemoveDue(ctx, h.tenant, append(chosen, ids[:min(5, len(ids))]...)) // the others are not marked
		if err != nil {
			t.Fatal(err)
		}
		slices.SortFunc(chosen, func(a, b audit.EntryID) int { return slices.Compare(a[:], b[:]) })
		if want := len(slices.Compact(slices.Clone(chosen))); n != want {
			t.Fatalf("removed %d entries, want %d", n, want)
		}
	}
	for _, id := range chosen {
		delete(h.indexed, id)
	}
}

func drawFilter(t *rapid.T) (audit.Filter, func(*audit.Entry) bool) {
	var f audit.Filter
	bound := func(name string) time.Time {
		at := historyStart.Add(time.Duration(rapid.Int64Range(-60, int64(70*hours/time.Minute)).Draw(t, name)) * time.Minute)
		if rapid.Bool().Draw(t, name+" hour") {
			at = at.Truncate(time.Hour)
		}
		return at
	}
	if rapid.Bool().Draw(t, "from") {
		f.From = bound("from")
	}
	if rapid.Bool().Draw(t, "to") {
		f.To = bound("to")
	}
	var matches []func(*audit.Entry) bool
	equals := func(field audit.Field, values ...string) {
		f.Where = audit.All(f.Where, audit.Equals{Field: field, Values: values})
		matches = append(matches, func(e *audit.Entry) bool { return slices.Contains(values, e.Value(field)) })
	}
	switch rapid.IntRange(0, 5).Draw(t, "where") {
	case 0:
		equals(audit.FieldAction, "CREATE", "user.login")
	case 1:
		equals(audit.FieldSeverity, "ERROR")
	case 2:
		equals(audit.FieldUserID, "user-3", "user-4") // by the full-text index
	case 3:
		equals(audit.FieldSubmittedBy, "key:1")
	}
	settings := audit.Settings{}
	now := historyStart.Add(60 * hours)
	if rapid.Bool().Draw(t, "retention") {
		settings.RetentionDays = rapid.IntRange(0, 3).Draw(t, "days")
		for range rapid.IntRange(0, 3).Draw(t, "rules") {
			rule := audit.RetentionRule{Days: rapid.IntRange(0, 3).Draw(t, "rule days")}
			if rapid.Bool().Draw(t, "by action") {
				rule.Action = rapid.SampledFrom([]string{"CREATE", "VIEW"}).Draw(t, "rule action")
			} else {
				severity := audit.Severity(rapid.IntRange(0, 3).Draw(t, "rule severity"))
				rule.Severity = &severity
			}
			if !slices.ContainsFunc(settings.RetentionRules, func(r audit.RetentionRule) bool {
				return r.Action == rule.Action && (r.Severity == nil) == (rule.Severity == nil) && (r.Severity == nil || *r.Severity == *rule.Severity)
			}) {
				settings.RetentionRules = append(settings.RetentionRules, rule)
			}
		}
		settings.SearchableDays = rapid.IntRange(0, 3).Draw(t, "searchable")
	}
	visible := settings.Visible(f, now)
	return visible, func(e *audit.Entry) bool {
		if e.Timestamp.Before(f.From) || !f.To.IsZero() && !e.Timestamp.Before(f.To) || !settings.IsVisible(e, now) {
			return false
		}
		return !slices.ContainsFunc(matches, func(match func(*audit.Entry) bool) bool { return !match(e) })
	}
}

func drawRequest(t *rapid.T) audit.StatsRequest {
	request := audit.StatsRequest{
		Top: rapid.IntRange(1, 20).Draw(t, "top"), Distinct: rapid.Bool().Draw(t, "distinct"),
		Interval: rapid.SampledFrom([]time.Duration{0, 10 * time.Minute, hours, 24 * hours, 36 * hours}).Draw(t, "interval"),
	}
	fields := []audit.Field{audit.FieldAction, audit.FieldSeverity, audit.FieldResourceType, audit.FieldUserID, audit.FieldRequestID, audit.FieldSubmittedBy}
	for range rapid.IntRange(0, 2).Draw(t, "fields") {
		request.GroupBy = append(request.GroupBy, rapid.SampledFrom(fields).Draw(t, "field"))
	}
	return request
}

// count counts the entries one by one.
func (h *history) count(matches func(*audit.Entry) bool, request audit.StatsRequest) audit.Stats {
	var stats audit.Stats
	users, groups, buckets := map[string]bool{}, map[[2]string]int64{}, map[int64]int64{}
	for _, e := range h.indexed {
		if !matches(&e) {
			continue
		}
		stats.Total++
		users[e.UserID] = true
		var key [2]string
		for i, field := range request.GroupBy {
			key[i] = e.Value(field)
		}
		groups[key]++
		if request.Interval > 0 {
			buckets[e.Timestamp.UnixMilli()/request.Interval.Milliseconds()]++
		}
	}
	if request.Distinct {
		stats.DistinctUsers = int64(len(users))
	}
	if len(request.GroupBy) > 0 {
		for key, n := range groups {
			stats.Groups = append(stats.Groups, audit.Group{Values: slices.Clone(key[:len(request.GroupBy)]), Count: n})
		}
		slices.SortFunc(stats.Groups, func(a, b audit.Group) int {
			return cmp.Or(cmp.Compare(b.Count, a.Count), slices.Compare(a.Values, b.Values))
		})
		stats.Groups = stats.Groups[:min(len(stats.Groups), request.Top)]
	}
	if len(buckets) > 0 {
		numbers := slices.Sorted(maps.Keys(buckets))
		for n := numbers[0]; n <= numbers[len(numbers)-1]; n++ {
			stats.Histogram = append(stats.Histogram, audit.Bucket{Start: time.UnixMilli(n * request.Interval.Milliseconds()).UTC(), Count: buckets[n]})
		}
	}
	return stats
}

func (h *history) check(t *rapid.T) {
	filter, matches := drawFilter(t)
	request := drawRequest(t)
	got, err := h.db.Index().Stats(context.Background(), h.tenant, filter, request)
	if err != nil {
		t.Fatal(err)
	}
	if diff := gocmp.Diff(h.count(matches, request), got); diff != "" {
		t.Fatalf("filter %+v, request %+v: counted one by one (-) and by the index (+) differ:\n%s", filter, request, diff)
	}
}

// TestCountsEqualAScan: whatever was written, repeated and removed, and whatever retention hides,
// roll-ups, blocks and recent facets together count what is there.
func TestCountsEqualAScan(t *testing.T) {
	db := open(t)
	var tenants int
	rapid.Check(t, func(rt *rapid.T) {
		limits := rapid.SampledFrom([][4]int{{1, 1000, 100, 1}, {10, 1000, 100, 3}, {40, 50, 2, 2}, {100, 200, 16, 5}, {1000, 4000, 16, 32}}).Draw(rt, "limits")
		if err := db.LimitFolds(context.Background(), limits[0], limits[1], limits[2], limits[3]); err != nil {
			rt.Fatal(err)
		}
		tenants++
		h := &history{db: db, tenant: audit.TenantID(fmt.Sprintf("tenant-%d", tenants)), indexed: map[audit.EntryID]audit.Entry{}}
		rt.Repeat(map[string]func(*rapid.T){
			"put": h.put, "put more": h.put, "purge": h.purge, "remove": h.remove, "": h.check,
			"of an older file": func(rt *rapid.T) {
				if err := db.ForgetCoarseCells(context.Background()); err != nil {
					rt.Fatal(err)
				}
			},
		})
	})
}

// TestOddValuesAreCounted: a tenant whose entries all differ in action and resource type has
// roll-ups of a bounded size, and is counted all the same.
func TestOddValuesAreCounted(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ocelot.db")
	db := openAt(t, path)
	entries := newCorpus().entries("acme", 5000)
	for i := range entries {
		entries[i].Action, entries[i].ResourceType = fmt.Sprintf("action.%d", i), fmt.Sprintf("type-%d", i)
	}
	for part := range slices.Chunk(entries, 1000) {
		storeIndexed(t, db, "acme", part)
	}
	stats, err := db.Index().Stats(t.Context(), "acme", audit.Filter{}, audit.StatsRequest{GroupBy: []audit.Field{audit.FieldAction}, Top: 2})
	if err != nil {
		t.Fatal(err)
	}
	want := audit.Stats{Total: 5000, Groups: []audit.Group{{Values: []string{"action.0"}, Count: 1}, {Values: []string{"action.1"}, Count: 1}}}
	if diff := gocmp.Diff(want, stats); diff != "" {
		t.Errorf("want (-), got (+):\n%s", diff)
	}
	if n := rows(t, path, "rollups WHERE length(cells) > 16384"); n > 0 {
		t.Errorf("%d roll-ups have more than 16 KiB, want none", n)
	}
	if n := rows(t, path, "facet_blocks"); n == 0 {
		t.Error("there are no blocks, want some")
	}
}

// undoFacets undoes the migration of facets in a file without indexed entries.
const undoFacets = `DROP TABLE indexed_keys; DROP TABLE recent_facets; DROP TABLE facet_blocks; DROP TABLE rollups; DROP TABLE user_days;
	CREATE TABLE facets (tenant INTEGER, key INTEGER); `

// writeOlderFile writes a file of the schema before the migration that has the text, with entries
// of the tenant acme.
func writeOlderFile(t *testing.T, path, before string, entries []audit.Entry) {
	t.Helper()
	current := filepath.Join(t.TempDir(), "current.db")
	db := openAt(t, current)
	if _, err := db.Entries().Append(t.Context(), "acme", entries); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	migrations := sqlite.MigrationsBefore(before)
	var script strings.Builder
	fmt.Fprintf(&script, `%s; PRAGMA application_id = %d; PRAGMA user_version = %d;
		ATTACH '%s' AS c; INSERT INTO tenant_numbers SELECT * FROM c.tenant_numbers; BEGIN; `,
		strings.Join(migrations, "\n"), sqlite.ApplicationID, len(migrations), current)
	for i := range entries {
		fmt.Fprintf(&script, `INSERT INTO entries (key, tenant, id, digest, message, doc)
			SELECT key, tenant, id, digest, message, x'%x' FROM c.entries WHERE id = x'%x'; `, entryjson.AppendStored(nil, &entries[i]), entries[i].ID[:])
	}
	execSQL(t, path, script.String()+`COMMIT`)
}

// TestOlderFacetsArePacked opens a file from before facets were in blocks.
func TestOlderFacetsArePacked(t *testing.T) {
	older := filepath.Join(t.TempDir(), "older.db")
	entries := newCorpus().entries("acme", 3000)
	writeOlderFile(t, older, "unpacked_facets", entries)
	execSQL(t, older, `INSERT INTO facets SELECT tenant, key, 'u', 's', 'q', 'a', 't', 'r', 'INFO', '' FROM entries`)
	db := openAt(t, older)
	h := &history{db: db, tenant: "acme", indexed: map[audit.EntryID]audit.Entry{}}
	for _, e := range entries {
		h.indexed[e.ID] = e
	}
	request := audit.StatsRequest{GroupBy: []audit.Field{audit.FieldAction, audit.FieldSubmittedBy}, Top: 10, Interval: time.Hour, Distinct: true}
	got, err := db.Index().Stats(t.Context(), "acme", audit.Filter{}, request)
	if err != nil {
		t.Fatal(err)
	}
	if diff := gocmp.Diff(h.count(func(*audit.Entry) bool { return true }, request), got); diff != "" {
		t.Errorf("want (-), got (+):\n%s", diff)
	}
	if n := rows(t, older, "sqlite_schema WHERE name = 'unpacked_facets'"); n != 0 {
		t.Error("the older table is still there, want none")
	}
	if n := rows(t, older, "facet_blocks"); n == 0 {
		t.Error("there are no blocks, want some")
	}
}

// TestHashesOfUsersStay: files have these hashes.
func TestHashesOfUsersStay(t *testing.T) {
	for user, want := range map[string]uint64{"user-1": 0x41a2fca5c68401c5, "": 0xefd01f60ba992926} {
		if got := sqlite.HashUser(user); got != want {
			t.Errorf("%q: got hash %#x, want %#x", user, got, want)
		}
	}
}

// TestDaysWithManyUsersAreCounted: a day with more users than it can have hashes of.
func TestDaysWithManyUsersAreCounted(t *testing.T) {
	db := open(t)
	entries := newCorpus().entries("acme", 6000)
	for i := range entries {
		at := historyStart.Add(time.Duration(i) * 15 * time.Second)
		entries[i].ID, entries[i].Timestamp, entries[i].UserID = audit.NewEntryID(at, [10]byte{9: byte(i)}), at, fmt.Sprintf("user-%d", i%5500)
	}
	for part := range slices.Chunk(entries, 1000) {
		storeIndexed(t, db, "acme", part)
	}
	stats, err := db.Index().Stats(t.Context(), "acme", audit.Filter{}, audit.StatsRequest{Distinct: true})
	if err != nil {
		t.Fatal(err)
	}
	if got, want := stats.DistinctUsers, int64(5500); got != want {
		t.Errorf("counted %d distinct users, want %d", got, want)
	}
}

// TestManyUsersAreEstimated: beyond the exact limit, users are counted within 2 %.
func TestManyUsersAreEstimated(t *testing.T) {
	if testing.Short() {
		t.Skip("fills a million rows; run without -short")
	}
	path := filepath.Join(t.TempDir(), "ocelot.db")
	if err := openAt(t, path).Close(); err != nil {
		t.Fatal(err)
	}
	execSQL(t, path, `INSERT INTO tenant_numbers VALUES (1, 'globex'); INSERT INTO indexed_keys VALUES (1, 0)`)
	db := openAt(t, path)
	const users = 1_000_000
	if err := db.FillBlocks(t.Context(), 1, users); err != nil {
		t.Fatal(err)
	}
	stats, err := db.Index().Stats(t.Context(), "globex", audit.Filter{}, audit.StatsRequest{Distinct: true})
	if err != nil {
		t.Fatal(err)
	}
	if got := stats.DistinctUsers; got < users*98/100 || got > users*102/100 {
		t.Errorf("counted %d distinct users, want %d within 2 %%", got, users)
	}
}

// rows counts the rows of a table in an open file.
func rows(t *testing.T, path, table string) (n int) {
	t.Helper()
	db, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = db.Close() }()
	if err := db.QueryRow(`SELECT count(*) FROM ` + table).Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}
