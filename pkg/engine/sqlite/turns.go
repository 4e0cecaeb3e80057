package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/audit"
)

// A queue is fair by start-time fair queueing (Goyal, Vin, Cheng: "Start-time Fair Queuing",
// SIGCOMM 1996). Each message has a turn, and messages are received in the order of their
// turns. A message follows the last one of its tenant, but it never has an earlier turn than
// what was received last. So the messages of a tenant with a long backlog lie between those
// of others, and a tenant without a backlog is next.

// slowPoll is how often Send looks while it waits because of Backlog.Slow.
const slowPoll = 10 * time.Millisecond

// errSlow says that Send has to wait for consumers.
var errSlow = errors.New("the tenant has to wait")

// check returns errSlow or audit.ErrBacklog if a tenant has too many messages in the queue.
func (l Backlog) check(t turns, mayWait bool) error {
	switch waiting := t.last - t.received; {
	case l.Full > 0 && waiting >= int64(l.Full):
		return unchanged(audit.ErrBacklog)
	case l.Slow > 0 && mayWait && waiting >= int64(l.Slow):
		return unchanged(errSlow)
	}
	return nil
}

// turns says where a queue and a tenant are.
type turns struct {
	received int64 // the greatest turn of the queue that was received
	last     int64 // the tenant's last turn
}

func (b *batch) turnsOf(queue, tenant string) (t turns, err error) {
	if !b.writer.shared {
		known, err := b.knownTurns(queue)
		if err != nil {
			return t, err
		}
		return turns{received: known.received, last: known.tenants[tenant]}, nil
	}
	if t.received, err = b.turnOr0(`SELECT turn FROM queue_turns WHERE queue = ?`, queue); err != nil {
		return t, err
	}
	t.last, err = b.turnOr0(`SELECT turn FROM tenant_turns WHERE queue = ? AND tenant = ?`, queue, tenant)
	return t, err
}

// knownTurns returns the turns of a queue to which no other process writes. They follow from its messages,
// so they are kept in memory only.
func (b *batch) knownTurns(queue string) (*queueTurns, error) {
	if known := b.writer.recall.queues[queue]; known != nil {
		return known, nil
	}
	known := &queueTurns{tenants: map[string]int64{}}
	d := b.deliveriesOf(queue)
	first, err := b.int64(context.Background(), `SELECT coalesce(min(turn), 1) FROM messages WHERE queue = ? AND visible = 0 AND (turn, number) > (?, ?)`,
		queue, d.received.turn, d.received.number)
	if err != nil {
		return nil, err
	}
	known.received = max(first-1, d.received.turn)
	var tenant string
	var last int64
	err = b.each(context.Background(), `SELECT tenant, max(turn) FROM messages WHERE queue = ? AND visible = 0 AND (turn, number) > (?, ?) GROUP BY tenant`,
		[]any{queue, d.received.turn, d.received.number},
		[]any{&tenant, &last}, func() (bool, error) {
			known.tenants[tenant] = last
			return true, nil
		})
	if err != nil {
		return nil, err
	}
	b.writer.recall.queues[queue] = known
	return known, nil
}

// noteTurns writes the turns of all queues, for processes that share the file from now on.
func (b *batch) noteTurns() error {
	for _, statement := range []string{
		`DELETE FROM queue_turns`,
		`DELETE FROM tenant_turns`,
		`INSERT INTO queue_turns (queue, turn) SELECT queue, min(turn) - 1 FROM messages WHERE visible = 0 GROUP BY queue`,
		`INSERT INTO tenant_turns (queue, tenant, turn) SELECT queue, tenant, max(turn) FROM messages WHERE visible = 0 GROUP BY queue, tenant`,
	} {
		if err := b.run(statement); err != nil {
			return err
		}
	}
	return nil
}

// takeTurns gives the tenant n consecutive turns and returns the first.
func (b *batch) takeTurns(queue, tenant string, t turns, n int) (first int64, err error) {
	last := max(t.last, t.received)
	if b.writer.shared {
		_, err = b.exec(`INSERT INTO tenant_turns (queue, tenant, turn) VALUES (?1, ?2, ?3) ON CONFLICT DO UPDATE SET turn = ?3`,
			queue, tenant, last+int64(n))
		return last + 1, err
	}
	known, err := b.knownTurns(queue)
	if err != nil {
		return 0, err
	}
	known.tenants[tenant] = last + int64(n)
	known.trim()
	return last + 1, nil
}

// takeTurn gives the tenant its next turn.
func (b *batch) takeTurn(queue, tenant string) (int64, error) {
	t, err := b.turnsOf(queue, tenant)
	if err != nil {
		return 0, err
	}
	return b.takeTurns(queue, tenant, t, 1)
}

func (b *batch) turnOr0(query string, args ...any) (int64, error) {
	turn, err := b.int64(context.Background(), query, args...)
	if errors.Is(err, sql.ErrNoRows) {
		return 0, nil
	}
	return turn, err
}

// receivedTurn notes the turn of a message that was received.
func (b *batch) receivedTurn(queue string, turn int64) error {
	if b.writer.shared {
		_, err := b.exec(`INSERT INTO queue_turns (queue, turn) VALUES (?1, ?2) ON CONFLICT DO UPDATE SET turn = ?2 WHERE turn < ?2`, queue, turn)
		return err
	}
	known, err := b.knownTurns(queue)
	if err == nil {
		known.received = max(known.received, turn)
	}
	return err
}

// forgetTurns removes what an empty queue knows about tenants.
func (b *batch) forgetTurns(queue string) error {
	if b.writer.shared {
		_, err := b.exec(`DELETE FROM tenant_turns WHERE queue = ?`, queue)
		return err
	}
	known, err := b.knownTurns(queue)
	if err == nil {
		clear(known.tenants)
	}
	return err
}
