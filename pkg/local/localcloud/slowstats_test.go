package localcloud_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/local/localcloud"
)

// TestHealthDuringSlowStatistics: while ten clients ask for counts of pairs, which take seconds,
// the health endpoint answers 200. It would answer 503 if a check took two seconds.
func TestHealthDuringSlowStatistics(t *testing.T) {
	s := startWith(t, localcloud.Options{Data: t.TempDir(), Log: discard()})
	c := s.tenantAdmin("acme")
	const bulks, perBulk, values, clients = 6, 500, 100, 10
	numbers := make([]int, values) // of an entry: 100 × 100 pairs
	for i := range numbers {
		numbers[i] = i
	}
	array, err := json.Marshal(numbers)
	if err != nil {
		t.Fatal(err)
	}
	for range bulks {
		texts := make([]string, perBulk)
		for i := range texts {
			texts[i] = fmt.Sprintf(`{"user_id":"u","action":"UPDATE","resource_type":"order","metadata":{"a":%s,"b":%s}}`, array, array)
		}
		c.bulk(texts)
	}
	c.eventually(bulks * perBulk)

	statuses := make(chan int, clients)
	for range clients {
		go func() { statuses <- c.do("GET", "/logs/stats?group_by=metadata.a,metadata.b", "", nil).status }()
	}
	checks, counted := 0, 0
	for left := clients; left > 0; {
		select {
		case status := <-statuses:
			left--
			switch status {
			case http.StatusOK:
				counted++
			case http.StatusServiceUnavailable: // others are counted
			default:
				t.Errorf("statistics got status %d, want 200 or 503", status)
			}
		case <-time.After(20 * time.Millisecond):
			checks++
			if got := s.as("", "").do("GET", "/health", "", nil); got.status != http.StatusOK {
				t.Errorf("health got status %d, want 200: %s", got.status, got.body)
			}
		}
	}
	if counted == 0 {
		t.Error("no statistics were counted, want at least those of one client")
	}
	if least := 10; checks < least {
		t.Errorf("checked the health %d times while statistics were counted, want at least %d", checks, least)
	}
}
