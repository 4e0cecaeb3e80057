package sqlite_test

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/engine/sqlite"
	"github.com/ocelot-audit/ocelot/pkg/search"
	"github.com/ocelot-audit/ocelot/pkg/testkit/conformance"
)

// openShared opens one file n times, as n processes would.
func openShared(t *testing.T, n int, opts ...sqlite.Option) []*sqlite.DB {
	t.Helper()
	path := filepath.Join(t.TempDir(), "ocelot.db")
	dbs := make([]*sqlite.DB, n)
	for i := range dbs {
		dbs[i] = openAt(t, path, append(opts, sqlite.WithSharedFile())...)
	}
	return dbs
}

func TestSharedAndExclusiveOpenExcludeEachOther(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ocelot.db")
	exclusive := openAt(t, path)
	if _, err := sqlite.Open(t.Context(), path, sqlite.WithSharedFile()); !errors.Is(err, sqlite.ErrInUse) {
		t.Fatalf("shared open of an exclusive file: error = %v, want %v", err, sqlite.ErrInUse)
	}
	if err := exclusive.Close(); err != nil {
		t.Fatal(err)
	}
	first, second := openAt(t, path, sqlite.WithSharedFile()), openAt(t, path, sqlite.WithSharedFile())
	for _, open := range []*sqlite.DB{first, second} {
		if _, err := sqlite.Open(t.Context(), path); !errors.Is(err, sqlite.ErrInUse) {
			t.Fatalf("exclusive open of a shared file: error = %v, want %v", err, sqlite.ErrInUse)
		}
		if err := open.Close(); err != nil {
			t.Fatal(err)
		}
	}
	openAt(t, path)
}

