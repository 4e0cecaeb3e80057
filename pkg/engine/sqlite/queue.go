package sqlite

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"
)

// maxDelay is the longest that a message is kept back, as in SQS.
const maxDelay = 15 * time.Minute

// maxRedrive is how many dead letters one transaction moves back.
const maxRedrive = 1000

// Queue is a queue with the semantics of SQS: a message is delivered at least
// once, is invisible to others for a while after each receive, and goes to the
// dead-letter queue when it was received too often. It implements ingest.Queue
// and stream.Queue.
type Queue struct {
	db          *DB
	name        string
	visibility  time.Duration
	maxReceives int
	arrivals    *signal
	deaths      *signal // of the dead-letter queue
}

// Message is one delivery of a message.
type Message struct {
	ID           string // the same at every delivery
	Body         string
	Receipt      string // names this delivery; stale once the message was delivered again
	ReceiveCount int    // this delivery included
	SentAt       time.Time
}

// Queue returns the queue of this name, which need not exist before. A received
// message is invisible for visibility; after maxReceives receives it goes to the
// queue named name + "-dlq" instead of being delivered again (0: never).
func (db *DB) Queue(name string, visibility time.Duration, maxReceives int) *Queue {
	return &Queue{
		db: db, name: name, visibility: visibility, maxReceives: maxReceives,
		arrivals: db.signal(name), deaths: db.signal(deadName(name)),
	}
}

func deadName(name string) string { return name + "-dlq" }

// signal returns the one signal of the queue of this name.
func (db *DB) signal(name string) *signal {
	db.signalsMu.Lock()
	defer db.signalsMu.Unlock()
	s := db.signals[name]
	if s == nil {
		s = &signal{raised: make(chan struct{})}
		db.signals[name] = s
	}
	return s
}

// signal wakes everyone who waits for messages of one queue.
type signal struct {
	mu     sync.Mutex
	raised chan struct{}
}

// next returns a channel that is closed at the next raise.
func (s *signal) next() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.raised
}

func (s *signal) raise() {
	s.mu.Lock()
	defer s.mu.Unlock()
	close(s.raised)
	s.raised = make(chan struct{})
}

// Send implements ingest.Queue.
func (q *Queue) Send(ctx context.Context, bodies []string) error { return q.send(ctx, bodies, 0) }

// SendAfter implements stream.Queue: the message is visible once the delay, at
// most 15 minutes, is over, at once where it is 0 or less.
func (q *Queue) SendAfter(ctx context.Context, delay time.Duration, body string) error {
	if delay > maxDelay {
		return fmt.Errorf("send to queue %s after %s: a message is kept back for %s at most", q.name, delay, maxDelay)
	}
	return q.send(ctx, []string{body}, max(0, delay))
}

