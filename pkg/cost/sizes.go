package cost

import (
	"math"
	"slices"

	"github.com/ocelot-audit/ocelot/pkg/tenants"
)

// What a one-KB entry takes, in bytes.
const (
	// DatabaseBytes is a document in MongoDB, compressed by snappy; DocumentBytes the same in
	// DocumentDB, which does not compress it unless it is told to.
	DatabaseBytes = 433
	DocumentBytes = 1250
	// DefaultIndexBytes are the indexes of an entry in MongoDB with the setting lean, whatever
	// its size. IndexBytes of pkg/engine/mongostore computes them for a workload.
	// DocumentIndexBytes are the same in DocumentDB, which stores keys whole.
	DefaultIndexBytes  = 140
	DocumentIndexBytes = 320
	// SearchBytes is an entry in a primary shard. docs/queries.md has what was measured.
	SearchBytes = 600
	// ArchivedBytes is an entry in a part of the archive, and its id in the list of ids. A test of
	// cmd/bench measures it.
	ArchivedBytes = 186
	// EntriesPerFile is the size of a part of the archive, which ends at 64 MiB.
	EntriesPerFile = 390_000
	putsPerFile    = 3 // the part, its ids and the manifest
	getsPerFile    = 4 // the manifest before; the part and its ids, to compare them; the manifest again
)

// The nodes that sizes are counted in. A store that needs no more than the smallest number of
// them has smaller ones; see nodeScales.
const (
	// NodeGB is the memory of a node of the scale 1.
	NodeGB = 64
	// db.r6g.2xlarge, or M60 of Atlas: 8 processors, 64 GB.
	databaseRAMGB = NodeGB
	// databaseCache is the part of the memory that holds pages.
	databaseCache = 0.5
	nodesPerShard = 3
	// databaseDiskGB is the most that a shard should hold, to be restored within a day.
	databaseDiskGB  = 4000
	atlasIncludedGB = 320
	// documentDiskGB is the largest volume of a DocumentDB cluster.
	documentDiskGB = 128_000
	// insertsPerShard is how many entries a node of this size inserts, marks or removes in a second.
	insertsPerShard = 10_000
	// iopsPerShard is what a shard's disks do: gp3's base, and as much again.
	iopsPerShard = 6000

	// r6g.2xlarge.search: 8 processors, 64 GB, half of it heap.
	searchHeapGB = NodeGB / 2
	// searchDiskGB is the disk of a data node.
	searchDiskGB  = 3000
	searchMasters = 3
	minSearch     = 3 // data nodes, one in each zone
	// ShardsPerHeapGB is the most shards that OpenSearch recommends.
	ShardsPerHeapGB = 25
	// diskReserve is what a disk needs beside the shards: 20 % of OpenSearch Service, and 5 % of
	// the system. https://docs.aws.amazon.com/opensearch-service/latest/developerguide/bp-storage.html
	diskReservePercent = 25
	// indexedPerNode is what a data node indexes and removes in a second, replicas included.
	indexedPerNode = 8000
	replicas       = 1 // OPENSEARCH_REPLICAS
)

// nodeScales are the sizes of smaller nodes, as parts of a whole one. Their prices have the same
// proportion.
var nodeScales = []float64{0.25, 0.5}

// What decides about the pages of MongoDB's indexes that are in use.
const (
	leafBytes = 32 << 10 // of WiredTiger
	// keysPerEntry are the places in the indexes that an entry is the first in an hour to use:
	// every second entry is about another resource, and one of a hundred of another user.
	keysPerEntry = 0.51
	// writesPerEntry are the leaves that an entry changes in random places: one for the user,
	// one for the resource. The leaves of _id and the documents are written in order.
	writesPerEntry = 2
)

// Sizes are what the stores need.
type Sizes struct {
	Database DatabaseSize
	Search   SearchSize
}

// DatabaseSize is the size of MongoDB.
type DatabaseSize struct {
	DataGB    float64 // documents and indexes, one copy
	HotGB     float64 // the leaves of indexes that an hour's entries use
	RAMGB     float64 // of a primary's cache, for all shards
	IOPS      float64
	Shards    int
	NodeScale float64 // the size of a node; 1 is 64 GB of memory
}

