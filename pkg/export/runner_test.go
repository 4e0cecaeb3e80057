package export_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"

	"github.com/ocelot-audit/ocelot/pkg/access"
	"github.com/ocelot-audit/ocelot/pkg/archive"
	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/engine/fileblob"
	"github.com/ocelot-audit/ocelot/pkg/export"
	"github.com/ocelot-audit/ocelot/pkg/jobs"
	"github.com/ocelot-audit/ocelot/pkg/search"
	"github.com/ocelot-audit/ocelot/pkg/testkit/jobtest"
	"github.com/ocelot-audit/ocelot/pkg/testkit/parquettest"
	"github.com/ocelot-audit/ocelot/pkg/walk"
)

// world is exports and a worker over the embedded engine.
type world struct {
	*jobtest.World
	*export.Jobs
	t       *testing.T
	files   *fileblob.Blobs
	folder  string // of the files
	runner  *export.Runner
	entries int
	padded  bool // each entry is large
	parts   int  // that were stored
	small   int  // of them, those that can only be the last of a file
	erased  []string
	archive *fileblob.Blobs
}

var admin = access.Principal{Subject: "ann", Grants: map[audit.TenantID][]access.Permission{"acme": {access.LogsExport}}}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{World: jobtest.New(t), t: t}
	var err error
	w.folder = t.TempDir()
	if w.files, err = fileblob.Open(w.folder); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := w.files.Close(); err != nil {
			t.Error(err)
		}
	})
	find := &search.Service{Index: w.DB.Index(), Now: w.Clock}
	w.Jobs = &export.Jobs{Jobs: w.Service, Entries: find, Holds: w.DB.Holds(), Texts: jobtest.Texts{}, Recorder: w, Now: w.Clock, Random: jobtest.Random}
	w.runner = &export.Runner{
		Reader: walk.Reader{Entries: find, Tenants: w, Texts: jobtest.Texts{}, Now: w.Clock},
		Holds:  w.DB.Holds(), Held: w.DB.Entries(),
		Sealer: jobtest.Texts{}, Files: mortalFiles{w.files, w}, Recorder: w, Random: jobtest.Random,
	}
	w.Worker.Runners[jobs.KindExport] = w.runner
	if w.archive, err = fileblob.OpenPlain(t.TempDir()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = w.archive.Close() })
	w.runner.Archived = func(tenant audit.TenantID, from, to time.Time) export.ArchivedEntries {
		return archive.NewEntries(w.archive, tenant, from, to)
	}
	return w
}

// mortalFiles are the files of a worker that can be killed.
type mortalFiles struct {
	*fileblob.Blobs
	w *world
}

func (m mortalFiles) BeginUpload(ctx context.Context, tenant audit.TenantID, key, mediaType string) (u export.Upload, err error) {
	return u, m.w.Call(func() error { u, err = m.Blobs.BeginUpload(ctx, tenant, key, mediaType); return err })
}

func (m mortalFiles) PutPart(ctx context.Context, tenant audit.TenantID, u export.Upload, number int, content []byte) (p export.Part, err error) {
	m.w.parts++
	if len(content) < export.MinPart {
		m.w.small++
	}
	return p, m.w.Call(func() error { p, err = m.Blobs.PutPart(ctx, tenant, u, number, content); return err })
}

func (m mortalFiles) CompleteUpload(ctx context.Context, tenant audit.TenantID, u export.Upload, parts []export.Part, size int64, sum [sha256.Size]byte) error {
	return m.w.Call(func() error { return m.Blobs.CompleteUpload(ctx, tenant, u, parts, size, sum) })
}

func (m mortalFiles) Erase(ctx context.Context, tenant audit.TenantID, key string) error {
	m.w.erased = append(m.w.erased, key)
	return m.Blobs.Erase(ctx, tenant, key)
}

// store stores and indexes entries that are received now.
func (w *world) store(n int) {
	w.t.Helper()
	entries := make([]audit.Entry, n)
	for i := range entries {
		w.entries++
		at := w.Time.Add(-time.Duration(w.entries%100_000) * time.Second)
		var unique [10]byte
		copy(unique[:], fmt.Sprintf("%010d", w.entries))
		entries[i] = audit.Entry{
			ID: audit.NewEntryID(at, unique), Tenant: "acme", UserID: fmt.Sprintf("u%d", w.entries%7), Action: "UPDATE", ResourceType: "order",
			Timestamp: at, ReceivedAt: w.Time,
		}
		if w.padded {
			entries[i].Message = incompressible()
		}
	}
	w.Put("acme", entries)
}

