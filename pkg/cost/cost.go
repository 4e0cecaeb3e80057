// Package cost prices a workload: what a month of it costs on AWS, part by part, the stores
// included. It reads the manifest and the other packages for what an entry passes through.
// Prices, and what no constant of the code decides, are values of this package with their
// sources.
//
// An Estimate is a model. It is the bill of a month in the steady state: entries have arrived at
// one rate for as long as they are kept. See NotIncluded for what it leaves out.
package cost

import (
	"cmp"
	"fmt"
	"math"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/stream"
)

// NotIncluded is what no estimate has.
const NotIncluded = "backups, data transfer, alarms, traces, firewall, support, discounts"

// Workload is what a deployment has to do.
type Workload struct {
	EntriesPerMonth float64
	// EntryBytes is the size of an entry as JSON.
	EntryBytes int
	// EntriesPerRequest is how many entries a client sends at once; 1 is a request for each.
	EntriesPerRequest int
	// Shares are the tenants' shares of the entries; see PowerLaw and Alike.
	Shares []float64
	// RetentionDays is how long an entry is kept.
	RetentionDays int
	// SearchableDays is how long an entry is in the search index.
	SearchableDays int
	// Archived is set if entries leave the database when they leave the index, and are kept in
	// S3 until the end of their retention.
	Archived bool
	// SearchesPerMonth are lists and counts.
	SearchesPerMonth float64
	// IndexBytes are those of an entry in MongoDB's indexes; 0: DefaultIndexBytes.
	IndexBytes float64
	// PeakPerSecond is the rate that the stores must bear for an hour; 0: the average.
	PeakPerSecond float64
	Database      Database
}

// Database is what runs the system of record.
type Database string

// The databases.
const (
	DocumentDB Database = "documentdb" // Amazon DocumentDB, standard storage
	Atlas      Database = "atlas"      // MongoDB Atlas, three nodes a shard
)

// Days of a month and of a year, on average.
const (
	DaysPerMonth    = 365.25 / 12
	HoursPerMonth   = DaysPerMonth * 24
	secondsPerDay   = 24 * 3600
	secondsPerMonth = DaysPerMonth * secondsPerDay
)

// Validate returns the first fault.
func (w *Workload) Validate() error {
	switch {
	case w.EntriesPerMonth < 0 || math.IsInf(w.EntriesPerMonth, 0) || math.IsNaN(w.EntriesPerMonth):
		return fmt.Errorf("%v entries a month: must be a number from 0 on", w.EntriesPerMonth)
	case w.EntryBytes < 1:
		return fmt.Errorf("%d bytes an entry: must be at least 1", w.EntryBytes)
	case w.EntriesPerRequest < 1 || w.EntriesPerRequest > maxEntriesPerRequest:
		return fmt.Errorf("%d entries a request: must be from 1 to %d", w.EntriesPerRequest, maxEntriesPerRequest)
	case len(w.Shares) == 0:
		return fmt.Errorf("no tenants")
	case w.SearchableDays < 1 || w.RetentionDays < w.SearchableDays:
		return fmt.Errorf("searchable for %d of %d days: must be at least one day, and not longer than kept", w.SearchableDays, w.RetentionDays)
	case w.SearchesPerMonth < 0 || w.PeakPerSecond < 0:
		return fmt.Errorf("%v searches a month, %v entries a second at peak: must be numbers from 0 on", w.SearchesPerMonth, w.PeakPerSecond)
	case w.IndexBytes < 0:
		return fmt.Errorf("%v bytes of indexes: must be a number from 0 on", w.IndexBytes)
	case w.Database != DocumentDB && w.Database != Atlas:
		return fmt.Errorf("no such database: %q", w.Database)
	}
	return nil
}

// perSecond returns the average rate of entries.
func (w *Workload) perSecond() float64 { return w.EntriesPerMonth / secondsPerMonth }

// peak returns the rate that the stores must bear.
func (w *Workload) peak() float64 { return max(w.PeakPerSecond, w.perSecond()) }

func (w *Workload) indexBytes() float64 { return cmp.Or(w.IndexBytes, DefaultIndexBytes) }

// scaled returns a size that was measured with one-KB entries for the entries of the workload.
func (w *Workload) scaled(bytes float64) float64 { return bytes * float64(w.EntryBytes) / 1000 }

