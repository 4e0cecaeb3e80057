package mongostore

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/ingest"
	"github.com/ocelot-audit/ocelot/pkg/retention"
	"github.com/ocelot-audit/ocelot/pkg/ttlcache"
)

// An empty partition of a past period is closed, dropped, and open again: it then has neither a
// collection nor a record, as before its first entry. Its record says how far that is:
//
//	open → closed → dropping → no record
//	         ↓
//	        open: it is not empty, or somebody waits for it
//
// Each arrow is one conditional write that changes the epoch. So only one process takes it,
// and one that slept takes none.
//
// No acknowledged entry is ever dropped. A writer into a past period reads the record before it
// inserts, and again after a majority has the entries. It acknowledges them only if the epoch is
// the same and the partition is open. Whoever closes it looks whether it is empty after a majority
// has the closing. If the writer's second look came before the closing, the look for entries finds
// the entries. If it came after, they are not acknowledged: the message returns to its queue.
// Neither depends on a clock. So nothing that is in the collection between the claim to drop it and its end
// was acknowledged.
const (
	// closeAfter is how long after the end of its period, and after its creation, a partition can be
	// closed. No entry that came on time has left it earlier: the shortest retention is a day, and
	// retention.Grace a week.
	closeAfter = 24*time.Hour + retention.Grace
	// closedTime is how long a partition is closed before it is dropped. Writers wait no longer.
	closedTime = retention.SettleTime
	// emptyCheck is the time between two looks at a partition that has entries.
	emptyCheck = 7 * 24 * time.Hour
	// dropTimeout bounds the steps from the last look to the drop. It is much shorter than
	// closedTime, after which another process may drop the partition. No claim is made with less left
	// of a run.
	dropTimeout = time.Minute
	// claimedTimeout bounds what follows the claim to drop a partition, which goes on if the run is
	// canceled: a claimed partition takes no entries for closedTime.
	claimedTimeout = 15 * time.Second
	// maxLooks bounds the partitions of one run. Most cost one read and one write.
	maxLooks = 2000
)

// errClosedPartition makes a writer come again.
func errClosedPartition(p partition) error {
	return unavailable(fmt.Errorf("the partition %s: %w", p, ingest.ErrPeriodClosed))
}

// errChanged says that another process has changed the record of a partition.
var errChanged = errors.New("the record of the partition was changed meanwhile")

// current matches the record if nobody has changed it since it was read.
func (d *partitionDocument) current() bson.D {
	if d.Epoch.IsZero() {
		return append(withKey(d.Key), bson.E{Key: fieldEpoch, Value: bson.D{{Key: "$exists", Value: false}}})
	}
	return append(withKey(d.Key), bson.E{Key: fieldEpoch, Value: d.Epoch})
}

// changeState stores the state of the record with a new epoch. It returns errChanged if the stored
// record has another epoch.
func (db *DB) changeState(ctx context.Context, d *partitionDocument) error {
	next := bson.NewObjectID()
	fields := bson.D{{Key: fieldEpoch, Value: next}, {Key: fieldDueAt, Value: d.DueAt}}
	update := bson.D{{Key: "$unset", Value: bson.D{{Key: fieldClosedAt, Value: ""}, {Key: fieldDropping, Value: ""}}}}
	if d.isClosed() {
		fields = append(fields, bson.E{Key: fieldClosedAt, Value: d.ClosedAt}, bson.E{Key: fieldDropping, Value: d.Dropping})
		update = nil
	}
	// It is not sent again if its answer is lost: then somebody finds the record when it is due.
	err := db.updateOne(ctx, collectionPartitions, d.current(), append(set(fields...), update...))
	if errors.Is(err, audit.ErrNotFound) {
		return errChanged
	}
	if err == nil {
		d.Epoch = next
	}
	return err
}

// opened is what a process knows of a partition that it writes into.
type opened struct {
	partition partition
	past      bool // its period is over, so it can be closed at any moment
	epoch     bson.ObjectID
}

// openPartition makes sure that the partition is open and has its indexes and its record. If
// its period is over, that was so at most registryTTL ago, and confirmOpen has to follow.
func (db *DB) openPartition(ctx context.Context, p partition) (opened, error) {
	now := db.now()
	o := opened{partition: p, past: p.hasEnded(now)}
	if !o.past {
		return o, db.ensurePartition(ctx, p)
	}
	isKnown := func() bool {
		known, found := db.registry.epochs.Get(p)
		o.epoch = known.Value
		return found && known.Fresh(now, registryTTL)
	}
	if isKnown() {
		return o, nil
	}
	return o, db.catalog.state(p.String()).alone(ctx, func() error {
		if isKnown() {
			return nil
		}
		collection, err := db.collection(p.String())
		if err != nil {
			return err
		}
		record, err := db.register(ctx, collection.Indexes(), p)
		if err != nil {
			return fmt.Errorf("open %s: %w", p, err)
		}
		o.epoch = record.Epoch
		db.registry.epochs.Put(p, ttlcache.Entry[bson.ObjectID]{Value: record.Epoch, ReadAt: now})
		return nil
	})
}

