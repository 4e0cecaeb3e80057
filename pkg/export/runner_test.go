package export_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"

	"github.com/ocelot-audit/ocelot/pkg/access"
	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/engine/fileblob"
	"github.com/ocelot-audit/ocelot/pkg/engine/sqlite"
	"github.com/ocelot-audit/ocelot/pkg/export"
	"github.com/ocelot-audit/ocelot/pkg/jobs"
	"github.com/ocelot-audit/ocelot/pkg/protect"
	"github.com/ocelot-audit/ocelot/pkg/search"
	"github.com/ocelot-audit/ocelot/pkg/testkit/parquettest"
)

var errKilled = errors.New("killed")

// world is exports and a worker over the embedded engine, with the time and the messages.
type world struct {
	*export.Jobs
	t        *testing.T
	db       *sqlite.DB
	files    *fileblob.Blobs
	runner   *export.Runner
	worker   *jobs.Worker
	now      time.Time
	tick     time.Duration // by which each look at the clock moves it
	messages []string
	recorded []audit.Entry
	tenant   audit.Tenant
	entries  int
	padded   bool // each entry is large

	parts         int  // that were stored
	calls, killAt int  // calls of stores by the worker; the one that fails, 0: none
	after         bool // it fails after its effect
}

var (
	acme  = audit.Tenant{ID: "acme", Status: audit.TenantActive}
	admin = access.Principal{Subject: "ann", Grants: map[audit.TenantID][]access.Permission{"acme": {access.LogsExport}}}
)

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{t: t, now: time.Date(2026, 3, 2, 9, 30, 0, 0, time.UTC), tenant: acme}
	var err error
	if w.db, err = sqlite.Open(t.Context(), filepath.Join(t.TempDir(), "test.db"), sqlite.WithClock(w.clock)); err != nil {
		t.Fatal(err)
	}
	if w.files, err = fileblob.Open(t.TempDir()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(w.db.Close(), w.files.Close()); err != nil {
			t.Error(err)
		}
	})
	find := &search.Service{Index: w.db.Index(), Now: w.clock}
	w.Jobs = &export.Jobs{
		Jobs: &jobs.Service{Store: w.db.Jobs(), Queue: w, Recorder: w, Now: w.clock}, Entries: find, Texts: texts{}, Recorder: w, Now: w.clock, Random: random,
	}
	w.runner = &export.Runner{Entries: find, Tenants: w, Files: mortalFiles{w.files, w}, Texts: texts{}, Recorder: w, Now: w.clock, Random: random}
	w.worker = &jobs.Worker{
		Store: mortalJobs{w.db.Jobs(), w}, Queue: w, Runners: map[jobs.Kind]jobs.Runner{jobs.KindExport: w.runner}, Now: w.clock,
		Log: slog.New(slog.DiscardHandler),
	}
	return w
}

func random(b []byte) { _, _ = rand.Read(b) }

func (w *world) clock() time.Time {
	w.now = w.now.Add(w.tick)
	return w.now
}

// Send implements jobs.Queue.
func (w *world) Send(_ context.Context, _ audit.TenantID, bodies []string) error {
	w.messages = append(w.messages, bodies...)
	return nil
}

// SendAfter implements jobs.Queue. The delay passes at once.
func (w *world) SendAfter(ctx context.Context, tenant audit.TenantID, delay time.Duration, body string) error {
	w.now = w.now.Add(delay)
	return w.Send(ctx, tenant, []string{body})
}

// Record implements audit.Recorder. As stores do, it drops what has a known id.
func (w *world) Record(_ context.Context, _ audit.Tenant, entry audit.Entry) error {
	known := func(e audit.Entry) bool { return !entry.ID.IsZero() && e.ID == entry.ID }
	if !slices.ContainsFunc(w.recorded, known) {
		w.recorded = append(w.recorded, entry)
	}
	return nil
}

// Tenant implements export.Tenants.
func (w *world) Tenant(context.Context, audit.TenantID) (audit.Tenant, error) { return w.tenant, nil }

// texts seals texts by their places alone.
type texts struct{}

func (texts) SealText(_ context.Context, tenant audit.TenantID, place string, text []byte) ([]byte, error) {
	return []byte(string(tenant) + " " + place + " " + base64.StdEncoding.EncodeToString(text)), nil
}

