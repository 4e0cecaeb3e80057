package export_test

import (
	"bytes"
	"context"
	"crypto/md5"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/ocelot-audit/ocelot/pkg/access"
	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/engine/localkeys"
	"github.com/ocelot-audit/ocelot/pkg/export"
	"github.com/ocelot-audit/ocelot/pkg/jobs"
	"github.com/ocelot-audit/ocelot/pkg/protect"
	"github.com/ocelot-audit/ocelot/pkg/testkit/jobtest"
)

// revealer may see encrypted values.
var revealer = access.Principal{Subject: "ann", Grants: map[audit.TenantID][]access.Permission{"acme": {access.LogsExport, access.LogsReveal}}}

// secret is in every encrypted value.
const secret = "plainsecret"

// revealedWorld is exports of entries with encrypted values.
type revealedWorld struct {
	*world
	master *localkeys.Wrapper
	down   error // why the master key cannot be had
	keys   *protect.Keyring
}

// newRevealedWorld returns a world with entries of user-1 and user-2 in turn.
func newRevealedWorld(t *testing.T, entries, length int) *revealedWorld {
	t.Helper()
	w := &revealedWorld{world: newWorld(t)}
	var err error
	if w.master, err = localkeys.Open(t.TempDir()); err != nil {
		t.Fatal(err)
	}
	w.keys = w.process()
	keys, err := w.keys.Current(t.Context(), "acme", []string{"user-1", "user-2"})
	if err != nil {
		t.Fatal(err)
	}
	list := make([]audit.Entry, entries)
	for i := range list {
		user := fmt.Sprintf("user-%d", 1+i%2)
		e := audit.Entry{
			ID: audit.NewEntryID(w.Time.Add(-time.Duration(i)*time.Second), [10]byte{1}), Tenant: "acme", UserID: user, Action: "UPDATE", ResourceType: "order",
			Timestamp: w.Time.Add(-time.Duration(i) * time.Second), ReceivedAt: w.Time, Message: protect.Masked,
		}
		key, value := keys[user], fmt.Sprintf("%q", secret+" of "+user+" "+strings.Repeat("x", length))
		element, err := protect.Seal(&key, "acme", e.ID, []string{"/message"}, [][]byte{[]byte(value)}, jobtest.Random)
		if err != nil {
			t.Fatal(err)
		}
		e.Encrypted = []audit.Encrypted{element}
		list[i] = e
	}
	w.Put("acme", list)
	w.Time = w.Time.Add(time.Second)
	w.runner.Revealer, w.runner.Sealer, w.runner.Texts, w.Texts = &protect.Revealer{Keys: w.keys}, w.keys, w.keys, w.keys
	return w
}

// process returns the keyring of another process.
func (w *revealedWorld) process() *protect.Keyring {
	return protect.NewKeyring(w.DB.TenantKeys(), faultyMaster{w.master, w}, w.Clock, jobtest.Random)
}

// faultyMaster is a master key that can be out of reach.
type faultyMaster struct {
	protect.KeyWrapper
	w *revealedWorld
}

func (f faultyMaster) Unwrap(ctx context.Context, tenant audit.TenantID, wrapped []byte) ([]byte, error) {
	if f.w.down != nil {
		return nil, f.w.down
	}
	return f.KeyWrapper.Unwrap(ctx, tenant, wrapped)
}

func (w *revealedWorld) reveal(members map[string]jsontext.Value) export.Export {
	w.t.Helper()
	e, err := w.CreateBy(w.t.Context(), revealer, jobtest.Acme, access.Scope{}, members, "Case 17")
	if err != nil {
		w.t.Fatal(err)
	}
	return e
}

// revealedFile returns the content of a file, nil if there is none.
func (w *revealedWorld) revealedFile(id string) []byte {
	w.t.Helper()
	body, _, err := w.files.Get(w.t.Context(), "acme", "revealed/"+id)
	if errors.Is(err, audit.ErrNotFound) {
		return nil
	}
	if err != nil {
		w.t.Fatal(err)
	}
	var content bytes.Buffer
	_, err = content.ReadFrom(body)
	if err := errors.Join(err, body.Close()); err != nil {
		w.t.Fatal(err)
	}
	return content.Bytes()
}

