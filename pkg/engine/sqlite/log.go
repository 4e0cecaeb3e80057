package sqlite

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/backoff"
)

// The writer truncates the write-ahead log itself if readers keep SQLite from doing so, and to erase removed
// records. Writers wait meanwhile, so it waits for readers only for a moment. A read that takes seconds is not
// waited for. If the log cannot be truncated for long, long reads wait before they begin. Only if even that does
// not help and the disk gets scarce, writers wait for readers.
const (
	// maxLogBytes is the size from which on the writer truncates the log. It checks the size every
	// logCheckEvery groups, and from urgentLogBytes on after each group.
	maxLogBytes    = 192 << 20
	urgentLogBytes = 320 << 20
	logCheckEvery  = 8
	// askLogBytes is the size from which on the checkpointer is asked once in askEvery: either other processes
	// write to a shared file too, or checkpoints fail.
	askLogBytes = 64 << 20
	askEvery    = time.Second
	// heldLogBytes is the size from which on long reads wait.
	heldLogBytes = 1 << 30
	// scarceLogBytes is the size from which on writers wait for readers, and scarceFree is the free space
	// below which they do.
	scarceLogBytes = 2 << 30
	scarceFree     = 4 * minFree
	// eraseRetry is the time between attempts to erase the log.
	eraseRetry = time.Second
	// maxLogBehind is how much of the log may not be copied yet when the writer truncates it. It copies the rest
	// itself. If there is more, a read lasts for long, or the checkpointer copies after one.
	maxLogBehind = 128 << 20

	// eraseLogDelay lets the removals that follow each other be erased together. While they go on, the
	// log is erased each maxEraseDelay: writers wait for it, and then for the file to be synchronized.
	eraseLogDelay = 500 * time.Millisecond
	maxEraseDelay = 20 * time.Second
	// eraseCopyTime is how long the checkpointer gets for copying the log before.
	eraseCopyTime = 200 * time.Millisecond
	// eraseOverdue is how long attempts fail until long reads wait.
	eraseOverdue = 30 * time.Second
	// eraseLogNowWait bounds the wait of eraseLogNow for readers. Writers wait as long.
	eraseLogNowWait = 500 * time.Millisecond
	// checkpointWait is how long one checkpoint waits for readers. See truncateLog.
	checkpointWait = 100 * time.Millisecond
	// truncatePause is the time between two attempts.
	truncatePause = 5 * time.Millisecond

	// holdTime bounds how long long reads wait: statistics end meanwhile. If that does not help, they do not
	// wait again within holdEvery: what holds the log may be another process.
	holdTime  = audit.MaxStatsTime + 2*time.Second
	holdEvery = 2 * time.Minute
)

var (
	// limitWaits bound the waits of the attempts for readers that are made for the size of the log. Two reads of
	// 0.2 seconds, of which one begins shortly before the other ends, need two such times. limitPauses are the
	// times between attempts.
	limitWaits  = backoff.Policy{First: 250 * time.Millisecond, Max: 500 * time.Millisecond}
	limitPauses = backoff.Policy{First: 250 * time.Millisecond, Max: 10 * time.Second}
	// eraseWaits bound the waits of the attempts to erase the log.
	eraseWaits = backoff.Policy{First: 50 * time.Millisecond, Max: 250 * time.Millisecond}
)

// logLimits is what the writer knows of the write-ahead log.
type logLimits struct {
	groups    int       // since the start
	urgent    bool      // it had urgentLogBytes at the last check
	askedAt   time.Time // when the checkpointer was asked for its size
	failed    int       // attempts for its size since it was last truncated
	nextAt    time.Time // the time of the next one, at the earliest
	heldAt    time.Time // when long reads had to wait, the last time
	heldUntil time.Time

	eraseAt    time.Time // when to erase removed records from it; zero: it has none
	eraseLast  time.Time // when to erase them although more are removed
	eraseSince time.Time // when the first attempt failed
	copied     bool      // whether it was copied for this
	tries      int       // attempts that failed since it was last erased
	askedFor   int64     // the last round for which eraseLogNow failed; 0: none
	erasedFor  int64     // the one for which it was erased later
}

// eraseLogSoon makes the writer erase the log. The log has copies of the pages from which
// records were removed.
func (w *writer) eraseLogSoon() {
	now := time.Now()
	if w.log.eraseAt.IsZero() {
		w.log.eraseLast, w.log.copied = now.Add(maxEraseDelay), false
	}
	if w.log.eraseAt = now.Add(eraseLogDelay); w.log.eraseAt.After(w.log.eraseLast) {
		w.log.eraseAt = w.log.eraseLast
	}
}

// eraseRequest asks the writer to erase the log for a round of FreeSpace. Nothing is removed in the round any more.
type eraseRequest struct {
	round  int64
	erased chan bool
}

// eraseLogNow erases the log for a round. It reports false if readers prevent it. The writer then goes on trying,
// and a later call with the round reports its success.
func (w *writer) eraseLogNow(ctx context.Context, round int64) (erased bool, err error) {
	request := eraseRequest{round, make(chan bool, 1)}
	select {
	case w.erasures <- request:
	case <-ctx.Done():
		return false, ctx.Err()
	case <-w.closing:
		return false, errClosed
	}
	return <-request.erased, nil
}

