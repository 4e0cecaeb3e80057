package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"testing"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/activity"
	"github.com/ocelot-audit/ocelot/pkg/archive"
	"github.com/ocelot-audit/ocelot/pkg/arrival"
	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/cost"
	"github.com/ocelot-audit/ocelot/pkg/engine/fileblob"
	"github.com/ocelot-audit/ocelot/pkg/envelope"
	"github.com/ocelot-audit/ocelot/pkg/ingest"
	"github.com/ocelot-audit/ocelot/pkg/jobs"
	"github.com/ocelot-audit/ocelot/pkg/retention"
	"github.com/ocelot-audit/ocelot/pkg/testkit/jobtest"
)

// The model of the archive is that of the real parts.
func TestArchivedBytes(t *testing.T) {
	const entries = 5000
	w, files := newArchiving(t)
	var bytes, rows int64
	for _, month := range monthsOf(putCorpus(t, w, entries)) {
		w.archive(month)
		b, r := sizeOf(t, files, month)
		bytes, rows = bytes+b, rows+r
	}
	if rows != entries {
		t.Fatalf("got %d archived entries, want %d", rows, entries)
	}
	got := float64(bytes)/float64(rows) + float64(len(audit.EntryID{}))
	if off := math.Abs(got/cost.ArchivedBytes - 1); off > 0.05 {
		t.Errorf("an entry takes %.0f bytes in the archive, the model says %d", got, cost.ArchivedBytes)
	}
}

// BenchmarkArchive archives entries of a month.
func BenchmarkArchive(b *testing.B) {
	benchmarkLeaving(b, func(w *archiving, days []time.Time) error {
		for _, month := range monthsOf(days) {
			w.archive(month)
		}
		return nil
	})
}

// BenchmarkRetain looks at entries that have expired until they are removed: three times.
func BenchmarkRetain(b *testing.B) {
	benchmarkLeaving(b, func(w *archiving, days []time.Time) error {
		w.Owner.Settings = audit.Settings{RetentionDays: 1}
		task := &retention.Task{
			Store: w.DB.Entries(), Index: w.DB.Index(), Tenants: w, Now: w.Clock, Publish: func(retention.Result) error { return nil },
			Held: func(context.Context, audit.TenantID) (func(*audit.Entry) bool, error) {
				return func(*audit.Entry) bool { return false }, nil
			},
			RemoveQuarantined: func(context.Context, audit.TenantID, *string, func(context.Context) (func(*audit.Entry) bool, error)) (int, error) {
				return 0, nil
			},
		}
		for _, later := range []time.Duration{0, 5, 3} {
			w.Time = w.Time.Add(later * 24 * time.Hour)
			for _, day := range days {
				at := activity.Day{Work: activity.Retain, Tenant: benchTenant, Receipt: activity.Receipt{Day: day}, Until: w.Time.Add(time.Hour)}
				if _, err := task.Check(b.Context(), &w.Owner, at); err != nil {
					return err
				}
			}
		}
		left, err := w.DB.Entries().Count(b.Context(), benchTenant, time.Time{}, time.Time{})
		if err == nil && left > 0 {
			err = fmt.Errorf("%d entries are left", left)
		}
		return err
	})
}

// benchmarkLeaving reports the processor time of what is done with an entry, without that of storing it.
func benchmarkLeaving(b *testing.B, leave func(w *archiving, days []time.Time) error) {
	const entries = 20_000
	var spent time.Duration
	n := 0
	for b.Loop() {
		w, _ := newArchiving(b)
		days := putCorpus(b, w, entries)
		before, err := cpuTime()
		if err == nil {
			err = leave(w, days)
		}
		after, timeErr := cpuTime()
		if err := errors.Join(err, timeErr); err != nil {
			b.Fatal(err)
		}
		spent += after - before
		n += entries
	}
	b.ReportMetric(float64(spent.Nanoseconds())/1e3/float64(n), "cpu-us/entry")
}

// archiving is a service whose only tenant archives, two months later.
type archiving struct{ *jobtest.World }

func newArchiving(tb testing.TB) (*archiving, *fileblob.Blobs) {
	tb.Helper()
	w := jobtest.New(tb)
	w.Owner, w.Time = tenantOf(benchTenant), time.Now().AddDate(0, 2, 0)
	w.Owner.Settings.Archive = true
	files, err := fileblob.OpenPlain(tb.TempDir())
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = files.Close() })
	w.Worker.Runners[jobs.KindArchive] = &archive.Runner{
		Store: w.DB.Entries(), Blobs: files, Holds: w.DB.Holds(), Tenants: w, Places: noPlaces{}, Recorder: w, Now: w.Clock, Random: jobtest.Random,
	}
	return &archiving{w}, files
}

// archive archives a month.
func (w *archiving) archive(month string) {
	w.T.Helper()
	checkpoint := []byte(`{"month":"` + month + `"}`)
	if _, err := w.Service.Start(w.T.Context(), jobs.Job{ID: "archive-" + month, Kind: jobs.KindArchive, Tenant: benchTenant, CreatedBy: "key:bench", Checkpoint: checkpoint}); err != nil {
		w.T.Fatal(err)
	}
	w.Work()
}

// noPlaces is an arrival log without entries.
type noPlaces struct{}

func (noPlaces) Head(context.Context, audit.TenantID) (arrival.Head, error) {
	return arrival.Head{}, nil
}

// putCorpus stores and indexes entries as they are accepted. It returns the days of their timestamps.
func putCorpus(tb testing.TB, w *archiving, n int) (days []time.Time) {
	tb.Helper()
	accept := acceptInto(queue(func(bodies []string) {
		for _, body := range bodies {
			contents, err := envelope.Unpack(body)
			if err != nil {
				tb.Error(err)
				return
			}
			for i := range contents.Entries {
				if day := contents.Entries[i].Timestamp.Truncate(24 * time.Hour); !slices.Contains(days, day) {
					days = append(days, day)
				}
			}
			w.Put(benchTenant, contents.Entries)
		}
	}))
	if _, err := accept.Submit(tb.Context(), tenantOf(benchTenant), ingest.Origin{SubmittedBy: "key:bench"}, newCorpus(9).entries(n)); err != nil {
		tb.Fatal(err)
	}
	return days
}

// monthsOf returns the months of days, each once.
func monthsOf(days []time.Time) (months []string) {
	for _, day := range days {
		if month := day.Format("2006-01"); !slices.Contains(months, month) {
			months = append(months, month)
		}
	}
	return months
}

// sizeOf returns the bytes and the rows of a month's parts.
func sizeOf(t *testing.T, files *fileblob.Blobs, month string) (bytes, rows int64) {
	t.Helper()
	body, _, err := files.Get(t.Context(), benchTenant, "month="+month+"/_manifest.json")
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(body)
	if err := errors.Join(err, body.Close()); err != nil {
		t.Fatal(err)
	}
	var m archive.Manifest
	if err := json.Unmarshal(text, &m); err != nil {
		t.Fatal(err)
	}
	for i := range m.Files {
		bytes, rows = bytes+m.Files[i].Bytes, rows+m.Files[i].Rows
	}
	return bytes, rows
}
