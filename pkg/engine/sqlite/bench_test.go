package sqlite_test

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/engine/sqlite"
	"github.com/ocelot-audit/ocelot/pkg/entryjson"
	"github.com/ocelot-audit/ocelot/pkg/search"
)

// corpus generates entries of about 1 KB of JSON, like those of a busy tenant.
type corpus struct {
	rnd   *rand.Rand
	words []string
	made  int64
}

var corpusStart = time.Date(2026, 9, 1, 0, 0, 0, 0, time.UTC)

func newCorpus() *corpus {
	c := &corpus{rnd: rand.New(rand.NewPCG(1, 2))}
	for range 5000 {
		word := make([]byte, 3+c.rnd.IntN(8))
		for i := range word {
			word[i] = 'a' + byte(c.rnd.IntN(26))
		}
		c.words = append(c.words, string(word))
	}
	return c
}

// text returns n words of very different frequencies.
func (c *corpus) text(n int) string {
	words := make([]string, n)
	for i := range words {
		words[i] = c.words[min(int(c.rnd.ExpFloat64()*400), len(c.words)-1)]
	}
	return strings.Join(words, " ")
}

func (c *corpus) entry(tenant audit.TenantID) audit.Entry {
	c.made++
	at := corpusStart.Add(time.Duration(c.made) * 2 * time.Millisecond)
	var random [10]byte
	for i := range random {
		random[i] = byte(c.rnd.Uint32())
	}
	resource := c.rnd.IntN(20000)
	e := audit.Entry{
		ID: audit.NewEntryID(at, random), Tenant: tenant, Timestamp: at, ReceivedAt: at,
		UserID: fmt.Sprintf("user-%d", c.rnd.IntN(1000)), SessionID: fmt.Sprintf("session-%d", c.made/20), RequestID: fmt.Sprintf("request-%d", c.made),
		Action: []string{"CREATE", "UPDATE", "DELETE", "VIEW"}[c.rnd.IntN(4)], ResourceType: fmt.Sprintf("type-%d", c.rnd.IntN(10)), ResourceID: fmt.Sprintf("resource-%d", resource),
		UserAgent: "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko)",
		Before:    audit.Object(fmt.Sprintf(`{"name":%q,"state":"open","total":%d}`, c.text(6), c.rnd.IntN(1e6))),
		After:     audit.Object(fmt.Sprintf(`{"name":%q,"state":"closed","total":%d}`, c.text(6), c.rnd.IntN(1e6))),
		Metadata: audit.Object(fmt.Sprintf(`{"region":"eu-%d","service":"billing","version":"1.%d","trace":{"id":"%d","sampled":true}}`,
			c.rnd.IntN(4), c.rnd.IntN(100), c.rnd.Int64())),
		Severity: audit.Severity(min(c.rnd.ExpFloat64(), 3)), Message: c.text(16), Changed: []string{"name", "state", "total"},
		SubmittedBy: "key:0123456789abcdef",
	}
	for i := range e.Digest.Sum {
		e.Digest.Sum[i] = byte(c.rnd.Uint32())
	}
	return e
}

func (c *corpus) entries(tenant audit.TenantID, n int) []audit.Entry {
	entries := make([]audit.Entry, n)
	for i := range entries {
		entries[i] = c.entry(tenant)
	}
	return entries
}

func openBench(b *testing.B) *sqlite.DB {
	b.Helper()
	db, err := sqlite.Open(b.Context(), filepath.Join(b.TempDir(), "ocelot.db"))
	if err != nil {
		b.Fatal(err)
	}
	return db
}

// pipeline takes bulks of entries through all steps of the engine.
type pipeline struct {
	db            *sqlite.DB
	ingest, index *sqlite.Queue
	indexed       atomic.Int64
}

const bulk = 100

func encodeBulk(entries []audit.Entry) string {
	var out []byte
	for i := range entries {
		out = append(entryjson.AppendStored(out, &entries[i]), '\n')
	}
	return string(out)
}

func decodeBulk(body string) ([]audit.Entry, error) {
	var entries []audit.Entry
	for line := range bytes.Lines([]byte(body)) {
		e, err := entryjson.ParseStored(bytes.TrimSuffix(line, []byte("\n")))
		if err != nil {
			return nil, err
		}
		entries = append(entries, e)
	}
	return entries, nil
}

// step processes messages of a queue until ctx ends. It returns the error of ctx.
func (p *pipeline) step(ctx context.Context, queue *sqlite.Queue, handle func(body string) error) error {
	for {
		messages, err := queue.Receive(ctx, 10, time.Second)
		if err != nil {
			return err
		}
		for _, m := range messages {
			if err := handle(m.Body); err != nil {
				return err
			}
			if err := queue.Delete(ctx, []string{m.Receipt}); err != nil {
				return err
			}
		}
	}
}

func (p *pipeline) persist(ctx context.Context) func(body string) error {
	return func(body string) error {
		entries, err := decodeBulk(body)
		if err != nil {
			return err
		}
		if _, err := p.db.Entries().Append(ctx, entries[0].Tenant, entries); err != nil {
			return err
		}
		return p.index.Send(ctx, "acme", []string{body})
	}
}

