package main

import (
	"context"
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/cost"
	"github.com/ocelot-audit/ocelot/pkg/engine/mongostore"
	"github.com/ocelot-audit/ocelot/pkg/engine/opensearchindex"
	"github.com/ocelot-audit/ocelot/pkg/envelope"
	"github.com/ocelot-audit/ocelot/pkg/stream"
	"github.com/ocelot-audit/ocelot/pkg/tenants"
)

// The bounds of the page.
const (
	maxPrimariesPerMonth = 100
	maxUSDPerMillion     = 20
	maxSQSPerEntry       = 0.05 // sending, in bulks of 100
)

//go:generate go run . -only scale -out ../../docs/performance.md

// scalePage is docs/scale.md. It is the same in every run on the same code.
func scalePage() (string, error) {
	m, err := newScaleModel(context.Background())
	if err != nil {
		return "", err
	}
	var b strings.Builder
	fmt.Fprintf(&b, scaleIntroduction, thousands(scaleTenants), thousands(scaleAverage), thousands(scalePeak), scaleLargest, bulkSize, scaleYears, scaleMonths)
	b.WriteString("\n## Bounds\n\n")
	writeBounds(&b, m.bounds())
	m.writeTenants(&b)
	m.writeMongo(&b)
	m.writeCommands(&b)
	m.writeFunctions(&b)
	m.writeStreams(&b)
	m.writeCost(&b)
	m.writeSizing(&b)
	writeAssumptions(&b)
	return b.String(), nil
}

const scaleIntroduction = `# Scale

Computed and written by ` + "`make generate`" + ` and ` + "`make bench`" + ` (cmd/bench), from the constants of the
code; not edited by hand. Nothing here was measured on AWS. [Performance](performance.md) and
[query times](queries.md) are measured.

The service has %s tenants with %s entries of one KB a second on average and %s at peak.
The tenants' shares fall with a power of their rank, so that %d of them send half of the entries.
Clients send bulks of %d. Entries are kept for %d years, and are searchable for %d months.
`

func writeBounds(b *strings.Builder, figures []figure) {
	b.WriteString("| figure | computed | bound | held | how |\n|---|---|---|---|---|\n")
	for _, f := range figures {
		held := ""
		if f.bound != "" {
			held = map[bool]string{true: "yes", false: "**no**"}[f.held]
		}
		fmt.Fprintf(b, "| %s | %s | %s | %s | %s |\n", f.name, f.measured, f.bound, held, f.how)
	}
}

// bounds returns what is promised, and whether the model holds it.
func (m *scaleModel) bounds() []figure {
	figures := []figure{
		atMost("primary shards a month", "%.0f", float64(m.plan.primaries()), maxPrimariesPerMonth, "see [tenants and shards](#tenants-and-shards)"),
		atMost("shards of a data node", "%.0f", m.searchSize().ShardsPerNode, cost.ShardsPerHeapGB*m.searchSize().HeapGB, fmt.Sprintf("%d for each GB of its heap", cost.ShardsPerHeapGB)),
		atMost("bytes of MongoDB's indexes for an entry, `lean`", "%.0f", m.lean, cost.DatabaseBytes/2, "half of the bytes of its compressed document; `IndexBytes` of pkg/engine/mongostore"),
		atMost("SQS requests to send an entry, bulks of 100", "%.3f", m.sendsPerEntry(), maxSQSPerEntry, "64 KB chunks of one message to the ingest queue"),
	}
	for _, sent := range m.sent() {
		for _, rate := range []float64{scaleAverage, scalePeak} {
			traffic := cost.TrafficOf(sent.workload, rate)
			for _, s := range []cost.Step{traffic.Persist, traffic.Index, traffic.Order} {
				figures = append(figures, atMost(fmt.Sprintf("%s at once, %s, %s/s", s.Function, sent.name, thousands(int(rate))), "%.1f",
					s.Concurrency, float64(s.MaxConcurrency), "the queue's maximum concurrency in the manifest; see [functions](#functions)"))
			}
		}
	}
	for _, sent := range m.sent() {
		for _, rate := range []float64{scaleAverage, scalePeak} {
			pumps, most := cost.Streams(sent.workload, rate)
			figures = append(figures, atMost(fmt.Sprintf("tenants whose live stream is served at once, %s, %s/s", sent.name, thousands(int(rate))), "%.0f",
				pumps, most, "if all have a subscriber; see [live streams](#live-streams)"))
		}
	}
	for _, v := range m.variant {
		figures = append(figures, atMost("USD for a million entries: "+v.name, "%.2f", v.estimate.PerMillion(), maxUSDPerMillion, "see [cost](#cost)"))
	}
	return figures
}

