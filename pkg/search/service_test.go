package search_test

import (
	"context"
	"errors"
	"log/slog"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/access"
	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/cursor"
	"github.com/ocelot-audit/ocelot/pkg/search"
)

// index answers with a page or an error, and remembers what it was asked.
type index struct {
	search.Index
	page     audit.Page
	err      error
	filter   audit.Filter
	request  audit.PageRequest
	contains bool
}

func (x *index) Find(_ context.Context, _ audit.TenantID, filter audit.Filter, request audit.PageRequest) (audit.Page, error) {
	x.filter, x.request = filter, request
	return x.page, x.err
}

func (x *index) Contains(context.Context, audit.TenantID, audit.EntryID) (bool, error) {
	return x.contains, x.err
}

type oneEntry struct {
	entry audit.Entry
	err   error
}

func (r oneEntry) Entry(context.Context, audit.TenantID, audit.EntryID) (audit.Entry, error) {
	return r.entry, r.err
}

var (
	noon       = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	acmeTenant = audit.Tenant{ID: acme}
)

func newService(x *index) *search.Service {
	return &search.Service{Index: x, Cursors: cursor.NewSigner(make([]byte, 32)), Now: func() time.Time { return noon }}
}

// onePage has an entry and says that more follow.
func onePage() audit.Page {
	at := audit.Position{Time: noon, Tie: "7"}
	return audit.Page{Entries: make([]audit.Entry, 1), First: &at, Last: &at, More: true}
}

func TestCursorsLeadBothWaysAndAreOfTheirListOnly(t *testing.T) {
	x := &index{page: onePage()}
	s := newService(x)
	params := url.Values{"user_id": {"ann"}}
	first, err := s.Find(t.Context(), acmeTenant, access.Scope{}, params)
	if err != nil {
		t.Fatal(err)
	} else if first.Next == "" || first.Prev != "" {
		t.Fatalf("the first page: %+v", first)
	}
	params.Set("cursor", first.Next)
	second, err := s.Find(t.Context(), acmeTenant, access.Scope{}, params)
	if err != nil {
		t.Fatal(err)
	} else if second.Next == "" || second.Prev == "" || x.request.Backwards || x.request.From.Tie != "7" {
		t.Fatalf("the second page: %+v, asked for %+v", second, x.request)
	}
	params.Set("cursor", second.Prev)
	x.page.More = false
	back, err := s.Find(t.Context(), acmeTenant, access.Scope{}, params)
	if err != nil {
		t.Fatal(err)
	} else if back.Next == "" || back.Prev != "" || !x.request.Backwards {
		t.Fatalf("back at the beginning: %+v", back)
	}
	for name, find := range map[string]func() error{
		"another tenant": func() error {
			_, err := s.Find(t.Context(), audit.Tenant{ID: "other"}, access.Scope{}, params)
			return err
		},
		"another scope": func() error {
			_, err := s.Find(t.Context(), acmeTenant, access.Scope{Owner: "u"}, params)
			return err
		},
		"another filter": func() error {
			_, err := s.Find(t.Context(), acmeTenant, access.Scope{}, url.Values{"user_id": {"bob"}, "cursor": params["cursor"]})
			return err
		},
	} {
		var invalid *audit.ValidationError
		if err := find(); !errors.As(err, &invalid) || invalid.Fields[0].Pointer != "?cursor" {
			t.Errorf("the cursor in %s: %v", name, err)
		}
	}
	params.Set("limit", "3") // may change from page to page
	if _, err := s.Find(t.Context(), acmeTenant, access.Scope{}, params); err != nil {
		t.Error(err)
	}
}

func TestScopesAreAddedToEveryFilter(t *testing.T) {
	x := &index{}
	if _, err := newService(x).Find(t.Context(), acmeTenant, access.Scope{Owner: "ann"}, url.Values{"q": {"a OR b"}}); err != nil {
		t.Fatal(err)
	}
	all, ok := x.filter.Where.(audit.And)
	if !ok || len(all) != 2 {
		t.Fatalf("asked for %#v, want the query and the scope", x.filter.Where)
	}
}