func (p *pipeline) put(ctx context.Context) func(body string) error {
	return func(body string) error {
		entries, err := decodeBulk(body)
		if err != nil {
			return err
		}
		if _, err := search.PutEntries(ctx, p.db.Index(), entries[0].Tenant, entries); err != nil {
			return err
		}
		p.indexed.Add(int64(len(entries)))
		return nil
	}
}

// run sends n entries and returns when all are searchable.
func (p *pipeline) run(tb testing.TB, c *corpus, n int, report func(done int)) {
	tb.Helper()
	ctx, cancel := context.WithCancel(tb.Context())
	defer cancel()
	p.ingest, p.index = p.db.Queue("ingest", time.Minute, 5), p.db.Queue("index", time.Minute, 5)
	p.indexed.Store(0)
	var workers sync.WaitGroup
	work := func(f func() error) {
		workers.Go(func() {
			if err := f(); err != nil && ctx.Err() == nil {
				tb.Error(err)
				cancel()
			}
		})
	}
	for range 4 {
		work(func() error { return p.step(ctx, p.ingest, p.persist(ctx)) })
		work(func() error { return p.step(ctx, p.index, p.put(ctx)) })
	}
	bodies := make(chan string, 64)
	for range 8 {
		work(func() error {
			for body := range bodies {
				if err := p.ingest.Send(ctx, "acme", []string{body}); err != nil {
					return err
				}
			}
			return nil
		})
	}
	const ahead = 20_000 // entries in the pipeline at once
	for sent := 0; sent < n; sent += bulk {
		body := encodeBulk(c.entries("acme", bulk))
		for sent-int(p.indexed.Load()) > ahead && ctx.Err() == nil {
			time.Sleep(time.Millisecond)
		}
		bodies <- body
		report(int(p.indexed.Load()))
	}
	close(bodies)
	for int(p.indexed.Load()) < n && ctx.Err() == nil {
		time.Sleep(time.Millisecond)
	}
	cancel()
	workers.Wait()
}

// residentMB returns the resident memory of this process, 0 if it is unknown.
func residentMB() float64 {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0
	}
	var kib float64
	if _, rest, found := strings.Cut(string(status), "VmRSS:"); found {
		_, _ = fmt.Sscan(rest, &kib)
	}
	return kib / 1024
}

// BenchmarkPipeline measures entries from the ingest queue until searches find
// them. -short omits a million entries.
func BenchmarkPipeline(b *testing.B) {
	for _, n := range []int{20_000, 100_000, 1_000_000} {
		b.Run(fmt.Sprintf("entries=%d", n), func(b *testing.B) {
			if n > 100_000 && testing.Short() {
				b.Skip("a million entries take minutes; run without -short")
			}
			var resident float64
			for b.Loop() {
				db := openBench(b)
				p := pipeline{db: db}
				last, lastAt := 0, time.Now()
				p.run(b, newCorpus(), n, func(done int) {
					if done-last >= 100_000 {
						b.Logf("%d entries: %.0f/s, %.0f MB resident", done, float64(done-last)/time.Since(lastAt).Seconds(), residentMB())
						last, lastAt = done, time.Now()
					}
				})
				b.StopTimer()
				resident = residentMB()
				if err := db.Close(); err != nil {
					b.Fatal(err)
				}
				b.StartTimer()
			}
			b.ReportMetric(float64(n)*float64(b.N)/b.Elapsed().Seconds(), "entries/s")
			b.ReportMetric(resident, "MB-resident")
		})
	}
}

// fill stores and indexes n entries of the tenant.
func fill(b *testing.B, db *sqlite.DB, c *corpus, tenant audit.TenantID, n int) {
	b.Helper()
	for range n / 1000 {
		entries := c.entries(tenant, 1000)
		storeIndexed(b, db, tenant, entries)
	}
}

// BenchmarkRead measures reads of one tenant's entries. -short omits a million entries.
func BenchmarkRead(b *testing.B) {
	for _, n := range []int{100_000, 1_000_000} {
		b.Run(fmt.Sprintf("entries=%d", n), func(b *testing.B) {
			if n > 100_000 && testing.Short() {
				b.Skip("a million entries take minutes; run without -short")
			}
			db := openBench(b)
			c := newCorpus()
			fill(b, db, c, "acme", n)
			benchmarkPages(b, db, c, n)
			benchmarkStats(b, db)
			b.Logf("%.0f MB resident", residentMB())
			if err := db.Close(); err != nil {
				b.Fatal(err)
			}
		})
	}
}