// storedDays is how long an entry is in the database.
func (w *Workload) storedDays() int {
	if w.Archived {
		return w.SearchableDays
	}
	return w.RetentionDays
}

// entriesOf returns how many entries arrive in so many days.
func (w *Workload) entriesOf(days int) float64 {
	return w.EntriesPerMonth * float64(days) / DaysPerMonth
}

// Part is one line of an estimate.
type Part struct {
	Name string
	USD  float64 // a month
	// Fixed is the portion that the same deployment costs without any entry.
	Fixed float64
}

// Variable returns the portion that grows with the entries.
func (p Part) Variable() float64 { return p.USD - p.Fixed }

// Estimate is the bill of a month, in the order of an entry's way.
type Estimate struct {
	Parts []Part
	// Traffic and Sizes are what the bill is for.
	Traffic Traffic
	Sizes   Sizes
	entries float64
}

// USD returns the whole bill.
func (e *Estimate) USD() (usd float64) {
	for _, p := range e.Parts {
		usd += p.USD
	}
	return usd
}

// PerMillion returns what grows with the entries, for a million of them kept to their end. In
// the steady state a month's bill is the whole life of a month's entries. It returns 0 for a
// workload without entries.
func (e *Estimate) PerMillion() (usd float64) {
	for _, p := range e.Parts {
		usd += e.Million(p)
	}
	return usd
}

// Million returns PerMillion of one part.
func (e *Estimate) Million(p Part) float64 {
	if e.entries == 0 {
		return 0
	}
	return p.Variable() / e.entries * 1e6
}

// Of prices a workload.
func Of(w Workload, p Prices) (*Estimate, error) {
	if err := w.Validate(); err != nil {
		return nil, fmt.Errorf("price a workload: %w", err)
	}
	e := price(&w, &p)
	empty := w
	empty.EntriesPerMonth, empty.SearchesPerMonth, empty.PeakPerSecond = 0, 0, 0
	for i, part := range price(&empty, &p).Parts {
		e.Parts[i].Fixed = part.USD
	}
	return e, nil
}

// price returns the estimate without what is fixed of each part.
func price(w *Workload, p *Prices) *Estimate {
	e := &Estimate{Traffic: TrafficOf(w, w.perSecond()), Sizes: SizesOf(w), entries: w.EntriesPerMonth}
	e.Parts = append(functionParts(w, p, &e.Traffic), databaseParts(w, p, &e.Sizes)...)
	e.Parts = append(e.Parts, searchParts(p, &e.Sizes.Search)...)
	e.Parts = append(e.Parts, archivePart(w, p), networkPart(w, p))
	return e
}

// functionParts prices everything but the stores.
func functionParts(w *Workload, p *Prices, t *Traffic) []Part {
	requests := t.Requests*secondsPerMonth + w.SearchesPerMonth
	logged, queued := w.SearchesPerMonth*logBytes, 0.0
	lambda := p.lambda(w.SearchesPerMonth, searchDuration, memoryOf(functionSearch))
	for _, step := range t.Steps() {
		monthly := step.Invocations * secondsPerMonth
		logged += monthly * (logBytes + tenantLogBytes*step.Batch.Tenants + traceLogBytes*step.Batch.Messages)
		queued += step.SQSRequests * secondsPerMonth
		lambda += p.lambda(monthly, step.Duration, step.MemoryMB)
	}
	return []Part{
		{Name: "API Gateway", USD: tiered(requests, p.APIRequest)},
		{Name: "Lambda", USD: lambda},
		{Name: "SQS", USD: tiered(queued, p.SQSRequest)},
		{Name: "KMS and secrets", USD: kmsKeys*p.KMSKey + secrets*p.Secret},
		{Name: "CloudWatch logs", USD: logged / 1e9 * (p.LogsIngestGB + p.LogsStoredGB)},
	}
}

// networkPart prices the addresses of AWS services and of Atlas in the VPC, and the way out of it.
// What flows over them is compressed and small beside the stores.
func networkPart(w *Workload, p *Prices) Part {
	endpoints := InterfaceEndpoints
	if w.Database == Atlas {
		endpoints++
	}
	return Part{Name: "Network", USD: HoursPerMonth * Zones * (float64(endpoints)*p.EndpointZoneHour + p.NATHour)}
}

