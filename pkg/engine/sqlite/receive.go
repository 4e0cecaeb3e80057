package sqlite

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/audit"
)

// MaxReceived is the length of bodies, in bytes, at which a Receive ends: those of some hundred
// entries. Larger receives would make the entries of other tenants wait for longer.
const MaxReceived = 96 << 10

// Receive returns up to max visible messages, fewer once their bodies have MaxReceived bytes.
// Tenants take turns, and the messages of one come approximately in the order of sending. If
// there is none, it waits for one, for wait at most. It may return none.
func (q *Queue) Receive(ctx context.Context, max int, wait time.Duration) ([]Message, error) {
	return q.DeleteAndReceive(ctx, nil, max, wait)
}

// DeleteAndReceive does Delete and Receive in one transaction. The deletions are durable before
// it waits.
func (q *Queue) DeleteAndReceive(ctx context.Context, receipts []string, max int, wait time.Duration) ([]Message, error) {
	deadline := time.Now().Add(wait)
	if q.db.shared && wait > 0 {
		q.db.watcher.start()
	}
	for {
		arrival := q.arrivals.next()
		messages, nextVisible, err := q.receive(ctx, receipts, max)
		receipts = nil
		if err != nil {
			return nil, fmt.Errorf("receive from queue %s: %w", q.name, err)
		}
		q.leaveBacklog(messages)
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

// leaveBacklog counts what was received.
func (q *Queue) leaveBacklog(messages []Message) {
	if len(messages) == 0 {
		q.waiting.clear()
	}
	for _, m := range messages {
		if m.ReceiveCount == 1 {
			q.waiting.leave(m.Tenant, len(m.Body))
		}
	}
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
		if err := b.wake(q.name, now); err != nil {
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
		next, err := b.int64(context.Background(), `SELECT coalesce(min(visible), -1) FROM messages WHERE queue = ? AND visible > 0`, q.name)
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

// waitingMessage is a message that waits in a queue.
type waitingMessage struct {
	number, lease, sent, turn int64
	receives                  int
	tenant                    string
}

// maxWoken bounds the messages that become ready with one receive, so that it stays short.
const maxWoken = 1000

// wake makes messages ready whose time has come. They take new turns, so that a tenant whose
// messages come again and again does not delay others.
func (b *batch) wake(queue string, now time.Time) error {
	woken, err := b.messages(`SELECT number, lease, receives, sent, tenant, turn FROM messages
		WHERE queue = ? AND visible > 0 AND visible <= ? ORDER BY visible, number LIMIT ?`, queue, now.UnixMilli(), maxWoken)
	if err != nil {
		return err
	}
	for _, w := range woken {
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
	err = b.each(context.Background(), `SELECT m.number, m.lease, m.receives, m.sent, m.tenant, m.turn, b.body
		FROM messages m CROSS JOIN bodies b ON b.number = m.number
		WHERE m.queue = ? AND m.visible = 0 ORDER BY m.turn, m.number LIMIT ?`, []any{q.name, max},
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
			last, size, delivered = w, size+len(body), delivered+1
			return size < MaxReceived, nil
		})
	if err != nil {
		return nil, nil, err
	}
	if delivered == 0 {
		return messages, exhausted, nil
	}
	_, err = b.exec(`UPDATE messages SET visible = ?, lease = lease + 1, receives = receives + 1
		WHERE queue = ? AND visible = 0 AND (turn, number) <= (?, ?)`, notBefore(now.Add(q.visibility)), q.name, last.turn, last.number)
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
