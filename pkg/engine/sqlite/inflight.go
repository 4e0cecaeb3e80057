package sqlite

import (
	"maps"
	"math"
	"slices"
	"sync"
	"time"
)

// A queue that gathers has its deliveries in memory, because nearly all of its messages are handled at once
// and deleted then. Such a message stays ready in the file. The file has only the place up to which messages
// were received: each receive goes on behind it, and new turns lie behind it. A delivery that fails or takes too
// long is written to the message. The next process begins at the first message, and Recover counts
// what was in flight.

// place is where a message is in the order of its queue.
type place struct{ turn, number int64 }

// deliveries are those of one queue that are in memory.
type deliveries struct {
	received place              // the last message of a receive by this process
	held     map[int64]delivery // by the numbers of messages
	until    int64              // no delivery ends before, in Unix milliseconds
}

// delivery is one of a message that is in flight.
type delivery struct {
	lease  int64
	until  int64 // Unix milliseconds
	tenant string
}

// inFlight has the deliveries of all queues. Only the writer changes them; others count them.
type inFlight struct {
	mu     sync.Mutex
	queues map[string]*deliveries
}

// count returns the number of a queue's deliveries in memory.
func (f *inFlight) count(queue string) int64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	if d := f.queues[queue]; d != nil {
		return int64(len(d.held))
	}
	return 0
}

// change changes deliveries, and undoes that if the transaction is rolled back.
func (b *batch) change(do, undo func()) {
	f := &b.writer.inFlight
	locked := func(do func()) {
		f.mu.Lock()
		defer f.mu.Unlock()
		do()
	}
	locked(do)
	b.writer.undo = append(b.writer.undo, func() { locked(undo) })
}

// undoTo undoes the changes of deliveries from the n-th of a transaction on.
func (w *writer) undoTo(n int) {
	for i := len(w.undo) - 1; i >= n; i-- {
		w.undo[i]()
	}
	w.undo = w.undo[:n]
}

// deliveriesOf returns the deliveries of a queue.
func (b *batch) deliveriesOf(queue string) *deliveries {
	f := &b.writer.inFlight
	if d := f.queues[queue]; d != nil {
		return d
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	d := &deliveries{received: place{turn: -1}, held: map[int64]delivery{}}
	f.queues[queue] = d
	return d
}

// hold keeps the deliveries of a receive that ended at a place.
func (b *batch) hold(queue string, d *deliveries, taken map[int64]delivery, end place, until int64) error {
	if _, err := b.exec(`INSERT INTO received_places (queue, turn, number) VALUES (?1, ?2, ?3) ON CONFLICT DO UPDATE SET turn = ?2, number = ?3`,
		queue, end.turn, end.number); err != nil {
		return err
	}
	before, beforeUntil := d.received, d.until
	b.change(func() {
		if len(d.held) == 0 || until < d.until {
			d.until = until
		}
		maps.Copy(d.held, taken)
		d.received = end
	}, func() {
		for number := range taken {
			delete(d.held, number)
		}
		d.received, d.until = before, beforeUntil
	})
	return nil
}

// releaseHeld ends deliveries of messages.
func (b *batch) releaseHeld(d *deliveries, numbers []int64) {
	was := make(map[int64]delivery, len(numbers))
	for _, number := range numbers {
		if held, has := d.held[number]; has {
			was[number] = held
		}
	}
	b.change(func() {
		for number := range was {
			delete(d.held, number)
		}
	}, func() { maps.Copy(d.held, was) })
}

// releaseLate gives messages whose deliveries took too long new turns, and those whose deliveries would end after the
// latest time possible.
func (b *batch) releaseLate(queue string, d *deliveries, now, latest time.Time) error {
	if len(d.held) == 0 || now.UnixMilli() < d.until && d.until <= latest.UnixMilli() {
		return nil
	}
	next := int64(math.MaxInt64)
	var late []int64
	for number, held := range d.held {
		if held.until > now.UnixMilli() && held.until <= latest.UnixMilli() {
			next = min(next, held.until)
		} else {
			late = append(late, number)
		}
	}
	slices.Sort(late)
	for _, number := range late {
		held := d.held[number]
		turn, err := b.takeTurn(queue, held.tenant)
		if err != nil {
			return err
		}
		// A message that was purged is not there.
		if _, err := b.exec(`UPDATE messages SET turn = ?, lease = ?, receives = receives + 1 WHERE number = ? AND queue = ?`, turn, held.lease, number, queue); err != nil {
			return err
		}
	}
	b.releaseHeld(d, late)
	before := d.until
	b.change(func() { d.until = next }, func() { d.until = before })
	return nil
}

// releaseAll ends all deliveries, and notes them in what was in flight when the last process ended. They do not count,
// because the process failed and not the handler; but see maxUncounted.
func (b *batch) releaseAll() error {
	_, err := b.exec(`UPDATE messages SET lease = lease + 2, receives = receives + (lease >= 2 * ?)
		FROM received_places p WHERE messages.queue = p.queue AND messages.visible = 0 AND (messages.turn, messages.number) <= (p.turn, p.number)`, maxUncounted)
	if err != nil {
		return err
	}
	if _, err := b.exec(`DELETE FROM received_places`); err != nil {
		return err
	}
	f := &b.writer.inFlight
	before := f.queues
	b.change(func() { f.queues = map[string]*deliveries{} }, func() { f.queues = before })
	return nil
}
