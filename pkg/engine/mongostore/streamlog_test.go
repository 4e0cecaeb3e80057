package mongostore_test

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/event"
	"go.mongodb.org/mongo-driver/v2/mongo"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/engine/mongostore"
	"github.com/ocelot-audit/ocelot/pkg/stream"
	"github.com/ocelot-audit/ocelot/pkg/testkit/enginetest"
)

// TestHeadThatIsBehindIsCaughtUp has what a worker leaves behind that died
// between the insert of a segment and the update of the head.
func TestHeadThatIsBehindIsCaughtUp(t *testing.T) {
	uri := enginetest.Mongo(t)
	name := newDatabase(t, uri)
	now := time.Now().UTC().Truncate(time.Millisecond)
	log := open(t, uri, name, mongostore.WithClock(func() time.Time { return now })).StreamLog()
	heads := client(t, uri).Database(name).Collection("streams")
	for what, step := range map[string]struct {
		do   func(tenant audit.TenantID, last int64) (int64, error)
		want int64 // beyond last
	}{
		"Head": {func(tenant audit.TenantID, _ int64) (int64, error) { return log.Head(t.Context(), tenant) }, 0},
		"Read": {func(tenant audit.TenantID, last int64) (int64, error) {
			segments, err := log.Read(t.Context(), tenant, last-2, 10)
			return last - 2 + int64(len(segments)), err
		}, 0},
		"Append": {func(tenant audit.TenantID, last int64) (int64, error) {
			return last + 1, log.Append(t.Context(), tenant, []audit.EntryID{newEntry(tenant, march, 2).ID, newEntry(tenant, march, 3).ID})
		}, 1},
		"AppendAgain": {func(tenant audit.TenantID, last int64) (int64, error) {
			return last, log.Append(t.Context(), tenant, []audit.EntryID{newEntry(tenant, march, 1).ID, newEntry(tenant, march, 2).ID})
		}, 0},
		"Open": {func(tenant audit.TenantID, _ int64) (int64, error) {
			return log.Open(t.Context(), tenant, now.Add(time.Hour))
		}, 0},
		"Reopen": {func(tenant audit.TenantID, _ int64) (int64, error) {
			now = now.Add(time.Hour)
			return log.Open(t.Context(), tenant, now.Add(time.Hour))
		}, 1},
	} {
		t.Run(what, func(t *testing.T) {
			tenant := audit.TenantID("t-" + what)
			head, err := log.Open(t.Context(), tenant, now.Add(time.Hour))
			for i := uint32(0); err == nil && i < 3; i++ {
				err = log.Append(t.Context(), tenant, []audit.EntryID{newEntry(tenant, march, i).ID})
			}
			if err != nil {
				t.Fatal(err)
			}
			last := head + 3
			behind := bson.D{{Key: "$set", Value: bson.D{{Key: "number", Value: last - 1}}}}
			if _, err := heads.UpdateByID(t.Context(), string(tenant), behind); err != nil {
				t.Fatal(err)
			}
			if got, err := step.do(tenant, last); err != nil {
				t.Fatal(err)
			} else if got != last+step.want {
				t.Fatalf("%s answers %d, want %d", what, got, last+step.want)
			}
			if got := storedHead(t, heads, tenant); got != last+step.want {
				t.Fatalf("after %s the head has the number %d, want %d", what, got, last+step.want)
			}
		})
	}
}

func storedHead(t *testing.T, heads *mongo.Collection, tenant audit.TenantID) int64 {
	t.Helper()
	var doc struct{ Number int64 }
	if err := heads.FindOne(t.Context(), bson.D{{Key: "_id", Value: string(tenant)}}).Decode(&doc); err != nil {
		t.Fatal(err)
	}
	return doc.Number
}