// SearchSize is the size of OpenSearch.
type SearchSize struct {
	PrimariesPerMonth int
	Shards            int // of all months, replicas included
	DiskGB            float64
	Nodes             int     // for data
	NodeScale         float64 // the size of a data node; 1 is 64 GB of memory
	ShardsPerNode     float64
	HeapGB            float64 // of a data node
}

// SizesOf returns what the stores need for a workload in its steady state.
func SizesOf(w *Workload) Sizes {
	return Sizes{Database: databaseSize(w), Search: searchSize(w, primariesOf(w))}
}

// SearchSizeWith is the search part of SizesOf with a known number of primary shards a month.
func SearchSizeWith(w *Workload, primariesPerMonth int) SearchSize {
	return searchSize(w, primariesPerMonth)
}

func bytesInDatabase(w *Workload) float64 {
	if w.Database == DocumentDB {
		return w.scaled(DocumentBytes) + DocumentIndexBytes
	}
	return w.scaled(DatabaseBytes) + w.indexBytes()
}

// documentWrites are the I/O requests that an entry costs in DocumentDB: its share of the log, in
// units of 4 KB, and a read of each leaf of an index that was not in use.
func documentWrites(w *Workload) float64 { return bytesInDatabase(w)/documentLogUnit + keysPerEntry }

// documentLogUnit is what one write of DocumentDB's log has at most, in bytes.
const documentLogUnit = 4096

func databaseSize(w *Workload) DatabaseSize {
	d := DatabaseSize{DataGB: w.entriesOf(w.storedDays()) * bytesInDatabase(w) / 1e9}
	rate := w.perSecond()
	leaves := w.EntriesPerMonth * w.indexBytes() / leafBytes // of this month's partition
	used := 0.0
	if leaves > 0 {
		used = leaves * -math.Expm1(-rate*3600*keysPerEntry/leaves)
	}
	d.HotGB = used * leafBytes / 1e9
	// Each hour a used leaf is read once. An entry that leaves changes as many leaves as one that arrives, and
	// its mark one more in the order of time.
	d.IOPS = 2 * (rate*writesPerEntry + used/3600)
	disk := float64(databaseDiskGB)
	if w.Database == DocumentDB {
		disk = documentDiskGB
	}
	d.Shards, d.NodeScale = nodes(1, d.HotGB/(databaseRAMGB*databaseCache), d.DataGB/disk, (w.peak()+rate*leavingWrites)/insertsPerShard, d.IOPS/iopsPerShard)
	d.RAMGB = float64(d.Shards) * d.NodeScale * databaseRAMGB
	return d
}

// nodes returns the least number of nodes that none of the needs exceeds, and their size. Needs
// are numbers of whole nodes.
func nodes(least int, needs ...float64) (n int, scale float64) {
	need := slices.Max(needs)
	for _, scale := range nodeScales {
		if need <= scale*float64(least) {
			return least, scale
		}
	}
	return max(least, int(math.Ceil(need))), 1
}

// primariesOf returns the primary shards of a month: those of the entries, and one for each pool.
func primariesOf(w *Workload) int {
	if w.EntriesPerMonth == 0 {
		return 1
	}
	return tenants.ShardsFor(int64(w.EntriesPerMonth)) + DefaultPools
}

// The settings of placements unless OCELOT_SEARCH_POOLS and OCELOT_SEARCH_SEPARATE_TENANTS are
// set. A test of cmd/bench compares them with pkg/config.
const (
	DefaultPools           = 16
	DefaultSeparateTenants = 200
)

func searchSize(w *Workload, primariesPerMonth int) SearchSize {
	months := float64(w.SearchableDays)/DaysPerMonth + 1 // the first and the last are there in part
	s := SearchSize{
		PrimariesPerMonth: primariesPerMonth,
		Shards:            int(math.Ceil(float64(primariesPerMonth)*months)) * (1 + replicas),
		DiskGB:            w.entriesOf(w.SearchableDays) * w.scaled(SearchBytes) * (1 + replicas) * (100 + diskReservePercent) / 100 / 1e9,
	}
	s.Nodes, s.NodeScale = nodes(minSearch, s.DiskGB/searchDiskGB, float64(s.Shards)/(ShardsPerHeapGB*searchHeapGB), (w.peak()+w.perSecond())*(1+replicas)/indexedPerNode)
	s.HeapGB = s.NodeScale * searchHeapGB
	s.ShardsPerNode = float64(s.Shards) / float64(s.Nodes)
	return s
}
