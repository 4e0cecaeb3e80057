package postings_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ocelot-audit/ocelot/pkg/engine/sqlite/postings"
)

// collect returns all keys of a search.
func collect(t *testing.T, s *postings.Snapshot, e postings.Expr) []int64 {
	t.Helper()
	var keys []int64
	for key, err := range s.Search(t.Context(), e, math.MinInt64, math.MaxInt64, false) {
		if err != nil {
			t.Fatal(err)
		}
		keys = append(keys, key)
	}
	return keys
}

// addDocs adds a segment of documents with the keys from one on.
func (s *store) addDocs(t testing.TB, first int64, docs ...postings.Doc) {
	t.Helper()
	if err := s.add(place(postings.NewBatch(docs), len(docs), first)); err != nil {
		t.Fatal(err)
	}
}

func TestTokensOfAllBytesKeepTheirOrder(t *testing.T) {
	t.Parallel()
	// Many tokens that are the same but for zeros at the end, and many that differ late.
	var tokens []string
	for i := range 40 {
		tokens = append(tokens, "zero"+strings.Repeat("\x00", i), strings.Repeat("long", 100)+fmt.Sprint(i), string([]byte{0xff, byte(200 + i)}), fmt.Sprint(i))
	}
	s := newStore()
	for i, token := range tokens {
		s.addDocs(t, int64(i), postings.Doc{Set: []byte(token)})
	}
	s.addDocs(t, 1000, postings.Doc{Set: []byte(strings.Join(tokens, " "))})
	for range 2 {
		for i, token := range tokens {
			if diff := cmp.Diff([]int64{int64(i), 1000}, collect(t, s.snapshot(), postings.Token(token))); diff != "" {
				t.Errorf("token %q: -want +got\n%s", token, diff)
			}
		}
		if got, want := len(collect(t, s.snapshot(), postings.Prefix(""))), len(tokens)+1; got != want {
			t.Errorf("found %d documents, want %d", got, want)
		}
		if err := s.merge(t.Context(), len(s.segments)); err != nil {
			t.Fatal(err)
		}
	}
}

func TestKeysMayBeAnyNumbers(t *testing.T) {
	t.Parallel()
	keys := []int64{math.MinInt64, math.MinInt64 + 1, -1, 0, 1, math.MaxInt64 - 1, math.MaxInt64}
	docs := make([]postings.Doc, len(keys))
	for i := range docs {
		docs[i].Set = []byte("a")
	}
	batch := postings.NewBatch(docs)
	var placed []postings.Placed
	for i, key := range keys {
		placed = append(placed, postings.Placed{Batch: batch, Doc: len(keys) - 1 - i, Key: key})
	}
	slices.Reverse(placed)
	s := newStore()
	if err := s.add(placed); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if diff := cmp.Diff(keys, collect(t, s.snapshot(), postings.Token("a"))); diff != "" {
			t.Errorf("-want +got\n%s", diff)
		}
		ordinals, err := s.snapshot().Find(t.Context(), s.segments[0], []int64{math.MinInt64, 2, math.MaxInt64})
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff([]int{0, -1, 6}, ordinals); diff != "" {
			t.Errorf("-want +got\n%s", diff)
		}
		if err := s.merge(t.Context(), 1); err != nil {
			t.Fatal(err)
		}
	}
}

func TestBuildTakesAKeyOnce(t *testing.T) {
	t.Parallel()
	batch := postings.NewBatch(make([]postings.Doc, 2))
	_, _, err := postings.Build([]postings.Placed{{Batch: batch, Doc: 0, Key: 7}, {Batch: batch, Doc: 1, Key: 7}})
	if err == nil {
		t.Error("built a segment of two documents with the same key")
	}
}