// settleTime is how long after its destruction a process can use a key.
const settleTime = protect.KeyTTL + time.Second

func (w *revealedWorld) remover() *export.Remover {
	return &export.Remover{Jobs: w.DB.Jobs(), Queues: w.Service.Queues, Files: w.files, Now: w.Clock, Random: jobtest.Random}
}

// erase destroys the key of a user and removes revealed files, as an erasure does.
func (w *revealedWorld) erase(user string) int64 {
	w.t.Helper()
	ctx, other := context.Background(), w.process()
	id, err := other.SubjectID(ctx, "acme", user)
	if err != nil {
		w.t.Fatal(err)
	}
	ref, err := other.NewestRef(ctx, "acme", id)
	if err != nil {
		w.t.Fatal(err)
	}
	if err := other.Destroy(ctx, "acme", ref); err != nil {
		w.t.Fatal(err)
	}
	w.Time = w.Time.Add(settleTime)
	remover := w.remover()
	var at export.Removal
	done, err := remover.RemoveRevealed(ctx, "acme", "erasure", &at, func() bool { return false })
	if err != nil || !done {
		w.t.Fatalf("remove revealed exports: got done %t and error %v, want it done", done, err)
	}
	return at.Removed
}

// wantNoValueOf fails if a file, or a part of one, has a value of the user in plain.
func (w *revealedWorld) wantNoValueOf(what, user string) {
	w.t.Helper()
	err := fs.WalkDir(os.DirFS(w.folder), ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		text, err := os.ReadFile(filepath.Join(w.folder, path))
		if bytes.Contains(text, []byte(secret+" of "+user)) {
			w.t.Errorf("%s: %s has a value of %s, want it nowhere", what, path, user)
		}
		return err
	})
	if err != nil {
		w.t.Fatal(err)
	}
}

func TestARevealedExportHasValues(t *testing.T) {
	t.Parallel()
	w := newRevealedWorld(t, 300, 0)
	for format, want := range map[string][]string{
		"ndjson": {`"message":"` + secret + ` of user-1 "`, `"revealed":["/message"]`},
		"csv":    {`"` + secret + ` of user-1 ",`, `"[""/message""]"`, ",masked,expires_at,revealed,erased,unreadable\r\n"},
		"json":   {`"message":"` + secret + ` of user-2 "`},
	} {
		e := w.reveal(map[string]jsontext.Value{"format": jsontext.Value(`"` + format + `"`)})
		w.Work()
		w.WantJob(e.ID, jobs.StateSucceeded, 300)
		content := string(w.revealedFile(e.ID))
		for _, part := range want {
			if !strings.Contains(content, part) {
				t.Errorf("%s: the file lacks %s, want it:\n%.600s", format, part, content)
			}
		}
		if n := strings.Count(content, secret); n != 300 {
			t.Errorf("%s: the file has %d values, want 300", format, n)
		}
		for _, record := range w.Recorded {
			if strings.Contains(string(record.Metadata), secret) {
				t.Errorf("%s has a value: %s", record.Action, record.Metadata)
			}
		}
		if job := w.Job(e.ID); strings.Contains(string(job.Checkpoint), secret) {
			t.Errorf("the record of the job has a value: %s", job.Checkpoint)
		}
	}
	if first := w.Recorded[0]; first.Action != "export.create" || !strings.Contains(string(first.Metadata), `"reveal":true,"reason":"Case 17"`) {
		t.Errorf("recorded first %s with %s, want who reveals and why", first.Action, first.Metadata)
	}
	fields := w.reveal(map[string]jsontext.Value{"fields": jsontext.Value(`["id","erased","revealed"]`)})
	w.Work()
	if got := string(w.revealedFile(fields.ID)); strings.Contains(got, secret) || !strings.Contains(got, `"revealed":["/message"]`) {
		t.Errorf("the file with the places alone is %.200s", got)
	}
	if _, err := w.Create(t.Context(), revealer, jobtest.Acme, access.Scope{}, url.Values{"fields": {"revealed"}}); err == nil {
		t.Error("the field revealed without reveal: got no error, want one")
	}
}

