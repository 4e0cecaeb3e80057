package sqlite

import (
	"time"

	"github.com/ocelot-audit/ocelot/pkg/audit"
)

const (
	// forecastEvery is the interval in which a count estimates how long it will take. The first
	// one comes after it.
	forecastEvery = time.Second / 2
	// forecastMargin is by how much an estimate may be wrong: a count that is foreseen to take
	// this many times as long as it may is refused.
	forecastMargin = 1.25
)

// forecast foresees that a count takes longer than audit.MaxStatsTime, so that it is refused
// within a second and does not work in vain.
type forecast struct {
	now   func() time.Time
	began time.Time // of the whole count
	stage time.Time // of its present stage
	next  time.Time // when to estimate again
}

func newForecast(now func() time.Time) *forecast {
	at := now()
	return &forecast{now: now, began: at, stage: at, next: at.Add(forecastEvery)}
}

// begin begins another stage.
func (f *forecast) begin() {
	f.stage = f.now()
	f.next = f.stage.Add(forecastEvery)
}

// due reports whether it is time for another estimate. A nil forecast makes none.
func (f *forecast) due() bool {
	if f == nil {
		return false
	}
	now := f.now()
	if now.Before(f.next) {
		return false
	}
	f.next = now.Add(forecastEvery)
	return true
}

// check returns audit.ErrSlowStats if the stage will take too long, at the rate at which a part
// of its total was done.
func (f *forecast) check(done, total int64) error {
	if done < 1 || done >= total {
		return nil
	}
	took := f.now().Sub(f.stage)
	return f.allow(time.Duration(float64(took) * float64(total-done) / float64(done)))
}

// allow returns audit.ErrSlowStats if what is left takes so long that it must not begin.
func (f *forecast) allow(rest time.Duration) error {
	if left := audit.MaxStatsTime - f.now().Sub(f.began); rest.Seconds() > forecastMargin*left.Seconds() {
		return audit.ErrSlowStats()
	}
	return nil
}

// minForeseen is the number of whole hours from which on a count of blocks is foreseen. Shorter
// ones would take longer with a forecast than without.
const minForeseen = 24

// foreseeable begins a stage and returns how many entries it has in these spans, 0 if it is not
// worth a forecast.
func (s *counter) foreseeable(parts []span) (total int64, err error) {
	if s.forecast == nil {
		return 0, nil
	}
	s.forecast.begin()
	for _, part := range parts {
		if from, to := part.hours(); to-from >= minForeseen {
			return s.entriesIn(parts...)
		}
	}
	return 0, nil
}

// entriesIn counts the tenant's entries in the spans, by roll-ups.
func (s *counter) entriesIn(spans ...span) (n int64, err error) {
	plain := *s
	plain.forecast = nil
	t := newTally(audit.StatsRequest{}, nil, nil)
	for _, part := range spans {
		if err := plain.countSection(t, section{span: part}); err != nil {
			return 0, err
		}
	}
	return t.total, nil
}