func (w *world) create(query url.Values) export.Export {
	w.t.Helper()
	e, err := w.Create(w.t.Context(), admin, jobtest.Acme, access.Scope{}, query)
	if err != nil {
		w.t.Fatal(err)
	}
	return e
}

// file returns the job and the content of its file.
func (w *world) file(id string) (jobs.Job, []byte) {
	w.t.Helper()
	job := w.Job(id)
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
	t.Parallel()
	w := newWorld(t)
	w.store(2500)
	w.Time = w.Time.Add(time.Second)
	e := w.create(url.Values{"format": {"ndjson"}})
	w.Time = w.Time.Add(time.Second)
	w.store(700) // in the middle of the list
	w.Work()
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
	if got, want := w.Actions(), []string{"export.create " + e.ID, "export.finish " + e.ID}; !slices.Equal(got, want) {
		t.Errorf("recorded %q, want %q", got, want)
	}
}

func TestJobsOfEveryFormMatchTheAnswerAtOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.store(300)
	w.Time = w.Time.Add(time.Second)
	service := &export.Service{Entries: &search.Service{Index: w.DB.Index(), Now: w.Clock}, Recorder: w, Now: w.Clock}
	for _, query := range []url.Values{
		{}, {"format": {"json"}}, {"format": {"csv"}, "bom": {"true"}}, {"format": {"csv"}, "fields": {"id,timestamp"}, "time_format": {"epoch_ms"}},
		{"format": {"json"}, "user_id": {"nobody"}}, {"format": {"ndjson"}, "user_id": {"nobody"}}, {"user_id": {"nobody"}, "compress": {"gzip"}},
		{"compress": {"gzip"}}, {"compress": {"zstd"}, "sort": {"timestamp"}, "user_id": {"u1"}},
		{"format": {"parquet"}}, {"format": {"parquet"}, "fields": {"timestamp,metadata.a"}, "time_format": {"epoch_ms"}}, {"format": {"parquet"}, "user_id": {"nobody"}},
	} {
		e := w.create(query)
		w.Work()
		job, content := w.file(e.ID)
		if job.State != jobs.StateSucceeded {
			t.Fatalf("%v: the job is %s (%s), want %s", query, job.State, job.Error, jobs.StateSucceeded)
		}
		file, err := service.AtOnce(t.Context(), admin, jobtest.Acme, access.Scope{}, query)
		if err != nil {
			t.Fatal(err)
		}
		if got, want := unpacked(t, content, query.Get("compress")), unpacked(t, file.Content, query.Get("compress")); got != want {
			t.Errorf("%v: the job's file is\n%.500s\nwant\n%.500s", query, got, want)
		}
	}
}

// TestTheRecordOfAnExportNamesItsFilters: what says nothing about which entries it has is not named.
func TestTheRecordOfAnExportNamesItsFilters(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	query := url.Values{"sort": {"timestamp"}, "user_id": {"u1"}, "q": {"x"}, "format": {"csv"}, "fields": {"id"}, "time_format": {"epoch_ms"}, "bom": {"true"}, "compress": {"gzip"}}
	w.create(query)
	service := &export.Service{Entries: &search.Service{Index: w.DB.Index(), Now: w.Clock}, Recorder: w, Now: w.Clock}
	if _, err := service.AtOnce(t.Context(), admin, jobtest.Acme, access.Scope{}, query); err != nil {
		t.Fatal(err)
	}
	for i, want := range []string{`{"format":"csv","filters":["q","user_id"]}`, `{"format":"csv","count":0,"filters":["q","user_id"]}`} {
		if got := string(w.Recorded[i].Metadata); got != want {
			t.Errorf("%s: got metadata %s, want %s", w.Recorded[i].Action, got, want)
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
	t.Parallel()
	for name, test := range map[string]struct {
		query   url.Values
		entries int // two parts
	}{
		"json": {url.Values{"format": {"json"}}, 250}, "zstd": {url.Values{"format": {"json"}, "compress": {"zstd"}}, 250},
		"parquet": {url.Values{"format": {"parquet"}}, 250},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			aKilledExportResumes(t, test.query, test.entries)
		})
	}
}

