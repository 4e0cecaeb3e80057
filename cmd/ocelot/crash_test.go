package main_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/ocelot-audit/ocelot/cmd/internal/devprocess"
	"github.com/ocelot-audit/ocelot/pkg/access"
	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/client"
	"github.com/ocelot-audit/ocelot/pkg/config"
	"github.com/ocelot-audit/ocelot/pkg/local/localcloud"
	"github.com/ocelot-audit/ocelot/pkg/manifest"
)

const crashTenant audit.TenantID = "crash"

const (
	crashEntries = 100_000
	crashBulk    = 100
	// crashStall is how long the service may make no progress before entries count as lost.
	crashStall = 30 * time.Second
)

// TestCrash kills the service with SIGKILL at random points of a load and starts
// it again on the same folder. Whatever was acknowledged has to be there, once.
func TestCrash(t *testing.T) {
	entries, kills := crashEntries, 12
	if testing.Short() {
		entries, kills = 10_000, 3
	}
	crash(t, entries, kills)
}

// TestCrashLambda is TestCrash with the functions as Lambda binaries, which end
// with the service whatever they are doing.
func TestCrashLambda(t *testing.T) {
	crash(t, 20_000, 6, lambdaArguments(t)...)
}

// lambdaArguments builds the functions and returns the arguments of dev that run them.
func lambdaArguments(t *testing.T) []string {
	t.Helper()
	if testing.Short() {
		t.Skip("builds every function; run without -short")
	}
	folder, err := localcloud.BuildBootstraps(t.Context(), config.Engines{})
	if err != nil {
		t.Fatal(err)
	}
	return []string{"--lambda", "--functions", folder}
}

func crash(t *testing.T, entries, kills int, arguments ...string) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("random seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	s := startCrashing(t, arguments...)
	load := &crashLoad{service: s, entries: int64(entries)}
	exports := &crashingExports{service: s, stored: map[string]int64{}}

	ctx, cancel := load.untilItStalls(t.Context())
	defer cancel()
	group, ctx := errgroup.WithContext(ctx)
	for range 4 {
		group.Go(func() error { return load.client(ctx, crashBulk) })
		group.Go(func() error { return load.client(ctx, 1) })
	}
	for i, at := range killPoints(random, entries, kills) {
		load.await(ctx, int64(at))
		time.Sleep(time.Duration(random.Int64N(int64(20 * time.Millisecond))))
		s.crash()
		if i%3 == 2 { // and once more while it starts
			time.Sleep(time.Duration(random.Int64N(int64(40 * time.Millisecond))))
			s.crash()
		}
		s.ready()
		if i == kills/2 {
			exports.start()
		}
	}
	if err := group.Wait(); err != nil {
		t.Fatalf("%v; %d entries were acknowledged, want %d", err, load.acknowledged.Load(), entries)
	}
	s.crash() // the queues are not empty yet
	s.ready()
	exports.await("finished", (*client.Export).Finished)
	s.drained(entries + 2*len(exports.stored)) // with the records of their starts and ends
	exports.crash(random, entries, kills)
	s.check(entries, exports)
}

// sendThroughCrashes sends the entries with four clients, and kills the service at random points.
func (l *crashLoad) sendThroughCrashes(random *rand.Rand, kills int) error {
	return l.sendThrough(killPoints(random, int(l.entries), kills), func(int) {
		time.Sleep(time.Duration(random.Int64N(int64(50 * time.Millisecond))))
		l.service.crash()
		l.service.ready()
	})
}

// sendThrough sends the entries with four clients. It calls kill with 0, 1, … once as many are
// acknowledged as the points say.
func (l *crashLoad) sendThrough(points []int, kill func(i int)) error {
	ctx, cancel := l.untilItStalls(l.service.t.Context())
	defer cancel()
	sending, ctx := errgroup.WithContext(ctx)
	for range 2 {
		sending.Go(func() error { return l.client(ctx, crashBulk) })
		sending.Go(func() error { return l.client(ctx, 1) })
	}
	for i, at := range points {
		l.await(ctx, int64(at))
		kill(i)
	}
	return sending.Wait()
}

// killPoints are numbers of acknowledged entries, in rising order.
func killPoints(random *rand.Rand, entries, kills int) []int {
	points := make([]int, kills)
	for i := range points {
		points[i] = random.IntN(entries * 95 / 100)
	}
	slices.Sort(points)
	return points
}

// crashingService is the service as its clients see it: an address that changes.
type crashingService struct {
	t             *testing.T
	program, data string
	arguments     []string // of dev
	log           *os.File
	token         string
	process       *devprocess.Process
	url           atomic.Value // string
	deaths        int
}

func startCrashing(t *testing.T, arguments ...string) *crashingService {
	t.Helper()
	folder := t.TempDir()
	program, err := devprocess.Build(t.Context(), folder)
	if err != nil {
		t.Fatal(err)
	}
	log, err := os.Create(filepath.Join(folder, "service.log"))
	if err != nil {
		t.Fatal(err)
	}
	s := &crashingService{t: t, program: program, data: filepath.Join(folder, "data"), arguments: arguments, log: log}
	s.start()
	t.Cleanup(s.end)
	s.ready()
	if err := s.process.CreateTenant(t.Context(), crashTenant); err != nil {
		t.Fatal(err)
	}
	if s.token, err = devprocess.Token(s.data, crashTenant, access.RoleAdmin); err != nil {
		t.Fatal(err)
	}
	return s
}