// TestSharedFileIsCreatedOnce: several processes create the file at the same time.
func TestSharedFileIsCreatedOnce(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ocelot.db")
	var opening sync.WaitGroup
	for i := range 8 {
		opening.Go(func() {
			db, err := sqlite.Open(t.Context(), path, sqlite.WithSharedFile())
			if err != nil {
				t.Error(err)
				return
			}
			t.Cleanup(func() { _ = db.Close() })
			if err := db.Queue("q", time.Minute, 5).Send(t.Context(), "acme", []string{fmt.Sprint(i)}); err != nil {
				t.Error(err)
			}
		})
	}
	opening.Wait()
	visible, _, _, err := openAt(t, path, sqlite.WithSharedFile()).Queue("q", time.Minute, 5).Depth(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if visible != 8 {
		t.Fatalf("the queue has %d messages, want 8", visible)
	}
}

func TestSharedTenantNumbersAgree(t *testing.T) {
	dbs := openShared(t, 4)
	const each = 20
	var writing sync.WaitGroup
	for i, db := range dbs {
		writing.Go(func() { // each DB starts with another tenant
			for j := range each {
				tenant := audit.TenantID(fmt.Sprintf("t%d", (i*5+j)%each))
				e := newCorpus().entries(tenant, i+1)[i]
				if _, err := db.Entries().Append(t.Context(), tenant, []audit.Entry{e}); err != nil {
					t.Error(err)
				}
				if _, err := search.PutEntries(t.Context(), dbs[(i+1)%4].Index(), tenant, []audit.Entry{e}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	writing.Wait()
	for _, db := range dbs {
		for j := range each {
			tenant := audit.TenantID(fmt.Sprintf("t%d", j))
			page, err := db.Index().Find(t.Context(), tenant, audit.Filter{}, audit.PageRequest{Limit: 50})
			if err != nil {
				t.Fatal(err)
			}
			if len(page.Entries) != len(dbs) {
				t.Fatalf("%s has %d entries, want %d", tenant, len(page.Entries), len(dbs))
			}
		}
	}
}

// TestSharedQueueDeliversOnce: several processes send and receive. Each message
// gets its own id and is delivered once.
func TestSharedQueueDeliversOnce(t *testing.T) {
	dbs := openShared(t, 4)
	const senders, each = 2, 300
	var sending, receiving sync.WaitGroup
	for i := range senders {
		sending.Go(func() {
			for j := range each {
				if err := dbs[i].Queue("q", time.Minute, 5).Send(t.Context(), "acme", []string{fmt.Sprintf("%d.%d", i, j)}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	var mu sync.Mutex
	bodies, ids := map[string]int{}, map[string]bool{}
	ctx, stop := context.WithTimeout(t.Context(), 30*time.Second)
	defer stop()
	for i := senders; i < len(dbs); i++ {
		receiving.Go(func() {
			q := dbs[i].Queue("q", time.Minute, 5)
			for ctx.Err() == nil {
				messages, err := q.Receive(ctx, 7, time.Second)
				if err != nil && ctx.Err() == nil {
					t.Error(err)
				}
				receipts := make([]string, len(messages))
				mu.Lock()
				for i, m := range messages {
					receipts[i] = m.Receipt
					bodies[m.Body]++
					ids[m.ID] = true
				}
				if len(ids) == senders*each {
					stop()
				}
				mu.Unlock()
				if err := q.Delete(context.WithoutCancel(ctx), receipts); err != nil {
					t.Error(err)
				}
			}
		})
	}
	sending.Wait()
	receiving.Wait()
	if len(bodies) != senders*each {
		t.Fatalf("got %d bodies, want %d", len(bodies), senders*each)
	}
	if len(ids) != senders*each {
		t.Fatalf("got %d ids, want %d", len(ids), senders*each)
	}
	for body, n := range bodies {
		if n != 1 {
			t.Errorf("received %s %d times, want 1", body, n)
		}
	}
}

func TestSharedReceiveWakesUpForMessagesOfOtherProcesses(t *testing.T) {
	dbs := openShared(t, 2)
	received := make(chan time.Time, 1)
	go func() {
		if messages, err := dbs[0].Queue("q", time.Minute, 5).Receive(t.Context(), 1, 20*time.Second); err == nil && len(messages) == 1 {
			received <- time.Now()
		}
		close(received)
	}()
	time.Sleep(100 * time.Millisecond) // the receiver waits by now
	if err := dbs[1].Queue("q", time.Minute, 5).Send(t.Context(), "acme", []string{"body"}); err != nil {
		t.Fatal(err)
	}
	sent := time.Now()
	at, ok := <-received
	if !ok {
		t.Fatal("the message was not received, want it once")
	}
	if delay := at.Sub(sent); delay > 5*time.Second {
		t.Fatalf("received %s after sending, want at most 5s", delay)
	}
}

// In the suites below one process reads what another writes.

func TestSharedStore(t *testing.T) {
	conformance.Store(t, func(t *testing.T) conformance.EntryStore { return openShared(t, 2)[1].Entries() })
}

func TestSharedIndex(t *testing.T) {
	conformance.Index(t, func(t *testing.T) conformance.IndexUnderTest {
		dbs := openShared(t, 2)
		return conformance.IndexUnderTest{Index: dbs[0].Index(), Store: dbs[1].Entries()}
	})
}

func TestSharedQueue(t *testing.T) {
	conformance.Queue(t, func(t *testing.T, visibility time.Duration, maxReceives int) conformance.MessageQueue {
		dbs := openShared(t, 2)
		return sharedQueue{messageQueue{dbs[0].Queue("q", visibility, maxReceives)}, dbs[1].Queue("q", visibility, maxReceives)}
	})
}

// sharedQueue sends in one process and receives in another.
type sharedQueue struct {
	messageQueue
	sender *sqlite.Queue
}

func (q sharedQueue) Send(ctx context.Context, tenant audit.TenantID, bodies []string) error {
	return q.sender.Send(ctx, tenant, bodies)
}

func (q sharedQueue) SendAfter(ctx context.Context, tenant audit.TenantID, delay time.Duration, body string) error {
	return q.sender.SendAfter(ctx, tenant, delay, body)
}
