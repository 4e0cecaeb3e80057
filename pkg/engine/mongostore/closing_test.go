package mongostore_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/event"
	"go.mongodb.org/mongo-driver/v2/mongo"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/engine/mongostore"
	"github.com/ocelot-audit/ocelot/pkg/retention"
	"github.com/ocelot-audit/ocelot/pkg/testkit/enginetest"
)

const (
	marchPartition = "logs_2026_03"
	closedTime     = 20 * time.Minute
	day            = 24 * time.Hour
)

// closing is a database in which the partition of March is closed and dropped.
type closing struct {
	*testing.T
	uri, name string
	clock     *atomic.Int64 // Unix milliseconds, of all processes and the server
	plain     *mongo.Client
	other     *mongostore.DB // the process of runs that are neither stopped nor killed
}

func newClosing(t *testing.T, uri string) *closing {
	t.Helper()
	c := &closing{T: t, uri: uri, name: newDatabase(t, uri), clock: new(atomic.Int64), plain: client(t, uri)}
	c.clock.Store(time.Date(2026, 6, 1, 0, 0, 0, 0, time.UTC).UnixMilli())
	c.other = c.process()
	return c
}

func (c *closing) now() time.Time { return time.UnixMilli(c.clock.Load()).UTC() }

func (c *closing) wait(d time.Duration) { c.clock.Add(d.Milliseconds()) }

// process returns the database as another process has it.
func (c *closing) process(opts ...mongostore.Option) *mongostore.DB {
	c.Helper()
	return open(c, c.uri, c.name, append(opts, mongostore.WithClock(c.now), mongostore.WithServerClock(c.now))...)
}

func (c *closing) collection() *mongo.Collection {
	return c.plain.Database(c.name).Collection(marchPartition)
}

// count returns how many entries are stored in March.
func (c *closing) count() int {
	c.Helper()
	n, err := c.collection().CountDocuments(c.Context(), bson.D{})
	if err != nil {
		c.Fatal(err)
	}
	return int(n)
}

// removeAll removes the entries, as retention and the TTL index do.
func (c *closing) removeAll() {
	c.Helper()
	if _, err := c.collection().DeleteMany(c.Context(), bson.D{}); err != nil {
		c.Fatal(err)
	}
}

// remove removes one entry.
func (c *closing) remove(n uint32) {
	c.Helper()
	key := mongostore.KeyOfEntry("acme", newEntry("acme", march, n).ID)
	if _, err := c.collection().DeleteOne(c.Context(), bson.D{{Key: "_id", Value: bson.Binary{Data: key[:]}}}); err != nil {
		c.Fatal(err)
	}
}

// close is one run of retain-logs.
func (c *closing) close() retention.Closings {
	c.Helper()
	done, err := c.other.ClosePartitions(c.Context())
	if err != nil {
		c.Fatal(err)
	}
	return done
}

func (c *closing) wantDone(what string, got, want retention.Closings) {
	c.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		c.Errorf("%s (-want +got):\n%s", what, diff)
	}
}

// write stores an entry of March. It reports false if the writer has to come again.
func (c *closing) write(ctx context.Context, db *mongostore.DB, n uint32) bool {
	_, err := db.Entries(shared).Append(ctx, "acme", []audit.Entry{newEntry("acme", march, n)})
	if err != nil && !audit.IsUnavailable(err) && !errors.Is(err, context.Canceled) {
		c.Errorf("append: got %v, want an error that has the message come again", err)
	}
	return err == nil
}

// writeSoon stores an entry as a message does that comes again and again. No partition may be closed
// for longer than the runs that the loop has.
func (c *closing) writeSoon(n uint32) {
	c.Helper()
	db := c.process()
	for range 4 {
		if c.write(c.Context(), db, n) {
			return
		}
		c.wait(closedTime)
		c.close()
	}
	c.Error("the partition is closed for ever, want it to open again")
}

// settle closes and drops what can be.
func (c *closing) settle() {
	c.Helper()
	for range 3 {
		c.wait(9 * day)
		c.close()
	}
}

// emptied makes an open partition without entries that can be closed.
func (c *closing) emptied(db *mongostore.DB) {
	c.Helper()
	appendAll(c, db.Entries(shared), "acme", newEntry("acme", march, 1))
	c.removeAll()
	c.wait(8 * day)
}

