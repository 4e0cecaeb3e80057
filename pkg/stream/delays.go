package stream

import (
	"sync"
	"time"
)

// delays measures a pump's delivery: for each second, the longest time from the receipt of an
// entry until the first subscriber got it. A slow client counts only if nobody else got the
// entry before. What a client missed before it subscribed does not count.
type delays struct {
	mu     sync.Mutex
	place  int64 // up to which some subscriber has the entries
	second int64 // of the last value
	values []time.Duration
}

// add notes that a subscriber got a frame. place is that of its last entry, received when the
// service received that entry.
func (d *delays) add(place int64, now, received time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if place <= d.place {
		return
	}
	d.place = place
	delay := max(0, now.Sub(received)) // clocks differ
	if last := len(d.values) - 1; last >= 0 && d.second == now.Unix() {
		d.values[last] = max(d.values[last], delay)
		return
	}
	d.second, d.values = now.Unix(), append(d.values, delay)
}

// taken returns the values.
func (d *delays) taken() []time.Duration {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.values
}
