package main

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ocelot-audit/ocelot/pkg/backoff"
)

// exportService has exports that are jobs, and their files.
type exportService struct {
	mu       sync.Mutex
	url      string
	state    string // of every export
	more     string // further members of every export
	file     string
	most     int // bytes of one download; 0: all
	refused  int // downloads that are refused before one is not
	created  int
	canceled []string
	ranges   []string      // of the downloads
	cut      chan struct{} // gets an element when a download has sent all that it sends
}

// newExportService returns a service whose exports have succeeded. The environment names it.
func newExportService(t *testing.T) *exportService {
	t.Helper()
	unsetEnvironment(t)
	s := &exportService{state: "succeeded", file: strings.Repeat("one entry\n", 100), cut: make(chan struct{}, 100)}
	mux := http.NewServeMux()
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	s.url = server.URL
	mux.HandleFunc("GET /api/v1/logs/export", func(w http.ResponseWriter, _ *http.Request) {
		defer s.lock()()
		s.created++
		w.WriteHeader(http.StatusAccepted)
		_, _ = fmt.Fprintf(w, `{"id":"j%d","kind":"export","state":"queued"}`, s.created)
	})
	mux.HandleFunc("GET /api/v1/logs/exports/{id}", func(w http.ResponseWriter, r *http.Request) {
		defer s.lock()()
		if id := r.PathValue("id"); len(id) != 2 || int(id[1]-'0') > s.created {
			w.Header().Set("Content-Type", "application/problem+json")
			w.WriteHeader(http.StatusNotFound)
			_, _ = fmt.Fprint(w, `{"title":"Not found","status":404}`)
			return
		}
		_, _ = fmt.Fprint(w, s.export(r.PathValue("id")))
	})
	mux.HandleFunc("GET /api/v1/logs/exports", func(w http.ResponseWriter, _ *http.Request) {
		defer s.lock()()
		_, _ = fmt.Fprintf(w, `{"items":[%s,%s],"next":null}`, s.export("j2"), s.export("j1"))
	})
	mux.HandleFunc("GET /api/v1/jobs/{id}", func(w http.ResponseWriter, r *http.Request) {
		_, _ = fmt.Fprintf(w, `{"id":%q,"kind":%q,"state":"running"}`, r.PathValue("id"), strings.TrimRight(r.PathValue("id"), "0123456789"))
	})
	mux.HandleFunc("DELETE /api/v1/jobs/{id}", func(w http.ResponseWriter, r *http.Request) {
		defer s.lock()()
		s.canceled = append(s.canceled, r.PathValue("id"))
		_, _ = fmt.Fprintf(w, `{"id":%q,"state":"cancelled"}`, r.PathValue("id"))
	})
	mux.HandleFunc("GET /file", func(w http.ResponseWriter, r *http.Request) { s.download(t, w, r) })
	for name, value := range map[string]string{"OCELOT_URL": server.URL, "OCELOT_TOKEN": "t", "OCELOT_TENANT": "acme"} {
		t.Setenv(name, value)
	}
	return s
}

func (s *exportService) lock() (unlock func()) {
	s.mu.Lock()
	return s.mu.Unlock
}

func (s *exportService) set(change func()) {
	defer s.lock()()
	change()
}

func (s *exportService) export(id string) string {
	answer := fmt.Sprintf(`{"id":%q,"state":%q,"created_at":"2026-03-01T10:00:00.000Z","count":100%s`, id, s.state, s.more)
	if s.state == "succeeded" && s.more == "" {
		answer += fmt.Sprintf(`,"bytes":%d,"sha256":"%x","url":"%s/file"`, len(s.file), sha256.Sum256([]byte(s.file)), s.url)
	}
	return answer + "}"
}

// download sends what a range asks for, or as much as the service sends at once. Then it waits for the
// client to go.
func (s *exportService) download(t *testing.T, w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	from, file, most := 0, s.file, s.most
	s.ranges = append(s.ranges, r.Header.Get("Range"))
	refused := s.refused > 0
	s.refused--
	s.mu.Unlock()
	if refused {
		w.WriteHeader(http.StatusServiceUnavailable)
		return
	}
	if _, err := fmt.Sscanf(r.Header.Get("Range"), "bytes=%d-", &from); err == nil {
		w.WriteHeader(http.StatusPartialContent)
	}
	if most == 0 {
		_, _ = fmt.Fprint(w, file[from:])
		return
	}
	_, _ = fmt.Fprint(w, file[from:min(from+most, len(file))])
	if err := http.NewResponseController(w).Flush(); err != nil {
		t.Error(err)
	}
	s.cut <- struct{}{}
	<-r.Context().Done()
}

// interrupted runs a command line, and ends it like Ctrl-C once file has so many bytes.
func (s *exportService) interrupted(t *testing.T, file string, bytes int64, args ...string) result {
	t.Helper()
	ctx, interrupt := context.WithCancel(t.Context())
	defer interrupt()
	go func() {
		for info, err := os.Stat(file); (err != nil || info.Size() < bytes) && ctx.Err() == nil; info, err = os.Stat(file) {
			time.Sleep(time.Millisecond)
		}
		interrupt()
	}()
	got := command(ctx, strings.NewReader(""), 0, args...)
	if got.code != exitFailure {
		t.Fatalf("%v interrupted: got code %d, want %d: %s", args, got.code, exitFailure, got.err)
	}
	return got
}

