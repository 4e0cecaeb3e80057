package cost_test

import (
	"fmt"
	"math"
	"testing"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/cost"
	"github.com/ocelot-audit/ocelot/pkg/manifest"
)

// aDay is a workload of a million entries a day of one tenant, in bulks of 100.
func aDay() cost.Workload {
	return cost.Workload{
		EntriesPerMonth: 1e6 * cost.DaysPerMonth, EntryBytes: 1000, EntriesPerRequest: 100, Shares: cost.Alike(1),
		RetentionDays: 100, SearchableDays: 10, Database: cost.Atlas, IndexBytes: 100,
	}
}

func near(t *testing.T, what string, got, want float64) {
	t.Helper()
	if math.Abs(got-want) > 1e-6*math.Max(1, math.Abs(want)) {
		t.Errorf("%s is %v, want %v", what, got, want)
	}
}

// only returns prices of nothing but what set sets.
func only(set func(*cost.Prices)) cost.Prices {
	var p cost.Prices
	set(&p)
	return p
}

func flat(unit float64) []cost.Tier { return []cost.Tier{{UpTo: math.Inf(1), Unit: unit}} }

func bill(t *testing.T, w cost.Workload, p cost.Prices) *cost.Estimate {
	t.Helper()
	e, err := cost.Of(w, p)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// The values of a month are computed by hand, from a million entries a day of 1,000 bytes.
func TestPartsOfABill(t *testing.T) {
	const days = cost.DaysPerMonth
	archived, documents, single := aDay(), aDay(), aDay()
	archived.Archived = true
	documents.Database = cost.DocumentDB
	single.EntriesPerRequest = 1
	for _, c := range []struct {
		name     string
		workload cost.Workload
		prices   cost.Prices
		want     float64
	}{
		{"10,000 requests a day", aDay(), only(func(p *cost.Prices) { p.APIRequest = flat(2) }), 2 * 10_000 * days},
		{"a million requests a day", single, only(func(p *cost.Prices) { p.APIRequest = flat(2) }), 2 * 1e6 * days},
		{"tiers: 304,375 requests a month, the first 100,000 dearer", aDay(),
			only(func(p *cost.Prices) {
				p.APIRequest = []cost.Tier{{UpTo: 100_000, Unit: 3}, {UpTo: math.Inf(1), Unit: 1}}
			}), 3*100_000 + 204_375},
		// 100 days of a million entries with 433 bytes and 100 of indexes are 53.3 GB. A node of
		// a quarter includes 80 GB.
		{"the disk that Atlas includes", aDay(), only(func(p *cost.Prices) { p.AtlasDiskGB = 5 }), 0},
		{"one small shard of Atlas", aDay(), only(func(p *cost.Prices) { p.AtlasShardHour = 4 }), 0.25 * 4 * days * 24},
		{"three small nodes of DocumentDB", documents, only(func(p *cost.Prices) { p.DocumentNodeHour = 4 }), 3 * 0.25 * 4 * days * 24},
		// 100 days of a million entries with 1,250 bytes and 320 of indexes.
		{"the disk of DocumentDB", documents, only(func(p *cost.Prices) { p.DocumentDiskGB = 5 }), 5 * 157},
		// 1,570 bytes of 4,096, and 0.51 reads. When the entry leaves, the same again for its mark and its removal,
		// 320 bytes of keys, and three reads of 1,250 bytes of 8,192.
		{"the writes of DocumentDB", documents, only(func(p *cost.Prices) { p.DocumentIO = 1e-6 }), days * (2*(1570./4096+0.51) + 320./4096 + 3*1250./8192)},
		// Ten days of a million entries with the bytes of a shard, twice, and a quarter more.
		{"the disks of OpenSearch", aDay(), only(func(p *cost.Prices) { p.SearchDiskGB = 5 }), 5 * 10e6 * cost.SearchBytes * 2 * 1.25 / 1e9},
		{"three small nodes and three masters of OpenSearch", aDay(),
			only(func(p *cost.Prices) { p.SearchNodeHour, p.SearchMasterHour = 4, 1 }), (3*0.25*4 + 3) * days * 24},
		{"no archive", aDay(), only(func(p *cost.Prices) { p.S3GB = flat(5) }), 0},
		{"100 days in the archive", archived, only(func(p *cost.Prices) { p.S3GB = flat(5) }), 5 * 100e6 * cost.ArchivedBytes / 1e9},
		// A part for 390,000 entries and one more for the tenant, each with its ids and the manifest.
		{"writing the archive", archived, only(func(p *cost.Prices) { p.S3Put = 1 }), 3 * (79 + 1)},
		// Four addresses in three zones, one more for Atlas, and a NAT gateway in each zone.
		{"addresses with DocumentDB", documents, only(func(p *cost.Prices) { p.EndpointZoneHour = 1 }), 3 * 4 * days * 24},
		{"addresses with Atlas", aDay(), only(func(p *cost.Prices) { p.EndpointZoneHour = 1 }), 3 * 5 * days * 24},
		{"ways out of the network", aDay(), only(func(p *cost.Prices) { p.NATHour = 1 }), 3 * days * 24},
		{"the keys and the secrets", aDay(), only(func(p *cost.Prices) { p.KMSKey, p.Secret = 1, 1 }), 3 + 4},
	} {
		t.Run(c.name, func(t *testing.T) {
			e := bill(t, c.workload, c.prices)
			near(t, "the bill", e.USD(), c.want)
		})
	}
}

// Entries pay for what they add, and not for what stands there without them.
func TestPerMillion(t *testing.T) {
	w := aDay()
	near(t, "the price of requests", bill(t, w, only(func(p *cost.Prices) { p.APIRequest = flat(2) })).PerMillion(), 2*10_000)
	near(t, "the price of the key", bill(t, w, only(func(p *cost.Prices) { p.KMSKey = 2 })).PerMillion(), 0)
	near(t, "the price of masters", bill(t, w, only(func(p *cost.Prices) { p.SearchMasterHour = 2 })).PerMillion(), 0)
	w.EntriesPerMonth = 0
	near(t, "the price without entries", bill(t, w, cost.USEast1()).PerMillion(), 0)
}

// Twice the entries cost at most twice what the entries cost, and something more.
func TestBillGrowsWithEntries(t *testing.T) {
	for _, database := range []cost.Database{cost.DocumentDB, cost.Atlas} {
		w := aDay()
		w.Shares, w.Database = cost.PowerLaw(1000, 10, 0.5), database
		last := 0.0
		for range 12 {
			usd := bill(t, w, cost.USEast1()).USD()
			if usd <= last {
				t.Errorf("%s: %.0f entries cost %.2f USD, want more than %.2f, which half of them cost", database, w.EntriesPerMonth, usd, last)
			}
			last = usd
			w.EntriesPerMonth *= 2
		}
	}
}

// A second has 1,000 entries of one tenant in ten requests. Each is one message of
// 239 × 100 + 1,194 bytes. Five pollers get two each in their window.
func TestTrafficOfBulks(t *testing.T) {
	w := aDay()
	traffic := cost.TrafficOf(&w, 1000)
	near(t, "requests", traffic.Requests, 10)
	near(t, "bytes of a message", traffic.Persist.Batch.MessageBytes, 25_094)
	near(t, "invocations of persist-logs", traffic.Persist.Invocations, 5)
	near(t, "entries of a batch", traffic.Persist.Batch.Entries, 200)
	near(t, "tenants of a batch", traffic.Persist.Batch.Tenants, 1)
	near(t, "requests to the ingest queue", traffic.Persist.SQSRequests, 10+10+5)
	// Two messages of a tenant become one.
	near(t, "entries of a batch of index-logs", traffic.Index.Batch.Entries, 200)
	near(t, "requests to the index queue", traffic.Index.SQSRequests, 5+5+5)
	near(t, "entries of a batch of order-logs", traffic.Order.Batch.Entries, 200)
	near(t, "bytes of a message about arrivals", traffic.Order.Batch.MessageBytes, 2*164+200*22)
	near(t, "requests to the arrival queue", traffic.Order.SQSRequests, 5+5+5)
	// An invocation and 200 entries on 1,024 of 1,769 MB, a wait for MongoDB and one for SQS.
	want := (time.Millisecond+200*40*time.Microsecond)*1769/1024 + 18*time.Millisecond
	if got := traffic.Persist.Duration.Round(time.Microsecond); got != want.Round(time.Microsecond) {
		t.Errorf("persist-logs takes %s, want %s", got, want)
	}
	near(t, "persist-logs at once", traffic.Persist.Concurrency, 5*traffic.Persist.Duration.Seconds())
}

// In full batches, the arrival log costs at most 0.01 billed requests for each entry.
func TestArrivalsOfFullBatches(t *testing.T) {
	w := aDay()
	const rate = 20_000
	traffic := cost.TrafficOf(&w, rate)
	if got := traffic.Persist.Batch.Messages; got < 20 {
		t.Fatalf("a batch of persist-logs has %.1f messages, want at least 20 for the test to prove something", got)
	}
	got := traffic.Order.SQSRequests / rate
	if got > 0.01 {
		t.Errorf("the arrival queue takes %.4f billed requests for each entry, want at most 0.01", got)
	}
	t.Logf("the arrival queue takes %.4f billed requests for each entry", got)
}

// Two tenants alike: half of the batches of two messages have both.
func TestTrafficOfTwoTenants(t *testing.T) {
	w := aDay()
	w.Shares = cost.Alike(2)
	traffic := cost.TrafficOf(&w, 1000)
	near(t, "tenants of a batch", traffic.Persist.Batch.Tenants, 1.5)
	near(t, "messages to the index", traffic.Index.Invocations*traffic.Index.Batch.Messages, 5*1.5)
}

func TestTrafficOfSingleEntries(t *testing.T) {
	w := aDay()
	w.EntriesPerRequest = 1
	traffic := cost.TrafficOf(&w, 10_000)
	if got, want := traffic.Accept.Function, "create-log"; got != want {
		t.Errorf("entries go to %s, want %s", got, want)
	}
	near(t, "messages of a batch, which is full", traffic.Persist.Batch.Messages, 100)
	near(t, "invocations of persist-logs", traffic.Persist.Invocations, 100)
}

// A million entries of a tenant leave in a day. Three parts hold them, but for a month's last one, and run-jobs looks
// at the day three times.
func TestTrafficOfEntriesThatLeave(t *testing.T) {
	const days = cost.DaysPerMonth
	w := aDay()
	traffic := cost.TrafficOf(&w, 1000)
	near(t, "invocations of run-archives without an archive", traffic.Archive.Invocations, 0)
	near(t, "invocations of run-jobs", traffic.Retain.Invocations*24*3600, 3)
	// Each page of 2,000 is read three times, marked and removed. A look reads and writes four records of its day.
	_, retain := traffic.LeavingCommands()
	near(t, "commands of run-jobs", retain*24*3600, 5*500+3*4)
	w.Archived = true
	traffic = cost.TrafficOf(&w, 1000)
	near(t, "invocations of run-archives", traffic.Archive.Invocations*days*24*3600, 79+1)
	archive, _ := traffic.LeavingCommands()
	each := 2 * math.Ceil(1e6*days/80/250) // of a part, which has pages of 250, read twice
	near(t, "commands of run-archives", archive*days*24*3600, 80*(each+20))
}

// The manifest decides how many run at once.
func TestTrafficReadsTheManifest(t *testing.T) {
	w := aDay()
	traffic := cost.TrafficOf(&w, 1000)
	for _, f := range manifest.Functions() {
		for _, s := range traffic.Steps() {
			if s.Function != f.Name {
				continue
			}
			if s.MemoryMB != f.MemoryMB {
				t.Errorf("%s has %d MB, want %d", s.Function, s.MemoryMB, f.MemoryMB)
			}
			if len(f.Trigger.Queues) > 0 && s.MaxConcurrency != f.Trigger.Queues[0].MaxConcurrency {
				t.Errorf("%s runs %d at once, want %d", s.Function, s.MaxConcurrency, f.Trigger.Queues[0].MaxConcurrency)
			}
		}
		if f.Trigger.Schedule != nil && !hasStep(traffic.Scheduled, f.Name) {
			t.Errorf("%s has no step", f.Name)
		}
	}
}

func hasStep(steps []cost.Step, name string) bool {
	for _, s := range steps {
		if s.Function == name {
			return true
		}
	}
	return false
}

func TestPowerLaw(t *testing.T) {
	shares := cost.PowerLaw(20_000, 10, 0.5)
	first, all := 0.0, 0.0
	for i, share := range shares {
		all += share
		if i < 10 {
			first += share
		}
		if i > 0 && share > shares[i-1] {
			t.Fatalf("tenant %d has a larger share than the one before it", i)
		}
	}
	near(t, "the share of the first ten", first, 0.5)
	near(t, "the share of all", all, 1)
	near(t, "a share of tenants of which none is larger", cost.PowerLaw(10, 10, 0.5)[3], 0.1)
	near(t, "a share of tenants of which ten have too little", cost.PowerLaw(100, 10, 0.05)[3], 0.01)
}

// One process reads at most once in a lifetime; a tenant that is asked for seldom is read each time.
func TestReads(t *testing.T) {
	near(t, "reads of a busy tenant by two processes", cost.Reads([]float64{1}, 1e12, 2, 5*time.Second), 2*0.2)
	if got := cost.Reads([]float64{1}, 0.001, 1, time.Second); math.Abs(got-0.001) > 1e-5 {
		t.Errorf("a tenant that is asked for seldom is read %v times a second, want 0.001", got)
	}
}

func TestActive(t *testing.T) {
	near(t, "tenants that send something while a million entries arrive", cost.Active(cost.Alike(2), 1e6), 2)
	near(t, "tenants that send something while one entry arrives", cost.Active(cost.Alike(1), 1), 1-math.Exp(-1))
}

// 2,000 entries a second fill what a small shard cannot hold.
func TestSizesGrow(t *testing.T) {
	w := aDay()
	w.EntriesPerMonth *= 173 // 2,002 a second
	sizes := cost.SizesOf(&w)
	near(t, "GB in MongoDB", sizes.Database.DataGB, 173*53.3)
	if got, want := sizes.Database.Shards, 3; got < want { // 9.2 TB, at most 4 TB each
		t.Errorf("MongoDB has %d shards, want at least %d", got, want)
	}
	near(t, "the size of its nodes", sizes.Database.NodeScale, 1)
	w.PeakPerSecond = 100_000
	if got, want := cost.SizesOf(&w).Database.Shards, 11; got != want { // at most 10,000 inserts, marks and removals each
		t.Errorf("MongoDB has %d shards at peak, want %d", got, want)
	}
	if got, want := cost.SizesOf(&w).Search.Nodes, 26; got != want { // 102,002 documents twice, 8,000 each
		t.Errorf("OpenSearch has %d nodes at peak, want %d", got, want)
	}
	// 13 months of 100 shards and their replicas need 3.25 nodes with a heap of 32 GB.
	search := cost.SearchSizeWith(&cost.Workload{EntryBytes: 1000, SearchableDays: 365}, 100)
	near(t, "shards", float64(search.Shards), 2600)
	if got, want := search.Nodes, 4; got != want {
		t.Errorf("OpenSearch has %d nodes for its shards, want %d", got, want)
	}
}

func TestValidate(t *testing.T) {
	valid := aDay()
	if err := valid.Validate(); err != nil {
		t.Errorf("got error %v, want none", err)
	}
	for i, change := range []func(*cost.Workload){
		func(w *cost.Workload) { w.EntriesPerMonth = -1 },
		func(w *cost.Workload) { w.EntriesPerMonth = math.NaN() },
		func(w *cost.Workload) { w.EntriesPerMonth = math.Inf(1) },
		func(w *cost.Workload) { w.EntryBytes = 0 },
		func(w *cost.Workload) { w.EntriesPerRequest = 0 },
		func(w *cost.Workload) { w.EntriesPerRequest = 1001 },
		func(w *cost.Workload) { w.Shares = nil },
		func(w *cost.Workload) { w.SearchableDays = 0 },
		func(w *cost.Workload) { w.RetentionDays = w.SearchableDays - 1 },
		func(w *cost.Workload) { w.SearchesPerMonth = -1 },
		func(w *cost.Workload) { w.PeakPerSecond = -1 },
		func(w *cost.Workload) { w.IndexBytes = -1 },
		func(w *cost.Workload) { w.Database = "file" },
	} {
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			w := aDay()
			change(&w)
			if _, err := cost.Of(w, cost.USEast1()); err == nil {
				t.Errorf("got no error for %+v", w)
			}
		})
	}
}