func TestAnEmptyPartitionIsClosedDroppedAndOpenAgain(t *testing.T) {
	c := newClosing(t, enginetest.Mongo(t))
	writer := c.process()
	appendAll(t, writer.Entries(shared), "acme", newEntry("acme", march, 1))
	appendAll(t, writer.Entries(shared), "acme", newEntry("acme", c.now(), 2))
	var none retention.Closings
	c.removeAll()
	c.wantDone("a new partition", c.close(), none)
	c.wait(8*day - time.Minute)
	c.wantDone("before 8 days", c.close(), none)
	c.wait(time.Minute)
	c.wantDone("after 8 days", c.close(), retention.Closings{Closed: []string{marchPartition}})
	if c.write(t.Context(), writer, 3) {
		t.Error("a closed partition took an entry, want it to wait")
	}
	c.wait(closedTime - time.Millisecond)
	if c.write(t.Context(), c.process(), 3) {
		t.Error("a closed partition took an entry of a new process, want it to wait")
	}
	c.wantDone("before 20 minutes", c.close(), none)
	if _, err := writer.Entries(shared).Entry(t.Context(), "acme", newEntry("acme", march, 1).ID); !errors.Is(err, audit.ErrNotFound) {
		t.Errorf("read from a closed partition: %v, want %v", err, audit.ErrNotFound)
	}
	c.wait(time.Millisecond)
	c.wantDone("after 20 minutes", c.close(), retention.Closings{Dropped: []string{marchPartition}})
	if diff := cmp.Diff([]string{"logs_2026_06"}, collections(t, c.uri, c.name, "logs_")); diff != "" {
		t.Errorf("collections (-want +got):\n%s", diff)
	}
	c.wantDone("once more", c.close(), none)
	page, err := c.process().Index(shared).Find(t.Context(), "acme", audit.Filter{}, audit.PageRequest{Limit: 10})
	if err != nil {
		t.Fatal(err)
	}
	if got := len(page.Entries); got != 1 {
		t.Errorf("a list has %d entries, want 1", got)
	}
	appendAll(t, writer.Entries(shared), "acme", newEntry("acme", march, 3))
	if diff := cmp.Diff(fullIndexes, listed(t, c.collection())); diff != "" {
		t.Errorf("indexes after a late entry (-want +got):\n%s", diff)
	}
	c.settle()
	if got := c.count(); got != 1 {
		t.Errorf("a partition with an entry has %d after all, want 1", got)
	}
}

func TestAWaitingWriterOpensWhatNobodyDropped(t *testing.T) {
	c := newClosing(t, enginetest.Mongo(t))
	c.emptied(c.process())
	c.close()
	c.wait(closedTime)
	if !c.write(t.Context(), c.process(), 2) {
		t.Error("the partition is closed for longer than 20 minutes, want it open")
	}
	c.settle()
	if got := c.count(); got != 1 {
		t.Errorf("%d entries are stored, want 1", got)
	}
}

