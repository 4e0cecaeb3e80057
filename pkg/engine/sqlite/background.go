package sqlite

import (
	"context"
	"time"
)

// Removals, changes of many stored entries and the erasing of free space are work in the background: nobody
// waits for it. It is done in many short operations, so that the operations of others, which wait for the
// current one, take little longer. While others write, a pause follows each operation, so that most of them
// meet none.

// work is a kind of work in the background.
type work int

const (
	workRemove work = iota // its parts are entries
	workChange             // entries that are marked, or changed
	workMerge              // pages of the full-text index
	workErase              // pages whose free part is erased
	workShrink             // pages of the file that are given back
	workJoin               // blocks of facets, a few in each operation
	works                  // the number of kinds
)

const (
	// leastParts and mostParts are how many parts of its work an operation of the background does.
	leastParts, mostParts = 16, 500
	// leastChanges is leastParts for entries that are marked. A commit takes longer than so many of them.
	leastChanges = 100
	// firstParts is how many parts the first operation of each kind does.
	firstParts = 16
	// idleTime is how long after a write of others an operation of the background may be long.
	idleTime = time.Second
	// idleOperation is how long an operation takes then, about.
	idleOperation = 10 * time.Millisecond
	// firstOperation is how long an operation of others takes, until one was measured.
	firstOperation = time.Millisecond
	// leastOperation is the shortest aim for an operation of the background. Its commit alone takes
	// about as long.
	leastOperation = time.Millisecond
	// removalPause is the pause after an operation, in terms of its duration: beside others, removals get a third of
	// the time.
	removalPause = 2
	// maxBackgroundPause bounds a pause. Removals must keep up with what is accepted: with leastParts, an
	// operation of 10 ms and this pause they do at least 500 entries a second.
	maxBackgroundPause = 20 * time.Millisecond
)

// pace decides how much work in the background is done, and when. Only the writer uses it.
type pace struct {
	others     time.Duration // how long a commit of others takes, about
	othersAt   time.Time     // the last one
	resumeAt   time.Time     // when the background may continue
	partsOfAll [works]float64
	usual      [works]time.Duration // how long an operation takes, about
	spread     [works]time.Duration // how far from that most are
}

func newPace() pace {
	p := pace{others: firstOperation}
	for i := range p.partsOfAll {
		p.partsOfAll[i] = firstParts
	}
	return p
}

// idle reports whether nobody else writes.
func (p *pace) idle(now time.Time) bool { return now.Sub(p.othersAt) > idleTime }

// parts returns how many parts the next operation of a kind should do.
func (p *pace) parts(of work) int { return int(p.partsOfAll[of]) }

// noteOthers learns from a group of others.
func (p *pace) noteOthers(began, ended time.Time) {
	p.others += (min(ended.Sub(began), idleOperation) - p.others) / 8
	p.othersAt = ended
}

// note learns from an operation of the background, and decides on the pause after it.
func (p *pace) note(of work, began, ended time.Time) {
	took, aim := ended.Sub(began), max(p.others, leastOperation)
	if p.idle(ended) {
		aim = idleOperation
	}
	factor, least := min(max(float64(aim)/float64(max(took, 1)), 0.5), 1.5), float64(leastParts)
	if of == workChange {
		least = leastChanges
	}
	p.partsOfAll[of] = min(max(p.partsOfAll[of]*factor, least), mostParts)
	pause := removalPause * took
	if of == workMerge {
		pause = took // merges must keep up with bulks
	}
	switch {
	case p.idle(ended):
		pause = 0
	case took > max(3*aim, p.usual[of]+4*p.spread[of]): // on a busy machine many take long
		pause = maxBackgroundPause
	}
	off := took - p.usual[of]
	p.usual[of] += off / 8
	p.spread[of] += (max(off, -off) - p.spread[of]) / 4
	p.resumeAt = ended.Add(min(pause, maxBackgroundPause))
}

// writeInBackground does n parts of a kind of work. step does those from ≤ part < to, in one operation
// for as many as the pace allows. After an error some of them may be done.
func (db *DB) writeInBackground(ctx context.Context, of work, n int, step func(b *batch, from, to int) error) error {
	for from, to := 0, 0; from < n; from = to {
		err := db.backgroundStep(ctx, of, func(b *batch, parts int) error {
			to = min(n, from+parts) // the operation may be run again
			return step(b, from, to)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// backgroundStep does one operation in the background, of about so many parts.
func (db *DB) backgroundStep(ctx context.Context, of work, step func(b *batch, parts int) error) error {
	return db.writeTo(ctx, db.writer.background, &operation{background: true, work: of, run: func(b *batch) error {
		return step(b, b.writer.pace.parts(of))
	}})
}

// yieldToOthers waits while others write, for as long as some reading took at most, so that it takes
// little of their processor time.
func (db *DB) yieldToOthers(ctx context.Context, took time.Duration) {
	if time.Since(time.UnixMilli(db.writer.othersAt.Load())) > idleTime {
		return
	}
	select {
	case <-ctx.Done():
	case <-time.After(took):
	}
}
