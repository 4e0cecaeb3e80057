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
	counted  audit.StatsRequest
}

func (x *index) Find(_ context.Context, _ audit.TenantID, filter audit.Filter, request audit.PageRequest) (audit.Page, error) {
	x.filter, x.request = filter, request
	return x.page, x.err
}

func (x *index) Stats(_ context.Context, _ audit.TenantID, filter audit.Filter, request audit.StatsRequest) (audit.Stats, error) {
	x.filter, x.counted = filter, request
	return audit.Stats{}, x.err
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
	return &search.Service{Index: x, Cursors: cursor.NewSigner(make([]byte, 32)), TimeZone: time.LoadLocation, Now: func() time.Time { return noon }}
}

// onePage has an entry and says that more follow.
func onePage() audit.Page {
	at := audit.Position{Time: noon, Tie: "7"}
	return audit.Page{Entries: make([]audit.Entry, 1), First: &at, Last: &at, More: true}
}

// wantPages checks whether a list has cursors of a next and a previous page.
func wantPages(t *testing.T, what string, list search.List, next, previous bool) {
	t.Helper()
	if got := list.Next != ""; got != next {
		t.Fatalf("%s: got the next cursor %q, want one: %t", what, list.Next, next)
	}
	if got := list.Prev != ""; got != previous {
		t.Fatalf("%s: got the previous cursor %q, want one: %t", what, list.Prev, previous)
	}
}