func TestOnlyPastPartitionsOfAllTenantsAreClosed(t *testing.T) {
	c := newClosing(t, enginetest.Mongo(t))
	db := c.process()
	appendAll(t, db.Entries(dedicated), "own", newEntry("own", march, 1), newEntry("own", march.AddDate(-1, 0, 0), 2), newEntry("own", march.AddDate(-2, 0, 0), 3))
	if err := db.EnsureIndexes(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, year := range []string{"2024", "2026"} {
		if _, err := c.plain.Database(c.name).Collection("logs_own_"+year).DeleteMany(t.Context(), bson.D{}); err != nil {
			t.Fatal(err)
		}
	}
	c.wait(8 * day)
	c.wantDone("in June", c.close(), retention.Closings{Closed: []string{"logs_own_2024"}})
	c.wait(closedTime)
	c.wantDone("20 minutes later", c.close(), retention.Closings{Dropped: []string{"logs_own_2024"}})
	want := []string{"logs_2026_06", "logs_2026_07", "logs_own_2025", "logs_own_2026"}
	if diff := cmp.Diff(want, collections(t, c.uri, c.name, "logs_")); diff != "" {
		t.Errorf("collections (-want +got):\n%s", diff)
	}
}

// TestRecordsOfAnEarlierVersion have neither an epoch nor a time.
func TestRecordsOfAnEarlierVersion(t *testing.T) {
	c := newClosing(t, enginetest.Mongo(t))
	writer := c.process()
	c.emptied(writer)
	records := c.plain.Database(c.name).Collection("partitions")
	unset := bson.D{{Key: "$unset", Value: bson.D{{Key: "epoch", Value: ""}, {Key: "due_at", Value: ""}}}}
	if _, err := records.UpdateMany(t.Context(), bson.D{}, unset); err != nil {
		t.Fatal(err)
	}
	writer = c.process()
	if !c.write(t.Context(), writer, 2) {
		t.Error("an open partition of an earlier version took no entry, want it to")
	}
	c.removeAll()
	var none retention.Closings
	c.wantDone("the first run", c.close(), none)
	c.wait(7*day - time.Millisecond)
	c.wantDone("before 7 days", c.close(), none)
	c.wait(time.Millisecond)
	c.wantDone("after 7 days", c.close(), retention.Closings{Closed: []string{marchPartition}})
	if c.write(t.Context(), writer, 2) {
		t.Error("a closed partition took an entry, want it to wait")
	}
	c.wait(closedTime)
	c.wantDone("the last run", c.close(), retention.Closings{Dropped: []string{marchPartition}})
	c.writeSoon(2)
	if got := c.count(); got != 1 {
		t.Errorf("%d entries are stored, want 1", got)
	}
}

// gate stops a process before its n-th command, counted from 1.
type gate struct {
	*enginetest.Stop
	mu      sync.Mutex
	armed   bool
	at, n   int
	killed  bool   // the process ends instead of the command
	command string // at which it stopped
}

func newGate(at int) *gate {
	return &gate{Stop: enginetest.NewStop(), at: at}
}

func (g *gate) monitor() *event.CommandMonitor {
	return &event.CommandMonitor{Started: func(_ context.Context, e *event.CommandStartedEvent) {
		if e.DatabaseName == "admin" { // of the driver itself
			return
		}
		g.mu.Lock()
		if g.armed {
			g.n++
		}
		stop := g.armed && g.n == g.at
		if stop {
			g.command = e.CommandName
		}
		g.mu.Unlock()
		if stop {
			g.Here()
			if g.killed {
				runtime.Goexit()
			}
		}
	}}
}

// whileStopped arms the gate for a call; see enginetest.Stop.While.
func (g *gate) whileStopped(call, between func()) bool {
	g.mu.Lock()
	g.armed = true
	g.mu.Unlock()
	return g.While(call, between)
}

// maxCommands is more than one call sends.
const maxCommands = 40

// TestNoOrderOfAWriterAndClosingsLosesAnEntry stops a writer before each of its commands, while the
// partition is closed, dropped, created, emptied and closed again.
func TestNoOrderOfAWriterAndClosingsLosesAnEntry(t *testing.T) {
	uri := enginetest.Mongo(t)
	const mine, others = 7, 8
	closeIt := func(c *closing) { c.close() }
	later := func(c *closing) { c.wait(closedTime) }
	write := func(c *closing) { c.write(c.Context(), c.process(), others) }
	empty := func(c *closing) { c.remove(others) }
	days := func(c *closing) { c.wait(9 * day) }
	meanwhile := map[string][]func(*closing){
		"closed":                             {closeIt},
		"9 days, closed and dropped":         {days, closeIt, later, closeIt},
		"9 days, dropped and created":        {days, closeIt, later, closeIt, write},
		"closed and dropped":                 {closeIt, later, closeIt},
		"dropped and created":                {closeIt, later, closeIt, write},
		"closed and opened":                  {closeIt, later, write},
		"opened and emptied":                 {closeIt, later, write, empty},
		"created, emptied and closed":        {closeIt, later, closeIt, write, empty, days, closeIt},
		"created, emptied and dropped":       {closeIt, later, closeIt, write, empty, days, closeIt, later, closeIt},
		"created, emptied and created again": {closeIt, later, closeIt, write, empty, days, closeIt, later, closeIt, write},
	}
	begin := map[string]func(c *closing, writer *mongostore.DB){
		"no partition": func(c *closing, _ *mongostore.DB) { c.wait(8 * day) },
		"a known partition": func(c *closing, writer *mongostore.DB) {
			c.emptied(writer)
			c.write(c.Context(), writer, 1)
			c.removeAll()
		},
		"a new process": func(c *closing, _ *mongostore.DB) { c.emptied(c.process()) },
	}
	for state, prepare := range begin {
		for what, steps := range meanwhile {
			t.Run(state+", "+what, func(t *testing.T) {
				for at := 1; at < maxCommands; at++ {
					c := newClosing(t, uri)
					g := newGate(at)
					writer := c.process(mongostore.WithMonitor(g.monitor()))
					prepare(c, writer)
					var acknowledged bool
					stopped := g.whileStopped(func() { acknowledged = c.write(t.Context(), writer, mine) }, func() {
						for _, step := range steps {
							step(c)
						}
					})
					if !acknowledged {
						c.writeSoon(mine)
					}
					c.settle()
					if !c.has(mine) {
						t.Errorf("stopped at command %d, %s: the entry is lost (acknowledged at once: %v)", at, g.command, acknowledged)
					}
					if got := listed(t, c.collection()); !maps.Equal(got, fullIndexes) {
						t.Errorf("stopped at command %d, %s: the partition has the indexes %v, want all", at, g.command, got)
					}
					if !stopped {
						return
					}
				}
				t.Errorf("a write sends %d commands, want it to end", maxCommands)
			})
		}
	}
}

// has reports whether an entry of March is stored.
func (c *closing) has(n uint32) bool {
	c.Helper()
	_, err := c.other.Entries(shared).Entry(c.Context(), "acme", newEntry("acme", march, n).ID)
	if err != nil && !errors.Is(err, audit.ErrNotFound) {
		c.Fatal(err)
	}
	return err == nil
}

// TestNoOrderOfClosingsLosesAnEntry stops a run before each of its commands, for longer than others
// wait, or kills it there.
func TestNoOrderOfClosingsLosesAnEntry(t *testing.T) {
	uri := enginetest.Mongo(t)
	fenced := dropsByID(t, uri)
	closeIt := func(c *closing) { c.close() }
	later := func(c *closing) { c.wait(closedTime) }
	closed := func(c *closing) { closeIt(c); later(c) }
	claimed := func(c *closing) { // by a run that was killed before its drop
		closed(c)
		c.runKilledBefore("drop")
		later(c)
	}
	meanwhile := map[string][]func(*closing){
		"nothing":               nil,
		"another run":           {closeIt},
		"an hour":               {later, later, later},
		"a later run":           {later, closeIt},
		"three later runs":      {later, closeIt, later, closeIt, later, closeIt},
		"a run after a killed":  {later, func(c *closing) { c.runKilledBefore("delete") }, later, closeIt},
		"two runs 9 days apart": {closeIt, func(c *closing) { c.wait(9 * day) }, closeIt},
	}
	for state, prepare := range map[string]func(c *closing){"open": func(*closing) {}, "closed": closed, "claimed": claimed} {
		for what, steps := range meanwhile {
			for _, killed := range []bool{false, true} {
				t.Run(fmt.Sprintf("%s, %s, killed %v", state, what, killed), func(t *testing.T) {
					for at := 1; at < maxCommands; at++ {
						c := newClosing(t, uri)
						c.emptied(c.process())
						prepare(c)
						g := newGate(at)
						run := c.process(mongostore.WithMonitor(g.monitor()))
						g.killed = killed
						acknowledged := map[uint32]bool{}
						stopped := g.whileStopped(func() { _, _ = run.ClosePartitions(t.Context()) }, func() {
							n := uint32(10)
							for _, step := range append([]func(*closing){func(*closing) {}}, steps...) {
								step(c)
								n++
								if c.write(t.Context(), c.process(), n) {
									acknowledged[n] = true
								}
							}
						})
						unfenced := g.command == "drop" && !fenced && len(acknowledged) > 0
						if unfenced {
							t.Log("NOT PROVEN HERE: the server drops a collection whatever its id; set MONGODB_URI to a MongoDB to have it asserted")
							continue
						}
						c.writeSoon(9)
						acknowledged[9] = true
						c.settle()
						for _, n := range slices.Sorted(maps.Keys(acknowledged)) {
							if !c.has(n) {
								t.Errorf("stopped at command %d, %s: the acknowledged entry %d is lost", at, g.command, n)
							}
						}
						if got := listed(t, c.collection()); !maps.Equal(got, fullIndexes) {
							t.Errorf("stopped at command %d, %s: the partition has the indexes %v, want all", at, g.command, got)
						}
						if !stopped {
							return
						}
					}
					t.Errorf("a run sends %d commands, want it to end", maxCommands)
				})
			}
		}
	}
}

// runKilledBefore runs retain-logs until it is about to send a command.
func (c *closing) runKilledBefore(command string) {
	db := c.process(mongostore.WithMonitor(&event.CommandMonitor{Started: func(_ context.Context, e *event.CommandStartedEvent) {
		if e.CommandName == command {
			runtime.Goexit()
		}
	}}))
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_, _ = db.ClosePartitions(c.Context())
	}()
	<-ended
}