func (texts) OpenText(_ context.Context, tenant audit.TenantID, place string, sealed []byte) ([]byte, error) {
	text, is := strings.CutPrefix(string(sealed), string(tenant)+" "+place+" ")
	if !is {
		return nil, protect.ErrUnreadable
	}
	return base64.StdEncoding.DecodeString(text)
}

// call counts a call of the worker. It fails if the worker is killed there.
func (w *world) call(do func() error) error {
	w.calls++
	if w.calls != w.killAt {
		return do()
	}
	if w.after {
		if err := do(); err != nil {
			return err
		}
	}
	return errKilled
}

// mortalJobs are the jobs of a worker that can be killed.
type mortalJobs struct {
	jobs.Store
	w *world
}

func (m mortalJobs) UpdateJob(ctx context.Context, job jobs.Job, generation int64) error {
	return m.w.call(func() error { return m.Store.UpdateJob(ctx, job, generation) })
}

// mortalFiles are the files of a worker that can be killed.
type mortalFiles struct {
	*fileblob.Blobs
	w *world
}

func (m mortalFiles) BeginUpload(ctx context.Context, tenant audit.TenantID, key, mediaType string) (u export.Upload, err error) {
	return u, m.w.call(func() error { u, err = m.Blobs.BeginUpload(ctx, tenant, key, mediaType); return err })
}

func (m mortalFiles) PutPart(ctx context.Context, tenant audit.TenantID, u export.Upload, number int, content []byte) (p export.Part, err error) {
	m.w.parts++
	return p, m.w.call(func() error { p, err = m.Blobs.PutPart(ctx, tenant, u, number, content); return err })
}

func (m mortalFiles) CompleteUpload(ctx context.Context, tenant audit.TenantID, u export.Upload, parts []export.Part, size int64, sum [sha256.Size]byte) error {
	return m.w.call(func() error { return m.Blobs.CompleteUpload(ctx, tenant, u, parts, size, sum) })
}

// store stores and indexes entries that are received now.
func (w *world) store(n int) {
	w.t.Helper()
	entries := make([]audit.Entry, n)
	for i := range entries {
		w.entries++
		at := w.now.Add(-time.Duration(w.entries%100_000) * time.Second)
		var unique [10]byte
		copy(unique[:], fmt.Sprintf("%010d", w.entries))
		entries[i] = audit.Entry{
			ID: audit.NewEntryID(at, unique), Tenant: "acme", UserID: fmt.Sprintf("u%d", w.entries%7), Action: "UPDATE", ResourceType: "order",
			Timestamp: at, ReceivedAt: w.now,
		}
		if w.padded {
			entries[i].Message = incompressible()
		}
	}
	for page := range slices.Chunk(entries, 1000) {
		if _, err := w.db.Entries().Append(w.t.Context(), "acme", page); err != nil {
			w.t.Fatal(err)
		}
		if _, err := search.PutEntries(w.t.Context(), w.db.Index(), "acme", page); err != nil {
			w.t.Fatal(err)
		}
	}
}

func (w *world) create(query url.Values) export.Export {
	w.t.Helper()
	e, err := w.Create(w.t.Context(), admin, acme, access.Scope{}, query)
	if err != nil {
		w.t.Fatal(err)
	}
	return e
}

// work handles messages until there is none. A slice that was killed comes again.
func (w *world) work() {
	w.t.Helper()
	for slices := 0; len(w.messages) > 0; slices++ {
		if slices > 100 {
			w.t.Fatal("the job does not end")
		}
		body := w.messages[0]
		w.messages = w.messages[1:]
		if err := w.worker.Handle(w.t.Context(), body); err != nil && !errors.Is(err, errKilled) {
			w.t.Fatal(err)
		}
		if len(w.messages) > 0 {
			continue
		}
		w.now = w.now.Add(4 * time.Minute) // what stands still is sent again
		if _, err := w.Jobs.Jobs.Plan(w.t.Context()); err != nil {
			w.t.Fatal(err)
		}
	}
}

// file returns the job and the content of its file.
func (w *world) file(id string) (jobs.Job, []byte) {
	w.t.Helper()
	job, err := w.db.Jobs().Job(w.t.Context(), "acme", id)
	if err != nil {
		w.t.Fatal(err)
	}
	body, _, err := w.files.Get(w.t.Context(), "acme", "exports/"+id)
	if errors.Is(err, audit.ErrNotFound) {
		return job, nil
	}
	if err != nil {
		w.t.Fatal(err)
	}
	content, err := io.ReadAll(body)
	if err := errors.Join(err, body.Close()); err != nil {
		w.t.Fatal(err)
	}
	return job, content
}