// Each URL is recorded before it is given out, and only those who may reveal get one.
func TestEachURLOfARevealedExportIsRecorded(t *testing.T) {
	t.Parallel()
	w := newRevealedWorld(t, 150, 0)
	w.Files = urls{}
	e := w.reveal(nil)
	w.Work()
	before := len(w.Recorded)
	for range 2 {
		got, err := w.Export(t.Context(), revealer, jobtest.Acme, e.ID)
		if err != nil {
			t.Fatal(err)
		}
		if got.URL == "" {
			t.Error("got no URL, want one")
		}
	}
	got, err := w.Export(t.Context(), admin, jobtest.Acme, e.ID)
	if err != nil {
		t.Fatal(err)
	}
	if got.URL != "" || len(got.Lacking) != 1 || got.Lacking[0] != access.LogsReveal {
		t.Errorf("without the permission: got URL %q, lacking %q, want none and that it lacks", got.URL, got.Lacking)
	}
	records := w.Recorded[before:]
	if len(records) != 2 {
		t.Fatalf("recorded %q, want two reveals", w.Actions()[before:])
	}
	var about struct {
		Reason          string
		Values, Entries int
		IDs             []string
	}
	if err := json.Unmarshal(records[0].Metadata, &about); err != nil {
		t.Fatal(err)
	}
	if r := records[0]; r.Action != protect.ActionReveal || r.ResourceID != e.ID || r.UserID != "ann" {
		t.Errorf("recorded %s of %s by %s, want the reveal", r.Action, r.ResourceID, r.UserID)
	}
	if about.Reason != "Case 17" || about.Values != 150 || about.Entries != 150 || len(about.IDs) != 100 {
		t.Errorf("recorded %s, want the reason, 150 values and entries, and 100 ids", records[0].Metadata)
	}
}

// urls makes URLs that lead nowhere.
type urls struct{}

func (urls) Presign(context.Context, audit.TenantID, string, string, time.Duration) (string, error) {
	return "/downloads", nil
}

// While keys cannot be had, the job waits: it writes no mask in their place.
func TestARevealedExportWaitsForKeys(t *testing.T) {
	t.Parallel()
	w := newRevealedWorld(t, 10, 0)
	w.Time = w.Time.Add(protect.KeyTTL)
	w.down = &audit.UnavailableError{Err: errors.New("KMS is down")}
	e := w.reveal(nil)
	w.Deliver(3)
	if job := w.Job(e.ID); job.State != jobs.StateRunning || job.Failures == 0 {
		t.Errorf("the job is %s after %d failures, want it to try again", job.State, job.Failures)
	}
	w.down = nil
	w.Time = w.Time.Add(time.Minute)
	w.Work()
	w.WantJob(e.ID, jobs.StateSucceeded, 10)
	if n := bytes.Count(w.revealedFile(e.ID), []byte(secret)); n != 10 {
		t.Errorf("the file has %d values, want 10", n)
	}
}

func TestWhatCannotBeRevealedIsNamed(t *testing.T) {
	t.Parallel()
	w := newRevealedWorld(t, 10, 0)
	w.erase("user-1")
	e := w.reveal(nil)
	w.Work()
	content := w.revealedFile(e.ID)
	for part, want := range map[string]int{`"erased":["/message"]`: 5, `"revealed":["/message"]`: 5, secret + " of user-1": 0, secret + " of user-2": 5} {
		if n := bytes.Count(content, []byte(part)); n != want {
			t.Errorf("the file has %s %d times, want %d", part, n, want)
		}
	}
}

