package stream

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestDelaysAreThoseOfTheFirstSubscriber(t *testing.T) {
	start := time.Date(2026, 3, 2, 9, 30, 0, 0, time.UTC)
	at := func(seconds float64) time.Time { return start.Add(time.Duration(seconds * float64(time.Second))) }
	var d delivery
	add := func(place int64, sent, received float64) {
		d.add(&entriesFrame{last: place, received: at(received)}, 9, at(sent))
	}
	add(8, 1, 0) // missed before the subscription
	add(10, 1, 0)
	add(11, 1.5, 0) // the same second: the longer one counts
	add(10, 20, 0)  // a slow client
	add(11, 21, 0)
	add(12, 22, 25) // another clock
	if diff := cmp.Diff([]time.Duration{1500 * time.Millisecond, 0}, d.delays); diff != "" {
		t.Errorf("delays (-want +got):\n%s", diff)
	}
	if got, want := [3]int64{int64(d.frames), d.first, d.last}, [3]int64{6, 8, 12}; got != want {
		t.Errorf("got frames, first and last place %v, want %v", got, want)
	}
}