// wantLines checks that an NDJSON file has the entries once each.
func (w *world) wantLines(content []byte, want int) {
	w.t.Helper()
	lines := strings.Split(strings.TrimSuffix(string(content), "\n"), "\n")
	if len(lines) != want {
		w.t.Errorf("the file has %d lines, want %d", len(lines), want)
	}
	if slices.Sort(lines); len(slices.Compact(lines)) != len(lines) {
		w.t.Error("the file has a line twice, want each once")
	}
}

// wantNoUploads checks that no parts are left.
func (w *world) wantNoUploads() {
	w.t.Helper()
	n, err := w.files.Purge(w.t.Context(), "acme", 100)
	if err != nil {
		w.t.Fatal(err)
	}
	if n != 0 {
		w.t.Errorf("%d files and uploads are left, want 0", n)
	}
}

func TestAnExportHasWhatWasReceivedBefore(t *testing.T) {
	w := newWorld(t)
	w.store(2500)
	w.now = w.now.Add(time.Second)
	e := w.create(url.Values{"format": {"ndjson"}})
	w.now = w.now.Add(time.Second)
	w.store(700) // in the middle of the list
	w.work()
	job, content := w.file(e.ID)
	if job.State != jobs.StateSucceeded {
		t.Fatalf("the job is %s (%s), want %s", job.State, job.Error, jobs.StateSucceeded)
	}
	if job.Count != 2500 {
		t.Errorf("the job counts %d, want 2500", job.Count)
	}
	w.wantLines(content, 2500)
	sum := sha256.Sum256(content)
	list, _, err := w.List(t.Context(), admin, "acme", nil, 10)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := list[0].SHA256, hex.EncodeToString(sum[:]); got != want {
		t.Errorf("got SHA-256 %s, want %s", got, want)
	}
	if list[0].Bytes != int64(len(content)) {
		t.Errorf("got %d bytes, want %d", list[0].Bytes, len(content))
	}
	var actions []string
	for _, r := range w.recorded {
		actions = append(actions, r.Action+" "+r.ResourceID)
	}
	if want := []string{"export.create " + e.ID, "export.finish " + e.ID}; !slices.Equal(actions, want) {
		t.Errorf("recorded %q, want %q", actions, want)
	}
}

func TestJobsOfEveryFormMatchTheAnswerAtOnce(t *testing.T) {
	w := newWorld(t)
	w.store(300)
	w.now = w.now.Add(time.Second)
	service := &export.Service{Entries: &search.Service{Index: w.db.Index(), Now: w.clock}, Recorder: w, Now: w.clock}
	for _, query := range []url.Values{
		{}, {"format": {"json"}}, {"format": {"csv"}, "bom": {"true"}}, {"format": {"csv"}, "fields": {"id,timestamp"}, "time_format": {"epoch_ms"}},
		{"format": {"json"}, "user_id": {"nobody"}}, {"format": {"ndjson"}, "user_id": {"nobody"}}, {"user_id": {"nobody"}, "compress": {"gzip"}},
		{"compress": {"gzip"}}, {"compress": {"zstd"}, "sort": {"timestamp"}, "user_id": {"u1"}},
		{"format": {"parquet"}}, {"format": {"parquet"}, "fields": {"timestamp,metadata.a"}, "time_format": {"epoch_ms"}}, {"format": {"parquet"}, "user_id": {"nobody"}},
	} {
		e := w.create(query)
		w.work()
		job, content := w.file(e.ID)
		if job.State != jobs.StateSucceeded {
			t.Fatalf("%v: the job is %s (%s), want %s", query, job.State, job.Error, jobs.StateSucceeded)
		}
		file, err := service.AtOnce(t.Context(), admin, acme, access.Scope{}, query)
		if err != nil {
			t.Fatal(err)
		}
		if got, want := unpacked(t, content, query.Get("compress")), unpacked(t, file.Content, query.Get("compress")); got != want {
			t.Errorf("%v: the job's file is\n%.500s\nwant\n%.500s", query, got, want)
		}
	}
}

