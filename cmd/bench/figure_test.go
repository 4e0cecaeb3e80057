package main

import (
	"strings"
	"testing"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/cost"
)

func TestQuantile(t *testing.T) {
	for _, c := range []struct {
		values []time.Duration
		q      float64
		want   time.Duration
	}{
		{[]time.Duration{7}, 0.5, 7},
		{[]time.Duration{3, 1, 2}, 0.5, 2},
		{[]time.Duration{5, 4, 3, 2, 1}, 0, 1},
		{[]time.Duration{5, 4, 3, 2, 1}, 1, 5},
		{[]time.Duration{5, 4, 3, 2, 1}, 0.99, 5},
	} {
		if got := quantile(c.values, c.q); got != c.want {
			t.Errorf("quantile %v of %v is %d, want %d", c.q, c.values, got, c.want)
		}
	}
}

func TestTableTellsWhatIsNotHeld(t *testing.T) {
	got := table([]figure{
		atMost("at the bound", "%.1f", 2, 2, ""), atMost("over it", "%.1f", 2.1, 2, ""),
		atLeast("enough", "%.0f", 4000, 4000, ""), atLeast("too little", "%.0f", 3999, 4000, ""),
		noBound("without", "", "%d", 1),
	})
	want := `
| figure | measured | bound | held |
|---|---|---|---|
| at the bound | 2.0 | ≤ 2.0 | yes |
| over it | 2.1 | ≤ 2.0 | **no** |
| enough | 4000 | ≥ 4000 | yes |
| too little | 3999 | ≥ 4000 | **no** |
| without | 1 |  |  |
`
	if want := strings.TrimPrefix(want, "\n"); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestThousands(t *testing.T) {
	for n, want := range map[int]string{0: "0", 999: "999", 1000: "1,000", 100_000: "100,000", 1_000_000: "1,000,000"} {
		if got := thousands(n); got != want {
			t.Errorf("%d is %s, want %s", n, got, want)
		}
	}
}

// SQS bills a request for each 64 KB that is begun, of sending and of receiving.
func TestWholeWay(t *testing.T) {
	for _, c := range []struct {
		sizes []int
		want  float64
	}{
		{nil, 0},
		{[]int{1}, 2 * 3}, // sent, received, deleted, on two queues
		{[]int{cost.SQSChunk, cost.SQSChunk}, 2 * 5}, // two sent, two chunks received, one delete
		{[]int{cost.SQSChunk + 1}, 2 * 5},
		{make([]int, 20), 2 * 2}, // nothing but two deletes on each
	} {
		if got := wholeWay(c.sizes); got != c.want {
			t.Errorf("%d messages: %v requests, want %v", len(c.sizes), got, c.want)
		}
	}
}

// The bounds are for entries of one KB.
func TestCorpusMakesEntriesOfOneKB(t *testing.T) {
	entries := newCorpus(1)
	size := 0
	for range 1000 {
		size += len(entries.entry())
	}
	if mean := size / 1000; mean < 900 || mean > 1150 {
		t.Errorf("an entry has %d bytes on average, want 900 to 1150", mean)
	}
}