func (q *Queue) send(ctx context.Context, bodies []string, delay time.Duration) error {
	if len(bodies) == 0 {
		return nil
	}
	err := q.db.write(ctx, func(b *batch) error {
		now := q.db.now()
		visible := now.UnixMilli()
		if delay > 0 {
			visible = notBefore(now.Add(delay))
		}
		if err := b.writer.catchUp(); err != nil {
			return err
		}
		for _, body := range bodies {
			b.writer.lastMessage++
			number := b.writer.lastMessage
			if _, err := b.exec(`INSERT INTO bodies (number, body) VALUES (?, ?)`, number, body); err != nil {
				return err
			}
			_, err := b.exec(`INSERT INTO messages (number, queue, visible, lease, receives, sent) VALUES (?, ?, ?, 0, 0, ?)`,
				number, q.name, visible, now.UnixMilli())
			if err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("send to queue %s: %w", q.name, err)
	}
	q.arrivals.raise() // of a delayed message too: whoever waits has to look at the time of the next message again
	return nil
}

// notBefore returns the Unix milliseconds of a time, rounded up.
func notBefore(t time.Time) int64 { return t.Add(time.Millisecond - 1).UnixMilli() }

// Receive returns up to max visible messages, in about the order in which they
// were sent. Where there is none it waits for one, for wait at most, and then
// returns none.
func (q *Queue) Receive(ctx context.Context, max int, wait time.Duration) ([]Message, error) {
	deadline := time.Now().Add(wait)
	if q.db.shared && wait > 0 {
		q.db.foreign.start()
	}
	for {
		arrival := q.arrivals.next()
		messages, nextVisible, err := q.take(ctx, max)
		if err != nil {
			return nil, fmt.Errorf("receive from queue %s: %w", q.name, err)
		}
		left := time.Until(deadline)
		if len(messages) > 0 || left <= 0 {
			return messages, nil
		}
		timer := time.NewTimer(min(left, nextVisible))
		select {
		case <-arrival:
		case <-timer.C:
		case <-q.db.writer.closing:
		case <-ctx.Done():
		}
		timer.Stop()
		if err := ctx.Err(); err != nil {
			return nil, fmt.Errorf("receive from queue %s: %w", q.name, err)
		}
	}
}

// idlePoll is how long an empty queue is left alone where no message becomes
// visible later: nothing can appear in it but by a Send of this process, or by
// one of another process that shares the file, which the watcher sees.
const idlePoll = time.Minute

// take receives what is visible now. Where that is nothing, nextVisible is how
// long it takes until a message is visible.
func (q *Queue) take(ctx context.Context, max int) (messages []Message, nextVisible time.Duration, err error) {
	buried := 0
	err = q.db.write(ctx, func(b *batch) error {
		messages, nextVisible, buried = nil, idlePoll, 0
		now := q.db.now()
		for len(messages) < max {
			waiting, err := b.visible(q.name, now, max-len(messages))
			if err != nil {
				return err
			}
			if len(waiting) == 0 {
				break
			}
			for _, w := range waiting {
				if q.maxReceives > 0 && w.receives >= q.maxReceives {
					err = b.bury(w, deadName(q.name), now)
					buried++
				} else {
					messages, err = b.deliver(w, now, q.visibility, messages)
				}
				if err != nil {
					return err
				}
			}
		}
		if len(messages) > 0 {
			return nil
		}
		next, err := b.int64(context.Background(), `SELECT coalesce(min(visible), -1) FROM messages WHERE queue = ?`, q.name)
		if err == nil && next >= 0 {
			nextVisible = min(idlePoll, time.UnixMilli(next).Sub(now))
		}
		return err
	})
	if buried > 0 {
		q.deaths.raise()
	}
	return messages, nextVisible, err
}

// waitingMessage is a visible message.
type waitingMessage struct {
	number, lease, sent int64
	receives            int
}

func (b *batch) visible(queue string, now time.Time, limit int) (waiting []waitingMessage, err error) {
	var w waitingMessage
	err = b.each(context.Background(), `SELECT number, lease, receives, sent FROM messages
		WHERE queue = ? AND visible <= ? ORDER BY visible, number LIMIT ?`,
		[]any{queue, now.UnixMilli(), limit}, []any{&w.number, &w.lease, &w.receives, &w.sent}, func() (bool, error) {
			waiting = append(waiting, w)
			return true, nil
		})
	return waiting, err
}

// deliver makes the message invisible and appends its delivery.
func (b *batch) deliver(w waitingMessage, now time.Time, visibility time.Duration, messages []Message) ([]Message, error) {
	var body string
	err := b.row(context.Background(), `SELECT body FROM bodies WHERE number = ?`, []any{w.number}, []any{&body})
	if err != nil {
		return messages, fmt.Errorf("body of message %d: %w", w.number, err)
	}
	_, err = b.exec(`UPDATE messages SET visible = ?, lease = ?, receives = ? WHERE number = ?`, notBefore(now.Add(visibility)), w.lease+1, w.receives+1, w.number)
	return append(messages, Message{
		ID: strconv.FormatInt(w.number, 10), Body: body, Receipt: fmt.Sprintf("%d.%d", w.number, w.lease+1),
		ReceiveCount: w.receives + 1, SentAt: time.UnixMilli(w.sent).UTC(),
	}), err
}

// bury moves the message to a dead-letter queue.
func (b *batch) bury(w waitingMessage, queue string, now time.Time) error {
	_, err := b.exec(`UPDATE messages SET queue = ?, visible = ?, lease = ?, receives = 0 WHERE number = ?`,
		queue, now.UnixMilli(), w.lease+1, w.number)
	return err
}

// parseReceipt reads a receipt that deliver made.
func parseReceipt(receipt string) (number, lease int64, err error) {
	first, second, _ := strings.Cut(receipt, ".")
	number, err = strconv.ParseInt(first, 10, 64)
	lease, leaseErr := strconv.ParseInt(second, 10, 64)
	if err != nil || leaseErr != nil {
		return 0, 0, errors.New("malformed receipt")
	}
	return number, lease, nil
}

// Delete removes the messages of these deliveries. A receipt that is stale, or
// whose message is gone, removes nothing and is not an error.
func (q *Queue) Delete(ctx context.Context, receipts []string) error {
	err := q.db.write(ctx, func(b *batch) error {
		for _, receipt := range receipts {
			if err := b.deleteMessage(q.name, receipt); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("delete from queue %s: %w", q.name, err)
	}
	return nil
}

func (b *batch) deleteMessage(queue, receipt string) error {
	number, lease, err := parseReceipt(receipt)
	if err != nil {
		return err
	}
	deleted, err := b.exec(`DELETE FROM messages WHERE number = ? AND queue = ? AND lease = ?`, number, queue, lease)
	if err != nil || deleted == 0 {
		return err
	}
	_, err = b.exec(`DELETE FROM bodies WHERE number = ?`, number)
	return err
}

// ChangeVisibility makes the message of this delivery visible to others d from
// now on, at once where d is 0. A stale receipt changes nothing and is not an error.
func (q *Queue) ChangeVisibility(ctx context.Context, receipt string, d time.Duration) error {
	err := q.db.write(ctx, func(b *batch) error {
		number, lease, err := parseReceipt(receipt)
		if err != nil {
			return refuse(err)
		}
		_, err = b.exec(`UPDATE messages SET visible = ? WHERE number = ? AND queue = ? AND lease = ?`,
			q.db.now().Add(d).UnixMilli(), number, q.name, lease)
		return err
	})
	if err != nil {
		return fmt.Errorf("change visibility in queue %s: %w", q.name, err)
	}
	q.arrivals.raise() // whoever waits has to look at the time of the next message again
	return nil
}

// Depth counts the messages that can be received now, those that cannot yet,
// because they were received and not deleted or their delay is not over, and the
// dead letters.
func (q *Queue) Depth(ctx context.Context) (visible, inFlight, dead int64, err error) {
	err = q.db.snapshot(ctx, func(c *conn) error {
		return c.row(ctx, `SELECT
			(SELECT count(*) FROM messages WHERE queue = ?1 AND visible <= ?2),
			(SELECT count(*) FROM messages WHERE queue = ?1 AND visible > ?2),
			(SELECT count(*) FROM messages WHERE queue = ?3)`,
			[]any{q.name, q.db.now().UnixMilli(), deadName(q.name)}, []any{&visible, &inFlight, &dead})
	})
	if err != nil {
		return 0, 0, 0, fmt.Errorf("depth of queue %s: %w", q.name, err)
	}
	return visible, inFlight, dead, nil
}

// Redrive moves the dead letters back, as if they had never been received, and
// returns how many.
func (q *Queue) Redrive(ctx context.Context) (moved int64, err error) {
	for {
		var changed int64
		err := q.db.write(ctx, func(b *batch) error {
			var err error
			changed, err = b.exec(`UPDATE messages SET queue = ?, visible = ?, lease = lease + 1, receives = 0
				WHERE number IN (SELECT number FROM messages WHERE queue = ? LIMIT ?)`,
				q.name, q.db.now().UnixMilli(), deadName(q.name), maxRedrive)
			return err
		})
		if err != nil {
			return moved, fmt.Errorf("redrive queue %s: %w", q.name, err)
		}
		if changed == 0 {
			return moved, nil
		}
		moved += changed
		q.arrivals.raise()
	}
}
