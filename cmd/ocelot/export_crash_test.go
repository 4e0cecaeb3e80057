package main_test

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strings"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/client"
)

// crashingExports are exports of everything, which run while the service is killed.
type crashingExports struct {
	service *crashingService
	stored  map[string]int64 // by id: how many entries were found before the export was created
}

// start starts an export.
func (e *crashingExports) start() {
	s := e.service
	s.t.Helper()
	stats, err := s.reader().Stats(s.t.Context(), nil)
	if err != nil {
		s.t.Fatal(err)
	}
	status, answer, err := s.post(s.t.Context(), "/logs/exports", `{"format":"ndjson"}`)
	var job client.Job
	if err == nil && status == http.StatusAccepted {
		err = json.Unmarshal(answer, &job)
	}
	if err != nil || status != http.StatusAccepted {
		s.t.Fatalf("start an export: got status %d and error %v, want %d: %s", status, err, http.StatusAccepted, answer)
	}
	e.stored[job.ID] = stats.Total
}

// job returns the present state of an export.
func (e *crashingExports) job(id string) client.Export {
	e.service.t.Helper()
	job, err := e.service.reader().ExportJob(e.service.t.Context(), id)
	if err != nil {
		e.service.t.Fatal(err)
	}
	return job
}

// await waits until every export is as it should be, which takes no longer than crashStall.
func (e *crashingExports) await(what string, is func(*client.Export) bool) {
	e.service.t.Helper()
	deadline := time.Now().Add(crashStall)
	for id := range e.stored {
		job := e.job(id)
		for ; !is(&job); job = e.job(id) {
			if time.Now().After(deadline) {
				e.service.t.Fatalf("the export %s is %s with %d entries, want it %s", id, job.State, job.Count, what)
			}
			e.resume()
			time.Sleep(50 * time.Millisecond)
		}
	}
}

// resume has the jobs go on whose worker was killed. plan-jobs does so every two minutes.
func (e *crashingExports) resume() {
	e.service.t.Helper()
	if err := e.service.process.Invoke(e.service.t.Context(), "plan-jobs"); err != nil {
		e.service.t.Fatal(err)
	}
}

// crash starts an export of everything that is there, and kills the service at random points while it writes the
// file. It returns once every export has its file.
func (e *crashingExports) crash(random *rand.Rand, entries, kills int) {
	s := e.service
	s.t.Helper()
	e.start()
	time.Sleep(2 * time.Second)                             // so long a job waits until what was accepted is stored
	pause := time.Duration(entries) * 10 * time.Microsecond // about what a part takes, if there are several
	killed := 0
	for ; killed < kills && e.open() > 0; killed++ {
		s.crash()
		s.ready()
		e.resume()
		time.Sleep(time.Duration(random.Int64N(int64(pause))))
	}
	e.await("finished", (*client.Export).Finished)
	if killed == 0 && entries == crashEntries { // a file of several parts
		s.t.Error("the service was not killed while an export wrote its file, want it to be")
	}
	s.t.Logf("the service was killed %d times while an export wrote its file", killed)
}

// open counts the exports that are not finished.
func (e *crashingExports) open() (n int) {
	e.service.t.Helper()
	for id := range e.stored {
		if job := e.job(id); !job.Finished() {
			n++
		}
	}
	return n
}

// check compares the files with the list, which has the receipt of every entry by its id. Every entry that was
// received before the export was created, and was found by then, must be in the file, and none twice. The last export
// was created when everything had been found.
func (e *crashingExports) check(received map[audit.EntryID]time.Time) {
	s := e.service
	s.t.Helper()
	for id, stored := range e.stored {
		job := e.job(id)
		if job.State != "succeeded" {
			s.t.Errorf("the export %s is %s (%s), want it to succeed", id, job.State, job.Error)
			continue
		}
		created, err := time.Parse(time.RFC3339Nano, job.CreatedAt)
		if err != nil {
			s.t.Fatal(err)
		}
		var want int64
		for _, at := range received {
			if at.Before(created) {
				want++
			}
		}
		got := e.entries(&job)
		for entry := range got {
			if at, listed := received[entry]; !listed || !at.Before(created) {
				s.t.Errorf("the export %s has %s, which no list has, or which was received later", id, entry)
			}
		}
		n := int64(len(got))
		if n != job.Count {
			s.t.Errorf("the file of export %s has %d entries, want %d as it says", id, n, job.Count)
		}
		if n < stored || n > want {
			s.t.Errorf("the file of export %s has %d entries, want %d to %d", id, n, stored, want)
		}
		s.t.Logf("the export %s has %d entries in %d bytes", id, n, job.Bytes)
	}
}

// entries downloads a file, and returns the ids in it. Each comes before the one that is older, so that none comes twice.
func (e *crashingExports) entries(job *client.Export) map[audit.EntryID]bool {
	s := e.service
	s.t.Helper()
	body, err := s.reader().Download(s.t.Context(), job.URL, 0)
	if err != nil {
		s.t.Fatal(err)
	}
	file, err := io.ReadAll(body)
	if closeErr := body.Close(); err != nil || closeErr != nil {
		s.t.Fatal(err, closeErr)
	}
	if sum := fmt.Sprintf("%x", sha256.Sum256(file)); sum != job.SHA256 || int64(len(file)) != job.Bytes {
		s.t.Errorf("the file of export %s has %d bytes with the SHA-256 %s, want %d with %s", job.ID, len(file), sum, job.Bytes, job.SHA256)
	}
	ids := map[audit.EntryID]bool{}
	last := ""
	for line := range strings.Lines(string(file)) {
		var entry struct{ ID audit.EntryID }
		if err := json.Unmarshal([]byte(line), &entry); err != nil {
			s.t.Fatalf("the file of export %s: %v: %s", job.ID, err, line)
		}
		if id := entry.ID.String(); last != "" && id >= last {
			s.t.Errorf("the file of export %s has %s after %s, want the newest first and each once", job.ID, id, last)
		}
		last, ids[entry.ID] = entry.ID.String(), true
	}
	return ids
}