func aKilledExportResumes(t *testing.T, query url.Values, entries int) {
	w := newWorld(t)
	w.padded = true
	w.store(entries)
	w.Time = w.Time.Add(time.Second)
	first := w.create(query)
	w.Work()
	_, want := w.file(first.ID)
	total := w.Calls
	if w.parts < 2 {
		t.Fatalf("the file of %d bytes has %d parts, want several with a checkpoint each", len(want), w.parts)
	}
	for at := 1; at <= total; at++ {
		for _, after := range []bool{false, true} {
			w.Calls, w.KillAt, w.After = 0, at, after
			e := w.create(query)
			w.Work()
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
	jobtest.Random(b)
	return base64.StdEncoding.EncodeToString(b)
}

// slicedEntries are enough for four parts.
const slicedEntries = 500

// createSliced starts an export, of which each slice writes one part.
func (w *world) createSliced() export.Export {
	w.t.Helper()
	w.padded = true
	w.store(slicedEntries)
	w.Time = w.Time.Add(time.Second)
	w.Tick, w.Worker.SliceTime = time.Microsecond, time.Nanosecond
	return w.create(url.Values{})
}

func TestASlicedExportIsWhole(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	e := w.createSliced()
	w.Work()
	job, content := w.file(e.ID)
	if job.Generation < 4 {
		t.Errorf("the job had %d deliveries, want one for each part", job.Generation)
	}
	w.wantLines(content, slicedEntries)
}

func TestACanceledExportLeavesNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	e := w.createSliced()
	w.Deliver(2)
	if job, _ := w.file(e.ID); job.Progress <= 0 || job.Progress >= 1 {
		t.Errorf("got progress %v in the middle, want more than 0 and less than 1", job.Progress)
	}
	if _, err := w.Service.Cancel(t.Context(), admin, jobtest.Acme, e.ID); err != nil {
		t.Fatal(err)
	}
	w.Work()
	if job, _ := w.file(e.ID); job.State != jobs.StateCanceled {
		t.Errorf("the job is %s, want %s", job.State, jobs.StateCanceled)
	}
	w.wantNoUploads()
}

// TestAnEndedExportForgetsItsFilters: the record stays for 90 days, and the filters can be large.
func TestAnEndedExportForgetsItsFilters(t *testing.T) {
	t.Parallel()
	for state, end := range map[jobs.State]func(w *world, id string){
		jobs.StateSucceeded: func(*world, string) {},
		jobs.StateFailed:    func(w *world, _ string) { w.Owner.Status = audit.TenantDeleting },
		jobs.StateCanceled: func(w *world, id string) {
			if _, err := w.Service.Cancel(w.t.Context(), admin, jobtest.Acme, id); err != nil {
				w.t.Fatal(err)
			}
		},
	} {
		w := newWorld(t)
		w.store(10)
		w.Time = w.Time.Add(time.Second)
		e := w.create(url.Values{"resource_type": {"order"}, "resource_id": {strings.Repeat("7", 200)}})
		if size := len(w.Job(e.ID).Checkpoint); size < 200 {
			t.Fatalf("the checkpoint has %d bytes at the beginning, want the filters in it", size)
		}
		end(w, e.ID)
		w.Work()
		job := w.Job(e.ID)
		if job.State != state {
			t.Errorf("the job is %s, want %s", job.State, state)
		}
		if text := string(job.Checkpoint); strings.Contains(text, `"filters"`) {
			t.Errorf("%s: the checkpoint is %s, want it without the filters", state, text)
		}
	}
}

func TestUnfinishedExportsAreBounded(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	first := w.createSliced()
	for range export.MaxOpen - 1 {
		w.create(url.Values{})
	}
	w.Deliver(export.MaxOpen) // they have begun: none is queued any more
	if _, err := w.Create(t.Context(), admin, jobtest.Acme, access.Scope{}, url.Values{}); !errors.Is(err, export.ErrTooManyOpen) {
		t.Errorf("one more: got error %v, want ErrTooManyOpen", err)
	}
	if _, err := w.Service.Cancel(t.Context(), admin, jobtest.Acme, first.ID); err != nil {
		t.Fatal(err)
	}
	w.create(url.Values{})
}

func TestParametersOfAJobAreBounded(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	values := make([]string, 100)
	for i := range values {
		values[i] = fmt.Sprintf("%0655d", i)
	}
	_, err := w.Create(t.Context(), admin, jobtest.Acme, access.Scope{}, url.Values{"user_id": values})
	if invalid := (*audit.ValidationError)(nil); !errors.As(err, &invalid) {
		t.Errorf("more than 64 KiB of filters: got error %v, want a fault of the request", err)
	}
	w.create(url.Values{"user_id": values[:97]})
}

// plan sends the messages of jobs that stand still, and has them handled.
func (w *world) plan(want int) {
	w.t.Helper()
	sent, err := w.Service.Plan(w.t.Context())
	if err != nil {
		w.t.Fatal(err)
	}
	if sent != want {
		w.t.Errorf("the plan sent %d messages at %s, want %d", sent, w.Time, want)
	}
	w.Work()
}

func TestAFileIsRemovedAfterSevenDays(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.store(10)
	w.Time = w.Time.Add(time.Second)
	e := w.create(url.Values{})
	w.Work()
	job, content := w.file(e.ID)
	w.wantLines(content, 10)
	again, err := jobs.Message{Tenant: "acme", Job: e.ID, Generation: job.Generation}.Encode()
	if err != nil {
		t.Fatal(err)
	}
	w.Messages = append(w.Messages, again) // as Plan sends it when a worker is slow
	w.Work()
	w.Time = job.FinishedAt.Add(export.FileAge - time.Millisecond)
	w.plan(0)
	if _, got := w.file(e.ID); !bytes.Equal(got, content) {
		t.Errorf("the file has %d bytes before its end, want %d", len(got), len(content))
	}
	w.Time = job.FinishedAt.Add(export.FileAge)
	w.plan(1)
	w.wantNoUploads()
	w.Time = w.Time.Add(24 * time.Hour)
	w.plan(0)
	got, err := w.Export(t.Context(), admin, jobtest.Acme, e.ID)
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
	t.Parallel()
	w := newWorld(t)
	e := w.createSliced()
	w.Deliver(2)
	if _, err := w.Service.Cancel(t.Context(), admin, jobtest.Acme, e.ID); err != nil {
		t.Fatal(err)
	}
	w.Messages = nil
	w.Time = w.Time.Add(5 * time.Minute)
	w.plan(1)
	w.wantNoUploads()
}

func TestALostUploadBeginsAgain(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	e := w.createSliced()
	w.Deliver(2)
	if _, err := w.files.Purge(t.Context(), "acme", 10); err != nil {
		t.Fatal(err)
	}
	w.Work()
	job, content := w.file(e.ID)
	if job.State != jobs.StateSucceeded {
		t.Errorf("the job is %s (%s), want %s", job.State, job.Error, jobs.StateSucceeded)
	}
	w.wantLines(content, slicedEntries)
}

func TestAnExportOfADeletedTenantFails(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.store(10)
	w.Time = w.Time.Add(time.Second)
	e := w.create(url.Values{})
	w.Owner.Status = audit.TenantDeleting
	w.Work()
	if job, _ := w.file(e.ID); job.State != jobs.StateFailed {
		t.Errorf("the job is %s, want %s", job.State, jobs.StateFailed)
	}
	w.wantNoUploads()
}

func TestAnExportWaitsForTheIndex(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	behind := &jobtest.Lag{Looks: 3}
	w.runner.Lag = behind
	w.store(10)
	w.Time = w.Time.Add(time.Second)
	created := w.Time
	e := w.create(url.Values{})
	w.Work()
	job, content := w.file(e.ID)
	if waited := job.FinishedAt.Sub(created); waited < 15*time.Second {
		t.Errorf("the job finished after %s, want after three looks", waited)
	}
	if !behind.Received.Equal(created) {
		t.Errorf("it waits for what was received before %s, want %s", behind.Received, created)
	}
	w.wantLines(content, 10)
}
