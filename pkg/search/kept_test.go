package search_test

import (
	"context"
	"encoding/base64"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/go-json-experiment/json/jsontext"
	"pgregory.net/rapid"

	"github.com/ocelot-audit/ocelot/pkg/access"
	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/cursor"
	"github.com/ocelot-audit/ocelot/pkg/search"
)

// numbered is an index of entries with the numbers from 0, the newest first. A position is a number.
type numbered struct {
	search.Index
	entries int
}

func (n numbered) Find(_ context.Context, _ audit.TenantID, _ audit.Filter, request audit.PageRequest) (audit.Page, error) {
	first, last := 0, n.entries // of what can be read
	if request.From != nil {
		at, err := strconv.Atoi(strings.TrimPrefix(request.From.Tie, "place-"))
		if err != nil {
			return audit.Page{}, err
		}
		if request.Backwards {
			last = at
		} else {
			first = at + 1
		}
	}
	more := last-first > request.Limit
	switch {
	case more && request.Backwards:
		first = last - request.Limit
	case more:
		last = first + request.Limit
	}
	page := audit.Page{More: more}
	for i := first; i < last; i++ {
		page.Entries = append(page.Entries, audit.Entry{ID: audit.EntryID{14: byte(i >> 8), 15: byte(i)}, ResourceID: strconv.Itoa(i)})
	}
	if first < last {
		page.First, page.Last = placeOf(first), placeOf(last-1)
	}
	return page, nil
}

func placeOf(i int) *audit.Position {
	return &audit.Position{Time: noon, Tie: fmt.Sprintf("place-%d", i)}
}

// TestShortPagesPassManyThatAreNotKept: a page of one entry is found among thousands that are not kept.
func TestShortPagesPassManyThatAreNotKept(t *testing.T) {
	s := &search.Service{Index: numbered{entries: 5000}, Cursors: cursor.NewSigner(make([]byte, 32)), Now: func() time.Time { return noon }}
	keep := func(_ context.Context, entries []audit.Entry) ([]audit.Entry, error) {
		return slices.DeleteFunc(entries, func(e audit.Entry) bool {
			return !slices.Contains([]string{"100", "2500", "4000"}, e.ResourceID)
		}), nil
	}
	var got []string
	find := func(cursor string) search.List {
		t.Helper()
		members := map[string]jsontext.Value{"limit": jsontext.Value("1")}
		if cursor != "" {
			members["cursor"] = jsontext.Value(strconv.Quote(cursor))
		}
		list, err := s.FindBy(t.Context(), audit.Tenant{ID: "acme", Settings: audit.DefaultSettings()}, access.Scope{}, members, search.Match{Tokens: []audit.ValueToken{{1}}, Keep: keep})
		if err != nil {
			t.Fatal(err)
		}
		for i := range list.Entries {
			got = append(got, list.Entries[i].ResourceID)
		}
		return list
	}
	list := find("")
	for list.Next != "" {
		list = find(list.Next)
	}
	for list.Prev != "" {
		list = find(list.Prev)
	}
	if want := []string{"100", "2500", "4000", "2500", "100"}; !slices.Equal(got, want) {
		t.Errorf("forwards and back: got %q, want %q", got, want)
	}
}

// What is not kept makes no page empty and no cursor, in either direction, and nothing that is kept is left out.
func TestListsDoNotTellWhatIsNotKept(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		keeps := rapid.SliceOfN(rapid.Bool(), 0, 40).Draw(t, "keeps")
		limit := rapid.IntRange(1, 7).Draw(t, "limit")
		s := &search.Service{Index: numbered{entries: len(keeps)}, Cursors: cursor.NewSigner(make([]byte, 32)), Now: func() time.Time { return noon }}
		keep := func(ctx context.Context, entries []audit.Entry) ([]audit.Entry, error) {
			return slices.DeleteFunc(entries, func(e audit.Entry) bool { return !keeps[e.ID[15]] }), ctx.Err()
		}
		var want []string
		for i, kept := range keeps {
			if kept {
				want = append(want, strconv.Itoa(i))
			}
		}
		find := func(cursor string) search.List {
			members := map[string]jsontext.Value{"limit": jsontext.Value(strconv.Itoa(limit))}
			if cursor != "" {
				members["cursor"] = jsontext.Value(strconv.Quote(cursor))
			}
			list, err := s.FindBy(t.Context(), audit.Tenant{ID: "acme", Settings: audit.DefaultSettings()}, access.Scope{}, members, search.Match{Tokens: []audit.ValueToken{{1}}, Keep: keep})
			if err != nil {
				t.Fatal(err)
			}
			if cursor != "" && len(list.Entries) == 0 {
				t.Fatal("got an empty page by a cursor, want none")
			}
			for _, c := range []string{list.Next, list.Prev} {
				if c == "" {
					continue
				}
				text, err := base64.RawURLEncoding.DecodeString(c)
				if err != nil {
					t.Fatal(err)
				}
				_, place, _ := strings.Cut(string(text), "place-")
				number, _, _ := strings.Cut(place, `"`)
				i, err := strconv.Atoi(number)
				if err != nil {
					t.Fatalf("the cursor %q has no place: %v", text, err)
				}
				if !keeps[i] {
					t.Fatalf("a cursor has the place %d, which is not kept", i)
				}
			}
			return list
		}
		numbers := func(l search.List) (numbers []string) {
			for i := range l.Entries {
				numbers = append(numbers, l.Entries[i].ResourceID)
			}
			return numbers
		}
		list := find("")
		got, last := numbers(list), list
		for list.Next != "" {
			list = find(list.Next)
			got, last = append(got, numbers(list)...), list
		}
		if !slices.Equal(got, want) {
			t.Fatalf("forwards: got %q, want %q", got, want)
		}
		back := numbers(last)
		for last.Prev != "" {
			last = find(last.Prev)
			back = append(numbers(last), back...)
		}
		if !slices.Equal(back, want) {
			t.Fatalf("backwards: got %q, want %q", back, want)
		}
	})
}