// keepAddress makes the service come back at its present address.
func (s *crashingService) keepAddress() {
	s.t.Helper()
	address, err := url.Parse(s.process.URL)
	if err != nil {
		s.t.Fatal(err)
	}
	s.arguments = append(s.arguments, "--addr", address.Host)
}

func (s *crashingService) start() {
	s.t.Helper()
	process, err := devprocess.Start(s.program, s.data, s.log, s.arguments...)
	if err != nil {
		s.t.Fatal(err)
	}
	s.process = process
}

func (s *crashingService) ready() {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), 30*time.Second)
	defer cancel()
	if err := s.process.Ready(ctx); err != nil {
		s.t.Fatal(err)
	}
	s.url.Store(s.process.URL)
}

// crash kills the service and starts it again, without waiting until it answers.
func (s *crashingService) crash() {
	s.t.Helper()
	if err := s.process.Kill(); err != nil {
		s.t.Fatal(err)
	}
	s.deaths++
	s.start()
}

// end removes the process and, where the test failed, shows the end of its log.
func (s *crashingService) end() {
	if err := errors.Join(s.process.Kill(), s.log.Close()); err != nil {
		s.t.Error(err)
	}
	if !s.t.Failed() {
		return
	}
	text, err := os.ReadFile(s.log.Name())
	if err != nil {
		s.t.Error(err)
	}
	lines := slices.DeleteFunc(strings.Split(string(text), "\n"), func(line string) bool { return strings.Contains(line, "level=INFO") })
	s.t.Logf("end of the service's log:\n%s", strings.Join(lines[max(0, len(lines)-20):], "\n"))
}

// crashLoad is what the clients have sent together: the entries with the
// numbers from 0, each once or, after a failure, again until it is acknowledged.
type crashLoad struct {
	service      *crashingService
	entries      int64
	begun        atomic.Int64
	acknowledged atomic.Int64
}

// untilItStalls returns a context that ends once nothing more has been acknowledged for crashStall.
func (l *crashLoad) untilItStalls(parent context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(parent)
	go func() {
		for acknowledged, since := int64(-1), time.Now(); ctx.Err() == nil; time.Sleep(50 * time.Millisecond) {
			switch now := l.acknowledged.Load(); {
			case now > acknowledged:
				acknowledged, since = now, time.Now()
			case time.Since(since) > crashStall:
				cancel(fmt.Errorf("nothing was acknowledged for %s", crashStall))
			}
		}
	}()
	return ctx, func() { cancel(nil) }
}

// await returns once so many entries are acknowledged, or ctx ended.
func (l *crashLoad) await(ctx context.Context, acknowledged int64) {
	for l.acknowledged.Load() < acknowledged && ctx.Err() == nil {
		time.Sleep(time.Millisecond)
	}
}

// client sends requests of size entries, one after the other, until none is left.
func (l *crashLoad) client(ctx context.Context, size int64) error {
	for {
		end := l.begun.Add(size)
		first := end - size
		if first >= l.entries {
			return nil
		}
		last := min(end, l.entries)
		if err := l.submit(ctx, first, last); err != nil {
			return fmt.Errorf("entries %d to %d: %w", first, last, err)
		}
		l.acknowledged.Add(last - first)
	}
}

// submit repeats a request until it is acknowledged.
func (l *crashLoad) submit(ctx context.Context, first, last int64) error {
	path, body := "/logs", crashEntry(first)
	if last-first > 1 {
		texts := make([]string, 0, last-first)
		for n := first; n < last; n++ {
			texts = append(texts, crashEntry(n))
		}
		path, body = "/logs/bulk", "["+strings.Join(texts, ",")+"]"
	}
	for {
		status, answer, err := l.service.post(ctx, path, body)
		switch {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case err == nil && status == http.StatusAccepted:
			return checkIDs(answer, first, last)
		case err == nil && status < http.StatusInternalServerError:
			return fmt.Errorf("%d %s", status, answer)
		}
		time.Sleep(5 * time.Millisecond) // it is dead or starting
	}
}

func (s *crashingService) post(ctx context.Context, path, body string) (status int, answer []byte, err error) {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	target := s.url.Load().(string) + manifest.BasePath + path
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, target, strings.NewReader(body))
	if err != nil {
		return 0, nil, err
	}
	request.Header.Set("Authorization", "Bearer "+s.token)
	request.Header.Set("X-Tenant-ID", string(crashTenant))
	request.Header.Set("Content-Type", "application/json")
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return 0, nil, err
	}
	answer, err = io.ReadAll(response.Body)
	return response.StatusCode, answer, errors.Join(err, response.Body.Close())
}

