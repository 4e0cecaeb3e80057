package main

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/arrival"
	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/cost"
	"github.com/ocelot-audit/ocelot/pkg/engine/mongostore"
	"github.com/ocelot-audit/ocelot/pkg/engine/opensearchindex"
	"github.com/ocelot-audit/ocelot/pkg/ingest"
	"github.com/ocelot-audit/ocelot/pkg/manifest"
	"github.com/ocelot-audit/ocelot/pkg/retention"
	"github.com/ocelot-audit/ocelot/pkg/search"
	"github.com/ocelot-audit/ocelot/pkg/wiring"
	"github.com/ocelot-audit/ocelot/pkg/wiring/fromenv"
)

// The service that docs/scale.md is about.
const (
	scaleTenants   = 20_000
	scaleLargest   = 10  // of them have
	scalePart      = 0.5 // of the entries
	scaleAverage   = 1000
	scalePeak      = 20_000
	scaleYears     = 7
	scaleMonths    = 13 // searchable
	scaleDedicated = scaleLargest
	secondsPerDay  = 24 * 60 * 60
)

// scaleShares are the shares of the tenants.
func scaleShares() []float64 { return cost.PowerLaw(scaleTenants, scaleLargest, scalePart) }

// scaleWorkload is a workload at a rate of entries a second.
func scaleWorkload(perSecond float64, perRequest int) cost.Workload {
	w := cost.Workload{
		EntriesPerMonth: perSecond * secondsPerDay * cost.DaysPerMonth, EntryBytes: 1000, EntriesPerRequest: perRequest, Shares: scaleShares(),
		RetentionDays: int(math.Round(scaleYears * 12 * cost.DaysPerMonth)), SearchableDays: int(math.Round(scaleMonths * cost.DaysPerMonth)), Database: cost.DocumentDB,
	}
	w.IndexBytes = mongostore.IndexBytes(mongostore.IndexesLean, mongoPartition(w.EntriesPerMonth))
	return w
}

// scaleModel is everything that the page says.
type scaleModel struct {
	shares []float64
	plan   shardPlan
	lean   float64 // bytes of the indexes of an entry
	full   float64
	bulk   cost.Workload
	single cost.Workload
	// archived is what is done if all tenants archive.
	archived cost.Traffic
	variant  []costVariant
	volumes  []volume
}

// volume is what a rate of entries needs.
type volume struct {
	plan    shardPlan
	sizes   cost.Sizes
	traffic cost.Traffic
}

// scaleVolumes are the rates of the table of sizes, in entries a second.
var scaleVolumes = []float64{10, 100, scaleAverage, scalePeak}

func newVolume(ctx context.Context, shares []float64, perSecond float64) (volume, error) {
	w := scaleWorkload(perSecond, bulkSize)
	w.Database, w.Archived = cost.Atlas, true
	plan, err := placeTenants(ctx, shares, w.EntriesPerMonth)
	v := volume{plan: plan, sizes: cost.SizesOf(&w), traffic: cost.TrafficOf(&w, perSecond)}
	v.sizes.Search = cost.SearchSizeWith(&w, plan.primaries())
	return v, err
}

// costVariant is a way to keep the entries.
type costVariant struct {
	name     string
	estimate *cost.Estimate
}

func newScaleModel(ctx context.Context) (*scaleModel, error) {
	m := &scaleModel{shares: scaleShares(), bulk: scaleWorkload(scaleAverage, bulkSize), single: scaleWorkload(scaleAverage, 1)}
	m.bulk.PeakPerSecond, m.single.PeakPerSecond = scalePeak, scalePeak
	archived := m.bulk
	archived.Archived = true
	m.archived = cost.TrafficOf(&archived, scaleAverage)
	var err error
	if m.plan, err = placeTenants(ctx, m.shares, m.bulk.EntriesPerMonth); err != nil {
		return nil, err
	}
	partition := mongoPartition(m.bulk.EntriesPerMonth)
	m.lean, m.full = mongostore.IndexBytes(mongostore.IndexesLean, partition), mongostore.IndexBytes(mongostore.IndexesFull, partition)
	for _, v := range []struct {
		name     string
		archived bool
		database cost.Database
		single   bool
	}{
		{"archived, DocumentDB", true, cost.DocumentDB, false},
		{"archived, Atlas", true, cost.Atlas, false},
		{"all in MongoDB, DocumentDB", false, cost.DocumentDB, false},
		{"all in MongoDB, Atlas", false, cost.Atlas, false},
		{"archived, DocumentDB, single entries", true, cost.DocumentDB, true},
	} {
		w := m.bulk
		if v.single {
			w = m.single
		}
		w.Archived, w.Database = v.archived, v.database
		estimate, err := cost.Of(w, cost.USEast1())
		if err != nil {
			return nil, err
		}
		m.variant = append(m.variant, costVariant{v.name, estimate})
	}
	for _, perSecond := range scaleVolumes {
		v, err := newVolume(ctx, m.shares, perSecond)
		if err != nil {
			return nil, err
		}
		m.volumes = append(m.volumes, v)
	}
	return m, nil
}

