package sqlite

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/audit"
)

// MaxReceived is the length of bodies, in bytes, at which a Receive ends: those of about a
// thousand entries. Larger receives would make the entries of other tenants wait for longer.
const MaxReceived = 256 << 10

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
		for size := 0; len(messages) < max && size < MaxReceived; {
			waiting, err := b.ready(q.name, max-len(messages))
			if err != nil {
				return err
			}
			if len(waiting) == 0 {
				break
			}
			var last waitingMessage
			for _, last = range waiting {
				if q.maxReceives > 0 && last.receives >= q.maxReceives {
					err = b.move(last, deadLetterName(q.name))
					dead++
				} else if messages, err = b.deliver(last, now, q.visibility, messages); err == nil {
					size += len(messages[len(messages)-1].Body)
				}
				if err != nil {
					return err
				}
				if size >= MaxReceived {
					break
				}
			}
			if err := b.receivedTurn(q.name, last.turn); err != nil {
				return err
			}
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

// ready returns the messages whose turn it is.
func (b *batch) ready(queue string, limit int) ([]waitingMessage, error) {
	return b.messages(`SELECT number, lease, receives, sent, tenant, turn FROM messages
		WHERE queue = ? AND visible = 0 ORDER BY turn, number LIMIT ?`, queue, limit)
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

// deliver makes the message invisible and appends its delivery to messages.
func (b *batch) deliver(w waitingMessage, now time.Time, visibility time.Duration, messages []Message) ([]Message, error) {
	var body string
	err := b.row(context.Background(), `SELECT body FROM bodies WHERE number = ?`, []any{w.number}, []any{&body})
	if err != nil {
		return messages, fmt.Errorf("body of message %d: %w", w.number, err)
	}
	_, err = b.exec(`UPDATE messages SET visible = ?, lease = ?, receives = ? WHERE number = ?`, notBefore(now.Add(visibility)), w.lease+1, w.receives+1, w.number)
	return append(messages, Message{
		ID: strconv.FormatInt(w.number, 10), Body: body, Receipt: fmt.Sprintf("%d.%d", w.number, w.lease+1),
		ReceiveCount: w.receives + 1, SentAt: time.UnixMilli(w.sent).UTC(), Tenant: audit.TenantID(w.tenant),
	}), err
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