// An erasure comes before and after each call of a worker that sleeps meanwhile: no file has a value of
// the erased person afterwards, whatever the worker still does.
func TestAnErasureInEveryOrder(t *testing.T) {
	t.Parallel()
	const entries, length = 600, 16_000 // two parts
	sliced := func(t *testing.T) *revealedWorld {
		w := newRevealedWorld(t, entries, length)
		w.Tick, w.Worker.SliceTime = time.Microsecond, time.Nanosecond // each part is a slice
		return w
	}
	w := sliced(t)
	w.reveal(nil)
	w.Work()
	if w.parts < 2 {
		t.Fatalf("the file has %d parts, want several", w.parts)
	}
	for at := 1; at <= w.Calls; at++ {
		for _, after := range []bool{false, true} {
			t.Run(fmt.Sprintf("at call %d, after its effect %t", at, after), func(t *testing.T) {
				t.Parallel()
				sliced(t).eraseDuringCall(at, after)
			})
		}
	}
}

// lateFiles are files of a store that goes on to complete a file after an abort of its upload.
type lateFiles struct {
	mortalFiles
	abort func()
}

func (f lateFiles) CompleteUpload(ctx context.Context, tenant audit.TenantID, u export.Upload, parts []export.Part, size int64, sum [sha256.Size]byte) error {
	if err := f.Blobs.CompleteUpload(ctx, tenant, u, parts, size, sum); err != nil {
		return err
	}
	body, about, err := f.Get(ctx, tenant, u.Key)
	if err != nil {
		return err
	}
	content, err := io.ReadAll(body)
	if err := errors.Join(err, body.Close()); err != nil {
		return err
	}
	f.abort()
	return f.Put(ctx, tenant, u.Key, export.ContentOf(content, about.Type))
}

// The worker erases a file that its store completes after an erasure.
func TestAFileThatIsCompleteAfterAnErasureIsErased(t *testing.T) {
	t.Parallel()
	w := newRevealedWorld(t, 10, 100)
	w.runner.Files = lateFiles{mortalFiles{w.files, w.world}, func() {
		w.erase("user-1")
		w.wantNoValueOf("during the erasure", "user-1")
	}}
	e := w.reveal(nil)
	w.Work()
	w.wantNoValueOf("at last", "user-1")
	w.wantRecordedEnd(e.ID)
	if job := w.Job(e.ID); job.State != jobs.StateFailed {
		t.Errorf("the job is %s (%s), want it to fail: its file was removed", job.State, job.Error)
	}
}

// eraseDuringCall erases a person while the worker sleeps at a call.
func (w *revealedWorld) eraseDuringCall(at int, after bool) {
	e := w.reveal(nil)
	var removed int64
	w.InterruptAt, w.After = at, after
	w.Interrupt = func() {
		removed = w.erase("user-1")
		w.wantNoValueOf("during the erasure", "user-1")
	}
	w.Work()
	w.wantNoValueOf("at last", "user-1")
	w.wantRecordedEnd(e.ID)
	if removed > 1 {
		w.t.Errorf("removed %d files, want at most 1", removed)
	}
	if job := w.Job(e.ID); removed == 0 {
		if job.State != jobs.StateSucceeded {
			w.t.Errorf("the job is %s (%s), want it to succeed: it had no value", job.State, job.Error)
		}
		return
	}
	got, err := w.Export(w.t.Context(), revealer, jobtest.Acme, e.ID)
	if err != nil {
		w.t.Fatal(err)
	}
	if !got.Removed || got.URL != "" {
		w.t.Errorf("removed by an erasure: %t, URL %q, want it removed and without one", got.Removed, got.URL)
	}
}

