package postings

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// pageMap has the pages of segments.
type pageMap map[pageID][]byte

func (p pageMap) Page(_ context.Context, segment int64, page int) ([]byte, error) {
	data, known := p[pageID{segment, page}]
	if !known {
		return nil, fmt.Errorf("%w: no page %d", ErrDamaged, page)
	}
	return data, nil
}

// newPages returns a whole segment and one of pages of each kind.
func newPages(tb testing.TB) (pageMap, []Segment) {
	docs := make([]Doc, 9000)
	for i := range docs {
		docs[i].Sequence = fmt.Appendf(nil, "the quick fox%d jumps", i%50)
		docs[i].Set = fmt.Appendf(nil, "all id%d", i)
		if i%7 < 3 {
			docs[i].Set = append(docs[i].Set, " some"...)
		}
	}
	build := func(number int64, docs []Doc) (Segment, []byte) {
		var placed []Placed
		batch := NewBatch(docs)
		for i := range docs {
			placed = append(placed, Placed{batch, i, number + int64(i)*1000})
		}
		info, data, err := Build(placed)
		if err != nil {
			tb.Fatal(err)
		}
		info.Number = number
		return Segment{Info: info}, data
	}
	whole, data := build(1, docs[:300])
	pages := pageMap{{1, 0}: data}
	input, data := build(2, docs)
	s := &Snapshot{Source: pageMap{{2, 0}: data}, Segments: []Segment{input}}
	info, err := s.Merge(tb.Context(), func(page int, data []byte) error {
		pages[pageID{2, page}] = data
		return nil
	})
	if err != nil {
		tb.Fatal(err)
	}
	info.Number = 2
	return pages, []Segment{whole, {Info: info}}
}

// readAll calls everything that reads segments, and returns what it found.
func readAll(ctx context.Context, pages pageMap, segments []Segment) (found []int64, err error) {
	s := &Snapshot{Source: pages, Segments: segments}
	for _, e := range []Expr{
		Token("the"), Token("id77"), Token("some"), Prefix("fox4"), Prefix("id12"), Prefix(""),
		Phrase{Tokens: []string{"quick", "fox7"}}, Phrase{Tokens: []string{"the", "quick", "fo"}, Prefix: true},
		And{Token("some"), Token("fox3")}, Except{Token("all"), Token("some")},
	} {
		for _, falling := range []bool{false, true} {
			for key, err := range s.Search(ctx, e, 7000, math.MaxInt64, falling) {
				if err != nil {
					return nil, err
				}
				found = append(found, key)
			}
		}
		n, err := s.Count(ctx, e, math.MinInt64, math.MaxInt64)
		if err != nil {
			return nil, err
		}
		found = append(found, n)
	}
	for _, in := range segments {
		ordinals, err := s.Find(ctx, in, []int64{0, in.First, in.First + 5000, in.Last})
		if err != nil {
			return nil, err
		}
		for _, ordinal := range ordinals {
			found = append(found, int64(ordinal))
		}
		keys, err := s.KeysOf(ctx, in, []int{0, 7, in.Docs - 1})
		if err != nil {
			return nil, err
		}
		found = append(found, keys...)
	}
	merged, err := s.Merge(ctx, func(_ int, data []byte) error {
		found = append(found, int64(binary.LittleEndian.Uint32(data[len(data)-4:])))
		return nil
	})
	return append(found, int64(merged.Docs), merged.Bytes), err
}

// TestDamageIsNoticed changes bytes of each page, and cuts it.
func TestDamageIsNoticed(t *testing.T) {
	t.Parallel()
	pages, segments := newPages(t)
	want, err := readAll(t.Context(), pages, segments)
	if err != nil {
		t.Fatal(err)
	}
	kinds := map[byte]bool{}
	for id, page := range pages {
		kinds[page[0]] = true
		if id.segment == 2 && id.page%9 > 0 && page[0] == pageTokens {
			continue // there are many
		}
		at := int(crcOf(page)) % len(page)
		for name, damaged := range map[string][]byte{
			"first byte": change(page, 0), "last byte": change(page, len(page)-1), "a byte": change(page, at),
			"shorter": page[:at], "longer": append(slices.Clone(page), 0), "empty": {},
		} {
			other := maps.Clone(pages)
			other[id] = damaged
			if _, err := readAll(t.Context(), other, segments); !errors.Is(err, ErrDamaged) {
				t.Errorf("page %v, %s: got %v, want that it is damaged", id, name, err)
			}
		}
	}
	if len(kinds) != 4 {
		t.Errorf("tested the kinds %v, want 4", kinds)
	}
	again, err := readAll(t.Context(), pages, segments)
	if diff := cmp.Diff(want, again); diff != "" || err != nil {
		t.Errorf("undamaged: %v\n%s", err, diff)
	}
}

func crcOf(page []byte) uint32 { return binary.LittleEndian.Uint32(page[len(page)-checksumBytes:]) }

func change(page []byte, at int) []byte {
	page = slices.Clone(page)
	page[at] ^= 0x41
	return page
}

// FuzzPages changes pages and makes their checksums right, so that the other checks have to notice what
// would be read beyond a page, or without end.
func FuzzPages(f *testing.F) {
	pages, segments := newPages(f)
	var ids []pageID
	for id := range pages {
		ids = append(ids, id)
	}
	slices.SortFunc(ids, func(a, b pageID) int { return int(a.segment-b.segment)*1000 + a.page - b.page })
	for i := range ids {
		f.Add(uint16(i), uint16(1), []byte{0xff})
		f.Add(uint16(i), uint16(5), []byte{0, 0, 0, 0})
		f.Add(uint16(i), uint16(20), []byte{1, 2, 3})
		f.Add(uint16(i), uint16(3000), []byte{0xff, 0xff, 0xff, 0xff})
		f.Add(uint16(i), uint16(0xfffa), []byte{0x7f, 0xff, 0xff, 0xff})
	}
	f.Fuzz(func(t *testing.T, number, at uint16, bytes []byte) {
		id := ids[int(number)%len(ids)]
		page := slices.Clone(pages[id])
		var part []byte // what has a checksum
		if id.segment == 1 {
			parts := partsOf(page)
			part = parts[int(at)%len(parts)]
		} else {
			part = page
		}
		end := len(part) - checksumBytes
		offset := int(at)
		if offset >= 0xff00 {
			offset -= 0x10000 - end // from the end
		}
		copy(part[max(0, offset)%end:end], bytes)
		seal(part[:end])
		other := maps.Clone(pages)
		other[id] = page
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		if _, err := readAll(ctx, other, segments); err != nil && !errors.Is(err, ErrDamaged) {
			t.Error(err)
		}
	})
}

// partsOf returns the directory and the pages of a whole segment.
func partsOf(page []byte) [][]byte {
	var s segment
	s.parse(page)
	directory, _, _ := splitWhole(page)
	parts := [][]byte{directory}
	for i := range s.pages {
		parts = append(parts, s.part(i+1))
	}
	return parts
}