// mongoPartition is the partition of a month, for the model of its indexes. Every second entry is
// about another resource, and one of a hundred of another user, as pkg/cost assumes.
func mongoPartition(entriesPerMonth float64) mongostore.Workload {
	each := int(entriesPerMonth / scaleTenants)
	return mongostore.Workload{
		Tenants: scaleTenants, EntriesPerTenant: each, UsersPerTenant: max(1, each/100), ResourcesPerTenant: max(1, each/2),
		TenantID: 16, UserID: 24, ResourceID: 24, Action: 12, ResourceType: 10, Words: 12, Actions: 40,
	}
}

// collections counts the collections with entries of all years: the shared ones, and those of
// dedicated tenants.
func collections() (shared, dedicated int) {
	names := map[string]bool{}
	first := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	for month := range scaleYears * 12 {
		names[mongostore.PartitionName("", audit.IsolationShared, first.AddDate(0, month, 0))] = true
	}
	shared = len(names)
	for tenant := range scaleDedicated {
		for month := range scaleYears * 12 {
			id := audit.TenantID(fmt.Sprintf("tenant-%05d", tenant))
			names[mongostore.PartitionName(id, audit.IsolationDedicated, first.AddDate(0, month, 0))] = true
		}
	}
	return shared, len(names) - shared
}

// command is a kind of command that a store gets.
type command struct {
	name    string
	average float64 // a second
	peak    float64
	how     string
}

// commandRates are those that depend on the rate of entries.
type commandRates struct {
	inserts, subscribers, places, records, days, keys float64 // MongoDB
	bulks                                             float64 // OpenSearch
}

// indexedBytes is about what a one-KB entry takes in a bulk request: its text and its fields.
const indexedBytes = 2200

func ratesOf(w *cost.Workload, traffic *cost.Traffic) commandRates {
	written := traffic.Persist.Invocations * traffic.Persist.Batch.Tenants // a tenant's part of a batch
	read := func(rate float64, step *cost.Step, ttl time.Duration) float64 {
		return cost.Reads(w.Shares, rate, step.Concurrency, ttl)
	}
	indexed := traffic.Index.Invocations * traffic.Index.Batch.Tenants
	ordered := traffic.Order.Invocations * traffic.Order.Batch.Tenants
	return commandRates{
		inserts: written, subscribers: traffic.Order.Invocations, places: 2 * ordered,
		records: read(traffic.Requests, &traffic.Accept, wiring.TenantTTL) +
			read(written, &traffic.Persist, fromenv.ConsumerTenantTTL) + read(indexed, &traffic.Index, fromenv.ConsumerTenantTTL) +
			read(ordered, &traffic.Order, fromenv.ConsumerTenantTTL),
		days:  read(written, &traffic.Persist, ingest.TouchTTL),
		keys:  traffic.Authorize.Invocations,
		bulks: traffic.Index.Invocations * math.Max(1, math.Ceil(traffic.Index.Batch.Entries*indexedBytes/opensearchindex.DefaultMaxBulkBytes)),
	}
}

// comparisons returns how many days the reconciler compares in a second, and how many keys of
// MongoDB it counts for that.
func comparisons(w *cost.Workload) (days, keys float64) {
	perDay := w.EntriesPerMonth / cost.DaysPerMonth
	hours := 24 / wiring.DefaultGrace.Hours() // a day with entries all the time is compared after each
	busy := hours * cost.Active(w.Shares, perDay/hours)
	after := float64(search.ChecksAfter(time.Duration(w.SearchableDays) * 24 * time.Hour))
	days = (busy + after*cost.Active(w.Shares, perDay)) / secondsPerDay
	// During the day a comparison counts half of the day's entries on average.
	return days, perDay * (hours/2 + after) / secondsPerDay
}

// placesCompared returns how many receipts the reconciler of the arrival log compares in a second.
func placesCompared(w *cost.Workload) float64 {
	perDay := w.EntriesPerMonth / cost.DaysPerMonth
	times := 24 / arrival.CheckInterval.Hours() // a day with entries all the time is compared after each
	return (times*cost.Active(w.Shares, perDay/times) + arrival.EnoughChecks*cost.Active(w.Shares, perDay)) / secondsPerDay
}

