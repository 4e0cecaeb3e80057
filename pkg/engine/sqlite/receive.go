package sqlite

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/jobs"
)

// MaxReceived is the weight of messages at which a Receive ends, in bytes; see Backlog.Weigh. Larger receives
// would make the entries of other tenants wait for longer.
const MaxReceived = 192 << 10

// Receive returns up to max visible messages, fewer once their bodies have MaxReceived bytes.
// Tenants take turns, and the messages of one come approximately in the order of sending. If
// there is none, it waits for one, for wait at most. It may return none.
func (q *Queue) Receive(ctx context.Context, max int, wait time.Duration) ([]Message, error) {
	return q.DeleteAndReceive(ctx, nil, max, wait)
}

// DeleteAndReceive does Delete and Receive in one transaction. The deletions are durable before
// it waits for a message, though not while it gathers; see Backlog.
func (q *Queue) DeleteAndReceive(ctx context.Context, receipts []string, max int, wait time.Duration) ([]Message, error) {
	deadline := time.Now().Add(wait)
	if q.db.shared && wait > 0 {
		q.db.watcher.start()
	}
	if q.backlog.Gather > 0 && !q.db.shared {
		if err := q.waiting.gather(ctx, q.backlog.Gather, deadline, q.db.writer.closing); err != nil {
			return nil, fmt.Errorf("receive from queue %s: %w", q.name, err)
		}
	}
	for {
		arrival := q.arrivals.next()
		messages, nextVisible, err := q.receive(ctx, receipts, max)
		receipts = nil
		if err != nil {
			return nil, fmt.Errorf("receive from queue %s: %w", q.name, err)
		}
		q.leaveBacklog(messages, max)
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

// leaveBacklog counts what was received, of max messages at most.
func (q *Queue) leaveBacklog(messages []Message, max int) {
	if len(messages) == 0 {
		q.waiting.clear()
		return
	}
	received := 0
	left := map[audit.TenantID]int{}
	for _, m := range messages {
		size := q.backlog.weigh(m.Body)
		received += size
		if m.ReceiveCount == 1 {
			left[m.Tenant] += size
		}
	}
	q.waiting.leave(left)
	q.waiting.note(len(messages), len(messages) == max || received >= MaxReceived)
}

// idlePoll is the longest wait before a receiver looks at the queue again. A
// message can appear only by a Send, which raises the signal. The watcher does
// so for other processes that share the file.
const idlePoll = time.Minute

// receive deletes deliveries, and returns up to max messages that are visible now. If there is
// none, nextVisible is the time until one may be visible.
func (q *Queue) receive(ctx context.Context, receipts []string, max int) (messages []Message, nextVisible time.Duration, err error) {
	dead := 0
	err = q.db.write(ctx, func(b *batch) error {
		messages, nextVisible, dead = nil, idlePoll, 0
		if err := b.deleteMessages(q.name, receipts); err != nil {
			return err
		}
		now := q.db.now()
		if err := b.wake(q.name, now, q.latest(now)); err != nil {
			return err
		}
		for more := true; more && len(messages) < max; {
			var exhausted []waitingMessage
			if messages, exhausted, err = b.deliver(q, now, max-len(messages), messages); err != nil {
				return err
			}
			for _, m := range exhausted {
				if err := b.move(m, deadLetterName(q.name)); err != nil {
					return err
				}
			}
			dead += len(exhausted)
			more = len(exhausted) > 0 && len(messages) == 0 // others may follow those that moved
		}
		if len(messages) > 0 {
			return nil
		}
		next, err := b.nextVisible(q.name)
		if err != nil {
			return err
		}
		if next < 0 {
			return b.forgetTurns(q.name)
		}
		nextVisible = min(idlePoll, time.UnixMilli(next).Sub(now))
		return nil
	})
	if dead > 0 {
		q.deadLetters.raise()
	}
	return messages, nextVisible, err
}

// nextVisible returns the Unix milliseconds at which a message that is in flight or delayed becomes visible, -1 if
// there is none.
func (b *batch) nextVisible(queue string) (int64, error) {
	next, err := b.int64(context.Background(), `SELECT coalesce(min(visible), -1) FROM messages WHERE queue = ? AND visible > 0`, queue)
	if err != nil {
		return 0, err
	}
	if d := b.deliveriesOf(queue); len(d.held) > 0 && (next < 0 || d.until < next) {
		next = d.until
	}
	return next, nil
}

// waitingMessage is a message that waits in a queue.
type waitingMessage struct {
	number, lease, sent, turn int64
	receives                  int
	tenant                    string
}

// maxWoken bounds the messages that become ready with one receive, so that it stays short.
const maxWoken = 1000

// clockTolerance is how much later than the longest delay from now a message may become visible. If it is later, the
// clock has been set back since the message was hidden.
const clockTolerance = time.Minute

// latest returns the time after which no message becomes visible, unless the clock has been set back.
func (q *Queue) latest(now time.Time) time.Time {
	return now.Add(max(q.visibility, jobs.MaxDelay) + clockTolerance)
}

// wake makes messages ready whose time has come, or lies after the latest one possible. They take new turns, so that
// a tenant whose messages come again and again does not delay others.
func (b *batch) wake(queue string, now, latest time.Time) error {
	d := b.deliveriesOf(queue)
	if err := b.releaseLate(queue, d, now, latest); err != nil {
		return err
	}
	woken, err := b.messages(`SELECT number, lease, receives, sent, tenant, turn FROM messages
		WHERE queue = ? AND visible > 0 AND visible <= ? ORDER BY visible, number LIMIT ?`, queue, now.UnixMilli(), maxWoken)
	if err != nil {
		return err
	}
	implausible, err := b.messages(`SELECT number, lease, receives, sent, tenant, turn FROM messages
		WHERE queue = ? AND visible > ? ORDER BY visible, number LIMIT ?`, queue, latest.UnixMilli(), maxWoken)
	if err != nil {
		return err
	}
	for _, w := range append(woken, implausible...) {
		turn, err := b.takeTurn(queue, w.tenant)
		if err != nil {
			return err
		}
		if _, err := b.exec(`UPDATE messages SET visible = 0, turn = ? WHERE number = ?`, turn, w.number); err != nil {
			return err
		}
	}
	return nil
}

// anyMessages returns messages whether they are visible or not.
func (b *batch) anyMessages(queue string, limit int) ([]waitingMessage, error) {
	return b.messages(`SELECT * FROM (SELECT number, lease, receives, sent, tenant, turn FROM messages WHERE queue = ?1 AND visible = 0 LIMIT ?2)
		UNION ALL SELECT * FROM (SELECT number, lease, receives, sent, tenant, turn FROM messages WHERE queue = ?1 AND visible > 0 LIMIT ?2)
		LIMIT ?2`, queue, limit)
}

func (b *batch) messages(query string, args ...any) (waiting []waitingMessage, err error) {
	var w waitingMessage
	err = b.each(context.Background(), query, args,
		[]any{&w.number, &w.lease, &w.receives, &w.sent, &w.tenant, &w.turn}, func() (bool, error) {
			waiting = append(waiting, w)
			return true, nil
		})
	return waiting, err
}

// deliver makes up to max messages invisible whose turn it is, and appends their deliveries to
// messages. It ends before a message that has been received too often, and returns those.
func (b *batch) deliver(q *Queue, now time.Time, max int, messages []Message) (_ []Message, exhausted []waitingMessage, err error) {
	var w, last waitingMessage
	var body string
	size, delivered := 0, 0
	d := b.deliveriesOf(q.name)
	until, inMemory := notBefore(now.Add(q.visibility)), q.backlog.Gather > 0 && !q.db.shared
	taken := map[int64]delivery{}
	err = b.each(context.Background(), `SELECT number, lease, receives, sent, tenant, turn, body FROM messages
		WHERE queue = ? AND visible = 0 AND (turn, number) > (?, ?) ORDER BY turn, number LIMIT ?`, []any{q.name, d.received.turn, d.received.number, max},
		[]any{&w.number, &w.lease, &w.receives, &w.sent, &w.tenant, &w.turn, &body}, func() (bool, error) {
			if q.maxReceives > 0 && w.receives >= q.maxReceives {
				exhausted = append(exhausted, w)
				return delivered == 0, nil
			}
			if len(exhausted) > 0 {
				return false, nil
			}
			messages = append(messages, Message{
				ID: strconv.FormatInt(w.number, 10), Body: body, Receipt: receiptOf(w.number, w.lease+1),
				ReceiveCount: w.receives + 1, SentAt: time.UnixMilli(w.sent).UTC(), Tenant: audit.TenantID(w.tenant),
			})
			if inMemory {
				taken[w.number] = delivery{lease: w.lease + 1, until: until, tenant: w.tenant}
			}
			last, size, delivered = w, size+q.backlog.weigh(body), delivered+1
			return size < MaxReceived, nil
		})
	if err != nil {
		return nil, nil, err
	}
	if delivered == 0 {
		return messages, exhausted, nil
	}
	if inMemory {
		err = b.hold(q.name, d, taken, place{last.turn, last.number}, until)
	} else {
		_, err = b.exec(`UPDATE messages SET visible = ?, lease = lease + 1, receives = receives + 1
			WHERE queue = ? AND visible = 0 AND (turn, number) > (?, ?) AND (turn, number) <= (?, ?)`, until, q.name, d.received.turn, d.received.number, last.turn, last.number)
	}
	if err != nil {
		return nil, nil, err
	}
	return messages, exhausted, b.receivedTurn(q.name, last.turn)
}

func receiptOf(number, lease int64) string {
	return strconv.FormatInt(number, 10) + "." + strconv.FormatInt(lease, 10)
}

// move moves the message to another queue, where it is visible with zero receives.
func (b *batch) move(w waitingMessage, queue string) error {
	turn, err := b.takeTurn(queue, w.tenant)
	if err != nil {
		return err
	}
	_, err = b.exec(`UPDATE messages SET queue = ?, turn = ?, visible = 0, lease = ?, receives = 0 WHERE number = ?`, queue, turn, w.lease+1, w.number)
	return err
}
