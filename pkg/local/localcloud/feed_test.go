package localcloud_test

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/access"
)

type feedAnswer struct {
	Items []struct {
		ResourceID string `json:"resource_id"`
	}
	Next string
	More bool
}

func (c caller) feed(query url.Values) feedAnswer {
	c.t.Helper()
	got := c.get("/logs/feed", query)
	if got.status != http.StatusOK {
		c.t.Fatalf("feed: got status %d, want %d: %s", got.status, http.StatusOK, got.body)
	}
	var f feedAnswer
	got.decode(c.t, &f)
	if f.Next == "" {
		c.t.Fatal("the feed has no next, want one")
	}
	return f
}

// walk follows the feed until it has seen n entries, and then to the end of the log. It returns
// how often it saw each resource. It gives up when no new entry comes for a minute.
func (c caller) walk(query url.Values, n int) map[string]int {
	c.t.Helper()
	seen := map[string]int{}
	var deadline time.Time
	for {
		page := c.feed(query)
		for _, item := range page.Items {
			seen[item.ResourceID]++
		}
		if len(page.Items) > 0 || deadline.IsZero() {
			deadline = time.Now().Add(time.Minute)
		}
		query.Set("cursor", page.Next)
		switch {
		case page.More:
		case len(seen) >= n:
			return seen
		case time.Now().After(deadline):
			c.t.Fatalf("the feed has %d entries, want %d", len(seen), n)
		default:
			time.Sleep(20 * time.Millisecond)
		}
	}
}

// TestEndToEndFeed: while clients write, a reader gets each entry once. Some entries are late, and
// all clients send the same ones at the same time.
func TestEndToEndFeed(t *testing.T) { everyWay(t, feedHasEachEntryOnce) }

func feedHasEachEntryOnce(t *testing.T, start starter) {
	const clients, requests, size, common = 4, 8, 40, 50
	s := start(t, t.TempDir())
	acme, other := s.tenantAdmin("acme"), s.tenantAdmin("other")
	other.bulk([]string{entryText(0)})
	var running sync.WaitGroup
	for client := range clients {
		running.Go(func() {
			var shared []string
			for n := range common {
				shared = append(shared, feedEntry(1_000_000+n, n))
			}
			for r := range requests {
				var entries []string
				for i := range size {
					n := (client*requests+r)*size + i
					entries = append(entries, feedEntry(n, n))
				}
				acme.bulk(entries)
				if r%4 == 1 {
					acme.bulk(shared)
				}
			}
		})
	}
	const total = clients*requests*size + common
	seen := acme.walk(url.Values{"limit": {"77"}}, total)
	running.Wait()
	acme.indexed(total)
	for resource, times := range acme.walk(url.Values{"limit": {"1000"}}, total) {
		if times != 1 {
			t.Errorf("%s came %d times from the beginning, want once", resource, times)
		}
		if seen[resource] != 1 {
			t.Errorf("%s came %d times while others wrote, want once", resource, seen[resource])
		}
	}
	if len(seen) != total {
		t.Errorf("the feed had %d entries, want %d", len(seen), total)
	}
	feedNarrows(t, acme)
}

// indexed waits until the index has n entries, so that the queues are likely to be empty. Unlike
// eventually, it waits for an index that is too busy to answer.
func (c caller) indexed(n int) {
	c.t.Helper()
	for deadline := time.Now().Add(120 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		got := c.get("/logs/stats", nil)
		var s statsAnswer
		if got.status == http.StatusOK {
			if got.decode(c.t, &s); s.Total == n {
				return
			}
		}
		if time.Now().After(deadline) {
			c.t.Fatalf("the index has %d entries (status %d), want %d: %s", s.Total, got.status, n, got.body)
		}
	}
}

// feedEntry is an entry that is n days old, up to a year.
func feedEntry(number, days int) string {
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC).AddDate(0, 0, -days%365)
	return fmt.Sprintf(`{"user_id":"user-%d","action":"UPDATE","resource_type":"order","resource_id":"order-%d","timestamp":%q,"idempotency_key":"k-%d"}`,
		number%10, number, at.Format(time.RFC3339), number)
}

// feedNarrows: filters, a user's own entries, the end of the log, and a foreign cursor.
func feedNarrows(t *testing.T, acme caller) {
	t.Helper()
	user := acme.as(acme.roleToken("acme", access.RoleUser, "user-7"), "acme")
	for what, got := range map[string]map[string]int{
		"own":      user.walk(url.Values{"limit": {"1000"}}, 0),
		"filtered": acme.walk(url.Values{"limit": {"1000"}, "user_id": {"user-7"}}, 0),
	} {
		if want := (4*8*40 + 50) / 10; len(got) != want {
			t.Errorf("%s: %d entries, want %d", what, len(got), want)
		}
		for resource := range got {
			number, err := strconv.Atoi(strings.TrimPrefix(resource, "order-"))
			if err != nil || number%10 != 7 {
				t.Errorf("%s: got %s, want entries of user-7", what, resource)
			}
		}
	}
	end := acme.feed(url.Values{"cursor": {"now"}})
	if len(end.Items) > 0 {
		t.Errorf("from now: %d entries, want 0", len(end.Items))
	}
	acme.bulk([]string{feedEntry(2_000_000, 300)})
	if got := acme.walk(url.Values{"cursor": {end.Next}}, 1); !slices.Equal(keysOf(got), []string{"order-2000000"}) {
		t.Errorf("after the end came %v, want order-2000000", got)
	}
	other := acme.as(acme.roleToken("other", access.RoleAdmin, "a"), "other")
	if got := other.get("/logs/feed", url.Values{"cursor": {end.Next}}); got.status != http.StatusUnprocessableEntity {
		t.Errorf("a foreign cursor: got status %d, want %d", got.status, http.StatusUnprocessableEntity)
	}
}

func keysOf(seen map[string]int) (keys []string) {
	for key := range seen {
		keys = append(keys, key)
	}
	return keys
}