// TestWorkersOfManyProcessesMakeOneOrder has each worker connect by itself, as
// Lambdas do, and give its time to others between its reads and its insert.
func TestWorkersOfManyProcessesMakeOneOrder(t *testing.T) {
	engine := enginetest.StartMongo(t)
	name := newDatabase(t, engine.URL())
	proxy := enginetest.NewTCPProxy(t, engine.Addr())
	var inserts atomic.Int64
	proxy.Inject(func(request []byte) enginetest.TCPFault {
		if bytes.Contains(request, []byte("insert\x00")) && inserts.Add(1)%3 == 0 {
			return enginetest.TCPFault{Delay: 20 * time.Millisecond}
		}
		return enginetest.TCPFault{}
	})
	const workers, each = 6, 15
	head, err := open(t, engine.URLAt(proxy.Addr()), name).StreamLog().Open(t.Context(), "acme", time.Now().Add(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	var running sync.WaitGroup
	for w := range workers {
		log := open(t, engine.URLAt(proxy.Addr()), name).StreamLog()
		running.Go(func() {
			for i := range uint32(each) { // two workers have the same ids in different company
				ids := []audit.EntryID{newEntry("acme", march, uint32(w/2)*each+i).ID, newEntry("acme", march, uint32(w)*1000+i).ID}
				if err := log.Append(t.Context(), "acme", ids); err != nil {
					t.Error(err)
				}
			}
		})
	}
	running.Wait()
	segments, err := open(t, engine.URL(), name).StreamLog().Read(t.Context(), "acme", head, 1000)
	if err != nil {
		t.Fatal(err)
	}
	var got []audit.EntryID
	for i, segment := range segments {
		if want := head + 1 + int64(i); segment.Number != want {
			t.Fatalf("segment %d after %d has the number %d, want %d", i+1, head, segment.Number, want)
		}
		got = append(got, segment.IDs...)
	}
	want := map[audit.EntryID]bool{}
	for w := range workers {
		for i := range uint32(each) {
			want[newEntry("acme", march, uint32(w/2)*each+i).ID], want[newEntry("acme", march, uint32(w)*1000+i).ID] = true, true
		}
	}
	slices.SortFunc(got, func(a, b audit.EntryID) int { return bytes.Compare(a[:], b[:]) })
	if n := len(slices.Compact(slices.Clone(got))); n != len(got) {
		t.Fatalf("the stream: got %d different ids, want %d", n, len(got))
	} else if n != len(want) {
		t.Fatalf("the stream: got %d different ids, want %d", n, len(want))
	}
}

// before returns an option that has do called once, right before the first
// command with the name is sent.
func before(command string, do func()) mongostore.Option {
	var once sync.Once
	return mongostore.WithMonitor(&event.CommandMonitor{Started: func(_ context.Context, e *event.CommandStartedEvent) {
		if e.CommandName == command {
			once.Do(do)
		}
	}})
}

// raced is a stream to which one worker does something, and another something
// between two commands of the first.
type raced struct {
	now           time.Time
	first, second *mongostore.StreamLog
	other         func()
}

func newRaced(t *testing.T, command string) *raced {
	t.Helper()
	uri := enginetest.Mongo(t)
	name := newDatabase(t, uri)
	r := &raced{now: time.Now().UTC().Truncate(time.Millisecond)}
	clock := mongostore.WithClock(func() time.Time { return r.now })
	r.first = open(t, uri, name, clock, before(command, func() { r.other() })).StreamLog()
	r.second = open(t, uri, name, clock).StreamLog()
	return r
}

func (r *raced) open(t *testing.T, l *mongostore.StreamLog, d time.Duration) int64 {
	t.Helper()
	head, err := l.Open(t.Context(), "acme", r.now.Add(d))
	if err != nil {
		t.Fatal(err)
	}
	return head
}

func (r *raced) append(t *testing.T, l *mongostore.StreamLog, numbers ...uint32) {
	t.Helper()
	var ids []audit.EntryID
	for _, n := range numbers {
		ids = append(ids, newEntry("acme", march, n).ID)
	}
	if err := l.Append(t.Context(), "acme", ids); err != nil {
		t.Fatal(err)
	}
}

// want compares the segments after the position.
func (r *raced) want(t *testing.T, after int64, want ...[]uint32) {
	t.Helper()
	segments, err := r.second.Read(t.Context(), "acme", after, 10)
	if err != nil {
		t.Fatal(err)
	}
	if len(segments) != len(want) {
		t.Fatalf("after %d there is %+v, want %v", after, segments, want)
	}
	for i, segment := range segments {
		var ids []audit.EntryID
		for _, n := range want[i] {
			ids = append(ids, newEntry("acme", march, n).ID)
		}
		if segment.Number != after+1+int64(i) {
			t.Fatalf("%+v: got number %d, want %d", segment, segment.Number, after+1+int64(i))
		}
		if !slices.Equal(segment.IDs, ids) {
			t.Fatalf("%+v: got IDs %v, want %v", segment, segment.IDs, ids)
		}
	}
}

func TestSlowerAppendTakesWhatIsLeft(t *testing.T) {
	r := newRaced(t, "insert")
	head := r.open(t, r.second, time.Hour)
	r.other = func() { r.append(t, r.second, 2, 3); r.append(t, r.second, 4) }
	r.append(t, r.first, 1, 2, 5)
	r.want(t, head, []uint32{2, 3}, []uint32{4}, []uint32{1, 5})
}

func TestAppendToAStreamThatWasOpenedAgainIsOfTheOldOne(t *testing.T) {
	r := newRaced(t, "insert")
	r.open(t, r.second, time.Hour)
	var head int64
	r.other = func() {
		r.now = r.now.Add(time.Hour)
		head = r.open(t, r.second, time.Hour)
	}
	r.append(t, r.first, 1, 2)
	r.want(t, head)
	r.append(t, r.second, 2, 3)
	r.want(t, head, []uint32{2, 3})
}

func TestSlowerOpenJoinsTheFaster(t *testing.T) {
	for what, command := range map[string]string{"New": "insert", "Closed": "update", "Open": "findAndModify"} {
		t.Run(what, func(t *testing.T) {
			r := newRaced(t, command)
			if what != "New" {
				r.open(t, r.second, time.Hour)
			}
			if what == "Closed" {
				r.now = r.now.Add(time.Hour)
			}
			var head int64
			r.other = func() {
				if what == "Open" { // it closes, and is opened again, before the first comes to keep it open
					r.now = r.now.Add(time.Hour)
				}
				head = r.open(t, r.second, 3*time.Hour)
				r.append(t, r.second, 1, 2)
			}
			if got := r.open(t, r.first, time.Hour); got != head+1 {
				t.Fatalf("the slower Open = %d, want the last segment %d", got, head+1)
			}
			r.want(t, head, []uint32{1, 2})
			r.now = r.now.Add(2 * time.Hour)
			if listening, err := r.second.HasSubscribers(t.Context(), "acme"); err != nil {
				t.Fatal(err)
			} else if !listening {
				t.Fatalf("HasSubscribers = %v, want true: the slower Open took time from the faster", listening)
			}
		})
	}
}

// TestClocksMayDiffer: to one process a stream has closed that another, whose
// clock is behind, keeps open at this moment.
func TestClocksMayDiffer(t *testing.T) {
	r := newRaced(t, "update")
	head := r.open(t, r.second, time.Hour)
	r.append(t, r.second, 1)
	r.other = func() {
		r.now = r.now.Add(-time.Minute)
		r.open(t, r.second, time.Hour)
		r.now = r.now.Add(time.Minute)
	}
	r.now = r.now.Add(time.Hour)
	if got := r.open(t, r.first, time.Hour); got != head+1 {
		t.Fatalf("Open = %d, want the last segment %d: it started again with a stream that is open", got, head+1)
	}
	r.want(t, head, []uint32{1})
}

// TestReleaseBeforeItIsAskedIsNotMissed: the holder releases the lease after
// another did not get it, and before that one could ask for it.
func TestReleaseBeforeItIsAskedIsNotMissed(t *testing.T) {
	uri := enginetest.Mongo(t)
	name := newDatabase(t, uri)
	holder, until := open(t, uri, name).Connections(), time.Now().Add(time.Hour)
	late := open(t, uri, name, before("update", func() {
		if released, err := holder.Release(t.Context(), "c", "a"); err != nil {
			t.Error(err)
		} else if !released {
			t.Errorf("Release = %v, want true", released)
		}
	})).Connections()
	if err := holder.Create(t.Context(), stream.Connection{ID: "c", Tenant: "acme", ExpiresAt: until}); err != nil {
		t.Fatal(err)
	}
	if _, acquired, err := holder.Acquire(t.Context(), "c", "a", until); err != nil {
		t.Fatal(err)
	} else if !acquired {
		t.Fatalf("Acquire = %v, want true", acquired)
	}
	if _, acquired, err := late.Acquire(t.Context(), "c", "b", until); err != nil {
		t.Fatal(err)
	} else if !acquired {
		t.Fatalf("Acquire of a lease that was released meanwhile = %v, want true", acquired)
	}
	if released, err := late.Release(t.Context(), "c", "b"); err != nil {
		t.Fatal(err)
	} else if !released {
		t.Fatalf("Release = %v, want true: it was its own asking", released)
	}
}

// TestAnyOneFaultChangesNothing has the same calls made again and again, each
// time with another one of their writes not arriving, or not being answered.
func TestAnyOneFaultChangesNothing(t *testing.T) {
	engine := enginetest.StartMongo(t)
	name := newDatabase(t, engine.URL())
	if err := open(t, engine.URL(), name).EnsureIndexes(t.Context()); err != nil {
		t.Fatal(err)
	}
	faults := map[string]enginetest.TCPFault{"Dropped": {DropRequest: true}, "Lost": {LoseAnswer: true}}
	for what, script := range map[string]struct {
		calls  func(t *testing.T, db *mongostore.DB, id string)
		writes []string // that are repeated within a call
	}{
		"Stream":     {streamCalls, []string{"insert", "update", "findAndModify"}},
		"Connection": {connectionCalls, []string{"update", "findAndModify", "delete"}},
	} {
		t.Run(what, func(t *testing.T) {
			uri, writes := faulty(t, engine, script.writes, 0, enginetest.TCPFault{})
			script.calls(t, open(t, uri, name), "sound")
			total := int(writes.Load())
			if total < 8 {
				t.Fatalf("got %d writes, want at least 8 for the test to prove something", total)
			}
			for nth := 1; nth <= total; nth++ {
				for harm, fault := range faults {
					t.Run(fmt.Sprintf("%s%d", harm, nth), func(t *testing.T) {
						t.Parallel()
						uri, writes := faulty(t, engine, script.writes, nth, fault)
						script.calls(t, open(t, uri, name), fmt.Sprintf("%s-%d", strings.ToLower(harm), nth))
						if n := int(writes.Load()); n < nth {
							t.Fatalf("got %d writes, want at least %d", n, nth)
						}
					})
				}
			}
		})
	}
}

// faulty returns a connection string through which the nth of these writes
// meets the fault, and counts them.
func faulty(t *testing.T, engine *enginetest.Engine, commands []string, nth int, fault enginetest.TCPFault) (uri string, writes *atomic.Int64) {
	t.Helper()
	proxy := enginetest.NewTCPProxy(t, engine.Addr())
	writes = new(atomic.Int64)
	proxy.Inject(func(request []byte) enginetest.TCPFault {
		sent := func(command string) bool { return bytes.Contains(request, []byte("\x02"+command+"\x00")) }
		if !slices.ContainsFunc(commands, sent) || writes.Add(1) != int64(nth) {
			return enginetest.TCPFault{}
		}
		return fault
	})
	return engine.URLAt(proxy.Addr()), writes
}

func streamCalls(t *testing.T, db *mongostore.DB, tenant string) {
	log, acme := db.StreamLog(), audit.TenantID("s-"+tenant)
	var want [][]audit.EntryID
	head, err := log.Open(t.Context(), acme, time.Now().Add(time.Hour))
	for i := uint32(0); err == nil && i < 3; i++ {
		ids := []audit.EntryID{newEntry(acme, march, 2*i).ID, newEntry(acme, march, 2*i+1).ID}
		want = append(want, ids)
		err = log.Append(t.Context(), acme, ids)
	}
	if err != nil {
		t.Fatal(err)
	}
	if again, err := log.Open(t.Context(), acme, time.Now().Add(2*time.Hour)); err != nil {
		t.Fatal(err)
	} else if again != head+3 {
		t.Fatalf("Open = %d, want %d", again, head+3)
	}
	segments, err := log.Read(t.Context(), acme, head, 10)
	if err != nil {
		t.Fatal(err)
	}
	if len(segments) != len(want) {
		t.Fatalf("the stream has %+v, want %d segments", segments, len(want))
	}
	for i, segment := range segments {
		if segment.Number != head+1+int64(i) {
			t.Fatalf("%+v: got number %d, want %d", segment, segment.Number, head+1+int64(i))
		}
		if !slices.Equal(segment.IDs, want[i]) {
			t.Fatalf("%+v: got IDs %v, want %v", segment, segment.IDs, want[i])
		}
	}
}

func connectionCalls(t *testing.T, db *mongostore.DB, id string) {
	s, until := db.Connections(), time.Now().Add(time.Hour)
	if err := s.Create(t.Context(), stream.Connection{ID: id, Tenant: "acme", ExpiresAt: until}); err != nil {
		t.Fatal(err)
	}
	acquire := func(holder string, want bool) {
		t.Helper()
		if _, acquired, err := s.Acquire(t.Context(), id, holder, until); err != nil {
			t.Fatal(err)
		} else if acquired != want {
			t.Fatalf("Acquire by %s = %v, want %v", holder, acquired, want)
		}
	}
	release := func(want bool) {
		t.Helper()
		if released, err := s.Release(t.Context(), id, "a"); err != nil {
			t.Fatal(err)
		} else if released != want {
			t.Fatalf("Release = %v, want %v", released, want)
		}
	}
	acquire("a", true)
	acquire("b", false)
	if err := s.Save(t.Context(), id, "a", &stream.Subscription{Replay: 3}, until); err != nil {
		t.Fatal(err)
	}
	release(false)
	release(true)
	acquire("b", true)
	c, err := s.Connection(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	if c.Subscription == nil {
		t.Fatal("the connection: got no subscription, want one")
	}
	if c.Subscription.Replay != 3 {
		t.Fatalf("the connection: got replay %d, want 3", c.Subscription.Replay)
	}
	if err := s.Remove(t.Context(), id); err != nil {
		t.Fatal(err)
	}
}