// wantFile compares the file with that of the service, and wants nothing beside it.
func (s *exportService) wantFile(t *testing.T, got result, path string) {
	t.Helper()
	if got.code != exitOK {
		t.Errorf("got code %d, want %d: %s", got.code, exitOK, got.err)
	}
	if text, err := os.ReadFile(path); err != nil || string(text) != s.file {
		t.Errorf("got a file of %d bytes and error %v, want that of the service with %d", len(text), err, len(s.file))
	}
	if files, err := filepath.Glob(path + "?*"); err != nil || len(files) > 0 {
		t.Errorf("got the files %v and error %v beside it, want none", files, err)
	}
}

func export(t *testing.T, args ...string) result {
	t.Helper()
	return command(t.Context(), strings.NewReader(""), 0, append([]string{"export"}, args...)...)
}

func TestExportGoesOnWithAnInterruptedDownload(t *testing.T) {
	for name, again := range map[string][]string{
		"the same command": {"--since", "30d", "action:A"}, "by the id": {"download", "j1"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newExportService(t)
			path := filepath.Join(t.TempDir(), "out.ndjson")
			s.most = 10
			got := s.interrupted(t, path+".next", 10, "export", "--since", "30d", "action:A", "-o", path)
			if want := "ocelot export download j1 --output " + path; !strings.Contains(got.err, want) {
				t.Errorf("got %q, want it to have %q", got.err, want)
			}
			s.set(func() { s.most = 0 })
			s.wantFile(t, export(t, append(again, "-o", path)...), path)
			if s.created != 1 {
				t.Errorf("%d exports were created, want 1", s.created)
			}
			if diff := cmp.Diff([]string{"", "bytes=10-"}, s.ranges); diff != "" {
				t.Errorf("ranges (-want +got):\n%s", diff)
			}
			if again := export(t, "--since", "30d", "action:A", "-o", path); again.code != exitOK || s.created != 2 {
				t.Errorf("after the end: got code %d and %d exports, want %d and a second one: %s", again.code, s.created, exitOK, again.err)
			}
		})
	}
}

func TestExportGoesOnWithAJobThatItWaitedFor(t *testing.T) {
	s := newExportService(t)
	path := filepath.Join(t.TempDir(), "out.ndjson")
	s.state = "running"
	got := s.interrupted(t, path+".next.json", 1, "export", "-o", path)
	if !strings.Contains(got.err, "the export j1 goes on without you") {
		t.Errorf("got %q, want that the export goes on", got.err)
	}
	s.set(func() { s.state = "succeeded" })
	got = export(t, "-o", path)
	s.wantFile(t, got, path)
	if s.created != 1 {
		t.Errorf("%d exports were created, want 1", s.created)
	}
	if want := "Goes on with export j1 of 2026-03-01T10:00:00.000Z"; !strings.Contains(got.err, want) {
		t.Errorf("got %q, want it to have %q", got.err, want)
	}
}

func TestExportBeginsAgainIfItCannotGoOn(t *testing.T) {
	for _, test := range []struct {
		name   string
		change func(s *exportService, path string)
		args   []string
		want   string // on standard error
		ends   bool   // it cannot begin again
	}{
		{"asked for otherwise", func(*exportService, string) {}, []string{"--format", "csv"}, "ocelot export download j1", false},
		{"restarted", func(*exportService, string) {}, []string{"--restart"}, "was left of export j1", false},
		{"another service", func(s *exportService, path string) {
			_ = os.WriteFile(path+".next.json", []byte(strings.ReplaceAll(s.record(path), "j1", "j9")), 0o600)
		}, nil, "the service has export j9 no more", false},
		{"expired", func(s *exportService, _ string) { s.more = `,"expired":true` }, nil, "its time was over", true},
		{"erased", func(s *exportService, _ string) { s.more = `,"removed_by_erasure":true` }, nil, "removed by an erasure", true},
		{"failed", func(s *exportService, _ string) { s.state = "failed" }, nil, "it is failed", true},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := newExportService(t)
			path := filepath.Join(t.TempDir(), "out.ndjson")
			s.most = 10
			s.interrupted(t, path+".next", 10, "export", "-o", path)
			s.set(func() { s.most = 0; test.change(s, path) })
			got := export(t, append(test.args, "-o", path)...)
			if !strings.Contains(got.err, test.want) {
				t.Errorf("got %q, want it to have %q", got.err, test.want)
			}
			if s.created != 2 {
				t.Errorf("%d exports were created, want 2", s.created)
			}
			if !test.ends {
				s.wantFile(t, got, path)
				return
			}
			if files, err := filepath.Glob(path + "*"); got.code != exitFailure || err != nil || len(files) > 0 {
				t.Errorf("got code %d, the files %v and error %v, want %d and none", got.code, files, err, exitFailure)
			}
		})
	}
}