func searchParts(p *Prices, s *SearchSize) []Part {
	return []Part{
		{Name: "OpenSearch nodes", USD: HoursPerMonth * (float64(s.Nodes)*s.NodeScale*p.SearchNodeHour + searchMasters*p.SearchMasterHour)},
		{Name: "OpenSearch disks", USD: s.DiskGB * p.SearchDiskGB},
	}
}

func databaseParts(w *Workload, p *Prices, sizes *Sizes) []Part {
	d := sizes.Database
	if w.Database == Atlas {
		return []Part{
			{Name: "MongoDB nodes", USD: float64(d.Shards) * d.NodeScale * HoursPerMonth * p.AtlasShardHour},
			{Name: "MongoDB disks", USD: max(0, d.DataGB-float64(d.Shards)*d.NodeScale*atlasIncludedGB) * p.AtlasDiskGB},
			{Name: "MongoDB writes", USD: 0},
		}
	}
	return []Part{
		{Name: "MongoDB nodes", USD: float64(d.Shards*nodesPerShard) * d.NodeScale * HoursPerMonth * p.DocumentNodeHour},
		{Name: "MongoDB disks", USD: d.DataGB * p.DocumentDiskGB},
		{Name: "MongoDB writes", USD: w.EntriesPerMonth * (documentWrites(w) + leavingIO(w)) * p.DocumentIO},
	}
}

// archivePart prices the Parquet files of archived entries, which S3 keeps for the whole
// retention.
func archivePart(w *Workload, p *Prices) Part {
	if !w.Archived {
		return Part{Name: "S3 archive"}
	}
	bytes := w.entriesOf(w.RetentionDays) * w.scaled(ArchivedBytes)
	return Part{Name: "S3 archive", USD: tiered(bytes/1e9, p.S3GB) + filesOf(w)*(p.S3Put*putsPerFile+p.S3Get*getsPerFile)}
}

// searchDuration is how long list-logs works for a page, mostly waiting for OpenSearch.
const searchDuration = 60 * time.Millisecond

// Assumptions returns what no constant of other packages decides, in a few sentences each.
func Assumptions() []string {
	busyReads, idleReads := stream.ReadsPerSecond()
	return []string{
		fmt.Sprintf("Processor time: %s to accept an entry, %s to persist and %s to index it, %s for an invocation. A function with %d MB has one processor.",
			acceptCPU, persistCPU, indexCPU, requestCPU, vCPUMemoryMB),
		fmt.Sprintf("When an entry leaves: %s to archive it, and %s to look at it until it leaves, mark it and remove it. Each entry is marked and removed once in MongoDB and removed once in OpenSearch, at the average rate, also at peak.", archiveCPU, retainCPU),
		fmt.Sprintf("Waiting: %s for SQS, %s for MongoDB's majority, %s for a bulk request of OpenSearch, %s for a file of S3.", queueWait, databaseWait, searchWait, fileWait),
		fmt.Sprintf("A one-KB entry takes %d bytes in MongoDB (snappy), %d in DocumentDB and %d in its indexes, %d in a primary shard, and %d in the archive.",
			DatabaseBytes, DocumentBytes, DocumentIndexBytes, SearchBytes, ArchivedBytes),
		fmt.Sprintf("MongoDB's memory holds the index pages of %d KB that an hour's entries use. One of two entries is about another resource, and one of a hundred is of another user. Half of the memory holds pages.",
			leafBytes>>10),
		fmt.Sprintf("A shard of MongoDB inserts %d thousand entries a second and does %d thousand IOPS. It has at most %d TB, and a volume of DocumentDB at most %d TB.",
			insertsPerShard/1000, iopsPerShard/1000, databaseDiskGB/1000, documentDiskGB/1000),
		fmt.Sprintf("A data node of OpenSearch indexes %d thousand documents a second, replicas included. It has a disk of up to %d TB. Disks have %d %% more than the shards need.",
			indexedPerNode/1000, searchDiskGB/1000, diskReservePercent),
		fmt.Sprintf("No tenant has live subscribers: one that has costs up to %.1f writes a second to MongoDB, whatever its load, and %.0f to %.0f reads of one small document while entries come. Nothing is sent twice. Lists and counts are not included unless a workload names them.",
			stream.WritesPerSecond, idleReads, busyReads),
	}
}