// checkIDs compares the ids of an acknowledgement with those that the identities decide.
func checkIDs(answer []byte, first, last int64) error {
	type item struct{ ID audit.EntryID }
	var got struct {
		item
		Items []item
	}
	if err := json.Unmarshal(answer, &got); err != nil {
		return err
	}
	if last-first == 1 && got.Items == nil {
		got.Items = []item{got.item}
	}
	if int64(len(got.Items)) != last-first {
		return fmt.Errorf("the answer has %d items", len(got.Items))
	}
	for i, item := range got.Items {
		if want := crashID(first + int64(i)); item.ID != want {
			return fmt.Errorf("entry %d has the id %s, want %s", first+int64(i), item.ID, want)
		}
	}
	return nil
}

// crashTimeOf gives every millisecond a few entries.
func crashTimeOf(n int64) time.Time {
	return time.Date(2026, 1, 2, 0, 0, 0, 0, time.UTC).Add(time.Duration(n/3) * time.Millisecond)
}

func crashKey(n int64) string { return fmt.Sprintf("key-%d", n) }

func crashID(n int64) audit.EntryID {
	return audit.DeriveEntryID(crashTenant, crashTimeOf(n), crashKey(n))
}

func crashEntry(n int64) string {
	return fmt.Sprintf(`{"user_id":"user-%d","action":"UPDATE","resource_type":"order","resource_id":"order-%d","timestamp":%q,"idempotency_key":%q,"message":"entry number %d","metadata":{"n":%d}}`,
		n%10, n, crashTimeOf(n).Format(time.RFC3339Nano), crashKey(n), n, n)
}

// check compares what is there with what was acknowledged: the entries 0 to entries-1. The start of every export and
// its end are recorded once.
func (s *crashingService) check(entries int, exports *crashingExports) {
	s.t.Helper()
	records := 2 * len(exports.stored)
	s.drained(entries + records)
	if _, err := s.process.Stop(); err != nil { // which waits for what is left in the queues, if anything
		s.t.Fatal(err)
	}
	s.start()
	s.ready()
	reader := s.reader()
	stats, err := reader.Stats(s.t.Context(), nil)
	if err != nil {
		s.t.Fatal(err)
	}
	if stats.Total != int64(entries+records) {
		s.t.Errorf("%d entries are counted, want %d", stats.Total, entries+records)
	}
	want := make(map[audit.EntryID]bool, entries)
	for n := range entries {
		want[crashID(int64(n))] = true
	}
	listed, recorded, received := 0, map[string]int{}, make(map[audit.EntryID]time.Time, entries+records)
	for entry := range s.list(reader) {
		received[entry.ID] = entry.ReceivedAt
		if entry.ResourceType == "export" {
			recorded[entry.ResourceID+" "+entry.Action]++
			continue
		}
		if !want[entry.ID] {
			s.t.Fatalf("got %s again or without sending it, want each sent entry once", entry.ID)
		}
		delete(want, entry.ID)
		listed++
	}
	for id := range exports.stored {
		for _, action := range []string{"export.create", "export.finish"} {
			if n := recorded[id+" "+action]; n != 1 {
				s.t.Errorf("%s of %s is recorded %d times, want once", action, id, n)
			}
		}
	}
	exports.check(received)
	if len(want) > 0 {
		s.t.Errorf("%d acknowledged entries are missing of %d after %d crashes, want 0", len(want), entries, s.deaths)
	}
	s.t.Logf("%d entries listed after %d crashes", listed, s.deaths)
}

func (s *crashingService) reader() *client.Client {
	s.t.Helper()
	c, err := client.New(client.Config{URL: s.process.URL, Token: s.token, Tenant: string(crashTenant)})
	if err != nil {
		s.t.Fatal(err)
	}
	return c
}

// drained waits until so many entries are counted.
func (s *crashingService) drained(entries int) {
	s.t.Helper()
	reader := s.reader()
	found, since := int64(-1), time.Now()
	for {
		stats, err := reader.Stats(s.t.Context(), nil)
		if err != nil {
			s.t.Fatal(err)
		}
		switch {
		case stats.Total >= int64(entries):
			return
		case stats.Total > found:
			found, since = stats.Total, time.Now()
		case time.Since(since) > crashStall:
			s.t.Fatalf("found %d entries, and for %s no more, want %d", found, crashStall, entries)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// crashListed is what the tests read of a listed entry.
type crashListed struct {
	ID           audit.EntryID
	Action       string
	ResourceType string    `json:"resource_type"`
	ResourceID   string    `json:"resource_id"`
	ReceivedAt   time.Time `json:"received_at"`
}

// list yields every entry, page by page.
func (s *crashingService) list(reader *client.Client) func(yield func(crashListed) bool) {
	return func(yield func(crashListed) bool) {
		query := url.Values{"limit": {"1000"}, "sort": {"timestamp"}}
		for {
			page, err := reader.Search(s.t.Context(), query)
			if err != nil {
				s.t.Fatal(err)
			}
			for _, text := range page.Items {
				var entry crashListed
				if err := json.Unmarshal(text, &entry); err != nil {
					s.t.Fatal(err)
				}
				if !yield(entry) {
					return
				}
			}
			if page.Next == nil {
				return
			}
			query.Set("cursor", *page.Next)
		}
	}
}
