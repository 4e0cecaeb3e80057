package sqlite

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/backoff"
	"github.com/ocelot-audit/ocelot/pkg/jobs"
)

// maxRedrive is the number of dead letters that one transaction moves back.
const maxRedrive = 1000

// Queue is a queue with the semantics of SQS. It delivers each message at least
// once. After each receive the message is invisible for a while. After too many
// receives it goes to the dead-letter queue. Queue implements ingest.Queue and
// stream.Queue. Tenants take turns; see turns.go.
type Queue struct {
	db          *DB
	name        string
	visibility  time.Duration
	maxReceives int
	backlog     Backlog
	waiting     *backlog
	arrivals    *signal
	deadLetters *signal // of the dead-letter queue
}

// Message is one delivery of a message.
type Message struct {
	ID           string // the same at every delivery
	Body         string
	Receipt      string // identifies this delivery; stale after the next delivery of the message
	ReceiveCount int    // includes this delivery
	SentAt       time.Time
	Tenant       audit.TenantID // as it was sent
}

// Queue returns the queue of this name, which need not exist. A received message
// is invisible for visibility. After maxReceives receives it goes to the queue
// name + "-dlq" instead of being delivered again. With maxReceives 0 it never does.
func (db *DB) Queue(name string, visibility time.Duration, maxReceives int) *Queue {
	return &Queue{
		db: db, name: name, visibility: visibility, maxReceives: maxReceives,
		waiting: db.backlogOf(name), arrivals: db.signal(name), deadLetters: db.signal(deadLetterName(name)),
	}
}

// WithBacklog returns the queue with bounds on what waits in it.
func (q *Queue) WithBacklog(backlog Backlog) *Queue {
	bounded := *q
	bounded.backlog = backlog
	return &bounded
}

func deadLetterName(name string) string { return name + "-dlq" }

// Send implements ingest.Queue.
func (q *Queue) Send(ctx context.Context, tenant audit.TenantID, bodies []string) error {
	return q.send(ctx, tenant, bodies, 0)
}

// SendAfter implements stream.Queue. The message becomes visible after the delay of
// at most 15 minutes, at once if it is 0 or less.
func (q *Queue) SendAfter(ctx context.Context, tenant audit.TenantID, delay time.Duration, body string) error {
	if delay > jobs.MaxDelay {
		return fmt.Errorf("send to queue %s after %s: the delay is %s at most", q.name, delay, jobs.MaxDelay)
	}
	return q.send(ctx, tenant, []string{body}, max(0, delay))
}

func (q *Queue) send(ctx context.Context, tenant audit.TenantID, bodies []string, delay time.Duration) error {
	if len(bodies) == 0 {
		return nil
	}
	err := q.sendWithin(ctx, tenant, bodies, delay)
	if err != nil {
		return fmt.Errorf("send to queue %s: %w", q.name, err)
	}
	q.arrivals.raise() // also for a delayed message: receivers recompute when to wake
	return nil
}

// sendWithin sends the messages within the bounds of the backlog.
func (q *Queue) sendWithin(ctx context.Context, tenant audit.TenantID, bodies []string, delay time.Duration) error {
	if q.backlog.Ahead == 0 || q.db.shared || delay > 0 {
		return q.sendSlowly(ctx, tenant, bodies, delay)
	}
	size := 0
	for _, body := range bodies {
		size += q.backlog.weigh(body)
	}
	if err := q.waiting.enter(ctx, tenant, size, q.backlog.Ahead); err != nil {
		return err
	}
	err := q.sendSlowly(ctx, tenant, bodies, delay)
	q.waiting.sent(tenant, size, err)
	return err
}

// sendSlowly sends the messages, after a while if the tenant has to wait.
func (q *Queue) sendSlowly(ctx context.Context, tenant audit.TenantID, bodies []string, delay time.Duration) error {
	// With Ahead the tenant has waited already, unless it has its part only.
	err := q.sendOnce(ctx, tenant, bodies, delay, q.db.shared || q.backlog.Ahead == 0)
	for end := time.Now().Add(slowTime); errors.Is(err, errSlow); {
		if err := backoff.Sleep(ctx, slowPoll); err != nil {
			return err
		}
		err = q.sendOnce(ctx, tenant, bodies, delay, time.Now().Before(end))
	}
	return err
}

