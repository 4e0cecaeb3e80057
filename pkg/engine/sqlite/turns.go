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
	known := b.writer.recalledTurns(queue)
	if known != nil && known.received >= 0 {
		t.received = known.received
	} else if t.received, err = b.turnOr0(`SELECT turn FROM queue_turns WHERE queue = ?`, queue); err != nil {
		return t, err
	}
	last, found := int64(0), false
	if known != nil {
		known.received = t.received
		last, found = known.tenants[tenant]
	}
	if t.last = last; !found {
		t.last, err = b.turnOr0(`SELECT turn FROM tenant_turns WHERE queue = ? AND tenant = ?`, queue, tenant)
	}
	return t, err
}

// takeTurns gives the tenant n consecutive turns and returns the first.
func (b *batch) takeTurns(queue, tenant string, t turns, n int) (first int64, err error) {
	last := max(t.last, t.received)
	_, err = b.exec(`INSERT INTO tenant_turns (queue, tenant, turn) VALUES (?1, ?2, ?3) ON CONFLICT DO UPDATE SET turn = ?3`,
		queue, tenant, last+int64(n))
	if known := b.writer.recalledTurns(queue); known != nil && err == nil {
		known.tenants[tenant] = last + int64(n)
	}
	return last + 1, err
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
	_, err := b.exec(`INSERT INTO queue_turns (queue, turn) VALUES (?1, ?2) ON CONFLICT DO UPDATE SET turn = ?2 WHERE turn < ?2`, queue, turn)
	if known := b.writer.recalledTurns(queue); known != nil && known.received >= 0 && err == nil {
		known.received = max(known.received, turn)
	}
	return err
}

// forgetTurns removes what an empty queue knows about tenants.
func (b *batch) forgetTurns(queue string) error {
	_, err := b.exec(`DELETE FROM tenant_turns WHERE queue = ?`, queue)
	if known := b.writer.recalledTurns(queue); known != nil {
		clear(known.tenants)
	}
	return err
}