// sending is a way in which clients send the entries.
type sending struct {
	name     string
	workload *cost.Workload
}

func (m *scaleModel) sent() []sending {
	return []sending{{fmt.Sprintf("bulks of %d", bulkSize), &m.bulk}, {"single entries", &m.single}}
}

// sendsPerEntry returns the requests that sending to the ingest queue costs for an entry.
func (m *scaleModel) sendsPerEntry() float64 {
	batch := cost.TrafficOf(&m.bulk, scaleAverage).Persist.Batch
	return float64(chunks(int(batch.MessageBytes))) * batch.Messages / batch.Entries
}

func (m *scaleModel) searchSize() cost.SearchSize {
	return cost.SearchSizeWith(&m.bulk, m.plan.primaries())
}

func (m *scaleModel) writeTenants(b *strings.Builder) {
	size := m.searchSize()
	b.WriteString(`
## Tenants and shards

` + "`tenants.Placer`" + ` itself places the simulated tenants month by month, until nothing changes.

| figure | value | how |
|---|---|---|
`)
	row := func(name, value, how string) { fmt.Fprintf(b, "| %s | %s | %s |\n", name, value, how) }
	row("share of the largest tenant", fmt.Sprintf("%.1f %%", 100*m.shares[0]), "the power law")
	row("share of the tenant in the middle", fmt.Sprintf("%.5f %%, %s entries a month", 100*m.shares[scaleTenants/2], thousands(int(m.shares[scaleTenants/2]*m.bulk.EntriesPerMonth))), "")
	row("tenants with indexes of their own", thousands(m.plan.ownTenants), fmt.Sprintf("from %s entries a month on (`tenants.OwnEntries`)", thousands(tenants.OwnEntries)))
	row("their primary shards a month", thousands(m.plan.ownShards), fmt.Sprintf("one for %s entries, and a fifth more (`tenants.ShardsFor`)", thousands(tenants.EntriesPerShard)))
	row("pools", thousands(m.plan.pools), "`OCELOT_SEARCH_POOLS`")
	row("their primary shards a month", thousands(m.plan.poolShards), "")
	row("shards that a small tenant's entries go to", thousands(opensearchindex.RoutingPartition(m.plan.poolWidest)), fmt.Sprintf("`routing_partition_size` of an index with %d shards", m.plan.poolWidest))
	row("indexes a month", thousands(m.plan.indexes()), "own families and pools")
	row(fmt.Sprintf("indexes of %d months", scaleMonths), thousands(m.plan.indexes()*(scaleMonths+1)), "the first and the last month are there in part")
	row("shards of them, replicas included", thousands(size.Shards), "`OPENSEARCH_REPLICAS` is 1")
	row("templates", "2", "one of own families, one of pools; no tenant has one")
	row("fields of an index", thousands(opensearchindex.FieldCount()), "the same in every index, whatever tenants put into their metadata")
	row("fields in the cluster's state", thousands(opensearchindex.FieldCount()*m.plan.indexes()*(scaleMonths+1)), "fields × indexes; OpenSearch keeps equal mappings once")
}

