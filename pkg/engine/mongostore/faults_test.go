package mongostore_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/engine/mongostore"
	"github.com/ocelot-audit/ocelot/pkg/testkit/enginetest"
)

const (
	faultEntries = 10_000
	faultBatch   = 100
	faultTenant  = audit.TenantID("acme")
)

// deliver appends a batch as a queue does: until it is taken. It returns how
// often it had to start again.
func deliver(t *testing.T, store *mongostore.Entries, batch []audit.Entry) (failures int) {
	t.Helper()
	for deadline := time.Now().Add(2 * time.Minute); ; failures++ {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		appended, err := store.Append(ctx, faultTenant, batch)
		rejections := appended.Rejections
		cancel()
		switch {
		case err == nil && len(rejections) == 0:
			return failures
		case err == nil:
			t.Errorf("got rejections %+v, want none", rejections)
			return failures
		case time.Now().After(deadline):
			t.Errorf("not delivered in time: got error %v, want none", err)
			return failures
		}
		var unavailable *audit.UnavailableError
		if !errors.As(err, &unavailable) && !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got error %v, want a %T or %v", err, unavailable, context.DeadlineExceeded)
			return failures
		}
	}
}

// deliverAll has four workers deliver the entries, every tenth batch by two of
// them, as after a queue's visibility timeout. progress is called after each batch.
func deliverAll(t *testing.T, store *mongostore.Entries, progress func(batches int)) (failures int) {
	t.Helper()
	batches := make(chan []audit.Entry)
	var failed, done atomic.Int64
	var workers sync.WaitGroup
	for range 4 {
		workers.Go(func() {
			for batch := range batches {
				failed.Add(int64(deliver(t, store, batch)))
				progress(int(done.Add(1)))
			}
		})
	}
	for from := uint32(0); from < faultEntries; from += faultBatch {
		var batch []audit.Entry
		for i := range uint32(faultBatch) {
			batch = append(batch, newEntry(faultTenant, march, from+i))
		}
		batches <- batch
		if from%(10*faultBatch) == 0 {
			batches <- batch
		}
	}
	close(batches)
	workers.Wait()
	return int(failed.Load())
}

func wantCount(t *testing.T, uri, name string) {
	t.Helper()
	if n := count(t, uri, name); n != faultEntries {
		t.Fatalf("%d entries are stored, want %d", n, faultEntries)
	}
}

func TestLostAnswersStoreEachEntryOnce(t *testing.T) {
	engine := enginetest.StartMongo(t)
	name := newDatabase(t, engine.URL())
	proxy := enginetest.NewTCPProxy(t, engine.Addr())
	db := open(t, engine.URLAt(proxy.Addr()), name)
	var inserts, lost atomic.Int64
	proxy.Inject(func(request []byte) enginetest.TCPFault {
		if !bytes.Contains(request, []byte("insert\x00")) || inserts.Add(1)%8 != 0 {
			return enginetest.TCPFault{}
		}
		lost.Add(1)
		return enginetest.TCPFault{LoseAnswer: true}
	})
	failures := deliverAll(t, db.Entries(shared), func(int) {})
	proxy.Inject(nil)
	if got := lost.Load(); got < 10 {
		t.Fatalf("lost %d answers, want at least 10 for the test to prove something", got)
	}
	t.Logf("%d of %d answers lost, %d calls failed", lost.Load(), inserts.Load(), failures)
	wantCount(t, engine.URL(), name)
}

func TestLostAnswerIsRepeatedWithinOneCall(t *testing.T) {
	engine := enginetest.StartMongo(t)
	name := newDatabase(t, engine.URL())
	proxy := enginetest.NewTCPProxy(t, engine.Addr())
	store := open(t, engine.URLAt(proxy.Addr()), name).Entries(shared)
	appendAll(t, store, "acme", newEntry("acme", march, 0))
	var inserts atomic.Int64
	proxy.Inject(func(request []byte) enginetest.TCPFault {
		first := bytes.Contains(request, []byte("insert\x00")) && inserts.Add(1) == 1
		return enginetest.TCPFault{LoseAnswer: first}
	})
	other := newEntry("acme", march, 1)
	other.Digest = audit.Digest{Sum: [32]byte{9}}
	appended, err := store.Append(t.Context(), "acme", []audit.Entry{newEntry("acme", march, 1), newEntry("acme", march, 2), other})
	rejections := appended.Rejections
	if err != nil {
		t.Fatal(err)
	}
	if len(rejections) != 1 {
		t.Fatalf("got %d rejections, want 1", len(rejections))
	}
	if rejections[0].Index != 2 {
		t.Fatalf("got index %d, want 2", rejections[0].Index)
	}
	if inserts.Load() != 2 {
		t.Fatalf("%d inserts, want 2", inserts.Load())
	}
	if n := count(t, engine.URL(), name); n != 3 {
		t.Fatalf("%d entries are stored, want 3", n)
	}
}

func TestStoppedEngineLosesNothing(t *testing.T) {
	engine := enginetest.StartMongo(t)
	name := newDatabase(t, engine.URL())
	db := open(t, engine.URL(), name)
	var outages sync.WaitGroup
	failures := deliverAll(t, db.Entries(shared), func(batches int) {
		if batches != 20 && batches != 60 {
			return
		}
		outages.Go(func() {
			if err := engine.Stop(); err != nil {
				t.Error(err)
			}
			time.Sleep(time.Second)
			if err := engine.Start(); err != nil {
				t.Error(err)
			}
		})
	})
	outages.Wait()
	t.Logf("%d calls failed", failures)
	wantCount(t, engine.URL(), name)
}

