package sqlite

import (
	"context"
	"errors"
	"runtime"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/panics"
)

// Bounds of one group commit. They bound the wait of its first operation while
// others keep arriving.
const (
	maxGroup     = 256
	maxGroupTime = 20 * time.Millisecond
)

// commitGroup runs the operation, and those that arrive meanwhile, in one
// transaction. If one fails, which is rare, it runs all of them again with a
// savepoint each, so that only that one fails. It does not use savepoints at
// first, because each would need a segment of the full-text index.
func (w *writer) commitGroup(first *operation) {
	began := time.Now()
	defer func() { w.notePace(first, began) }()
	ops, failed, err := w.runGroup(first)
	if failed && len(ops) > 1 {
		w.runSeparately(ops)
	} else {
		for _, op := range ops {
			op.done <- err
		}
	}
	w.limitLog()
	w.checkpoint.committed(w.conn.takeWritten())
	w.checkpoint.finish(&w.conn)
}

// notePace learns from a group how long the operations of others and of the background take.
func (w *writer) notePace(first *operation, began time.Time) {
	ended := time.Now()
	if first.background {
		w.pace.note(first.work, began, ended)
		return
	}
	w.pace.noteOthers(began, ended)
	w.othersAt.Store(ended.UnixMilli())
}

// runGroup runs and commits the operations. It answers all of them on success, and
// returns no operation then. Otherwise it returns them with an error: of the last
// operation if failed is true, of the transaction if not.
func (w *writer) runGroup(first *operation) (ops []*operation, failed bool, err error) {
	b := &batch{conn: &w.conn, writer: w}
	start := time.Now()
	err = w.begin()
	var rejected []*unchangedError
	for op := first; op != nil; op = w.nextOperation(len(ops), start) {
		if !op.claimed.CompareAndSwap(false, true) {
			continue
		}
		ops = append(ops, op)
		if err != nil {
			return ops, false, err
		}
		var r *unchangedError
		switch opErr := recovered(func() error { return op.run(b) }); {
		case errors.As(opErr, &r):
		case opErr != nil:
			w.rollback()
			return ops, true, opErr
		}
		rejected = append(rejected, r)
	}
	if err == nil {
		if err = recovered(b.flush); err != nil {
			w.rollback()
			return ops, true, err
		}
		err = w.commit()
	}
	if err != nil {
		return ops, false, err
	}
	for i, op := range ops {
		if rejected[i] != nil {
			op.done <- rejected[i].err
		} else {
			op.done <- nil
		}
	}
	return nil, false, nil
}

// nextOperation returns another operation for a group that has a number of them. It
// returns nil if none is waiting or the group has reached a bound.
func (w *writer) nextOperation(size int, start time.Time) *operation {
	if size >= maxGroup || time.Since(start) > maxGroupTime {
		return nil
	}
	if op := w.waitingOperation(); op != nil {
		return op
	}
	runtime.Gosched() // lets callers that just got a result send their next operation
	return w.waitingOperation()
}

func (w *writer) waitingOperation() *operation {
	select {
	case op := <-w.operations:
		return op
	default:
	}
	select {
	case op := <-w.large:
		return op
	default:
		return nil
	}
}

// runSeparately runs each operation with a savepoint and answers all of them.
func (w *writer) runSeparately(ops []*operation) {
	results := make([]error, len(ops))
	err := w.begin()
	for i := 0; err == nil && i < len(ops); i++ {
		results[i], err = w.runWithSavepoint(ops[i])
	}
	if err == nil {
		err = w.commit()
	} else {
		w.rollback()
	}
	for i, op := range ops {
		if err != nil {
			op.done <- err
			continue
		}
		op.done <- results[i]
	}
}

// runWithSavepoint returns the operation's result. err is an error of the whole transaction.
func (w *writer) runWithSavepoint(op *operation) (result, err error) {
	if err := w.conn.run(`SAVEPOINT operation`); err != nil {
		return nil, err
	}
	b, fresh, changes := &batch{conn: &w.conn, writer: w}, len(w.fresh), len(w.undo)
	result = recovered(func() error { return op.run(b) })
	if result == nil {
		result = recovered(b.flush)
	}
	if result != nil {
		w.forget()
		w.fresh = w.fresh[:fresh]
		w.undoTo(changes)
		if err := w.conn.run(`ROLLBACK TO operation`); err != nil {
			return nil, err
		}
	}
	var r *unchangedError
	if errors.As(result, &r) {
		result = r.err
	}
	return result, w.conn.run(`RELEASE operation`)
}

// recovered returns a panic of f as an error, as which its transaction is rolled back. The writer's goroutine has no
// context: it runs operations to their end.
func recovered(f func() error) error { return panics.Recovered(context.Background(), f) }

// flush writes the tokens of entries. Then it moves recent facets and documents.
func (b *batch) flush() error {
	if err := b.flushTerms(); err != nil {
		return err
	}
	if err := b.packRecent(); err != nil {
		return err
	}
	return b.foldRecent()
}

func (w *writer) begin() error { return w.conn.run(`BEGIN IMMEDIATE`) }

func (w *writer) commit() error {
	err := w.conn.run(`COMMIT`)
	if err != nil {
		w.commitFailed.Store(true)
		w.rollback()
		return err
	}
	w.undo = nil
	w.keepFresh()
	return nil
}

// rollback ends the transaction. If SQLite has none or cannot end it, rollback
// closes the connection, which ends the transaction too.
func (w *writer) rollback() {
	w.forget()
	w.fresh = nil
	w.undoTo(0)
	if err := w.conn.run(`ROLLBACK`); err != nil {
		_ = w.conn.close() // callers get the first error
	}
}