func (m *scaleModel) writeMongo(b *strings.Builder) {
	shared, dedicated := collections()
	b.WriteString(`
## MongoDB's collections

| figure | lean | full | how |
|---|---|---|---|
`)
	row := func(name, lean, full, how string) { fmt.Fprintf(b, "| %s | %s | %s | %s |\n", name, lean, full, how) }
	same := func(name string, n int, how string) { row(name, thousands(n), thousands(n), how) }
	same(fmt.Sprintf("shared collections in %d years", scaleYears), shared, "one a month, whatever the number of tenants")
	same(fmt.Sprintf("collections of the %d largest tenants, if they are dedicated", scaleDedicated), dedicated, "one a year for each")
	indexes := func(set mongostore.Indexes) int { return mongostore.IndexCount(set) * (shared + dedicated) }
	row("indexes of a collection", thousands(mongostore.IndexCount(mongostore.IndexesLean)), thousands(mongostore.IndexCount(mongostore.IndexesFull)), "the `_id` included")
	row("indexes in all", thousands(indexes(mongostore.IndexesLean)), thousands(indexes(mongostore.IndexesFull)), "")
	row("bytes of indexes for an entry", fmt.Sprintf("%.0f", m.lean), fmt.Sprintf("%.0f", m.full), "`mongostore.IndexBytes`, a model of WiredTiger")
	gb := func(perEntry float64) string { return thousands(int(perEntry * m.bulk.EntriesPerMonth / 1e9)) }
	row("GB of indexes a month", gb(m.lean), gb(m.full), "one copy")
}

func (m *scaleModel) writeCommands(b *strings.Builder) {
	_, keys := comparisons(&m.bulk)
	fmt.Fprintf(b, `
## Commands a second

Entries are sent in bulks of %d. All tenants have the standard tier.

| command | average | peak | how |
|---|---|---|---|
`, bulkSize)
	for _, part := range []struct {
		store    string
		commands []command
	}{{"MongoDB", m.mongoCommands()}, {"OpenSearch", m.searchCommands()}} {
		average, peak := 0.0, 0.0
		for _, c := range part.commands {
			average, peak = average+c.average, peak+c.peak
			fmt.Fprintf(b, "| %s: %s | %s | %s | %s |\n", part.store, c.name, rate(c.average), rate(c.peak), c.how)
		}
		fmt.Fprintf(b, "| **%s, all** | %s | %s | |\n", part.store, rate(average), rate(peak))
	}
	consumers, requests := m.connections()
	b.WriteString("\n")
	b.WriteString(item(fmt.Sprintf("The reconciler compares by counts. MongoDB walks %s keys of `_id` a second for it, and OpenSearch counts as many entries.", thousands(int(keys)))))
	b.WriteString(item(fmt.Sprintf("Connections to the primary of MongoDB: at most %s by the consumers of queues, which is the maximum concurrency × %d, the pool of a process, or × %d for stream-logs. Requests at peak need about %s.",
		thousands(consumers), mongostore.PoolSize, connectionsOf("stream-logs"), thousands(requests))))
}

func rate(perSecond float64) string {
	switch {
	case perSecond >= 100:
		return thousands(int(perSecond + 0.5))
	case perSecond >= 1:
		return fmt.Sprintf("%.1f", perSecond)
	}
	return fmt.Sprintf("%.3f", perSecond)
}

func (m *scaleModel) writeFunctions(b *strings.Builder) {
	b.WriteString(`
## Functions

| function | sent as | entries/s | invocations/s | entries, messages, tenants of a batch | ms | at once | maximum |
|---|---|---|---|---|---|---|---|
`)
	function := func(s *cost.Step, sent string, perSecond float64) {
		batch, most := "", "the account's"
		if s.MaxConcurrency > 0 {
			batch = fmt.Sprintf("%s, %s, %s", rate(s.Batch.Entries), rate(s.Batch.Messages), rate(s.Batch.Tenants))
			most = fmt.Sprint(s.MaxConcurrency)
		}
		fmt.Fprintf(b, "| %s | %s | %s | %s | %s | %d | %.1f | %s |\n",
			s.Function, sent, thousands(int(perSecond)), rate(s.Invocations), batch, s.Duration.Milliseconds(), s.Concurrency, most)
	}
	for _, sent := range []struct {
		name string
		w    *cost.Workload
	}{{"bulks", &m.bulk}, {"single", &m.single}} {
		for _, perSecond := range []float64{scaleAverage, scalePeak} {
			traffic := cost.TrafficOf(sent.w, perSecond)
			for _, s := range []cost.Step{traffic.Authorize, traffic.Accept, traffic.Persist, traffic.Index, traffic.Order} {
				function(&s, sent.name, perSecond)
			}
		}
	}
	for _, s := range []cost.Step{m.archived.Archive, m.archived.Retain} {
		function(&s, "archived", scaleAverage)
	}
	b.WriteString("\n")
	b.WriteString(paragraph("The last two rows are what is done when entries leave the stores, if all tenants archive. An invocation of run-archives writes a part of the archive, and one of run-jobs looks at a day of a tenant."))
}