// TestKilledEngineLosesNothing kills the engine while workers wait for their
// answers: what it had not said to have stored is written again, what it had is
// there already.
func TestKilledEngineLosesNothing(t *testing.T) {
	engine := enginetest.StartMongo(t)
	name := newDatabase(t, engine.URL())
	proxy := enginetest.NewTCPProxy(t, engine.Addr())
	store := open(t, engine.URLAt(proxy.Addr()), name).Entries(shared)
	var inserts, delivered atomic.Int64
	proxy.Inject(func(request []byte) enginetest.TCPFault {
		if bytes.Contains(request, []byte("insert\x00")) {
			inserts.Add(1)
		}
		return enginetest.TCPFault{}
	})
	var kills sync.WaitGroup
	deliverAll(t, store, func(batches int) {
		delivered.Store(int64(batches))
		if batches%10 != 0 {
			return
		}
		kills.Go(func() {
			if err := errors.Join(engine.Kill(), engine.Start()); err != nil {
				t.Error(err)
			}
		})
	})
	kills.Wait()
	repeated := inserts.Load() - delivered.Load()
	if repeated < 5 {
		t.Errorf("repeated %d writes, want at least 5 for the test to prove something", repeated)
	}
	t.Logf("%d of %d writes were repeated", repeated, inserts.Load())
	wantCount(t, engine.URL(), name)
	// An entry that is half there, such as without its key in the index of ids, shows when it is written again.
	deliverAll(t, store, func(int) {})
	wantCount(t, engine.URL(), name)
}

func TestCutConnectionsLoseNothing(t *testing.T) {
	engine := enginetest.StartMongo(t)
	name := newDatabase(t, engine.URL())
	proxy := enginetest.NewTCPProxy(t, engine.Addr())
	db := open(t, engine.URLAt(proxy.Addr()), name)
	var cuts sync.WaitGroup
	failures := deliverAll(t, db.Entries(dedicated), func(batches int) {
		if batches%25 != 0 {
			return
		}
		cuts.Go(func() {
			proxy.Cut()
			time.Sleep(300 * time.Millisecond)
			proxy.Restore()
		})
	})
	cuts.Wait()
	t.Logf("%d calls failed", failures)
	wantCount(t, engine.URL(), name)
}

func TestNothingConnectsBeforeItIsUsed(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = listener.Close() }()
	var connections atomic.Int64
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			connections.Add(1)
			_ = conn.Close()
		}
	}()
	db := open(t, "mongodb://"+listener.Addr().String(), "ocelot")
	db.Entries(shared)
	db.Index(shared)
	time.Sleep(50 * time.Millisecond)
	if n := connections.Load(); n != 0 {
		t.Fatalf("got %d connections before the first use, want 0", n)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if err := db.Ping(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("Ping of what does not answer: %v, want the context's error", err)
	}
	for deadline := time.Now().Add(10 * time.Second); connections.Load() == 0; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("got no connection at the first use, want one")
		}
	}
	if err := db.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := db.Ping(t.Context()); err == nil || strings.Contains(err.Error(), "deadline") {
		t.Fatalf("Ping after Close: got error %v, want one before its deadline", err)
	}
}

func TestErrorsDoNotTellTheConnectionString(t *testing.T) {
	for _, uri := range []string{
		"", "hunter2", "http://user:hunter2@host", "mongodb://user:hunter2@host:notaport", "mongodb://user:hunter2@", "mongodb://user:hunt/er2@host",
		"mongodb://user:%zzhunter2@host", "mongodb://user:hunter2@host/?maxPoolSize=hunter2",
	} {
		_, err := mongostore.Open(uri, "ocelot")
		if err == nil {
			t.Errorf("Open %q: got no error, want one", uri)
			continue
		}
		for _, part := range []string{"hunt", "er2"} {
			if strings.Contains(err.Error(), part) {
				t.Errorf("Open %q: got error %v, want it without the connection string", uri, err)
			}
		}
	}
	db := open(t, "mongodb://user:hunter2@127.0.0.1:1/?authSource=hunter2", "ocelot", mongostore.WithTimeout(300*time.Millisecond))
	for what, err := range map[string]error{
		"Ping": db.Ping(t.Context()),
		"Append": func() error {
			ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
			defer cancel()
			_, err := db.Entries(shared).Append(ctx, "acme", []audit.Entry{newEntry("acme", march, 1)})
			return err
		}(),
	} {
		if err == nil {
			t.Errorf("%s: got no error, want one", what)
			continue
		}
		if text := err.Error() + fmt.Sprintf("%+v", err); strings.Contains(text, "hunter2") {
			t.Errorf("%s: got error %s, want it without the connection string", what, text)
		}
	}
	for _, name := range []string{"", "a/b", "a b", "a.b", "$a", "a\x00"} {
		if _, err := mongostore.Open("mongodb://127.0.0.1", name); err == nil {
			t.Errorf("the database name %q: got no error, want one", name)
		}
	}
}
