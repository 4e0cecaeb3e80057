package cost

import (
	"math"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/manifest"
	"github.com/ocelot-audit/ocelot/pkg/retention"
)

// What it takes when entries leave the stores.
const (
	// archiveCPU is what it takes to read an entry, write it to a part of the archive, and compare
	// both. retainCPU is what it takes to look at an entry until it leaves, to mark it and to remove
	// it. BenchmarkArchive and BenchmarkRetain of cmd/bench measure both over the embedded engine,
	// whose own work they include.
	archiveCPU = 60 * time.Microsecond
	retainCPU  = 110 * time.Microsecond
	// archivePage is how many entries run-archives reads at once. It reads each archiveReads times:
	// to write it, and to compare it with what is written.
	archivePage  = 250
	archiveReads = 2
	// retainLooks is how often run-jobs looks at an entry that leaves: when it marks it, when it
	// takes it out of the index, and when it removes it.
	retainLooks = 3
	// leavingWrites are the changes of an entry in the database: its mark and its removal.
	leavingWrites = 2
	// fileWait is how long S3 takes to store a file or to return one.
	fileWait = 100 * time.Millisecond
	// jobReads are the records that a job of the archive reads and writes beside entries, and dayCommands those
	// of a look at a day: the tenant, its holds, the claim and the note of the day.
	jobReads    = 20
	dayCommands = 4
)

const (
	functionArchive = "run-archives"
	functionRetain  = "run-jobs"
)

// filesOf returns how many parts of the archive are written in a month: each tenant has one of its own.
func filesOf(w *Workload) float64 {
	if !w.Archived {
		return 0
	}
	return math.Ceil(w.EntriesPerMonth/EntriesPerFile) + float64(len(w.Shares))*min(1, w.EntriesPerMonth)
}

// archiving returns what run-archives does in a second, in the steady state. An invocation writes a part.
func archiving(w *Workload) Step {
	s := ofQueue(functionArchive, manifest.QueueArchive)
	files := filesOf(w)
	if files == 0 {
		return s
	}
	entries := w.EntriesPerMonth / files
	s.Invocations = files / secondsPerMonth
	s.Batch = Batch{Messages: 1, Entries: entries, Tenants: 1}
	s.take(requestCPU+times(archiveCPU, entries),
		times(databaseWait, archiveCommands(entries))+times(fileWait, putsPerFile+getsPerFile))
	return s
}

// retaining returns what run-jobs does in a second when entries leave the stores, in the steady state. An
// invocation looks at a day of a tenant.
func retaining(w *Workload) Step {
	s := ofQueue(functionRetain, manifest.QueueJobs)
	perDay := w.EntriesPerMonth / DaysPerMonth
	days := Active(w.Shares, perDay)
	if days == 0 {
		return s
	}
	entries := perDay / days
	s.Invocations = retainLooks * days / secondsPerDay
	s.Batch = Batch{Messages: 1, Entries: entries, Tenants: 1}
	s.take(requestCPU+times(retainCPU, entries/retainLooks), times(databaseWait, retainCommands(entries))+times(searchWait, pages(entries)/retainLooks))
	return s
}

func pages(entries float64) float64 { return math.Ceil(entries / retention.MaxEntries) }

// archiveCommands are those that MongoDB gets for a part with so many entries.
func archiveCommands(entries float64) float64 {
	return jobReads + archiveReads*math.Ceil(entries/archivePage)
}

// retainCommands are those that MongoDB gets for a look at so many entries, on average. Each page is read at each
// look, and over all looks it is marked and removed once.
func retainCommands(entries float64) float64 {
	return dayCommands + pages(entries)*(retainLooks+leavingWrites)/retainLooks
}

// LeavingCommands returns how many commands MongoDB gets in a second from run-archives, and from run-jobs
// when entries leave the stores.
func (t *Traffic) LeavingCommands() (archive, retain float64) {
	return t.Archive.Invocations * archiveCommands(t.Archive.Batch.Entries), t.Retain.Invocations * retainCommands(t.Retain.Batch.Entries)
}

// leavingIO are the I/O requests in DocumentDB when an entry leaves: its new version with a mark, the
// removal of its keys, each leaf of an index that was not in use, and the reads of documents, which are in the
// order of time.
func leavingIO(w *Workload) float64 {
	const page = 8192
	reads := float64(retainLooks)
	if w.Archived {
		reads += archiveReads
	}
	return (bytesInDatabase(w)+DocumentIndexBytes)/documentLogUnit + keysPerEntry + reads*w.scaled(DocumentBytes)/page
}