// writeStreams says what happens if more streams have work than are served at once.
func (m *scaleModel) writeStreams(b *strings.Builder) {
	pumps, most := cost.Streams(&m.single, scalePeak)
	consumers, _ := m.connections()
	b.WriteString("\n## Live streams\n\n")
	b.WriteString(paragraph(fmt.Sprintf("stream-logs serves %s tenants at once. A tenant takes one of these places while its entries come, and for %s after the last one. "+
		"Tenants without a subscriber take none. If all %s have one, %s places are needed at %s single entries a second.",
		thousands(int(most)), inWords(stream.Linger), thousands(scaleTenants), thousands(int(math.Ceil(pumps))), thousands(scalePeak))))
	b.WriteString(paragraph(fmt.Sprintf("Each run of stream-logs opens up to %d connections to MongoDB. That is enough, because the tenants of a run wait for entries most of the time. "+
		"All consumers together may have %s, so that requests find one.", connectionsOf("stream-logs"), thousands(consumers))))
	b.WriteString(paragraph(fmt.Sprintf("If more places are needed, tenants take turns of %s, which message groups share out. Their entries come later. "+
		"Nothing is lost: the store has the place of each subscriber, and the next turn continues there. "+
		"A subscriber that falls %s places behind gets `lagged` with a cursor, and can read the rest from the feed.",
		inWords(stream.TurnTime), thousands(stream.MaxBehind))))
}

// inWords prints a number of seconds.
func inWords(d time.Duration) string {
	return fmt.Sprintf("%g seconds", d.Seconds())
}

func (m *scaleModel) writeCost(b *strings.Builder) {
	fmt.Fprintf(b, `
## Cost

USD for a million entries that are kept for %d years, %d months of them searchable. It is what grows
with the entries: the bill of a month, less that of the same month without any entry.
%s
Prices are list prices of %s, %s, in `+"`pkg/cost/prices.go`"+` with their sources. Check them
before you budget.
%s| part |`, scaleYears, scaleMonths, costVariants, cost.USEast1().Region, cost.USEast1().AsOf, paragraph("Not included: "+cost.NotIncluded+"."))
	for _, v := range m.variant {
		fmt.Fprintf(b, " %s |", v.name)
	}
	b.WriteString("\n|---|" + strings.Repeat("---|", len(m.variant)) + "\n")
	for i, part := range m.variant[0].estimate.Parts {
		fmt.Fprintf(b, "| %s |", part.Name)
		for _, v := range m.variant {
			fmt.Fprintf(b, " %.3f |", v.estimate.Million(v.estimate.Parts[i]))
		}
		b.WriteString("\n")
	}
	totals := func(name, format string, of func(*cost.Estimate) float64) {
		fmt.Fprintf(b, "| **%s** |", name)
		for _, v := range m.variant {
			fmt.Fprintf(b, format, of(v.estimate))
		}
		b.WriteString("\n")
	}
	totals("USD for a million", " **%.2f** |", (*cost.Estimate).PerMillion)
	totals("of it without the stores", " %.2f |", withoutStores)
	totals("USD a month without any entry", " %.0f |", fixedUSD)
	totals("USD a month in all, after seven years", " %.0f |", (*cost.Estimate).USD)
}

const costVariants = `
- **all in MongoDB** is a tenant without ` + "`archive`" + `: nothing leaves MongoDB before its end. Months
  that are not searchable any more are removed from OpenSearch by hand.
- **archived** is a tenant with ` + "`archive` and `searchable_days`" + `: entries leave both stores after the
  searchable time and stay in S3. See [archive](archive.md).

The parts have the space that entries take, the work of accepting, storing and indexing them, and
the work when they leave: run-archives reads each and writes it to a file, run-jobs marks it, and
MongoDB and OpenSearch remove it.
`