// wantRecordedEnd checks that the tenant's log tells once of an export that failed, and that it tells of the end of each.
func (w *revealedWorld) wantRecordedEnd(id string) {
	w.t.Helper()
	failed, finished := 0, 0
	for _, action := range w.Actions() {
		switch action {
		case "job.fail " + id:
			failed++
		case "export.finish " + id:
			finished++
		}
	}
	want := 0
	if w.Job(id).State == jobs.StateFailed {
		want = 1
	}
	if failed != want {
		w.t.Errorf("the log tells %d times that the export failed, want %d", failed, want)
	}
	if failed+finished == 0 {
		w.t.Error("the log does not tell of the end of the export")
	}
}

// TestARemovalContinues: a slice that ends after one export begins after it, and counts on.
func TestARemovalContinues(t *testing.T) {
	t.Parallel()
	w := newRevealedWorld(t, 20, 0)
	w.reveal(nil)
	for range 3 {
		w.create(url.Values{})
	}
	w.reveal(nil)
	w.Work()
	for _, key := range []string{"revealed/orphan-1", "revealed/orphan-2"} {
		if err := w.files.Put(t.Context(), "acme", key, export.ContentOf([]byte(secret+" of user-1"), "")); err != nil {
			t.Fatal(err)
		}
	}
	remover := w.remover()
	var at export.Removal
	const most = 8 // slices, for 5 exports and 2 other files
	for slices := 1; ; slices++ {
		asked := 0
		done, err := remover.RemoveRevealed(t.Context(), "acme", "erasure", &at, func() bool {
			asked++
			return asked > 1
		})
		if err != nil {
			t.Fatal(err)
		}
		if done {
			break
		}
		if slices == most {
			t.Fatalf("not done after %d slices", most)
		}
		text, err := json.Marshal(at) // as in the record of the erasure
		if err != nil {
			t.Fatal(err)
		}
		at = export.Removal{}
		if err := json.Unmarshal(text, &at); err != nil {
			t.Fatal(err)
		}
	}
	if at.Removed != 4 {
		t.Errorf("removed %d files, want 4", at.Removed)
	}
	w.wantNoValueOf("in slices", "user-1")
}

// A removal that is killed at any of its calls is repeated, and counts each file once.
func TestAKilledRemovalIsRepeated(t *testing.T) {
	t.Parallel()
	for at := 1; ; at++ {
		for _, after := range []bool{false, true} {
			w := newRevealedWorld(t, 20, 0)
			done := w.reveal(nil)
			plain := w.create(url.Values{})
			w.Work()
			running := w.reveal(nil)
			w.Deliver(1) // it waits for what was accepted before
			w.Calls, w.KillAt, w.After = 0, 4, true
			w.Deliver(1) // a part is stored
			w.Messages, w.KillAt = nil, 0
			content := export.ContentOf([]byte(secret+" of user-1"), "")
			if err := w.files.Put(t.Context(), "acme", "revealed/orphan", content); err != nil {
				t.Fatal(err)
			}
			k := &killer{at: at, after: after}
			remover := w.remover()
			remover.Jobs, remover.Files = mortalStore{w.DB.Jobs(), k}, mortalRemoval{w.files, k}
			_, err := remover.RemoveRevealed(t.Context(), "acme", "erasure", &export.Removal{}, func() bool { return false })
			if err == nil && k.calls < at {
				return // it has fewer calls
			}
			k.at = 0
			var removal export.Removal
			isDone, err := remover.RemoveRevealed(t.Context(), "acme", "erasure", &removal, func() bool { return false })
			if err != nil || !isDone {
				t.Fatalf("killed at %d: got done %t, error %v", at, isDone, err)
			}
			if removal.Removed < 2 {
				t.Errorf("killed at call %d, after its effect %t: removed %d files, want at least 2", at, after, removal.Removed)
			}
			w.wantNoValueOf(fmt.Sprintf("killed at call %d", at), "user-1")
			w.Time = w.Time.Add(5 * time.Minute)
			if _, err := w.Service.Plan(t.Context()); err != nil { // as the message was not sent
				t.Fatal(err)
			}
			w.Work()
			w.wantRecordedEnd(running.ID)
			for id, want := range map[string]jobs.State{done.ID: jobs.StateSucceeded, running.ID: jobs.StateFailed, plain.ID: jobs.StateSucceeded} {
				if job := w.Job(id); job.State != want {
					t.Errorf("killed at call %d, after its effect %t: job %s is %s, want %s", at, after, id, job.State, want)
				}
			}
			if _, content := w.file(plain.ID); content == nil {
				t.Error("the export with masks has no file any more, want it")
			}
		}
	}
}