// A price that was forgotten would be free.
func TestPricesAreComplete(t *testing.T) {
	p := cost.USEast1()
	for name, price := range map[string]float64{
		"LambdaRequest": p.LambdaRequest, "KMSKey": p.KMSKey, "Secret": p.Secret,
		"LogsIngestGB": p.LogsIngestGB, "LogsStoredGB": p.LogsStoredGB, "S3Put": p.S3Put, "S3Get": p.S3Get,
		"EndpointZoneHour": p.EndpointZoneHour, "NATHour": p.NATHour,
		"SearchNodeHour": p.SearchNodeHour, "SearchMasterHour": p.SearchMasterHour, "SearchDiskGB": p.SearchDiskGB,
		"DocumentNodeHour": p.DocumentNodeHour,
		"DocumentDiskGB":   p.DocumentDiskGB, "DocumentIO": p.DocumentIO, "AtlasShardHour": p.AtlasShardHour, "AtlasDiskGB": p.AtlasDiskGB,
	} {
		if price <= 0 {
			t.Errorf("%s is %v, want a price", name, price)
		}
	}
	for name, tiers := range map[string][]cost.Tier{"APIRequest": p.APIRequest, "LambdaGBSecond": p.LambdaGBSecond, "SQSRequest": p.SQSRequest, "S3GB": p.S3GB} {
		for i, tier := range tiers {
			if tier.Unit <= 0 {
				t.Errorf("tier %d of %s costs %v, want a price", i, name, tier.Unit)
			}
			if i > 0 && tier.UpTo <= tiers[i-1].UpTo {
				t.Errorf("tier %d of %s ends before the one before it", i, name)
			}
		}
		if last := tiers[len(tiers)-1]; !math.IsInf(last.UpTo, 1) {
			t.Errorf("%s has no last tier", name)
		}
	}
}
