package httpapi_test

import (
	"fmt"
	"io"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ocelot-audit/ocelot/pkg/certificate"
	"github.com/ocelot-audit/ocelot/pkg/engine/fileblob"
	"github.com/ocelot-audit/ocelot/pkg/erasure"
	"github.com/ocelot-audit/ocelot/pkg/export"
	"github.com/ocelot-audit/ocelot/pkg/jobs"
	"github.com/ocelot-audit/ocelot/pkg/protect"
	"github.com/ocelot-audit/ocelot/pkg/quarantine"
)

const erasures = "/tenants/acme/erasures"

// erasureAnswer is an erasure as the API shows it.
type erasureAnswer struct {
	ID, State   string
	SubjectHMAC string `json:"subject_hmac"`
	CreatedBy   string `json:"created_by"`
	ErasesAt    string `json:"erases_at"`
	ErasedAt    string `json:"erased_at"`
	Certificate string
}

// erase starts an erasure of a subject.
func (w *world) erase(subject string, hours int) (e erasureAnswer) {
	w.t.Helper()
	body := fmt.Sprintf(`{"subject":%q,"reason":"Request 17","delay_hours":%d}`, subject, hours)
	w.call("admin", "POST", erasures, body, nil).want(w.t, 202, "").decode(w.t, &e)
	return e
}

func (w *world) erasure(id string) (e erasureAnswer) {
	w.t.Helper()
	w.call("admin", "GET", erasures+"/"+id, "", nil).want(w.t, 200, "").decode(w.t, &e)
	return e
}

func (w *world) tombstones() *erasure.Tombstones {
	w.t.Helper()
	blobs, err := fileblob.Open(w.t.TempDir())
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { _ = blobs.Close() })
	return &erasure.Tombstones{Blobs: blobs, Now: w.clock}
}

// runJobs handles the messages of jobs that were sent so far.
func (w *world) runJobs() {
	w.t.Helper()
	worker := &jobs.Worker{
		Store: w.db.Jobs(), Queues: jobs.Queues{Jobs: w.work, Archive: w.work}, Now: w.clock, Log: slog.New(slog.NewTextHandler(io.Discard, nil)),
		Recorder: w.ingest, Tenants: w.db.Tenants(), Random: w.fill,
		Runners: map[jobs.Kind]jobs.Runner{jobs.KindErasure: &erasure.Runner{
			Keys: w.keys, Tombstones: w.tombstones(), Holds: w.db.Holds(), Store: w.db.Entries(), Entries: w.db.Entries(), Index: w.db.Index(), Exports: &export.Remover{Jobs: w.db.Jobs(), Queues: jobs.Queues{Jobs: w.work, Archive: w.work}, Files: w.files, Now: w.clock, Random: w.fill}, Quarantine: &quarantine.Rewriter{Store: w.db.Quarantine()}, Tenants: w.db.Tenants(), Recorder: w.ingest, SettleTime: protect.KeyTTL, Now: w.clock, Random: w.fill,
			BackupTime: 35 * 24 * time.Hour, Certificates: &certificate.Issuer{Store: w.db.Certificates(), Wrapper: w.master, Random: w.fill},
		}},
	}
	for _, body := range w.work.take() {
		if err := worker.Handle(w.t.Context(), body); err != nil {
			w.t.Errorf("handle a message: %v", err)
		}
	}
}

func TestAnErasureFromItsBeginningToItsEnd(t *testing.T) {
	w := protectedWorld(t)
	id := w.wrote(sensitive)
	w.call("admin", "GET", "/logs/"+id+"?reveal=true&reason=x", "", nil).want(t, 200, "")
	e := w.erase("ann", 24)
	if want := "2026-03-03T09:30:"; !strings.HasPrefix(e.ErasesAt, want) {
		t.Errorf("it erases at %s, want %s…", e.ErasesAt, want)
	}
	if len(e.SubjectHMAC) != 32 {
		t.Errorf("the HMAC is %q, want 32 hexadecimal digits", e.SubjectHMAC)
	}
	w.runJobs()
	w.advance(24 * time.Hour)
	w.runJobs()
	if got := w.erasure(e.ID); got.State != "running" || got.ErasedAt == "" {
		t.Errorf("after the delay it is %+v, want it running and erased", got)
	}
	w.advance(protect.KeyTTL)
	w.runJobs()
	done := w.erasure(e.ID)
	if done.State != "succeeded" {
		t.Errorf("it is %s, want succeeded", done.State)
	}
	w.wantCertificate(done)
	want := places{
		Message: "call Ann", Metadata: []byte(`{"email":"•••@example.com","n":1,"a":{"IBAN":"DE893704004405320007"}}`),
		Revealed: []string{"/message", "/metadata/a/IBAN"}, Erased: []string{"/metadata/email"},
	}
	if diff := cmp.Diff(want, w.read("admin", "/logs/"+id+"?reveal=true&reason=x", 200, "")); diff != "" {
		t.Errorf("the entry afterwards (-want +got):\n%s", diff)
	}
	w.processQueues()
	for _, action := range []string{"erasure.create", "erasure.finish"} {
		list := w.call("admin", "GET", "/logs?action="+action, "", nil).want(t, 200, "").body
		if n := strings.Count(list, `"resource_id":"`+e.ID+`"`); n != 1 {
			t.Errorf("%d entries %s, want 1: %s", n, action, list)
		}
		if strings.Contains(list, `"ann"`) {
			t.Errorf("the entry %s names the subject: %s", action, list)
		}
	}
}