// killer kills a removal at one of its calls.
type killer struct {
	calls, at int
	after     bool
}

func (k *killer) call(do func() error) error {
	k.calls++
	if k.calls != k.at {
		return do()
	}
	if k.after {
		if err := do(); err != nil {
			return err
		}
	}
	return jobtest.ErrKilled
}

type mortalStore struct {
	jobs.Store
	k *killer
}

func (m mortalStore) UpdateJob(ctx context.Context, job jobs.Job, generation int64) error {
	return m.k.call(func() error { return m.Store.UpdateJob(ctx, job, generation) })
}

type mortalRemoval struct {
	export.RevealedFiles
	k *killer
}

func (m mortalRemoval) AbortUpload(ctx context.Context, tenant audit.TenantID, u export.Upload) error {
	return m.k.call(func() error { return m.RevealedFiles.AbortUpload(ctx, tenant, u) })
}

func (m mortalRemoval) Erase(ctx context.Context, tenant audit.TenantID, key string) error {
	return m.k.call(func() error { return m.RevealedFiles.Erase(ctx, tenant, key) })
}

// base64Texts are the texts of a record that can be base64.
var base64Texts = regexp.MustCompile(`"[A-Za-z0-9+/]+=*"`)

// wantSealed fails if the record of a job has a value in plain, also as base64.
func (w *revealedWorld) wantSealed(what string, record []byte) {
	w.t.Helper()
	texts := [][]byte{record}
	for _, quoted := range base64Texts.FindAll(record, -1) {
		if text, err := base64.StdEncoding.DecodeString(strings.Trim(string(quoted), `"`)); err == nil {
			texts = append(texts, text)
		}
	}
	for _, text := range texts {
		if bytes.Contains(text, []byte("secret")) {
			w.t.Errorf("%s: the record of the job has a value: %.300q", what, text)
		}
	}
}

// wantNoDigest fails if a text has what follows from the content of a file: with it, guesses of a value can
// be tested.
func (w *revealedWorld) wantNoDigest(what string, text, content []byte) {
	w.t.Helper()
	sum, md := sha256.Sum256(content), md5.Sum(content)
	for name, digest := range map[string]string{
		"SHA-256":           hex.EncodeToString(sum[:]),
		"SHA-256 in base64": base64.StdEncoding.EncodeToString(sum[:]),
		"MD5":               hex.EncodeToString(md[:]),
		"size":              fmt.Sprintf(`"bytes":%d`, len(content)),
	} {
		if bytes.Contains(text, []byte(digest)) {
			w.t.Errorf("%s has the %s of the file: %.600s", what, name, text)
		}
	}
	for _, member := range []string{`"parts"`, `"sha256"`, `"bytes"`, `"etag"`} {
		if bytes.Contains(text, []byte(member)) {
			w.t.Errorf("%s has the member %s in plain: %.600s", what, member, text)
		}
	}
}

// hasState reports whether the record of a job has what continues its file.
func hasState(record []byte) bool {
	return bytes.Contains(record, []byte(`"sum"`)) || bytes.Contains(record, []byte(`"rest"`)) || bytes.Contains(record, []byte(`"table"`))
}