// sendOnce sends the messages. It returns errSlow if the tenant has to wait and may.
func (q *Queue) sendOnce(ctx context.Context, tenant audit.TenantID, bodies []string, delay time.Duration, mayWait bool) error {
	return q.db.write(ctx, func(b *batch) error {
		turns, err := b.turnsOf(q.name, string(tenant))
		if err != nil {
			return err
		}
		if err := q.backlog.check(turns, mayWait); err != nil {
			return err
		}
		now := q.db.now()
		visible := int64(ready)
		if delay > 0 {
			visible = notBefore(now.Add(delay))
		}
		if err := b.writer.syncLastMessage(); err != nil {
			return err
		}
		turn, err := b.takeTurns(q.name, string(tenant), turns, len(bodies))
		if err != nil {
			return err
		}
		for i, body := range bodies {
			b.writer.lastMessage++
			number := b.writer.lastMessage
			_, err := b.exec(`INSERT INTO messages (number, queue, tenant, turn, visible, lease, receives, sent, body) VALUES (?, ?, ?, ?, ?, 0, 0, ?, ?)`,
				number, q.name, string(tenant), turn+int64(i), visible, now.UnixMilli(), body)
			if err != nil {
				return err
			}
		}
		return nil
	})
}

// ready is the column visible of a message that can be received.
const ready = 0

// notBefore returns the Unix milliseconds of a time, rounded up.
func notBefore(t time.Time) int64 { return t.Add(time.Millisecond - 1).UnixMilli() }

// parseReceipt parses a receipt of deliver.
func parseReceipt(receipt string) (number, lease int64, err error) {
	first, second, _ := strings.Cut(receipt, ".")
	number, err = strconv.ParseInt(first, 10, 64)
	lease, leaseErr := strconv.ParseInt(second, 10, 64)
	if err != nil || leaseErr != nil {
		return 0, 0, errors.New("malformed receipt")
	}
	return number, lease, nil
}

// Delete removes the messages of these deliveries. It ignores receipts that are
// stale or whose message no longer exists.
func (q *Queue) Delete(ctx context.Context, receipts []string) error {
	err := q.db.write(ctx, func(b *batch) error { return b.deleteMessages(q.name, receipts) })
	if err != nil {
		return fmt.Errorf("delete from queue %s: %w", q.name, err)
	}
	return nil
}

// deleteMessages removes the messages of these deliveries, and ignores stale receipts.
func (b *batch) deleteMessages(queue string, receipts []string) error {
	if len(receipts) == 0 {
		return nil
	}
	d := b.deliveriesOf(queue)
	var held []int64       // messages whose deliveries are in memory
	var written [][2]int64 // deliveries that are in the file
	for _, receipt := range receipts {
		number, lease, err := parseReceipt(receipt)
		if err != nil {
			return unchanged(err)
		}
		switch delivery, inMemory := d.held[number]; {
		case !inMemory:
			written = append(written, [2]int64{number, lease})
		case delivery.lease == lease:
			held = append(held, number)
		}
	}
	if len(written) > 0 {
		list, err := json.Marshal(written)
		if err != nil {
			return err
		}
		_, err = b.exec(`DELETE FROM messages WHERE queue = ?1 AND (number, lease) IN (SELECT value ->> 0, value ->> 1 FROM json_each(?2))`, queue, string(list))
		if err != nil {
			return err
		}
	}
	slices.Sort(held)
	for from := 0; from < len(held); { // most numbers follow each other
		to := from + 1
		for to < len(held) && held[to] == held[to-1]+1 {
			to++
		}
		if _, err := b.exec(`DELETE FROM messages WHERE queue = ? AND number BETWEEN ? AND ?`, queue, held[from], held[to-1]); err != nil {
			return err
		}
		from = to
	}
	b.releaseHeld(d, held)
	return nil
}

