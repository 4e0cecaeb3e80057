//go:build unix

package sqlite_test

import (
	"encoding/binary"
	"fmt"
	"syscall"
	"testing"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/ingest"
)

// processorTime returns what this process has used.
func processorTime(b *testing.B) time.Duration {
	b.Helper()
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		b.Fatal(err)
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

// BenchmarkCommit measures the processor time of entries that go the whole way, from the decoded
// entries of a batch of messages until they are durable, found and placed. They are of a hundred
// tenants in turn.
func BenchmarkCommit(b *testing.B) {
	for _, batch := range []struct{ messages, entries int }{{1, 1000}, {10, 100}, {100, 1}, {16, 1}} {
		b.Run(fmt.Sprintf("messages=%d/entries=%d", batch.messages, batch.entries), func(b *testing.B) {
			db := openBench(b)
			g := newCorpus()
			const tenants = 100
			message, stored := uint64(0), 0
			loads := func() (loads []ingest.Load) {
				for range batch.messages {
					l := ingest.Load{Tenant: audit.TenantID(fmt.Sprintf("tenant-%d", message%tenants))}
					message++
					l.Entries = g.entries(l.Tenant, batch.entries)
					for i := range l.Entries {
						binary.BigEndian.PutUint64(l.Entries[i].QueueMessage[:], message)
					}
					loads = append(loads, l)
				}
				return loads
			}
			var used time.Duration
			for b.Loop() {
				b.StopTimer()
				next := loads()
				begun := processorTime(b)
				b.StartTimer()
				for _, result := range db.Committer().Commit(b.Context(), next) {
					if result.Err != nil {
						b.Fatal(result.Err)
					}
				}
				used += processorTime(b) - begun
				stored += batch.messages * batch.entries
			}
			b.ReportMetric(float64(used.Nanoseconds())/1000/float64(stored), "cpu-µs/entry")
			if err := db.Close(); err != nil {
				b.Fatal(err)
			}
		})
	}
}