func TestDocumentsWithoutTokens(t *testing.T) {
	t.Parallel()
	s := newStore()
	s.addDocs(t, 5, postings.Doc{}, postings.Doc{Sequence: []byte(" "), Set: []byte("  ")})
	for range 2 {
		if found := collect(t, s.snapshot(), postings.Prefix("")); len(found) > 0 {
			t.Errorf("found %d", found)
		}
		keys, err := s.snapshot().KeysOf(t.Context(), s.segments[0], []int{0, 1})
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff([]int64{5, 6}, keys); diff != "" {
			t.Errorf("-want +got\n%s", diff)
		}
		if err := s.merge(t.Context(), 1); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := s.snapshot().KeysOf(t.Context(), s.segments[0], []int{2}); err == nil {
		t.Error("returned the key of a document that does not exist")
	}
}

func TestMergeOfRemovedDocumentsWritesNothing(t *testing.T) {
	t.Parallel()
	s := newStore()
	s.addDocs(t, 1, postings.Doc{Set: []byte("a")}, postings.Doc{Set: []byte("b")})
	s.segments[0].Removed = []uint64{0b11}
	info, err := s.snapshot().Merge(t.Context(), func(page int, _ []byte) error { return fmt.Errorf("wrote page %d", page) })
	if err != nil || info.Docs != 0 {
		t.Errorf("merged %d documents, %v, want none", info.Docs, err)
	}
}

func TestMergeEndsWithAnErrorOfWrite(t *testing.T) {
	t.Parallel()
	s := newStore()
	fillStore(t, s, newEntries(), 3)
	info, err := s.snapshot().Merge(t.Context(), func(int, []byte) error { return nil })
	if err != nil {
		t.Fatal(err)
	}
	full := errors.New("full")
	for last := range info.Pages + 1 {
		_, err := s.snapshot().Merge(t.Context(), func(page int, _ []byte) error {
			if page == last {
				return full
			}
			return nil
		})
		if !errors.Is(err, full) {
			t.Errorf("writing page %d fails: got %v", last, err)
		}
	}
}

func TestSegmentsOutsideTheRangeAreNotRead(t *testing.T) {
	t.Parallel()
	s := newStore()
	for i := range int64(10) {
		s.addDocs(t, i*100, postings.Doc{Set: []byte("a")}, postings.Doc{Set: []byte("a")})
	}
	s.reads = 0
	for key, err := range s.snapshot().Search(t.Context(), postings.Token("a"), 0, 899, true) {
		if err != nil {
			t.Fatal(err)
		}
		if key == 800 {
			break
		}
	}
	if s.reads != 1 {
		t.Errorf("read %d segments, want 1", s.reads)
	}
}

func TestEndedContextsEndSearches(t *testing.T) {
	t.Parallel()
	s := newStore()
	fillStore(t, s, newEntries(), 100)
	if err := s.merge(t.Context(), 100); err != nil {
		t.Fatal(err)
	}
	var parts postings.And
	for range 2000 {
		parts = append(parts, postings.Prefix("7"))
	}
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(20*time.Millisecond, cancel)
	began := time.Now()
	_, err := s.snapshot().Count(ctx, parts, math.MinInt64, math.MaxInt64)
	if took := time.Since(began); !errors.Is(err, context.Canceled) || took > 500*time.Millisecond {
		t.Errorf("got %v after %v", err, took)
	}
	for _, err := range s.snapshot().Search(ctx, postings.Token("7a"), math.MinInt64, math.MaxInt64, false) {
		if !errors.Is(err, context.Canceled) {
			t.Errorf("got %v, want that the search is cancelled", err)
		}
	}
	if _, err := s.snapshot().Merge(ctx, func(int, []byte) error { return nil }); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want that the merge is cancelled", err)
	}
}

func TestCacheKeepsTheLastPages(t *testing.T) {
	t.Parallel()
	s := newStore()
	s.cache = postings.NewCache(3000)
	for i := range int64(4) {
		s.addDocs(t, i, postings.Doc{Set: []byte(strings.Repeat("x", 900))})
	}
	for _, step := range []struct {
		key   int64
		reads int
	}{{0, 1}, {0, 1}, {1, 2}, {0, 2}, {2, 3}, {0, 3}, {2, 3}, {1, 4}} {
		if n, err := s.snapshot().Count(t.Context(), postings.Prefix("x"), step.key, step.key); n != 1 || err != nil {
			t.Errorf("key %d: counted %d, %v, want 1", step.key, n, err)
		}
		if s.reads != step.reads {
			t.Errorf("key %d: read %d pages, want %d", step.key, s.reads, step.reads)
		}
	}
}