// ChangeVisibility makes the message of this delivery visible after d, at once if d
// is 0. It ignores a stale receipt.
func (q *Queue) ChangeVisibility(ctx context.Context, receipt string, d time.Duration) error {
	err := q.db.write(ctx, func(b *batch) error {
		number, lease, err := parseReceipt(receipt)
		if err != nil {
			return unchanged(err)
		}
		inMemory := b.deliveriesOf(q.name)
		visible := max(1, q.db.now().Add(d).UnixMilli()) // it takes a new turn; see wake
		delivery, held := inMemory.held[number]
		switch {
		case held && delivery.lease != lease:
			return nil
		case held:
			b.releaseHeld(inMemory, []int64{number})
			_, err = b.exec(`UPDATE messages SET visible = ?, lease = ?, receives = receives + 1 WHERE number = ? AND queue = ?`, visible, lease, number, q.name)
		default:
			_, err = b.exec(`UPDATE messages SET visible = ? WHERE number = ? AND queue = ? AND lease = ?`, visible, number, q.name, lease)
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("change visibility in queue %s: %w", q.name, err)
	}
	q.arrivals.raise() // receivers recompute when to wake
	return nil
}

// Depth counts the messages that are visible, those that are not (received and not
// deleted, or delayed), and the dead letters.
func (q *Queue) Depth(ctx context.Context) (visible, inFlight, dead int64, err error) {
	err = q.db.snapshot(ctx, func(c *conn) error {
		return c.row(ctx, `SELECT
			(SELECT count(*) FROM messages WHERE queue = ?1 AND visible = 0) + (SELECT count(*) FROM messages WHERE queue = ?1 AND visible > 0 AND visible <= ?2),
			(SELECT count(*) FROM messages WHERE queue = ?1 AND visible > 0 AND visible > ?2),
			(SELECT count(*) FROM messages WHERE queue = ?3 AND visible = 0) + (SELECT count(*) FROM messages WHERE queue = ?3 AND visible > 0)`,
			[]any{q.name, q.db.now().UnixMilli(), deadLetterName(q.name)}, []any{&visible, &inFlight, &dead})
	})
	if err != nil {
		return 0, 0, 0, fmt.Errorf("depth of queue %s: %w", q.name, err)
	}
	held := min(visible, q.db.writer.inFlight.count(q.name))
	return visible - held, inFlight + held, dead, nil
}

// Waiting counts the messages of some queues that can be received now, up to limit.
func (db *DB) Waiting(ctx context.Context, limit int64, queues ...string) (total int64, err error) {
	err = db.snapshot(ctx, func(c *conn) error {
		for _, name := range queues {
			held := db.writer.inFlight.count(name)
			n, err := c.int64(ctx, `SELECT count(*) FROM (SELECT 1 FROM messages WHERE queue = ? AND visible = 0 LIMIT ?)`, name, limit-total+held)
			if err != nil {
				return err
			}
			total += max(0, n-held)
		}
		return nil
	})
	if err != nil {
		return 0, fmt.Errorf("count the messages of %v: %w", queues, err)
	}
	return total, nil
}

// Redrive moves all dead letters back with zero receives and returns their number.
func (q *Queue) Redrive(ctx context.Context) (moved int64, err error) {
	for {
		var some []waitingMessage
		err := q.db.write(ctx, func(b *batch) (err error) {
			if some, err = b.anyMessages(deadLetterName(q.name), maxRedrive); err != nil {
				return err
			}
			for _, w := range some {
				if err := b.move(w, q.name); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return moved, fmt.Errorf("redrive queue %s: %w", q.name, err)
		}
		if len(some) == 0 {
			return moved, nil
		}
		moved += int64(len(some))
		q.arrivals.raise()
	}
}

// Messages are the messages of all queues but those that it names. It implements
// jobs.CountedPurger.
type Messages struct {
	db     *DB
	except string // a JSON array of queue names
}

// Messages returns the messages in this file, without those of some queues and their
// dead-letter queues.
func (db *DB) Messages(except ...string) *Messages {
	names := []string{}
	for _, name := range except {
		names = append(names, name, deadLetterName(name))
	}
	list, err := json.Marshal(names)
	if err != nil {
		panic(err) // strings only
	}
	return &Messages{db, string(list)}
}

// Purge implements jobs.Purger. It looks through all messages, which are few unless there is
// an outage.
func (m *Messages) Purge(ctx context.Context, tenant audit.TenantID, limit int) (int, error) {
	n, err := m.db.purge(ctx, limit, func(b *batch, limit int) (int, error) {
		var queue string
		var number int64
		removed := map[string][]int64{}
		changed := 0
		err := b.each(context.Background(), `DELETE FROM messages WHERE number IN (SELECT number FROM messages WHERE tenant = ? AND queue NOT IN (SELECT value FROM json_each(?)) ORDER BY number LIMIT ?)
			RETURNING queue, number`, []any{string(tenant), m.except, limit}, []any{&queue, &number}, func() (bool, error) {
			removed[queue] = append(removed[queue], number)
			changed++
			return true, nil
		})
		for queue, numbers := range removed {
			b.releaseHeld(b.deliveriesOf(queue), numbers)
		}
		if changed > 0 {
			b.writer.forgetQueues()
		}
		return changed, err
	})
	if err != nil {
		return 0, fmt.Errorf("purge messages of %s: %w", tenant, err)
	}
	return n, nil
}

// CountRecords implements jobs.Counter.
func (m *Messages) CountRecords(ctx context.Context, tenant audit.TenantID) (int64, error) {
	return m.db.countRecords(ctx, "messages", tenant, `SELECT count(*) FROM messages WHERE tenant = ? AND queue NOT IN (SELECT value FROM json_each(?))`, m.except)
}
