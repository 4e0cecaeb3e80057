package sqlite

import (
	"path/filepath"
	"testing"
	"time"
)

// TestNothingToEraseNeedsNoMerger: a merger that is in a merge answers late.
func TestNothingToEraseNeedsNoMerger(t *testing.T) {
	db := openMerged(t, filepath.Join(t.TempDir(), "o.db"))
	db.stopMergers()
	for _, m := range db.mergers {
		<-m.ended
	}
	done, err := db.FreeSpace().Erase(t.Context(), 1)
	if err != nil {
		t.Fatal(err)
	}
	if !done {
		t.Error("there is something to erase, want nothing")
	}
}

// TestALapWaitsForRemovals: for a moment, but not for as long as they go on, nor until a clock that was set back has
// caught up.
func TestALapWaitsForRemovals(t *testing.T) {
	for name, c := range map[string]struct {
		age  time.Duration // of the last removal
		wait time.Duration // since the lap was asked for
		want bool
	}{
		"a removal just now":          {want: false},
		"a removal long ago":          {age: time.Hour, want: true},
		"removals that go on":         {wait: maxUnsettled, want: true},
		"the clock has been set back": {age: -time.Hour, want: true},
	} {
		t.Run(name, func(t *testing.T) {
			db := openMerged(t, filepath.Join(t.TempDir(), "o.db"))
			if err := db.write(t.Context(), (*batch).scrubSoon); err != nil {
				t.Fatal(err)
			}
			db.writer.removedAt.Store(time.Now().Add(-c.age).UnixMilli())
			if c.wait > 0 {
				db.laps.wantedAt = time.Now().Add(-c.wait)
			}
			done, err := db.FreeSpace().Erase(t.Context(), 1)
			if err != nil {
				t.Fatal(err)
			}
			if done {
				t.Error("the step says that all is erased, want more to do")
			}
			if got := db.laps.current.removal != 0; got != c.want {
				t.Errorf("the lap has begun: %t, want %t", got, c.want)
			}
		})
	}
}
