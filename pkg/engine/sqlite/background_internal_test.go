package sqlite

import (
	"testing"
	"time"
)

func TestPaceOfTheBackground(t *testing.T) {
	now := time.Unix(1_000_000, 0)
	const short, long = 2 * time.Millisecond, 30 * time.Millisecond
	// run has operations of others and of the background alternate. Each part of the background takes
	// 0.1 ms.
	run := func(p *pace, others bool) {
		for range 100 {
			if others {
				p.noteOthers(now, now.Add(short))
				now = now.Add(short)
			}
			ended := now.Add(time.Duration(p.parts(workRemove)) * 100 * time.Microsecond)
			p.note(workRemove, now, ended)
			now = ended
		}
	}
	busy := newPace()
	run(&busy, true)
	if got, want := busy.parts(workRemove), 20; got < want-4 || got > want+4 {
		t.Errorf("an operation beside others has %d parts, want about %d, which take as long as those of others", got, want)
	}
	if got, want := busy.resumeAt.Sub(now), removalPause*short; got < want/2 || got > 2*want {
		t.Errorf("the pause after an operation is %s, want about %s", got, want)
	}
	merging := busy
	merging.note(workMerge, now, now.Add(short))
	if got, want := merging.resumeAt.Sub(now.Add(short)), short; got != want {
		t.Errorf("the pause after a step of a merge is %s, want %s", got, want)
	}
	busy.note(workRemove, now, now.Add(long))
	if got, want := busy.resumeAt.Sub(now.Add(long)), maxBackgroundPause; got != want {
		t.Errorf("the pause after a long operation is %s, want %s", got, want)
	}
	now = now.Add(long + 2*idleTime)
	run(&busy, false)
	if got, want := busy.parts(workRemove), 100; got < want-20 || got > want+20 {
		t.Errorf("an operation has %d parts while nobody writes, want about %d", got, want)
	}
	if !busy.resumeAt.Equal(now) {
		t.Errorf("the pause after an operation is %s while nobody writes, want none", busy.resumeAt.Sub(now))
	}
	slow := newPace()
	for range 100 {
		slow.noteOthers(now, now.Add(short))
		slow.note(workMerge, now, now.Add(long))
		now = now.Add(long)
	}
	if got, want := slow.parts(workMerge), leastParts; got != want {
		t.Errorf("an operation of slow parts has %d, want %d", got, want)
	}
	if got, want := slow.resumeAt.Sub(now), maxBackgroundPause; got != want {
		t.Errorf("the pause between operations that all take long is %s, want %s", got, want)
	}
}

// TestAPauseAlwaysEnds: at each moment the background may continue, or a timer wakes the writer for it.
func TestAPauseAlwaysEnds(t *testing.T) {
	resumeAt := time.Now().Add(time.Hour)
	w := &writer{background: make(chan *operation), pace: newPace()}
	w.pace.resumeAt = resumeAt
	for _, off := range []time.Duration{-time.Millisecond, -1, 0, 1, time.Millisecond} {
		now := resumeAt.Add(off)
		if w.backgroundIfDue(now) == nil && w.timer(now) == nil {
			t.Errorf("%s after the end of a pause nothing ends it", off)
		}
	}
}
