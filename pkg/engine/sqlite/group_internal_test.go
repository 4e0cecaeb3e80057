package sqlite

import (
	"bytes"
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/arrival"
	"github.com/ocelot-audit/ocelot/pkg/audit"
)

// holdWriter lets no operation run until the function that it returns is called.
func holdWriter(t *testing.T, db *DB) (release func()) {
	t.Helper()
	running, end, ended := make(chan struct{}), make(chan struct{}), make(chan error, 1)
	go func() {
		ended <- db.write(context.Background(), func(*batch) error {
			close(running)
			<-end
			return nil
		})
	}()
	<-running
	return func() {
		close(end)
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
}

// TestAPanicFailsAlone: an operation that panics is rolled back, and others of its group are not.
func TestAPanicFailsAlone(t *testing.T) {
	db := openMerged(t, filepath.Join(t.TempDir(), "o.db"))
	queue := db.Queue("q", time.Minute, 0)
	release := holdWriter(t, db)
	failed, sent := make(chan error, 1), make(chan error, 4)
	for i := range cap(sent) {
		go func() { sent <- queue.Send(t.Context(), "acme", []string{fmt.Sprint(i)}) }()
	}
	go func() {
		failed <- db.write(t.Context(), func(b *batch) error {
			if _, err := b.exec(`DELETE FROM messages`); err != nil {
				return err
			}
			panic("test")
		})
	}()
	time.Sleep(20 * time.Millisecond) // most join the group; the result is the same for any
	release()
	if err := <-failed; err == nil || !strings.Contains(err.Error(), "panic") {
		t.Errorf("an operation that panics: got error %v, want that of a panic", err)
	}
	for range cap(sent) {
		if err := <-sent; err != nil {
			t.Error(err)
		}
	}
	visible, _, _, err := queue.Depth(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if want := int64(cap(sent)); visible != want {
		t.Errorf("%d messages wait, want %d", visible, want)
	}
}

// TestAPanicAtTheEndOfAGroup: what moves recent documents panics, which ends no process either.
func TestAPanicAtTheEndOfAGroup(t *testing.T) {
	db := openMerged(t, filepath.Join(t.TempDir(), "o.db"))
	err := db.write(t.Context(), func(b *batch) error {
		b.folds = append(b.folds, 1) // without a folding
		return nil
	})
	if err == nil || !strings.Contains(err.Error(), "panic") {
		t.Errorf("got error %v, want that of a panic", err)
	}
	if err := db.Ping(t.Context()); err != nil {
		t.Error(err)
	}
}

// TestFewTenantsAreFoldedAtOnce: tenants that are served in turn have enough recent facets at the same time.
func TestFewTenantsAreFoldedAtOnce(t *testing.T) {
	db := openMerged(t, filepath.Join(t.TempDir(), "o.db"))
	const tenants, at = 20, 8
	if err := db.LimitFolds(t.Context(), at, 100, 10, 1); err != nil {
		t.Fatal(err)
	}
	write := func(from, to int) (most int) {
		t.Helper()
		err := db.write(t.Context(), func(b *batch) error {
			for key := from; key < to; key++ {
				for tenant := range int64(tenants) {
					var values [len(facetColumns)]string
					values[columnAction] = "A"
					if err := b.insertFacets(tenant+1, []*indexRow{{key: int64(key), facets: values}}); err != nil {
						return err
					}
				}
			}
			most = len(b.folds)
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		return most
	}
	blocks := func() (n int64) {
		t.Helper()
		err := db.snapshot(t.Context(), func(c *conn) (err error) {
			n, err = c.int64(t.Context(), `SELECT count(DISTINCT tenant) FROM facet_blocks`)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	if got, want := write(0, 3*at/2), defaultFolds.tenants; got != want {
		t.Errorf("one flush moved the facets of %d tenants, want %d", got, want)
	}
	if got, want := blocks(), int64(defaultFolds.tenants); got != want {
		t.Errorf("%d tenants have blocks, want %d", got, want)
	}
	for i := range tenants / defaultFolds.tenants {
		write(3*at/2+i, 3*at/2+i+1)
	}
	if got := blocks(); got != tenants {
		t.Errorf("in the end %d tenants have blocks, want %d", got, tenants)
	}
}

// TestFoldsOfTenantsAreStaggered: the limits of tenants whose numbers follow each other differ, within bounds.
func TestFoldsOfTenantsAreStaggered(t *testing.T) {
	for _, at := range []int{1, 2, 1024} {
		l, seen := foldLimits{at: at}, map[int]bool{}
		for tenant := range int64(at) {
			due := l.due(tenant)
			if due < at || due > at+at/2 {
				t.Errorf("at %d: tenant %d is due at %d, want at most half as many more", at, tenant, due)
			}
			seen[due] = true
		}
		if got, want := len(seen), min(at, at/2+1); got != want {
			t.Errorf("at %d: tenants are due at %d different numbers, want %d", at, got, want)
		}
	}
}

// TestFewTenantsArePackedAtOnce is TestFewTenantsAreFoldedAtOnce for documents.
func TestFewTenantsArePackedAtOnce(t *testing.T) {
	db := openMerged(t, filepath.Join(t.TempDir(), "o.db"))
	doc := bytes.Repeat([]byte("x"), 20<<10)
	packed := 0
	err := db.write(t.Context(), func(b *batch) error {
		for key := range int64(4) {
			for tenant := range int64(2 * maxPacks) {
				if err := b.insertRecentDoc(tenant+1, key, doc); err != nil {
					return err
				}
			}
		}
		packed = len(b.packs)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if packed != maxPacks {
		t.Errorf("one flush packed the documents of %d tenants, want %d", packed, maxPacks)
	}
}

// TestAPurgeForgetsNoTurns: only a purge of messages does. To find the turns again takes longer the more messages
// wait.
func TestAPurgeForgetsNoTurns(t *testing.T) {
	db := openMerged(t, filepath.Join(t.TempDir(), "o.db"))
	indexSome(t, db, 1, 3)
	for _, tenant := range []audit.TenantID{"acme", "other"} {
		if err := db.Queue("q", time.Minute, 0).Send(t.Context(), tenant, []string{"body"}); err != nil {
			t.Fatal(err)
		}
		at := time.UnixMilli(1_800_000_000_000)
		s := arrival.Segment{First: 1, WrittenAt: at, IDs: []audit.EntryID{audit.NewEntryID(at, [10]byte{})}, Messages: []audit.MessageID{{1}}}
		if err := db.Arrivals().Append(t.Context(), tenant, s); err != nil {
			t.Fatal(err)
		}
	}
	want := func(after string, queues, heads int) {
		t.Helper()
		err := db.write(t.Context(), func(b *batch) error {
			if got := len(b.writer.recall.queues); got != queues {
				t.Errorf("after a purge of %s the turns of %d queues are known, want %d", after, got, queues)
			}
			if got := len(b.writer.recall.heads); got != heads {
				t.Errorf("after a purge of %s the heads of %d arrival logs are known, want %d", after, got, heads)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	purge := func(p interface {
		Purge(ctx context.Context, tenant audit.TenantID, limit int) (int, error)
	},
	) {
		t.Helper()
		n, err := p.Purge(t.Context(), "acme", 100)
		if err != nil {
			t.Fatal(err)
		}
		if n == 0 {
			t.Error("nothing was purged")
		}
	}
	want("nothing", 1, 2)
	purge(db.Entries())
	want("entries", 1, 2)
	purge(db.Arrivals())
	want("arrivals", 1, 1)
	purge(db.Messages())
	want("messages", 0, 1)
}