// TestARunThatIsCanceledFinishesItsDrop: else writers wait for 20 minutes more.
func TestARunThatIsCanceledFinishesItsDrop(t *testing.T) {
	c := newClosing(t, enginetest.Mongo(t))
	c.emptied(c.process())
	c.close()
	c.wait(closedTime)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	db := c.process(mongostore.WithMonitor(&event.CommandMonitor{Started: func(_ context.Context, e *event.CommandStartedEvent) {
		if e.CommandName == "drop" {
			cancel()
		}
	}}))
	done, _ := db.ClosePartitions(ctx) // the context's error, if another partition was to follow
	c.wantDone("canceled", done, retention.Closings{Dropped: []string{marchPartition}})
	if !c.write(t.Context(), c.process(), 2) {
		t.Error("the partition takes no entry, want it created again")
	}
}

// TestARunBeginsWithClosedPartitions, although another was due earlier: writers wait for them.
func TestARunBeginsWithClosedPartitions(t *testing.T) {
	c := newClosing(t, enginetest.Mongo(t))
	c.emptied(c.process())
	c.close()
	appendAll(t, c.process().Entries(dedicated), "own", newEntry("own", march.AddDate(-2, 0, 0), 1))
	c.wait(closedTime)
	var looks []string
	db := c.process(mongostore.WithMonitor(&event.CommandMonitor{Started: func(_ context.Context, e *event.CommandStartedEvent) {
		if name, ok := e.Command.Lookup("find").StringValueOK(); ok && strings.HasPrefix(name, "logs_") {
			looks = append(looks, name)
		}
		if name, ok := e.Command.Lookup("update").StringValueOK(); ok && name == "partitions" {
			looks = append(looks, e.Command.String())
		}
	}}))
	if _, err := db.ClosePartitions(t.Context()); err != nil {
		t.Fatal(err)
	}
	if len(looks) < 2 || looks[0] != marchPartition {
		t.Errorf("the run looks at %v, want %s first", looks, marchPartition)
	}
}

// TestARunWithLittleTimeLeftClaimsNothing: it could be killed before its drop.
func TestARunWithLittleTimeLeftClaimsNothing(t *testing.T) {
	c := newClosing(t, enginetest.Mongo(t))
	c.emptied(c.process())
	c.close()
	c.wait(closedTime)
	ctx, cancel := context.WithTimeout(t.Context(), 59*time.Second)
	defer cancel()
	done, err := c.other.ClosePartitions(ctx)
	if err != nil {
		t.Error(err)
	}
	c.wantDone("59 seconds before its end", done, retention.Closings{})
	c.wantDone("the next run", c.close(), retention.Closings{Dropped: []string{marchPartition}})
}

// dropsByID reports whether the server drops a collection only if it has the given id.
func dropsByID(t *testing.T, uri string) bool {
	t.Helper()
	db := client(t, uri).Database(newDatabase(t, uri))
	if err := db.CreateCollection(t.Context(), "other"); err != nil {
		t.Fatal(err)
	}
	id := bson.Binary{Subtype: bson.TypeBinaryUUID, Data: make([]byte, 16)}
	return db.RunCommand(t.Context(), bson.D{{Key: "drop", Value: "other"}, {Key: "collectionUUID", Value: id}}).Err() != nil
}