// wantCertificate reads and verifies the certificate of an erasure without a credential.
func (w *world) wantCertificate(e erasureAnswer) {
	w.t.Helper()
	path, ok := strings.CutPrefix(e.Certificate, "/api/v1")
	if !ok {
		w.t.Fatalf("the certificate is at %q, want a path of the API", e.Certificate)
	}
	var answer struct {
		Statement struct {
			ErasureID string `json:"erasure_id"`
		}
		Certificate string
	}
	w.call("", "GET", path, "", nil).want(w.t, 200, "").decode(w.t, &answer)
	var keys certificate.KeySet
	w.call("", "GET", "/certificates/keys", "", nil).want(w.t, 200, "").decode(w.t, &keys)
	if _, err := certificate.Verify(answer.Certificate, keys); err != nil {
		w.t.Errorf("verify the certificate: %v", err)
	}
	if answer.Statement.ErasureID != e.ID {
		w.t.Errorf("it is about the erasure %s, want %s", answer.Statement.ErasureID, e.ID)
	}
}

func TestErasuresThatConflict(t *testing.T) {
	w := newWorld(t)
	e := w.erase("user-42", 24)
	cancel := func() reply { return w.call("admin", "DELETE", erasures+"/"+e.ID, "", nil) }
	for range 2 { // the second time it is canceled already
		cancel().want(t, 200, "")
	}
	e = w.erase("user-42", 0)
	w.runJobs()
	wantDetail(t, cancel(), "The erasure has begun and cannot be cancelled any more.")
	w.advance(protect.KeyTTL)
	w.runJobs()
	wantDetail(t, cancel(), "The erasure is finished.")
	for n := range jobs.MaxQueued {
		w.erase(fmt.Sprint("user-", n), 24)
	}
	create := func() reply {
		return w.call("admin", "POST", erasures, `{"subject":"user-42","reason":"r"}`, nil)
	}
	wantDetail(t, create(), "The tenant has 20 queued jobs. Wait until one of them has started.")
	w.runJobs()
	for n := range erasure.MaxOpen - jobs.MaxQueued {
		w.addErasure(n)
	}
	wantDetail(t, create(), "The tenant has 500 unfinished erasures. Cancel one, or wait until one has finished.")
}

// addErasure stores an erasure that waits.
func (w *world) addErasure(n int) {
	w.t.Helper()
	job := jobs.Job{
		ID: fmt.Sprintf("waits-%03d", n), Kind: jobs.KindErasure, Tenant: "acme", State: jobs.StateRunning, CreatedBy: "admin", CreatedAt: start,
		ResumeAt: start, Checkpoint: []byte(`{"subject":"000102030405060708090a0b0c0d0e0f","erases_at":"2026-04-01T00:00:00Z"}`),
	}
	if err := w.db.Jobs().CreateJob(w.t.Context(), job); err != nil {
		w.t.Fatal(err)
	}
}

func wantDetail(t *testing.T, got reply, want string) {
	t.Helper()
	if detail := got.want(t, 409, "conflict").problem(t).Detail; detail != want {
		t.Errorf("got detail %q, want %q", detail, want)
	}
}

func TestNobodyErasesThemselves(t *testing.T) {
	w := newWorld(t)
	for _, as := range []string{"admin", "admin's key"} {
		got := w.call(as, "POST", erasures, `{"subject":"admin","reason":"r"}`, nil).want(t, 403, "forbidden")
		if detail, want := got.problem(t).Detail, "Nobody erases themselves"; !strings.HasPrefix(detail, want) {
			t.Errorf("%s: got detail %q, want %s…", as, detail, want)
		}
	}
	got := w.call("scoped", "POST", erasures, `{"subject":"user-42","reason":"r"}`, nil).want(t, 403, "forbidden")
	if detail, want := got.problem(t).Detail, "A credential that is restricted to resources cannot erase a subject."; detail != want {
		t.Errorf("restricted: got detail %q, want %q", detail, want)
	}
}