// confirmOpen returns an *audit.UnavailableError if the partition was closed since it was opened:
// what was written meanwhile may be dropped.
func (db *DB) confirmOpen(ctx context.Context, o opened) error {
	if !o.past {
		return nil
	}
	record, err := db.partitionRecord(ctx, o.partition)
	if err == nil && record.Epoch == o.epoch && !record.isClosed() {
		return nil
	}
	db.registry.epochs.Remove(o.partition)
	if err == nil || errors.Is(err, audit.ErrNotFound) {
		err = errClosedPartition(o.partition)
	}
	return err
}

// reopenIfDue opens a partition for a writer that has waited for as long as it can be closed. Then
// nothing has dropped it in time. It returns an *audit.UnavailableError if the writer has to wait.
func (db *DB) reopenIfDue(ctx context.Context, record partitionDocument) (partitionDocument, error) {
	now, _, err := db.serverNow(ctx)
	if err != nil {
		return record, err
	}
	if record.Dropping || now.Before(record.DueAt) {
		return record, errClosedPartition(record.partition())
	}
	if err = db.reopen(ctx, &record, now); errors.Is(err, errChanged) {
		err = errClosedPartition(record.partition())
	}
	return record, err
}

func (db *DB) reopen(ctx context.Context, record *partitionDocument, now time.Time) error {
	record.ClosedAt, record.DueAt = time.Time{}, now.Add(emptyCheck)
	return db.changeState(ctx, record)
}

// ClosePartitions closes the empty partitions of past periods and drops those that have been
// closed for 20 minutes. It opens those again that are not empty. It looks at each partition once a
// week, and at up to 2,000 in one call. Several calls at the same time do no harm.
//
// An empty partition is past the retention of every tenant that has had entries in it: what a tenant
// keeps, what archiving owes and what a hold covers is in it. A late entry finds it open, or
// waits for 20 minutes, and creates it again if it was dropped.
func (db *DB) ClosePartitions(ctx context.Context) (retention.Closings, error) {
	c := closer{DB: db}
	err := c.run(ctx)
	if err != nil {
		err = fmt.Errorf("close partitions: %w", err)
	}
	return c.done, err
}

// closer is one call of ClosePartitions.
type closer struct {
	*DB
	now  time.Time // of the server's clock
	done retention.Closings
}

func (c *closer) run(ctx context.Context) error {
	if err := c.ensurePartitions(ctx); err != nil {
		return err
	}
	var err error
	if c.now, _, err = c.serverNow(ctx); err != nil {
		return err
	}
	due, err := c.due(ctx)
	if err != nil {
		return err
	}
	var failures []error
	for i := range due {
		if ctx.Err() != nil {
			return errors.Join(append(failures, ctx.Err())...)
		}
		if err := c.advance(ctx, &due[i]); err != nil && !errors.Is(err, errChanged) {
			failures = append(failures, fmt.Errorf("%s: %w", due[i].Name, err))
		}
	}
	return errors.Join(failures...)
}

// due returns the records that are due, those of closed partitions first: writers wait for them.
func (c *closer) due(ctx context.Context) (due []partitionDocument, err error) {
	err = c.list(ctx, collectionPartitions, indexPartitionsDue, ascending(fieldDueAt), maxLooks, bson.D{}, func(doc bson.Raw) (bool, error) {
		record, err := readPartition(doc)
		if err != nil || record.DueAt.After(c.now) {
			return false, err
		}
		due = append(due, record)
		return true, nil
	})
	if err != nil {
		return nil, fmt.Errorf("read the records of partitions: %w", err)
	}
	rank := func(d *partitionDocument) int {
		if d.isClosed() {
			return 0
		}
		return 1
	}
	slices.SortStableFunc(due, func(a, b partitionDocument) int { return rank(&a) - rank(&b) })
	return due, nil
}

// advance takes a partition to its next state.
func (c *closer) advance(ctx context.Context, record *partitionDocument) error {
	if record.isClosed() {
		return c.dropOrReopen(ctx, record)
	}
	if record.Epoch.IsZero() { // processes of an earlier version may write for a while without a look at it
		record.DueAt = c.now.Add(emptyCheck)
		return c.changeState(ctx, record)
	}
	start := record.partition().end()
	if record.CreatedAt.After(start) {
		start = record.CreatedAt
	}
	if earliest := start.Add(closeAfter); c.now.Before(earliest) {
		record.DueAt = earliest
		return c.changeDue(ctx, record)
	}
	empty, err := c.isEmpty(ctx, record.Name)
	if err != nil {
		return err
	}
	if !empty {
		record.DueAt = c.now.Add(emptyCheck)
		return c.changeDue(ctx, record)
	}
	record.ClosedAt, record.DueAt = c.now, c.now.Add(closedTime)
	if err := c.changeState(ctx, record); err != nil {
		return err
	}
	c.done.Closed = append(c.done.Closed, record.Name)
	if empty, err = c.isEmpty(ctx, record.Name); err != nil || empty {
		return err
	}
	return c.open(ctx, record) // at once: a writer came in between
}