// The record of an export that is being written has values encrypted alone, and none once it has ended. It
// never has a digest of the file in plain, and none at all once there is no file. Nor has the tenant's log.
func TestTheRecordOfARevealedExportHasNoValue(t *testing.T) {
	t.Parallel()
	for what, end := range map[string]func(w *revealedWorld, id string){
		"erased": func(w *revealedWorld, _ string) { w.erase("user-1") },
		"canceled": func(w *revealedWorld, id string) {
			if _, err := w.Service.Cancel(t.Context(), revealer, jobtest.Acme, id); err != nil {
				t.Fatal(err)
			}
		},
		"failed":    func(w *revealedWorld, _ string) { w.Owner.Status = audit.TenantDeleting },
		"succeeded": func(*revealedWorld, string) {},
	} {
		for form, members := range map[string]map[string]jsontext.Value{
			"parquet": {"format": jsontext.Value(`"parquet"`)},
			"csv":     {"format": jsontext.Value(`"csv"`), "fields": jsontext.Value(`["action","message"]`)},
		} {
			w := newRevealedWorld(t, 2500, 0)
			w.Tick, w.Worker.SliceTime = time.Microsecond, time.Nanosecond // each page is a slice
			e := w.reveal(members)
			w.Deliver(1) // it waits for what was accepted before
			for range 2 {
				w.Deliver(1)
				record := w.Job(e.ID).Checkpoint
				w.wantNoDigest(form, record, nil)
				if w.wantSealed(form, record); !hasState(record) {
					t.Fatalf("%s: the record has no state while the file is written: %s", form, record)
				}
			}
			end(w, e.ID)
			w.Work()
			if job := w.Job(e.ID); !job.State.Finished() || hasState(job.Checkpoint) {
				t.Errorf("%s, %s: the job is %s with %s, want it finished and without state", form, what, job.State, job.Checkpoint)
			}
			content := w.revealedFile(e.ID)
			if exists := content != nil; exists != (what == "succeeded") {
				t.Fatalf("%s, %s: there is a file: got %t, want %t", form, what, exists, !exists)
			}
			w.wantNoDigest(form+", "+what, w.Job(e.ID).Checkpoint, content)
			for _, record := range w.Recorded {
				w.wantNoDigest(form+", "+what+", "+record.Action, record.Metadata, content)
			}
			if content == nil {
				w.wantDigests(e.ID, false)
				continue
			}
			w.wantDigests(e.ID, true)
			w.Time = w.Job(e.ID).FinishedAt.Add(export.FileAge)
			w.plan(1)
			w.wantDigests(e.ID, false)
		}
	}
}

// wantDigests checks whether the record of a job has digests of the file, sealed.
func (w *revealedWorld) wantDigests(id string, want bool) {
	w.t.Helper()
	if record := w.Job(id).Checkpoint; bytes.Contains(record, []byte(`"digests"`)) != want {
		w.t.Errorf("the record of the job is %s, want it with digests: %t", record, want)
	}
}

// The digests of a file with encrypted values are for those who get the file, for as long as there is one.
func TestDigestsOfARevealedExportAreForItsReaders(t *testing.T) {
	t.Parallel()
	w := newRevealedWorld(t, 150, 0)
	w.Files = urls{}
	e := w.reveal(nil)
	w.Work()
	content := w.revealedFile(e.ID)
	sum := sha256.Sum256(content)
	check := func(what string, got export.Export, err error, want bool) {
		t.Helper()
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		if got.FileExpiresAt.IsZero() {
			t.Errorf("%s: the file has no end, want one", what)
		}
		if want && (got.SHA256 != hex.EncodeToString(sum[:]) || got.Bytes != int64(len(content))) {
			t.Errorf("%s: got %d bytes with the SHA-256 %q, want %d with %x", what, got.Bytes, got.SHA256, len(content), sum)
		}
		if !want && (got.SHA256 != "" || got.Bytes != 0) {
			t.Errorf("%s: got %d bytes with the SHA-256 %q, want neither", what, got.Bytes, got.SHA256)
		}
	}
	get := func(what string, by access.Principal, want bool) {
		t.Helper()
		got, err := w.Export(t.Context(), by, jobtest.Acme, e.ID)
		check(what, got, err, want)
		list, _, err := w.List(t.Context(), by, "acme", nil, 10)
		if len(list) != 1 {
			t.Fatalf("%s: the list has %d exports, error %v, want one", what, len(list), err)
		}
		check(what+", in a list", list[0], err, false)
	}
	get("who may reveal", revealer, true)
	get("who may export alone", admin, false)
	finished := w.Time
	w.Time = finished.Add(export.FileAge)
	get("after the end of the file", revealer, false)
	w.Time = finished
	if n := w.erase("user-2"); n != 1 {
		t.Errorf("the erasure removed %d files, want 1", n)
	}
	get("after an erasure", revealer, false)
}

