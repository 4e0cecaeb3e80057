package localcloud_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/export"
)

func TestEndToEndExportByKilledWorkers(t *testing.T) {
	onBothEngines(t, "export", serverEntries, serverEntries, killedWorkersExport)
}

// killedWorkersExport exports entries by workers that are killed, to a file of several parts. It has each entry once.
func killedWorkersExport(r *retained, total int) {
	long := strings.Repeat("of a long message ", 80)
	r.sendEach(total, func(i int) (user, text string) {
		return "u", fmt.Sprintf(`{"user_id":"u","action":"VIEW","resource_type":"order","timestamp":%q,"message":"%d %s"}`,
			today().Add(-time.Duration(i)*time.Second).Format(time.RFC3339), i, long)
	})
	r.handle()
	r.wantOnly("at first", r.acknowledgedBefore(time.Now()))
	got := r.admin.do("POST", "/logs/exports", `{"format":"ndjson","action":["VIEW"]}`, nil)
	if got.status != http.StatusAccepted {
		r.t.Fatalf("export: got status %d, want %d: %s", got.status, http.StatusAccepted, got.body)
	}
	r.t.Cleanup(func() { // uploads that killed workers have left
		if _, err := r.stores.Exports.Purge(context.Background(), r.admin.tenant, export.MaxList); err != nil {
			r.t.Error(err)
		}
	})
	var job exportAnswer
	got.decode(r.t, &job)
	r.workKilled(faults{kills: 12, apart: 4, skew: time.Minute})
	got = r.admin.get("/logs/exports/"+job.ID, nil)
	if got.decode(r.t, &job); job.State != "succeeded" {
		r.t.Fatalf("the export is %s, want it to succeed: %s", job.State, got.body)
	}
	file := job.download(r.t)
	if sum := fmt.Sprintf("%x", sha256.Sum256(file)); sum != job.SHA256 {
		r.t.Errorf("the file has the SHA-256 %s, want %s", sum, job.SHA256)
	}
	exported := map[audit.EntryID]bool{}
	for line := range bytes.Lines(file) {
		var entry struct{ ID audit.EntryID }
		decode(r.t, line, &entry)
		if exported[entry.ID] {
			r.t.Errorf("entry %s is in the file twice", entry.ID)
		}
		exported[entry.ID] = true
	}
	r.wantSame("the file", exported, r.acknowledgedBefore(time.Now()))
}