func TestFaultyParameters(t *testing.T) {
	for name, params := range map[string]url.Values{
		"?color": {"color": {"red"}}, "?limit": {"limit": {"1001"}}, "?sort": {"sort": {"user_id"}}, "?from": {"from": {"then"}},
		"?to": {"from": {"2026-02-01"}, "to": {"2026-01-01"}}, "?severity": {"severity": {"LOUD"}}, "?ip_address": {"ip_address": {"x"}},
		"?q": {"q": {"("}}, "?cursor": {"cursor": {"x"}}, "?metadata.": {"metadata.": {"x"}}, "?top": {"top": {"5"}},
		"?user_id": {"user_id": {"\xff"}}, "?": {"user_id": make([]string, search.MaxFilterValues+1)},
	} {
		_, err := newService(&index{}).Find(t.Context(), acmeTenant, access.Scope{}, params)
		var invalid *audit.ValidationError
		if !errors.As(err, &invalid) || invalid.Fields[0].Pointer != name {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, params := range map[string]url.Values{
		"?group_by": {"group_by": {"action,action"}}, "?interval": {"interval": {"5y"}}, "?top": {"top": {"0"}}, "?sort": {"sort": {"-timestamp"}},
	} {
		_, _, err := newService(&index{}).Stats(t.Context(), acmeTenant, access.Scope{}, params)
		var invalid *audit.ValidationError
		if !errors.As(err, &invalid) || invalid.Fields[0].Pointer != name {
			t.Errorf("stats %s: %v", name, err)
		}
	}
}

func TestWhileTheIndexIsDownTheSystemOfRecordAnswers(t *testing.T) {
	down := &audit.UnavailableError{Err: errors.New("down")}
	s := newService(&index{err: down})
	s.Degraded = &index{page: onePage()}
	var log strings.Builder
	s.Log = slog.New(slog.NewTextHandler(&log, nil))
	if list, err := s.Find(t.Context(), acmeTenant, access.Scope{}, nil); err != nil {
		t.Error(err)
	} else if !list.Degraded || len(list.Entries) != 1 {
		t.Errorf("%+v", list)
	}
	if !strings.Contains(log.String(), "tenant=acme") || !strings.Contains(log.String(), "down") {
		t.Errorf("the operator sees it %q", &log)
	}
	s.Degraded = &index{err: down}
	if _, err := s.Find(t.Context(), acmeTenant, access.Scope{}, nil); !errors.Is(err, down) {
		t.Errorf("what nobody can answer: %v", err)
	}
	s.Degraded = &index{page: onePage()}
	late, cancel := context.WithCancel(t.Context())
	cancel()
	if list, err := s.Find(late, acmeTenant, access.Scope{}, nil); !errors.Is(err, down) {
		t.Errorf("the system of record was asked when the time was over: %+v, %v", list, err)
	}
	s = newService(&index{err: audit.Invalid("?q", "too_complex", "too complex")})
	s.Degraded = &index{page: onePage()}
	if _, err := s.Find(t.Context(), acmeTenant, access.Scope{}, nil); err == nil {
		t.Error("a faulty query was answered by the system of record")
	}
}

func TestEntryTellsHowFarItIs(t *testing.T) {
	entry := audit.Entry{ID: audit.NewEntryID(noon, [10]byte{1}), UserID: "ann", Timestamp: noon}
	s := newService(&index{contains: true})
	s.Log = slog.New(slog.DiscardHandler)
	s.Reader = oneEntry{entry: entry}
	if found, err := s.Entry(t.Context(), acmeTenant, access.Scope{}, entry.ID); err != nil {
		t.Error(err)
	} else if found.Status != audit.StatusIndexed {
		t.Errorf("%+v", found)
	}
	s.Index = &index{}
	if found, err := s.Entry(t.Context(), acmeTenant, access.Scope{}, entry.ID); err != nil {
		t.Error(err)
	} else if found.Status != audit.StatusStored {
		t.Errorf("not indexed: %+v", found)
	}
	s.Index = &index{contains: true, err: errors.New("down")}
	if found, err := s.Entry(t.Context(), acmeTenant, access.Scope{}, entry.ID); err != nil {
		t.Error(err)
	} else if found.Status != audit.StatusStored {
		t.Errorf("index down: %+v", found)
	}
	if _, err := s.Entry(t.Context(), acmeTenant, access.Scope{Owner: "bob"}, entry.ID); !errors.Is(err, audit.ErrNotFound) {
		t.Errorf("outside the scope: %v", err)
	}
	s.Reader = oneEntry{err: audit.ErrNotFound}
	var notYet *search.NotYetError
	if _, err := s.Entry(t.Context(), acmeTenant, access.Scope{}, entry.ID); !errors.As(err, &notYet) || !errors.Is(err, audit.ErrNotFound) {
		t.Errorf("under way: %v", err)
	}
	old := audit.NewEntryID(noon.Add(-5*time.Minute), [10]byte{1})
	if _, err := s.Entry(t.Context(), acmeTenant, access.Scope{}, old); errors.As(err, &notYet) || !errors.Is(err, audit.ErrNotFound) {
		t.Errorf("five minutes old: %v", err)
	}
}