func TestCursorsLeadBothWaysAndAreOfTheirListOnly(t *testing.T) {
	x := &index{page: onePage()}
	s := newService(x)
	params := url.Values{"user_id": {"ann"}}
	first, err := s.Find(t.Context(), acmeTenant, access.Scope{}, params)
	if err != nil {
		t.Fatal(err)
	}
	wantPages(t, "first page", first, true, false)
	params.Set("cursor", first.Next)
	second, err := s.Find(t.Context(), acmeTenant, access.Scope{}, params)
	if err != nil {
		t.Fatal(err)
	}
	wantPages(t, "second page", second, true, true)
	if x.request.Backwards {
		t.Fatalf("second page: asked for %+v, want it forwards", x.request)
	}
	if got := x.request.From.Tie; got != "7" {
		t.Fatalf("second page: asked from the tie %q, want %q", got, "7")
	}
	params.Set("cursor", second.Prev)
	x.page.More = false
	back, err := s.Find(t.Context(), acmeTenant, access.Scope{}, params)
	if err != nil {
		t.Fatal(err)
	}
	wantPages(t, "back at the beginning", back, true, false)
	if !x.request.Backwards {
		t.Fatalf("back at the beginning: asked for %+v, want it backwards", x.request)
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
		wantFault(t, "the cursor in "+name, find(), "?cursor")
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
	if !ok {
		t.Fatalf("asked for %#v, want a %T of the query and the scope", x.filter.Where, all)
	}
	if len(all) != 2 {
		t.Fatalf("asked for %#v, want 2 parts, the query and the scope", all)
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
		wantFault(t, "find", err, name)
	}
	for _, groupBy := range []string{"color", "metadata.", `metadata."a`, `metadata.a,metadata."a"`, `"a,b"`} {
		_, err := newService(&index{}).Stats(t.Context(), acmeTenant, access.Scope{}, url.Values{"group_by": {groupBy}})
		wantFault(t, "stats by "+groupBy, err, "?group_by")
	}
	for name, params := range map[string]url.Values{
		"?group_by": {"group_by": {"action,action"}}, "?interval": {"interval": {"5y"}}, "?top": {"top": {"0"}}, "?sort": {"sort": {"-timestamp"}},
	} {
		_, err := newService(&index{}).Stats(t.Context(), acmeTenant, access.Scope{}, params)
		wantFault(t, "stats", err, name)
	}
}

func TestTimeZone(t *testing.T) {
	for _, c := range []struct{ zone, from, to, wantFrom, wantTo string }{
		{"", "2026-03-29", "2026-03-30", "2026-03-29T00:00:00Z", "2026-03-30T00:00:00Z"},
		{"UTC", "2026-03-29", "2026-03-30", "2026-03-29T00:00:00Z", "2026-03-30T00:00:00Z"},
		{"Europe/Berlin", "2026-03-29", "2026-03-30", "2026-03-28T23:00:00Z", "2026-03-29T22:00:00Z"},
		{"Europe/Berlin", "2026-03-29T00:00:00Z", "2026-03-30", "2026-03-29T00:00:00Z", "2026-03-29T22:00:00Z"},
		{"America/Argentina/Buenos_Aires", "2026-03-29", "2026-03-30", "2026-03-29T03:00:00Z", "2026-03-30T03:00:00Z"},
		{"America/Sao_Paulo", "2018-11-04", "2018-11-05", "2018-11-04T03:00:00Z", "2018-11-05T02:00:00Z"}, // no midnight
		{"Pacific/Apia", "2011-12-30", "2011-12-31", "2011-12-30T10:00:00Z", "2011-12-30T10:00:00Z"},      // no such day
		{"Pacific/Kiritimati", "2026-03-29", "2026-03-30", "2026-03-28T10:00:00Z", "2026-03-29T10:00:00Z"},
		{"Etc/GMT+12", "2026-03-29", "2026-03-30", "2026-03-29T12:00:00Z", "2026-03-30T12:00:00Z"},
	} {
		x := &index{}
		params := url.Values{"time_zone": {c.zone}, "from": {c.from}, "to": {c.to}, "interval": {"1d"}}
		if _, err := newService(x).Stats(t.Context(), acmeTenant, access.Scope{}, params); err != nil {
			t.Errorf("%v: %v", params, err)
			continue
		}
		if got := x.filter.From.Format(time.RFC3339); got != c.wantFrom {
			t.Errorf("%v: got from %s, want %s", params, got, c.wantFrom)
		}
		if got := x.filter.To.Format(time.RFC3339); got != c.wantTo {
			t.Errorf("%v: got to %s, want %s", params, got, c.wantTo)
		}
		if got := x.counted.Zone; c.zone != "" && got.String() != c.zone {
			t.Errorf("%v: got the zone %v, want %s", params, got, c.zone)
		}
	}
	for _, name := range []string{
		"Local", "Mars/Olympus", "europe/berlin", "right/Europe/Berlin", "posixrules", "../etc/passwd", "/etc/localtime", "Europe/../Europe/Berlin",
		"Europe", "Europe/", "+01:00", " UTC", "Europe/Berlin\x00", strings.Repeat("A", 5000),
	} {
		_, err := newService(&index{}).Stats(t.Context(), acmeTenant, access.Scope{}, url.Values{"time_zone": {name}})
		wantFault(t, "stats", err, "?time_zone")
	}
	_, err := newService(&index{}).Find(t.Context(), acmeTenant, access.Scope{}, url.Values{"time_zone": {"UTC"}})
	wantFault(t, "find", err, "?time_zone")
}

func TestWhileTheIndexIsDownTheSystemOfRecordAnswers(t *testing.T) {
	down := &audit.UnavailableError{Err: errors.New("down")}
	s := newService(&index{err: down})
	s.Degraded = &index{page: onePage()}
	var log strings.Builder
	s.Log = slog.New(slog.NewTextHandler(&log, nil))
	list, err := s.Find(t.Context(), acmeTenant, access.Scope{}, nil)
	if err != nil {
		t.Error(err)
	}
	if !list.Degraded {
		t.Errorf("got %+v, want a degraded list", list)
	}
	if len(list.Entries) != 1 {
		t.Errorf("got %d entries, want 1", len(list.Entries))
	}
	for _, want := range []string{"tenant=acme", "down"} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("got log %q, want it to contain %q", &log, want)
		}
	}
	s.Degraded = &index{err: down}
	if _, err := s.Find(t.Context(), acmeTenant, access.Scope{}, nil); !errors.Is(err, down) {
		t.Errorf("what nobody can answer: got error %v, want %v", err, down)
	}
	s.Degraded = &index{page: onePage()}
	late, cancel := context.WithCancel(t.Context())
	cancel()
	if list, err := s.Find(late, acmeTenant, access.Scope{}, nil); !errors.Is(err, down) {
		t.Errorf("when the time was over: got %+v and error %v, want %v without a call of the system of record", list, err, down)
	}
	s = newService(&index{err: audit.Invalid("?q", "too_complex", "too complex")})
	s.Degraded = &index{page: onePage()}
	if _, err := s.Find(t.Context(), acmeTenant, access.Scope{}, nil); err == nil {
		t.Error("a faulty query: got no error, want one and no answer of the system of record")
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
		t.Errorf("got status %s, want %s", found.Status, audit.StatusIndexed)
	}
	s.Index = &index{}
	if found, err := s.Entry(t.Context(), acmeTenant, access.Scope{}, entry.ID); err != nil {
		t.Error(err)
	} else if found.Status != audit.StatusStored {
		t.Errorf("not indexed: got status %s, want %s", found.Status, audit.StatusStored)
	}
	s.Index = &index{contains: true, err: errors.New("down")}
	if found, err := s.Entry(t.Context(), acmeTenant, access.Scope{}, entry.ID); err != nil {
		t.Error(err)
	} else if found.Status != audit.StatusStored {
		t.Errorf("index down: got status %s, want %s", found.Status, audit.StatusStored)
	}
	if _, err := s.Entry(t.Context(), acmeTenant, access.Scope{Owner: "bob"}, entry.ID); !errors.Is(err, audit.ErrNotFound) {
		t.Errorf("outside the scope: got error %v, want %v", err, audit.ErrNotFound)
	}
	s.Reader = oneEntry{err: audit.ErrNotFound}
	var notYet *search.NotYetError
	_, err := s.Entry(t.Context(), acmeTenant, access.Scope{}, entry.ID)
	if !errors.As(err, &notYet) {
		t.Errorf("under way: got error %v, want a %T", err, notYet)
	}
	if !errors.Is(err, audit.ErrNotFound) {
		t.Errorf("under way: got error %v, want %v", err, audit.ErrNotFound)
	}
	old := audit.NewEntryID(noon.Add(-5*time.Minute), [10]byte{1})
	_, err = s.Entry(t.Context(), acmeTenant, access.Scope{}, old)
	if errors.As(err, &notYet) {
		t.Errorf("five minutes old: got error %v, want one that is no %T", err, notYet)
	}
	if !errors.Is(err, audit.ErrNotFound) {
		t.Errorf("five minutes old: got error %v, want %v", err, audit.ErrNotFound)
	}
}
