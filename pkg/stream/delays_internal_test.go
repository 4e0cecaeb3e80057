package stream

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestDelaysAreThoseOfTheFirstSubscriber(t *testing.T) {
	start := time.Date(2026, 3, 2, 9, 30, 0, 0, time.UTC)
	at := func(seconds float64) time.Time { return start.Add(time.Duration(seconds * float64(time.Second))) }
	var d delays
	d.add(10, at(1), at(0))
	d.add(11, at(1.5), at(0)) // the same second: the longer one counts
	d.add(10, at(20), at(0))  // a slow client
	d.add(11, at(21), at(0))
	d.add(12, at(22), at(25)) // another clock
	if diff := cmp.Diff([]time.Duration{1500 * time.Millisecond, 0}, d.taken()); diff != "" {
		t.Errorf("delays (-want +got):\n%s", diff)
	}
}
