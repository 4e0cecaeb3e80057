package postings_test

import (
	"context"
	"fmt"
	"slices"

	"github.com/ocelot-audit/ocelot/pkg/engine/sqlite/postings"
)

// store keeps the pages of segments in memory, and documents as they are.
type store struct {
	pages    map[page][]byte
	segments []postings.Segment
	last     int64 // the number of the last segment
	docs     map[int64]doc
	removed  []int64 // keys that had a document
	cache    *postings.Cache
	reads    int
}

type page struct {
	segment int64
	number  int
}

// doc is a document's words in sequence, and its other tokens.
type doc struct{ sequence, set []string }

func newStore() *store {
	return &store{pages: map[page][]byte{}, docs: map[int64]doc{}, cache: postings.NewCache(1 << 20)}
}

func (s *store) Page(_ context.Context, segment int64, number int) ([]byte, error) {
	s.reads++
	data, known := s.pages[page{segment, number}]
	if !known {
		return nil, fmt.Errorf("no page %d of segment %d", number, segment)
	}
	return data, nil
}

func (s *store) snapshot() *postings.Snapshot {
	return &postings.Snapshot{Cache: s.cache, Source: s, Segments: s.segments}
}

// remove removes the document with a key.
func (s *store) remove(ctx context.Context, key int64) error {
	delete(s.docs, key)
	s.removed = append(s.removed, key)
	for i := range s.segments {
		in := &s.segments[i]
		ordinals, err := s.snapshot().Find(ctx, *in, []int64{key})
		if err != nil {
			return err
		}
		ordinal := ordinals[0]
		if ordinal < 0 || ordinal/64 < len(in.Removed) && in.Removed[ordinal/64]>>(ordinal%64)&1 == 1 {
			continue
		}
		keys, err := s.snapshot().KeysOf(ctx, *in, ordinals)
		if err != nil || keys[0] != key {
			return fmt.Errorf("document %d has the keys %d, want %d: %w", ordinal, keys, key, err)
		}
		removed := make([]uint64, max(len(in.Removed), ordinal/64+1))
		copy(removed, in.Removed)
		removed[ordinal/64] |= 1 << (ordinal % 64)
		in.Removed = removed
		return nil
	}
	return fmt.Errorf("no segment has the key %d", key)
}

// add adds a segment of the documents.
func (s *store) add(placed []postings.Placed) error {
	info, data, err := postings.Build(placed)
	if err != nil {
		return err
	}
	s.last++
	info.Number = s.last
	s.pages[page{info.Number, 0}] = data
	s.segments = append(s.segments, postings.Segment{Info: info})
	return nil
}

// merge replaces the first segments by one.
func (s *store) merge(ctx context.Context, inputs int) error {
	s.last++
	snapshot := s.snapshot()
	snapshot.Segments = s.segments[:inputs]
	info, err := snapshot.Merge(ctx, func(number int, data []byte) error {
		at := page{s.last, number}
		if _, known := s.pages[at]; known {
			return fmt.Errorf("page %d written twice", number)
		}
		s.pages[at] = data
		return nil
	})
	if err != nil {
		return err
	}
	bytes := int64(0)
	for number := range info.Pages + 1 {
		bytes += int64(len(s.pages[page{s.last, number}]))
	}
	if info.Bytes != bytes {
		return fmt.Errorf("a segment has %d bytes, want %d", info.Bytes, bytes)
	}
	for _, input := range s.segments[:inputs] {
		for number := range input.Pages + 1 {
			delete(s.pages, page{input.Number, number})
		}
	}
	s.segments = slices.Delete(s.segments, 0, inputs)
	if info.Docs > 0 {
		info.Number = s.last
		s.segments = append(s.segments, postings.Segment{Info: info})
	}
	return nil
}