func benchmarkPages(b *testing.B, db *sqlite.DB, c *corpus, n int) {
	equals := func(field audit.Field, values ...string) audit.Expr {
		return audit.Equals{Field: field, Values: values}
	}
	middle := corpusStart.Add(time.Duration(n) * time.Millisecond) // the corpus has an entry every two
	for _, q := range []struct {
		name   string
		filter audit.Filter
	}{
		{"newest", audit.Filter{}},
		{"middle", audit.Filter{To: middle}},
		{"dense", audit.Filter{Where: equals(audit.FieldAction, "CREATE")}},
		{"rare", audit.Filter{Where: equals(audit.FieldResourceID, "resource-77")}},
		{"unique", audit.Filter{Where: equals(audit.FieldRequestID, "request-777")}},
		{"rare_and_dense", audit.Filter{Where: audit.And{equals(audit.FieldResourceID, "resource-77"), equals(audit.FieldAction, "CREATE")}}},
		{"dense_and_dense", audit.Filter{Where: audit.And{equals("metadata.region", "eu-1"), equals(audit.FieldAction, "CREATE", "VIEW")}}},
		{"dense_before_middle", audit.Filter{To: middle, Where: equals(audit.FieldAction, "CREATE")}},
		{"not_dense", audit.Filter{Where: audit.Not{Expr: equals(audit.FieldAction, "CREATE")}}},
		{"word", audit.Filter{Where: audit.Text{Words: c.words[500:501]}}},
		{"phrase", audit.Filter{Where: audit.Text{Words: c.words[10:12]}}},
		{"prefix", audit.Filter{Where: audit.Text{Words: []string{c.words[500][:3]}, Prefix: true}}},
		{"newest_and_16_rules", sixteenRules(0)},
		{"newest_and_16_rules_that_hide_a_quarter", sixteenRules(30)},
		{"newest_and_16_rules_that_hide_most", sixteenRules(60)},
		{"one_letter_prefix", audit.Filter{Where: audit.Text{Words: []string{"a"}, Prefix: true}}},
	} {
		b.Run(q.name, func(b *testing.B) {
			found := 0
			for b.Loop() {
				page, err := db.Index().Find(b.Context(), "acme", q.filter, audit.PageRequest{Limit: 50})
				if err != nil {
					b.Fatal(err)
				}
				found = len(page.Entries)
			}
			b.ReportMetric(float64(found), "entries")
		})
	}
}

// sixteenRules is the filter of a tenant with 16 rules, when the corpus is so many days old.
// By 30 days the action CREATE has expired, by 60 days what is not CRITICAL.
func sixteenRules(age int) audit.Filter {
	critical := audit.SeverityCritical
	s := audit.Settings{RetentionDays: 50, RetentionRules: []audit.RetentionRule{{Action: "CREATE", Days: 20}, {Severity: &critical}}}
	for i := len(s.RetentionRules); i < audit.MaxRetentionRules; i++ {
		s.RetentionRules = append(s.RetentionRules, audit.RetentionRule{Action: fmt.Sprintf("ACTION-%d", i), Days: 30 + i})
	}
	return s.Visible(audit.Filter{}, corpusStart.AddDate(0, 0, age).Add(time.Hour))
}

func benchmarkStats(b *testing.B, db *sqlite.DB) {
	dense := audit.Filter{Where: audit.Equals{Field: audit.FieldAction, Values: []string{"CREATE"}}}
	for _, q := range []struct {
		name    string
		filter  audit.Filter
		request audit.StatsRequest
	}{
		{"total", audit.Filter{}, audit.StatsRequest{}},
		{"total_dense", dense, audit.StatsRequest{}},
		{"total_and_16_rules", sixteenRules(0), audit.StatsRequest{}},
		{"total_and_16_rules_that_hide_a_quarter", sixteenRules(30), audit.StatsRequest{}},
		{"by_action", audit.Filter{}, audit.StatsRequest{GroupBy: []audit.Field{audit.FieldAction}, Top: 10}},
		{"by_user_dense", dense, audit.StatsRequest{GroupBy: []audit.Field{audit.FieldUserID}, Top: 10}},
		{"by_request", audit.Filter{}, audit.StatsRequest{GroupBy: []audit.Field{audit.FieldRequestID}, Top: 10}},
		{"by_metadata_dense", dense, audit.StatsRequest{GroupBy: []audit.Field{"metadata.region"}, Top: 10}},
		{"everything", audit.Filter{}, audit.StatsRequest{
			GroupBy: []audit.Field{audit.FieldAction, audit.FieldSeverity}, Top: 10, Interval: time.Hour, Distinct: true,
		}},
	} {
		b.Run("stats_"+q.name, func(b *testing.B) {
			for b.Loop() {
				if _, err := db.Index().Stats(b.Context(), "acme", q.filter, q.request); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkSend measures many senders of small messages to one queue.
func BenchmarkSend(b *testing.B) {
	db := openBench(b)
	q := db.Queue("q", time.Minute, 5)
	bodies := make([]string, 10)
	for i := range bodies {
		bodies[i] = strings.Repeat("x", 200)
	}
	b.SetParallelism(16)
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if err := q.Send(b.Context(), "acme", bodies); err != nil {
				b.Error(err)
			}
		}
	})
	b.ReportMetric(float64(len(bodies)*b.N)/b.Elapsed().Seconds(), "messages/s")
	if err := db.Close(); err != nil {
		b.Fatal(err)
	}
}
