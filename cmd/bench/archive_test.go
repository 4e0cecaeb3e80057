package main

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"math"
	"testing"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/archive"
	"github.com/ocelot-audit/ocelot/pkg/arrival"
	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/cost"
	"github.com/ocelot-audit/ocelot/pkg/engine/fileblob"
	"github.com/ocelot-audit/ocelot/pkg/envelope"
	"github.com/ocelot-audit/ocelot/pkg/ingest"
	"github.com/ocelot-audit/ocelot/pkg/jobs"
	"github.com/ocelot-audit/ocelot/pkg/testkit/jobtest"
)

// The model of the archive is that of the real parts.
func TestArchivedBytes(t *testing.T) {
	const entries = 5000
	w := jobtest.New(t)
	w.Owner, w.Time = tenantOf(benchTenant), time.Now().AddDate(0, 2, 0)
	w.Owner.Settings.Archive = true
	files, err := fileblob.OpenPlain(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = files.Close() })
	w.Worker.Runners[jobs.KindArchive] = &archive.Runner{
		Store: w.DB.Entries(), Blobs: files, Holds: w.DB.Holds(), Tenants: w, Places: noPlaces{}, Recorder: w, Now: w.Clock, Random: jobtest.Random,
	}
	var bytes, rows int64
	for month := range putCorpus(t, w, entries) {
		checkpoint := []byte(`{"month":"` + month + `"}`)
		if _, err := w.Service.Start(t.Context(), jobs.Job{ID: "archive-" + month, Kind: jobs.KindArchive, Tenant: benchTenant, CreatedBy: "key:bench", Checkpoint: checkpoint}); err != nil {
			t.Fatal(err)
		}
		w.Work()
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

// noPlaces is an arrival log without entries.
type noPlaces struct{}

func (noPlaces) Head(context.Context, audit.TenantID) (arrival.Head, error) {
	return arrival.Head{}, nil
}

// putCorpus stores entries as they are accepted. It returns the months of their timestamps.
func putCorpus(t *testing.T, w *jobtest.World, n int) map[string]bool {
	t.Helper()
	months := map[string]bool{}
	accept := acceptInto(queue(func(bodies []string) {
		for _, body := range bodies {
			contents, err := envelope.Unpack(body)
			if err != nil {
				t.Error(err)
				return
			}
			for i := range contents.Entries {
				months[contents.Entries[i].Timestamp.Format("2006-01")] = true
			}
			w.Put(benchTenant, contents.Entries)
		}
	}))
	if _, err := accept.Submit(t.Context(), tenantOf(benchTenant), ingest.Origin{SubmittedBy: "key:bench"}, newCorpus(9).entries(n)); err != nil {
		t.Fatal(err)
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