// eraseLogFor is eraseLogNow on the writer's goroutine.
func (w *writer) eraseLogFor(round int64) (erased bool) {
	if w.log.erasedFor == round || w.truncateLog(eraseLogNowWait) {
		return true
	}
	w.log.askedFor = round
	w.eraseLogSoon()
	return false
}

// eraseLogIfDue erases the log if its time has come. The checkpointer copies most of it before, so that
// writers wait little. A reader can prevent it, which is tried again then.
func (w *writer) eraseLogIfDue() {
	now := time.Now()
	l := &w.log
	switch {
	case l.eraseAt.IsZero() || now.Before(l.eraseAt):
	case w.checkpoint.running.Load():
		l.eraseAt = now.Add(truncatePause)
	case !l.copied:
		w.checkpoint.ask()
		l.copied, l.eraseAt = true, now.Add(eraseCopyTime)
		l.eraseLast = l.eraseAt
	case w.checkpoint.behind() <= maxLogBehind && w.truncateLog(eraseWaits.Delay(l.tries+1)):
	default:
		if l.tries++; l.tries == 1 {
			l.eraseSince = now
		}
		if now.Sub(l.eraseSince) >= eraseOverdue {
			w.holdReads(now)
		}
		l.eraseAt = time.Now().Add(eraseRetry)
		l.eraseLast, l.copied = l.eraseAt, false
	}
}

// limitLog truncates the log if it has reached maxLogBytes. It must be called after each group. On failure a later
// call tries again.
func (w *writer) limitLog() {
	l := &w.log
	if l.groups++; l.groups%logCheckEvery != 0 && !l.urgent {
		return
	}
	info, err := os.Stat(w.path + "-wal")
	if err != nil {
		l.urgent = false
		return
	}
	now, size := time.Now(), info.Size()
	l.urgent = size >= urgentLogBytes
	if size >= askLogBytes && now.Sub(l.askedAt) >= askEvery {
		l.askedAt = now
		w.checkpoint.ask()
	}
	if size >= heldLogBytes {
		w.holdReads(now)
	}
	switch {
	case size < maxLogBytes:
	case size >= scarceLogBytes || w.isDiskScarce():
		w.truncateLog(w.busy)
	case now.Before(l.nextAt) || w.checkpoint.behind() > maxLogBehind:
	case !w.truncateLog(limitWaits.Delay(l.failed + 1)):
		l.failed++
		l.nextAt = time.Now().Add(limitPauses.Delay(l.failed))
	}
}

// isDiskScarce reports whether the log takes space that may be needed.
func (w *writer) isDiskScarce() bool {
	free, err := freeBytes(filepath.Dir(w.path))
	return err == nil && free < scarceFree // CheckSpace reports the error
}

// holdReads has long reads wait, so that those end that keep the log from being truncated.
func (w *writer) holdReads(now time.Time) {
	if now.Sub(w.log.heldAt) < holdEvery {
		return
	}
	w.log.heldAt, w.log.heldUntil = now, now.Add(holdTime)
	for _, r := range w.longReads {
		r.pause(holdTime)
	}
}

// truncateLog copies the log into the file and truncates it. It reports whether it has
// done so. It waits for current readers, for the given time at most, and lets no long read begin meanwhile.
//
// It makes several short attempts. A checkpoint waits for the lock of each old reader, and a
// new reader can take the same lock over, for which the checkpoint waits in vain. The next
// attempt sees that the new reader needs only the end of the log. No write comes between two
// attempts, so once the log is copied, new readers no longer need it.
func (w *writer) truncateLog(wait time.Duration) (truncated bool) {
	if err := w.setBusyTimeout(min(wait, checkpointWait)); err != nil {
		return false
	}
	held := time.Now().Before(w.log.heldUntil)
	if !held {
		for _, r := range w.longReads {
			r.pause(holdTime)
		}
	}
	for end := time.Now().Add(wait); ; {
		busy := int64(1)
		err := w.conn.row(context.Background(), `PRAGMA wal_checkpoint(TRUNCATE)`, nil, []any{&busy, new(int64), new(int64)})
		truncated = err == nil && busy == 0
		w.checkpoint.note(err)
		if truncated || err != nil || !time.Now().Before(end) {
			break
		}
		time.Sleep(truncatePause) // while the checkpointer works, an attempt ends at once
	}
	if resetErr := w.setBusyTimeout(w.busy); resetErr != nil {
		_ = w.conn.close() // the next statement connects with the usual timeout
	}
	if truncated || !held {
		for _, r := range w.longReads {
			r.resume()
		}
	}
	if truncated {
		w.checkpoint.left.Store(0)
		w.log.heldUntil, w.log.erasedFor = time.Time{}, w.log.askedFor
		w.log.failed = 0
		w.log.eraseAt, w.log.tries = time.Time{}, 0 // nothing is left to erase
	}
	return truncated
}

func (w *writer) setBusyTimeout(d time.Duration) error {
	if err := w.conn.connect(); err != nil {
		return err
	}
	_, err := w.conn.link.ExecContext(context.Background(), fmt.Sprintf("PRAGMA busy_timeout = %d", d.Milliseconds()))
	return err
}
