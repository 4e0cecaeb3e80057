package httpapi_test

import (
	"context"
	"fmt"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/ingest"
	"github.com/ocelot-audit/ocelot/pkg/quota"
)

// bulkText is a bulk of n entries.
func bulkText(n int) string {
	return "[" + strings.TrimSuffix(strings.Repeat(`{"user_id":"ann","action":"VIEW","resource_type":"order"},`, n), ",") + "]"
}

func TestOverTheQuotaNothingIsAccepted(t *testing.T) {
	w := newWorld(t)
	w.limit(quota.Limits{Credential: quota.Limit{Rate: 10, Burst: 100}})
	if got := w.call("admin", "POST", "/logs/bulk", bulkText(150), nil); got.status != http.StatusAccepted {
		t.Fatalf("a bulk larger than the burst got %d %s, want 202", got.status, got.body)
	}
	accepted := len(w.standard.take())
	if accepted == 0 {
		t.Fatal("nothing was queued, want the first bulk")
	}
	for target, body := range map[string]string{"/logs": bulkText(1)[1 : len(bulkText(1))-1], "/logs/bulk": bulkText(10)} {
		got := w.call("admin", "POST", target, body, nil)
		if got.status != http.StatusTooManyRequests {
			t.Errorf("POST %s got %d, want 429", target, got.status)
		}
		if want := `"type":"urn:ocelot:problem:quota_exceeded"`; !strings.Contains(got.body, want) {
			t.Errorf("POST %s got %s, want %s in it", target, got.body, want)
		}
		if n := len(w.standard.take()); n != 0 {
			t.Errorf("POST %s queued %d messages, want 0", target, n)
		}
		seconds, err := strconv.Atoi(got.header.Get("Retry-After"))
		if err != nil {
			t.Fatal(err)
		}
		if want := 6; seconds != want { // 50 entries overdrawn, and one to be left
			t.Errorf("POST %s: Retry-After is %d, want %d", target, seconds, want)
		}
		if want, got := fmt.Sprintf(`"credential";r=0;t=%d`, seconds), got.header.Get("RateLimit"); got != want {
			t.Errorf("POST %s: RateLimit is %s, want %s", target, got, want)
		}
	}
	if got := w.call("user", "POST", "/logs", `{"user_id":"ann","action":"VIEW","resource_type":"order"}`, nil); got.status == http.StatusTooManyRequests {
		t.Error("another credential got 429, want its own quota")
	}
	w.advance(6 * time.Second)
	if got := w.call("admin", "POST", "/logs/bulk", bulkText(10), nil); got.status != http.StatusAccepted {
		t.Errorf("after Retry-After it got %d %s, want 202", got.status, got.body)
	}
}

// rateLimitField matches a list of structured fields (RFC 9651) as the draft has them.
var rateLimitField = regexp.MustCompile(`^"tenant";r=\d+;t=[1-9]\d*, "credential";r=\d+;t=[1-9]\d*$`)

func TestEveryAnswerTellsTheQuotas(t *testing.T) {
	w := newWorld(t)
	w.limit(quota.Limits{Standard: quota.Limit{Rate: 1000, Burst: 10_000}, Credential: quota.Limit{Rate: 500, Burst: 700}})
	for body, status := range map[string]int{
		`{"user_id":"ann","action":"VIEW","resource_type":"order"}`:                                    http.StatusAccepted,
		`{"user_id":"ann","action":"VIEW","resource_type":"order","timestamp":"2001-01-01T00:00:00Z"}`: http.StatusOK,
		`{"user_id":"ann"}`: http.StatusUnprocessableEntity,
	} {
		got := w.call("admin", "POST", "/logs", body, nil)
		if got.status != status {
			t.Errorf("%s got %d %s, want %d", body, got.status, got.body, status)
		}
		if text := got.header.Get("RateLimit"); !rateLimitField.MatchString(text) {
			t.Errorf("RateLimit is %s, want %s", text, rateLimitField)
		}
		want := `"tenant";q=10000;qu="entries";w=10, "credential";q=700;qu="entries";w=2`
		if got := got.header.Get("RateLimit-Policy"); got != want {
			t.Errorf("RateLimit-Policy is %s, want %s", got, want)
		}
	}
	if got := w.call("admin", "GET", "/logs", "", nil); got.header.Get("RateLimit") != "" {
		t.Errorf("a search has RateLimit %s, want none", got.header.Get("RateLimit"))
	}
	w.limit(quota.Limits{})
	if got := w.call("admin", "POST", "/logs/bulk", bulkText(2), nil); got.header.Get("RateLimit") != "" {
		t.Errorf("without a quota there is RateLimit %s, want none", got.header.Get("RateLimit"))
	}
}

// TestTheServicesOwnEntriesAreNotRefused changes a tenant whose quota is used up.
func TestTheServicesOwnEntriesAreNotRefused(t *testing.T) {
	w := newWorld(t)
	w.limit(quota.Limits{Credential: quota.Limit{Rate: 1, Burst: 1}})
	w.call("admin", "POST", "/logs/bulk", bulkText(audit.MaxBulkEntries), nil)
	w.standard.take()
	got := w.call("admin", "PATCH", "/tenants/acme", `{"name":"Other"}`, map[string]string{"If-Match": `"1"`, "Content-Type": "application/merge-patch+json"})
	if got.status != http.StatusOK {
		t.Fatalf("the change got %d %s, want 200", got.status, got.body)
	}
	if n := len(w.standard.take()); n != 1 {
		t.Errorf("the change queued %d records, want 1", n)
	}
}

// TestAFullBacklogIsRefused: what is full as a whole is 503, a tenant's share 429.
func TestAFullBacklogIsRefused(t *testing.T) {
	full := &ingest.Backlog{Max: 1, Now: time.Now, Count: func(context.Context) (int64, error) { return 1, nil }}
	for full.Check(t.Context()) == nil {
		time.Sleep(time.Millisecond)
	}
	empty := &ingest.Backlog{Max: 1, Now: time.Now, Count: func(context.Context) (int64, error) { return 0, nil }}
	for name, c := range map[string]struct {
		backlog    *ingest.Backlog
		queue      error
		status     int
		retryAfter string
	}{
		"the whole":         {full, nil, http.StatusServiceUnavailable, "30"},
		"the tenant's part": {empty, audit.ErrBacklog, http.StatusTooManyRequests, "5"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.limit(quota.Limits{Standard: quota.Limit{Rate: 1000, Burst: 1000}})
			w.limiter.WithBacklog(c.backlog)
			w.faults.set("queue", c.queue)
			got := w.call("admin", "POST", "/logs/bulk", bulkText(2), nil)
			if got.status != c.status {
				t.Errorf("got %d %s, want %d", got.status, got.body, c.status)
			}
			if after := got.header.Get("Retry-After"); after != c.retryAfter {
				t.Errorf("Retry-After is %s, want %s", after, c.retryAfter)
			}
			if n := len(w.standard.take()); n != 0 {
				t.Errorf("queued %d messages, want 0", n)
			}
		})
	}
}