func withoutStores(e *cost.Estimate) (usd float64) {
	for _, p := range e.Parts {
		if !strings.HasPrefix(p.Name, "MongoDB") && !strings.HasPrefix(p.Name, "OpenSearch") && !strings.HasPrefix(p.Name, "S3") {
			usd += e.Million(p)
		}
	}
	return usd
}

func fixedUSD(e *cost.Estimate) (usd float64) {
	for _, p := range e.Parts {
		usd += p.Fixed
	}
	return usd
}

func (m *scaleModel) writeSizing(b *strings.Builder) {
	b.WriteString(`
## Sizing by volume

For entries at this rate all the time, in bulks, archived after 13 months. MongoDB is Atlas or your
own (snappy), and a shard has three nodes of the same size. OpenSearch Service
limits the data nodes of one domain: check the quota for the largest volume.

| entries/s |`)
	for _, perSecond := range scaleVolumes {
		fmt.Fprintf(b, " %s |", thousands(int(perSecond)))
	}
	b.WriteString("\n|---|" + strings.Repeat("---|", len(scaleVolumes)) + "\n")
	row := func(name, format string, of func(v *volume) float64) {
		fmt.Fprintf(b, "| %s |", name)
		for i := range m.volumes {
			value := of(&m.volumes[i])
			if format == "" {
				fmt.Fprintf(b, " %s |", thousands(int(value+0.5)))
				continue
			}
			fmt.Fprintf(b, " "+format+" |", value)
		}
		b.WriteString("\n")
	}
	row("MongoDB: shards", "", func(v *volume) float64 { return float64(v.sizes.Database.Shards) })
	row("MongoDB: RAM of a node, GB", "", func(v *volume) float64 { return v.sizes.Database.RAMGB / float64(v.sizes.Database.Shards) })
	row("MongoDB: index pages in use, GB", "", func(v *volume) float64 { return v.sizes.Database.HotGB })
	row("MongoDB: disk of one copy, GB", "", func(v *volume) float64 { return v.sizes.Database.DataGB })
	row("MongoDB: IOPS of all primaries", "", func(v *volume) float64 { return v.sizes.Database.IOPS })
	row("OpenSearch: primary shards a month", "", func(v *volume) float64 { return float64(v.plan.primaries()) })
	row("OpenSearch: shards, replicas included", "", func(v *volume) float64 { return float64(v.sizes.Search.Shards) })
	row("OpenSearch: data nodes", "", func(v *volume) float64 { return float64(v.sizes.Search.Nodes) })
	row("OpenSearch: heap of a node, GB", "", func(v *volume) float64 { return v.sizes.Search.HeapGB })
	row("OpenSearch: shards of a node", "", func(v *volume) float64 { return v.sizes.Search.ShardsPerNode })
	row("OpenSearch: disk of all nodes, GB", "", func(v *volume) float64 { return v.sizes.Search.DiskGB })
	row("Lambda: create-logs-bulk at once", "%.1f", func(v *volume) float64 { return v.traffic.Accept.Concurrency })
	row("Lambda: persist-logs at once", "%.1f", func(v *volume) float64 { return v.traffic.Persist.Concurrency })
	row("Lambda: index-logs at once", "%.1f", func(v *volume) float64 { return v.traffic.Index.Concurrency })
	row("Lambda: order-logs at once", "%.1f", func(v *volume) float64 { return v.traffic.Order.Concurrency })
}

// writeAssumptions says what the figures rest on.
func writeAssumptions(b *strings.Builder) {
	b.WriteString("\n## What the model assumes\n\n")
	for _, text := range append([]string{
		fmt.Sprintf("A message has at most %s bytes (`envelope.TargetBytes`). A one-KB entry takes %d of them, and the message itself %s. Up to %s bytes are not compressed, and an entry takes %s of them. All were measured, and a test compares.",
			thousands(envelope.TargetBytes), cost.PackedBytes, thousands(cost.MessageBytes), thousands(cost.RawBytes), thousands(cost.SingleBytes)),
		"The requests of tenants are independent. A batch of n messages has as many tenants as n draws by the shares have. persist-logs packs each tenant's entries together again.",
		"Lambda gathers five batches at a time for each queue, each for the window of the manifest, and more once they are full. It receives each message alone, which is the worst case for SQS.",
	}, cost.Assumptions()...) {
		b.WriteString(item(text))
	}
}