// changeDue stores when the partition is looked at again. It keeps the epoch, which writers rely on.
func (c *closer) changeDue(ctx context.Context, record *partitionDocument) error {
	err := c.updateOne(ctx, collectionPartitions, record.current(), set(bson.E{Key: fieldDueAt, Value: record.DueAt}))
	if errors.Is(err, audit.ErrNotFound) {
		return errChanged
	}
	return err
}

func (c *closer) open(ctx context.Context, record *partitionDocument) error {
	if err := c.reopen(ctx, record, c.now); err != nil {
		return err
	}
	c.done.Opened = append(c.done.Opened, record.Name)
	return nil
}

// dropOrReopen drops a closed partition, unless it has entries.
func (c *closer) dropOrReopen(ctx context.Context, record *partitionDocument) error {
	bounded, cancel := context.WithTimeout(ctx, dropTimeout)
	defer cancel()
	exists, id, err := c.collectionID(bounded, record.Name)
	if err != nil {
		return err
	}
	// A claim of another process may still be carried out. So a claimed partition does not open
	// again with the same collection, whatever unacknowledged entries are in it by now.
	if !record.Dropping {
		empty, err := c.isEmpty(bounded, record.Name)
		if err != nil {
			return err
		}
		if !empty {
			return c.open(bounded, record)
		}
	}
	now, _, err := c.serverNow(bounded)
	if err != nil {
		return err
	}
	if end, ok := ctx.Deadline(); ok && time.Until(end) < dropTimeout {
		return nil // the next run claims it
	}
	record.Dropping, record.DueAt = true, now.Add(closedTime)
	if err := c.changeState(bounded, record); err != nil {
		return err
	}
	claimed, cancel := context.WithTimeout(context.WithoutCancel(ctx), claimedTimeout)
	defer cancel()
	if exists { // else one that is created by now is not this process' to drop
		if err := c.dropCollection(claimed, record.Name, id); err != nil {
			return err
		}
	}
	err = c.deleteOne(claimed, collectionPartitions, record.current())
	if errors.Is(err, audit.ErrNotFound) {
		return errChanged
	}
	if err != nil {
		return err
	}
	c.registry.families.Remove(record.partition().tenant)
	c.done.Dropped = append(c.done.Dropped, record.Name)
	return nil
}

// isEmpty reports whether a majority has no document of the collection.
func (c *closer) isEmpty(ctx context.Context, name string) (bool, error) {
	empty := true
	o := options.Find().SetHint(indexID).SetProjection(ascending(fieldKey)).SetLimit(1)
	err := c.find(ctx, name, bson.D{}, o, func(bson.Raw) (bool, error) {
		empty = false
		return false, nil
	})
	return empty, err
}

// collectionID reports whether a collection exists, and what tells it from a later one of the same
// name; nil: the server has no such ids.
func (db *DB) collectionID(ctx context.Context, name string) (exists bool, id *bson.Binary, err error) {
	database, err := db.database()
	if err != nil {
		return false, nil, err
	}
	found, err := database.ListCollectionSpecifications(ctx, bson.D{{Key: "name", Value: name}})
	if err != nil || len(found) == 0 {
		return false, nil, failure(ctx, err)
	}
	return true, found[0].UUID, nil
}

// dropCollection drops the collection with this id. It fails if another has its name by now: then
// this process slept, and others have dropped it and written again. A server without such
// ids, as DocumentDB, drops what has the name. There a process must not sleep for closedTime
// between two instructions, which a Lambda cannot.
func (db *DB) dropCollection(ctx context.Context, name string, id *bson.Binary) error {
	if id == nil {
		return db.drop(ctx, name)
	}
	database, err := db.database()
	if err != nil {
		return err
	}
	var refused mongo.CommandError
	err = database.RunCommand(ctx, bson.D{
		{Key: "drop", Value: name}, {Key: "collectionUUID", Value: *id}, {Key: "writeConcern", Value: bson.D{{Key: "w", Value: "majority"}}},
	}).Err()
	switch {
	case errors.As(err, &refused) && (refused.Code == codeNamespaceNotFound || refused.Message == "ns not found"):
		return nil // another process was first
	case errors.As(err, &refused) && refused.Code == codeCollectionChanged:
		return unavailable(fmt.Errorf("drop %s: another collection has its name by now", name))
	case errors.As(err, &refused) && refused.Code == codeUnknownField:
		return db.drop(ctx, name)
	case err != nil:
		return fmt.Errorf("drop %s: %w", name, failure(ctx, err))
	}
	return nil
}
