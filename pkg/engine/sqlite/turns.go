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

// Backlog bounds how many messages of one tenant wait in a queue without having been received.
// The zero value has no bound.
type Backlog struct {
	// Slow is the number from which on Send waits for consumers, for slowTime at most, so that
	// a tenant does not send faster than its entries are stored and found.
	Slow int
	// Full is the number from which on Send returns audit.ErrBacklog; 0: it never does.
	Full int
}

const (
	slowTime = time.Second
	slowPoll = 10 * time.Millisecond // how often Send looks meanwhile
)

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
	if t.received, err = b.turnOr0(`SELECT turn FROM queue_turns WHERE queue = ?`, queue); err != nil {
		return t, err
	}
	t.last, err = b.turnOr0(`SELECT turn FROM tenant_turns WHERE queue = ? AND tenant = ?`, queue, tenant)
	return t, err
}

// takeTurns gives the tenant n consecutive turns and returns the first.
func (b *batch) takeTurns(queue, tenant string, t turns, n int) (first int64, err error) {
	last := max(t.last, t.received)
	_, err = b.exec(`INSERT INTO tenant_turns (queue, tenant, turn) VALUES (?1, ?2, ?3) ON CONFLICT DO UPDATE SET turn = ?3`,
		queue, tenant, last+int64(n))
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
	return err
}

// forgetTurns removes what an empty queue knows about tenants.
func (b *batch) forgetTurns(queue string) error {
	_, err := b.exec(`DELETE FROM tenant_turns WHERE queue = ?`, queue)
	return err
}