// An export of more than one part is as whole as one of masks, whatever slice writes the parts.
func TestARevealedExportOfManyParts(t *testing.T) {
	t.Parallel()
	w := newRevealedWorld(t, 3000, 8<<10)
	w.Tick, w.Worker.SliceTime = time.Microsecond, time.Nanosecond // each page is a slice
	w.Files = urls{}
	e := w.reveal(nil)
	w.Work()
	w.WantJob(e.ID, jobs.StateSucceeded, 3000)
	content := w.revealedFile(e.ID)
	if parts := len(content) / export.MinPart; parts < 2 {
		t.Fatalf("the file has %d bytes, want several parts", len(content))
	}
	got, err := w.Export(t.Context(), revealer, jobtest.Acme, e.ID)
	if err != nil {
		t.Fatal(err)
	}
	if sum := sha256.Sum256(content); got.SHA256 != hex.EncodeToString(sum[:]) || got.Bytes != int64(len(content)) {
		t.Errorf("got %d bytes with the SHA-256 %q, want %d with %x", got.Bytes, got.SHA256, len(content), sum)
	}
}

// What removes a revealed file removes every version of it, whatever removes it.
func TestEachEndOfARevealedFileErasesIt(t *testing.T) {
	t.Parallel()
	w := newRevealedWorld(t, 20, 0)
	expired, plain := w.reveal(nil), w.create(url.Values{})
	w.Work()
	w.Time = w.Time.Add(export.FileAge)
	w.plan(2)
	failed := w.reveal(nil)
	w.Owner.Status = audit.TenantDeleting
	w.Work()
	for _, id := range []string{expired.ID, failed.ID} {
		if !slices.Contains(w.erased, "revealed/"+id) {
			t.Errorf("erased %q, want the file of %s", w.erased, id)
		}
	}
	if len(w.erased) != 2 {
		t.Errorf("erased %q, want no file of %s with masks", w.erased, plain.ID)
	}
	for _, key := range []string{"revealed/1", "exports/1"} {
		if err := w.files.Put(t.Context(), "acme", key, export.ContentOf([]byte("x"), "")); err != nil {
			t.Fatal(err)
		}
	}
	purger := export.Purger{Files: mortalFiles{w.files, w.world}}
	for _, want := range []int{1, 1, 0} {
		if n, err := purger.Purge(t.Context(), "acme", 100); err != nil || n != want {
			t.Errorf("purged %d, error %v, want %d", n, err, want)
		}
	}
	if !slices.Contains(w.erased, "revealed/1") {
		t.Errorf("erased %q, want what was purged", w.erased)
	}
}

// An erasure removes a file whose export has ended without one.
func TestAnErasureRemovesTheFileOfAFailedExport(t *testing.T) {
	t.Parallel()
	w := newRevealedWorld(t, 20, 0)
	e := w.reveal(nil)
	w.Owner.Status = audit.TenantDeleting
	w.Work()
	w.Owner.Status = audit.TenantActive
	if err := w.files.Put(t.Context(), "acme", "revealed/"+e.ID, export.ContentOf([]byte(secret+" of user-2"), "")); err != nil {
		t.Fatal(err)
	}
	if n := w.erase("user-2"); n != 1 {
		t.Errorf("the erasure removed %d files, want 1", n)
	}
	w.wantNoValueOf("a failed export", "user-2")
}