// mongoCommands returns what MongoDB is asked in a second.
func (m *scaleModel) mongoCommands() []command {
	average, peak := cost.TrafficOf(&m.bulk, scaleAverage), cost.TrafficOf(&m.bulk, scalePeak)
	a, p := ratesOf(&m.bulk, &average), ratesOf(&m.bulk, &peak)
	days, _ := comparisons(&m.bulk)
	receipts, pruned := placesCompared(&m.bulk), float64(len(m.bulk.Shares))/arrival.MaxPruneInterval.Seconds()
	planned := 1 / every("plan-jobs").Seconds()
	archived, retained := m.archived.LeavingCommands()
	return []command{
		{"insert entries", a.inserts, p.inserts, "one for each tenant of a batch of persist-logs, if all entries are new and of one month"},
		{"look for subscribers", a.subscribers, p.subscribers, "one for each batch of order-logs"},
		{"arrival log: find the end, append", a.places, p.places, "two for each tenant of a batch of order-logs"},
		{"read a tenant's record", a.records, p.records, fmt.Sprintf("each process of create-logs-bulk keeps it for %s, of the consumers of queues for %s", short(wiring.TenantTTL), short(fromenv.ConsumerTenantTTL))},
		{"register an active day", a.days, p.days, fmt.Sprintf("each process of persist-logs, once in %s for a tenant's day", short(ingest.TouchTTL))},
		{"read an API key", a.keys, p.keys, fmt.Sprintf("the authorizer, whose decision API Gateway keeps for %s", short(manifest.AuthorizerTTL))},
		{"reconciler: count a day, claim and note it", 4 * days, 4 * days, "a count, two notes and the tenant's record for each comparison; run-jobs makes them"},
		{"reconciler: count a day's places, claim and note it", 5 * receipts, 5 * receipts, "two counts, two notes and the tenant's record for each comparison; run-jobs makes them"},
		{"arrival log: prune", 6 * pruned, 6 * pruned, fmt.Sprintf("each log at least every %s: the tenant's record, its legal holds, the oldest segments, two notes", short(arrival.MaxPruneInterval))},
		{"run-archives: read entries", archived, archived, "each entry twice, to write it and to compare it, if all tenants archive; the records of its jobs"},
		{"run-jobs: look at entries that leave", retained, retained, fmt.Sprintf("pages of %s, read three times, marked and removed", thousands(retention.MaxEntries))},
		{"plan-jobs: list what stands still", planned, planned, fmt.Sprintf("every %s; more if there are jobs", short(every("plan-jobs")))},
	}
}

// searchCommands returns what OpenSearch is asked in a second.
func (m *scaleModel) searchCommands() []command {
	average, peak := cost.TrafficOf(&m.bulk, scaleAverage), cost.TrafficOf(&m.bulk, scalePeak)
	a, p := ratesOf(&m.bulk, &average), ratesOf(&m.bulk, &peak)
	days, _ := comparisons(&m.bulk)
	placed := 2 / every("place-tenants").Seconds()
	return []command{
		{"bulk request", a.bulks, p.bulks, fmt.Sprintf("one for each batch of index-logs and each %d MiB of it", opensearchindex.DefaultMaxBulkBytes>>20)},
		{"reconciler: count a day", days, days, "one for each comparison"},
		{"place-tenants: sizes, largest tenants", placed, placed, fmt.Sprintf("every %s", short(every("place-tenants")))},
	}
}

// short prints a duration without its zeros: 10m and not 10m0s.
func short(d time.Duration) string {
	text := d.String()
	for _, zero := range []string{"m0s", "h0m"} {
		if strings.HasSuffix(text, zero) {
			text = text[:len(text)-2]
		}
	}
	return text
}

// every returns the interval of a scheduled function.
func every(name string) time.Duration { return manifest.FunctionOf(name).Trigger.Schedule.Every }

// connectionsOf returns the most connections of a process to one server of MongoDB.
func connectionsOf(function string) int {
	return cmp.Or(manifest.FunctionOf(function).Connections, mongostore.PoolSize)
}

// connections returns the most connections to one server of MongoDB: of the consumers at their
// maximum concurrency, and of requests at peak. A process has at most a pool of them; a batch uses
// one for each tenant that is written at the same time.
func (m *scaleModel) connections() (consumers, requests int) {
	for _, f := range manifest.Functions() {
		if f.DependsOn(manifest.DependencyRecords) {
			for _, q := range f.Trigger.Queues {
				consumers += q.MaxConcurrency * connectionsOf(f.Name)
			}
		}
	}
	peak := cost.TrafficOf(&m.bulk, scalePeak)
	return consumers, int(math.Ceil(peak.Accept.Concurrency) + math.Ceil(peak.Authorize.Concurrency))
}