func unpacked(t *testing.T, content []byte, how string) string {
	t.Helper()
	var r io.Reader = bytes.NewReader(content)
	var err error
	switch how {
	case "gzip":
		r, err = gzip.NewReader(r)
	case "zstd":
		r, err = zstd.NewReader(r)
	}
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// A worker is killed before and after each of its calls in turn. The file is always the same.
func TestAKilledExportResumes(t *testing.T) {
	for name, test := range map[string]struct {
		query   url.Values
		entries int // two parts
	}{
		"json": {url.Values{"format": {"json"}}, 250}, "zstd": {url.Values{"format": {"json"}, "compress": {"zstd"}}, 250},
		"parquet": {url.Values{"format": {"parquet"}}, 350},
	} {
		t.Run(name, func(t *testing.T) { aKilledExportResumes(t, test.query, test.entries) })
	}
}

func aKilledExportResumes(t *testing.T, query url.Values, entries int) {
	w := newWorld(t)
	w.padded = true
	w.store(entries)
	w.now = w.now.Add(time.Second)
	first := w.create(query)
	w.work()
	_, want := w.file(first.ID)
	total := w.calls
	if w.parts < 2 {
		t.Fatalf("the file of %d bytes has %d parts, want several with a checkpoint each", len(want), w.parts)
	}
	for at := 1; at <= total; at++ {
		for _, after := range []bool{false, true} {
			w.calls, w.killAt, w.after = 0, at, after
			e := w.create(query)
			w.work()
			job, content := w.file(e.ID)
			if job.State != jobs.StateSucceeded {
				t.Errorf("killed at call %d, after its effect %t: the job is %s (%s), want %s", at, after, job.State, job.Error, jobs.StateSucceeded)
			}
			if job.Count != int64(entries) {
				t.Errorf("killed at call %d, after its effect %t: the job counts %d, want %d", at, after, job.Count, entries)
			}
			if !bytes.Equal(content, want) {
				t.Errorf("killed at call %d, after its effect %t: the file has %d bytes of other content, want %d", at, after, len(content), len(want))
			}
		}
	}
	if query.Get("format") == "parquet" {
		w.wantTable(want, entries)
	}
}

// wantTable checks that a Parquet file of several row groups has the entries once each.
func (w *world) wantTable(content []byte, want int) {
	w.t.Helper()
	table := parquettest.Read(w.t, content)
	if len(table.Groups) < 2 {
		w.t.Errorf("the file has %d row groups, want several", len(table.Groups))
	}
	ids := map[any]bool{}
	for _, row := range table.Rows {
		ids[row["id"]] = true
	}
	if len(table.Rows) != want {
		w.t.Errorf("the file has %d rows, want %d", len(table.Rows), want)
	}
	if len(ids) != want {
		w.t.Errorf("the file has %d ids, want %d", len(ids), want)
	}
}

// incompressible returns a text of 60 KB that compression does not make much smaller.
func incompressible() string {
	b := make([]byte, 45_000)
	random(b)
	return base64.StdEncoding.EncodeToString(b)
}

// slicedEntries are enough for four parts.
const slicedEntries = 500

// createSliced starts an export, of which each slice writes one part.
func (w *world) createSliced() export.Export {
	w.t.Helper()
	w.padded = true
	w.store(slicedEntries)
	w.now = w.now.Add(time.Second)
	w.tick, w.worker.SliceTime = time.Microsecond, time.Nanosecond
	return w.create(url.Values{})
}

func TestASlicedExportIsWhole(t *testing.T) {
	w := newWorld(t)
	e := w.createSliced()
	w.work()
	job, content := w.file(e.ID)
	if job.Generation < 4 {
		t.Errorf("the job had %d deliveries, want one for each part", job.Generation)
	}
	w.wantLines(content, slicedEntries)
}

func TestACanceledExportLeavesNothing(t *testing.T) {
	w := newWorld(t)
	e := w.createSliced()
	w.deliver(2)
	if job, _ := w.file(e.ID); job.Progress <= 0 || job.Progress >= 1 {
		t.Errorf("got progress %v in the middle, want more than 0 and less than 1", job.Progress)
	}
	if _, err := w.Jobs.Jobs.Cancel(t.Context(), admin, acme, e.ID); err != nil {
		t.Fatal(err)
	}
	w.work()
	if job, _ := w.file(e.ID); job.State != jobs.StateCanceled {
		t.Errorf("the job is %s, want %s", job.State, jobs.StateCanceled)
	}
	w.wantNoUploads()
}

// deliver has the next messages handled.
func (w *world) deliver(n int) {
	w.t.Helper()
	for range n {
		body := w.messages[0]
		w.messages = w.messages[1:]
		if err := w.worker.Handle(w.t.Context(), body); err != nil {
			w.t.Fatal(err)
		}
	}
}

// plan sends the messages of jobs that stand still, and has them handled.
func (w *world) plan(want int) {
	w.t.Helper()
	sent, err := w.Jobs.Jobs.Plan(w.t.Context())
	if err != nil {
		w.t.Fatal(err)
	}
	if sent != want {
		w.t.Errorf("the plan sent %d messages at %s, want %d", sent, w.now, want)
	}
	w.work()
}

func TestAFileIsRemovedAfterSevenDays(t *testing.T) {
	w := newWorld(t)
	w.store(10)
	w.now = w.now.Add(time.Second)
	e := w.create(url.Values{})
	w.work()
	job, content := w.file(e.ID)
	w.wantLines(content, 10)
	again, err := jobs.Message{Tenant: "acme", Job: e.ID, Generation: job.Generation}.Encode()
	if err != nil {
		t.Fatal(err)
	}
	w.messages = append(w.messages, again) // as Plan sends it when a worker is slow
	w.work()
	w.now = job.FinishedAt.Add(export.FileAge - time.Millisecond)
	w.plan(0)
	if _, got := w.file(e.ID); !bytes.Equal(got, content) {
		t.Errorf("the file has %d bytes before its end, want %d", len(got), len(content))
	}
	w.now = job.FinishedAt.Add(export.FileAge)
	w.plan(1)
	w.wantNoUploads()
	w.now = w.now.Add(24 * time.Hour)
	w.plan(0)
	got, err := w.Export(t.Context(), admin, "acme", e.ID)
	if err != nil {
		t.Fatal(err)
	}
	if !got.Expired {
		t.Error("the export is not expired after seven days, want it expired")
	}
	if got.URL != "" {
		t.Errorf("the URL is %q after seven days, want none", got.URL)
	}
}

func TestACanceledExportWhoseMessageIsLostLeavesNothing(t *testing.T) {
	w := newWorld(t)
	e := w.createSliced()
	w.deliver(2)
	if _, err := w.Jobs.Jobs.Cancel(t.Context(), admin, acme, e.ID); err != nil {
		t.Fatal(err)
	}
	w.messages = nil
	w.now = w.now.Add(5 * time.Minute)
	w.plan(1)
	w.wantNoUploads()
}

func TestALostUploadBeginsAgain(t *testing.T) {
	w := newWorld(t)
	e := w.createSliced()
	w.deliver(2)
	if _, err := w.files.Purge(t.Context(), "acme", 10); err != nil {
		t.Fatal(err)
	}
	w.work()
	job, content := w.file(e.ID)
	if job.State != jobs.StateSucceeded {
		t.Errorf("the job is %s (%s), want %s", job.State, job.Error, jobs.StateSucceeded)
	}
	w.wantLines(content, slicedEntries)
}

func TestAnExportOfADeletedTenantFails(t *testing.T) {
	w := newWorld(t)
	w.store(10)
	w.now = w.now.Add(time.Second)
	e := w.create(url.Values{})
	w.tenant.Status = audit.TenantDeleting
	w.work()
	if job, _ := w.file(e.ID); job.State != jobs.StateFailed {
		t.Errorf("the job is %s, want %s", job.State, jobs.StateFailed)
	}
	w.wantNoUploads()
}

// lag is an index that is behind for a number of looks.
type lag struct {
	looks    int
	received time.Time
}

func (l *lag) Behind(_ context.Context, _ *audit.Tenant, received, from, to time.Time) (time.Time, error) {
	l.received = received
	if l.looks--; l.looks >= 0 {
		return from, nil
	}
	return to, nil
}

func TestAnExportWaitsForTheIndex(t *testing.T) {
	w := newWorld(t)
	behind := &lag{looks: 3}
	w.runner.Lag = behind
	w.store(10)
	w.now = w.now.Add(time.Second)
	created := w.now
	e := w.create(url.Values{})
	w.work()
	job, content := w.file(e.ID)
	if waited := job.FinishedAt.Sub(created); waited < 15*time.Second {
		t.Errorf("the job finished after %s, want after three looks", waited)
	}
	if !behind.received.Equal(created) {
		t.Errorf("it waits for what was received before %s, want %s", behind.received, created)
	}
	w.wantLines(content, 10)
}