func (s *exportService) record(path string) string {
	text, _ := os.ReadFile(path + ".next.json") // a test that lacks it fails
	return string(text)
}

// The part can be another than the one that was left.
func TestExportChecksWhatAnEarlierRunHasLeft(t *testing.T) {
	for name, change := range map[string]func(s *exportService, part string) error{
		"damaged":         func(_ *exportService, part string) error { return os.WriteFile(part, []byte("TEN bytes."), 0o600) },
		"too long":        func(_ *exportService, part string) error { return os.Truncate(part, 2000) },
		"gone":            func(_ *exportService, part string) error { return os.Remove(part) },
		"another export":  func(s *exportService, _ string) error { s.file = strings.Repeat("other entries\n", 50); return nil },
		"without records": func(_ *exportService, part string) error { return os.Remove(part + ".json") },
	} {
		t.Run(name, func(t *testing.T) {
			s := newExportService(t)
			path := filepath.Join(t.TempDir(), "out.ndjson")
			s.most = 10
			s.interrupted(t, path+".next", 10, "export", "-o", path)
			s.set(func() { s.most = 0 })
			if err := change(s, path+".next"); err != nil {
				t.Fatal(err)
			}
			s.wantFile(t, export(t, "download", "j1", "-o", path), path)
		})
	}
	s := newExportService(t)
	path := filepath.Join(t.TempDir(), "out.ndjson")
	if err := os.WriteFile(path+".next.json", []byte("my notes"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := export(t, "-o", path); got.code != exitFailure || s.created != 0 {
		t.Errorf("a file that is no record: got code %d and %d exports, want %d and none: %s", got.code, s.created, exitFailure, got.err)
	}
	s.wantFile(t, export(t, "--restart", "-o", path), path)
}

// patient runs a command line whose pauses take no time. It returns their sum.
func patient(t *testing.T, args ...string) (got result, waited time.Duration) {
	t.Helper()
	var out, errOut strings.Builder
	con := &console{out: &out, err: &errOut, now: time.Now, zone: time.UTC, pause: func(ctx context.Context, d time.Duration) error {
		waited += d
		return backoff.Sleep(ctx, 0)
	}}
	code := run(t.Context(), args, con)
	return result{code, out.String(), errOut.String()}, waited
}

func TestExportWaitsForMinutesWhileTheFileCannotBeHad(t *testing.T) {
	s := newExportService(t)
	path := filepath.Join(t.TempDir(), "out.ndjson")
	s.refused = 20
	got, waited := patient(t, "export", "-o", path)
	s.wantFile(t, got, path)
	if waited < 3*time.Minute {
		t.Errorf("waited for %v, want at least 3m", waited)
	}
	if n := strings.Count(got.err, "trying again"); n != 1 {
		t.Errorf("got %d reports of the outage, want 1: %s", n, got.err)
	}

	s.refused = 1_000_000
	got, waited = patient(t, "export", "-o", path, "--format", "csv")
	if got.code != exitFailure {
		t.Errorf("got code %d, want %d", got.code, exitFailure)
	}
	if waited < maxOutage || waited > maxOutage+time.Minute {
		t.Errorf("waited for %v, want about %v", waited, maxOutage)
	}
	s.refused = 0
	got, _ = patient(t, "export", "-o", path, "--format", "csv")
	s.wantFile(t, got, path)
	if s.created != 2 {
		t.Errorf("%d exports were created, want 2", s.created)
	}
}

func TestExportAdministersJobs(t *testing.T) {
	s := newExportService(t)
	s.created = 2
	if got := export(t, "list"); got.code != exitOK || strings.Count(got.out, "\n") != 2 {
		t.Errorf("list: got code %d and %q, want %d and two lines: %s", got.code, got.out, exitOK, got.err)
	}
	got := export(t, "get", "j1")
	var e struct{ ID, URL string }
	if err := json.Unmarshal([]byte(got.out), &e); err != nil || e.ID != "j1" || e.URL == "" {
		t.Errorf("get: got %q and error %v, want the export with its URL", got.out, err)
	}
	if got := export(t, "download", "j2"); got.out != s.file {
		t.Errorf("download: got code %d and %d bytes, want %d: %s", got.code, len(got.out), len(s.file), got.err)
	}
	if got := export(t, "cancel", "export1"); got.code != exitOK || !strings.Contains(got.out, "cancelled") {
		t.Errorf("cancel: got code %d and %q, want %d and the job: %s", got.code, got.out, exitOK, got.err)
	}
	if got := export(t, "cancel", "cleanup1"); got.code != exitFailure || !strings.Contains(got.err, "its kind is cleanup") {
		t.Errorf("cancel of a cleanup: got code %d and %q, want %d and its kind", got.code, got.err, exitFailure)
	}
	if diff := cmp.Diff([]string{"export1"}, s.canceled); diff != "" {
		t.Errorf("cancelled (-want +got):\n%s", diff)
	}
	if got := export(t, "create", "list", "-o", filepath.Join(t.TempDir(), "out")); got.code != exitOK || s.created != 3 {
		t.Errorf("create with the query list: got code %d and %d exports, want %d and a third one: %s", got.code, s.created, exitOK, got.err)
	}
}
