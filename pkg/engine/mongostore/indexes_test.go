package mongostore_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/event"
	"go.mongodb.org/mongo-driver/v2/mongo"

	"github.com/ocelot-audit/ocelot/pkg/activity"
	"github.com/ocelot-audit/ocelot/pkg/arrival"
	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/engine/mongostore"
	"github.com/ocelot-audit/ocelot/pkg/jobs"
	"github.com/ocelot-audit/ocelot/pkg/quarantine"
	"github.com/ocelot-audit/ocelot/pkg/retention"
	"github.com/ocelot-audit/ocelot/pkg/stream"
	"github.com/ocelot-audit/ocelot/pkg/tenants"
	"github.com/ocelot-audit/ocelot/pkg/testkit/enginetest"
)

// commands remembers what a DB asked of the server.
type commands struct {
	mu   sync.Mutex
	sent []bson.Raw
}

func (c *commands) monitor() *event.CommandMonitor {
	return &event.CommandMonitor{Started: func(_ context.Context, e *event.CommandStartedEvent) {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.sent = append(c.sent, slices.Clone(e.Command))
	}}
}

// named returns the commands with this name.
func (c *commands) named(names ...string) []bson.Raw {
	c.mu.Lock()
	defer c.mu.Unlock()
	var found []bson.Raw
	for _, command := range c.sent {
		elements, _ := command.Elements()
		if slices.Contains(names, elements[0].Key()) {
			found = append(found, command)
		}
	}
	return found
}

// listed describes the indexes of a collection by their names.
func listed(t *testing.T, c *mongo.Collection) map[string]string {
	t.Helper()
	cursor, err := c.Indexes().List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var specs []struct {
		Name    string
		Key     bson.D
		Unique  bool
		Expires *int64 `bson:"expireAfterSeconds"`
		Partial bson.D `bson:"partialFilterExpression"`
		Weights bson.D // of a real server's text index, whose key it spells in its own way
	}
	if err := cursor.All(t.Context(), &specs); err != nil {
		t.Fatal(err)
	}
	indexes := map[string]string{}
	for _, spec := range specs {
		var fields []string
		for _, key := range spec.Key {
			switch {
			case key.Key == "_fts":
				fields = append(fields, spec.Weights[0].Key+":text")
			case key.Key == "_ftsx":
			case key.Value == "text":
				fields = append(fields, key.Key+":text")
			default:
				fields = append(fields, key.Key)
			}
		}
		text := strings.Join(fields, ",")
		if spec.Unique {
			text += " unique"
		}
		if spec.Expires != nil {
			text += fmt.Sprintf(" expires after %d", *spec.Expires)
		}
		if spec.Partial != nil {
			text += " of some"
		}
		indexes[spec.Name] = text
	}
	return indexes
}

var fullIndexes = map[string]string{
	"_id_":      "_id",
	"time":      "tenant_id,timestamp,_id",
	"user":      "tenant_id,user_id,_id",
	"action":    "tenant_id,action,resource_type,_id",
	"severity":  "tenant_id,severity,_id",
	"resource":  "tenant_id,resource_id,_id",
	"deletable": "deletable_at expires after 0",
	"marked":    "tenant_id,_id of some",
	"text":      "tenant_id,message:text",
}

var leanIndexes = map[string]string{
	"_id_":      "_id",
	"user":      "tenant_id,user_id,_id",
	"resource":  "tenant_id,resource_id,_id",
	"deletable": "deletable_at expires after 0",
	"marked":    "tenant_id,_id of some",
}

func TestIndexCount(t *testing.T) {
	for indexes, want := range map[mongostore.Indexes]int{mongostore.IndexesFull: len(fullIndexes), mongostore.IndexesLean: len(leanIndexes)} {
		if got := mongostore.IndexCount(indexes); got != want {
			t.Errorf("%s: got %d indexes, want %d", indexes, got, want)
		}
	}
}

func TestEnsureIndexesMakesCollectionsAndPartitions(t *testing.T) {
	uri := enginetest.Mongo(t)
	name := newDatabase(t, uri)
	clock := mongostore.WithClock(func() time.Time { return time.Date(2026, 12, 31, 23, 0, 0, 0, time.UTC) })
	db := open(t, uri, name, clock)
	for range 2 { // again is no error, also by another process
		for _, db := range []*mongostore.DB{db, open(t, uri, name, clock)} {
			if err := db.EnsureIndexes(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
	}
	for collection, want := range map[string]map[string]string{
		"logs_2026_12": fullIndexes, "logs_2027_01": fullIndexes,
		"tenants":     {"_id_": "_id", "isolation": "settings.isolation,_id"},
		"keys":        {"_id_": "_id", "hash": "hash unique", "tenant_created": "tenant_id,created_at,_id"},
		"quarantine":  {"_id_": "_id", "tenant_item": "tenant_id,_id", "tenant_type": "tenant_id,entry.resource_type,_id", "tenant_resource": "tenant_id,entry.resource_type,entry.resource_id,_id"},
		"streams":     {"_id_": "_id", "expiry": "expires_at expires after 0"},
		"arrivals":    {"_id_": "_id", "tenant_messages": "tenant_id,messages unique", "tenant_days": "tenant_id,days,repair"},
		"activity":    {"_id_": "_id", "work_due": "work,due_at", "tenant_item": "tenant_id,_id"},
		"partitions":  {"_id_": "_id", "due": "due_at"},
		"connections": {"_id_": "_id", "tenant_subscribed": "tenant_id,subscribed,_id", "expiry": "expires_at expires after 0"},
	} {
		if got := listed(t, client(t, uri).Database(name).Collection(collection)); !maps.Equal(got, want) {
			t.Errorf("%s has the indexes %v, want %v", collection, got, want)
		}
	}
}

func TestAppendMakesPartitionsWithIndexesOnce(t *testing.T) {
	uri := enginetest.Mongo(t)
	for indexes, wantIndexes := range map[mongostore.Indexes]map[string]string{mongostore.IndexesFull: fullIndexes, mongostore.IndexesLean: leanIndexes} {
		t.Run(string(indexes), func(t *testing.T) { appendMakesPartitionsOnce(t, uri, indexes, wantIndexes) })
	}
}

func appendMakesPartitionsOnce(t *testing.T, uri string, indexes mongostore.Indexes, wantIndexes map[string]string) {
	name := newDatabase(t, uri)
	var sent commands
	clock := mongostore.WithClock(func() time.Time { return march })
	db := open(t, uri, name, clock, mongostore.WithMonitor(sent.monitor()), mongostore.WithIndexes(indexes))
	appendBoth := func(db *mongostore.DB, n uint32) {
		for tenant, isolation := range map[audit.TenantID]mongostore.IsolationFunc{"acme": shared, "own": dedicated} {
			entries := []audit.Entry{newEntry(tenant, march, n), newEntry(tenant, march.AddDate(1, 0, 0), n)}
			if appended, err := db.Entries(isolation).Append(t.Context(), tenant, entries); err != nil {
				t.Error(err)
			} else if len(appended.Rejections) > 0 {
				t.Errorf("got rejections %+v, want none", appended.Rejections)
			}
		}
	}
	var writers sync.WaitGroup
	for i := range uint32(8) {
		writers.Go(func() { appendBoth(db, i) })
	}
	writers.Wait()
	want := []string{"logs_2026_03", "logs_2027_03", "logs_own_2026", "logs_own_2027"}
	if diff := cmp.Diff(want, collections(t, uri, name, "logs_")); diff != "" {
		t.Errorf("collections (-want +got):\n%s", diff)
	}
	for _, partition := range want {
		if diff := cmp.Diff(wantIndexes, listed(t, client(t, uri).Database(name).Collection(partition))); diff != "" {
			t.Errorf("indexes of %s (-want +got):\n%s", partition, diff)
		}
	}
	perPartition := 1
	if indexes == mongostore.IndexesFull {
		perPartition = 2 // the text index apart
	}
	if n := len(sent.named("createIndexes")); n != perPartition*len(want) {
		t.Errorf("%d createIndexes commands, want %d", n, perPartition*len(want))
	}
	var later commands
	appendBoth(open(t, uri, name, mongostore.WithMonitor(later.monitor()), mongostore.WithIndexes(indexes)), 100)
	if n := len(later.named("createIndexes")); n != 0 {
		t.Errorf("another process sent %d createIndexes commands, want 0", n)
	}
}

// exercise has every query of the package sent.
func exercise(t *testing.T, db *mongostore.DB) {
	t.Helper()
	check := func(what string, err error) {
		t.Helper()
		// With lean indexes, some lists have no index.
		if err != nil && !errors.Is(err, audit.ErrNotFound) && !errors.Is(err, mongostore.ErrNoIndex) {
			t.Fatalf("%s: got error %v, want none, %v or %v", what, err, audit.ErrNotFound, mongostore.ErrNoIndex)
		}
	}
	entry := newEntry("acme", march, 1)
	for _, isolation := range []mongostore.IsolationFunc{shared, dedicated} {
		store := db.Entries(isolation)
		other := newEntry("acme", march, 2)
		for range 2 {
			_, err := store.Append(t.Context(), "acme", []audit.Entry{entry, other})
			check("append", err)
		}
		_, err := store.Entry(t.Context(), "acme", entry.ID)
		check("entry", err)
		_, err = store.Entry(t.Context(), "acme", audit.EntryID{})
		check("no entry", err)
		for _, after := range []audit.EntryID{{}, entry.ID} {
			_, err = store.IDs(t.Context(), "acme", time.Time{}, time.Time{}, after, 10)
			check("all ids", err)
			_, err = store.IDs(t.Context(), "acme", march.Add(-time.Hour), march.Add(time.Hour), after, 10)
			check("ids", err)
			for _, marked := range []bool{false, true} {
				_, err = store.Retained(t.Context(), "acme", retention.Selection{From: march.Add(-time.Hour), After: after, Marked: marked}, 10)
				check("entries to retain", err)
			}
		}
	}
	position := &audit.Position{Time: entry.Timestamp, Tie: entry.ID.String()}
	equals := func(field audit.Field, values ...string) audit.Expr {
		return audit.Equals{Field: field, Values: values}
	}
	for _, where := range []audit.Expr{
		nil, equals("user_id", "user-1"), equals("user_id", "user-1", "user-2"), equals("action", "UPDATE", "DELETE"), equals("severity", "ERROR"),
		audit.And{equals("action", "UPDATE"), equals("resource_type", "order")}, equals("resource_id", "1"),
		audit.And{equals("user_id", "user-1"), audit.Not{Expr: equals("session_id", "s")}, audit.Or{equals("changed", "a"), equals("ip_address", "::1")}},
	} {
		for _, order := range []audit.Order{audit.NewestFirst, audit.OldestFirst} {
			for _, from := range []*audit.Position{nil, position} {
				_, err := db.Index(shared).Find(t.Context(), "acme", audit.Filter{From: march.Add(-time.Hour), Where: where}, audit.PageRequest{Order: order, Limit: 5, From: from})
				check("find", err)
			}
		}
	}
	_, err := db.Index(shared).Contains(t.Context(), "acme", entry.ID)
	check("contains", err)
	_, err = db.Entries(shared).EntriesByID(t.Context(), "acme", []audit.EntryID{entry.ID, newEntry("acme", march.AddDate(0, 1, 0), 1).ID})
	check("entries by id", err)
	exerciseAdministration(t, db, check)
	exerciseArrivals(t, db, check)
	exerciseStream(t, db, check)
	_, err = db.Entries(shared).Purge(t.Context(), "acme", 10)
	check("purge entries", err)
}

func exerciseAdministration(t *testing.T, db *mongostore.DB, check func(what string, err error)) {
	t.Helper()
	item := quarantine.Item{ID: strings.Repeat("a", 32), QuarantinedAt: march, Entry: newEntry("acme", march, 1)}
	for range 2 {
		check("quarantine", db.Quarantine().Put(t.Context(), "acme", []quarantine.Item{item}))
	}
	for _, resources := range [][]quarantine.Resource{nil, {{Type: "order"}, {Type: "order", ID: "1"}}} {
		_, _, err := db.Quarantine().List(t.Context(), "acme", resources, "", 10)
		check("list the quarantine", err)
	}
	_, err := db.Quarantine().Item(t.Context(), "acme", item.ID)
	check("item", err)
	_, err = db.Quarantine().Purge(t.Context(), "acme", 10)
	check("purge the quarantine", err)
	check("create a key", db.Keys().CreateKey(t.Context(), tenants.Key{ID: "1", Tenant: "acme", Hash: [32]byte{1}, CreatedAt: march}))
	_, _, err = db.Keys().Keys(t.Context(), "acme", &tenants.KeyPosition{CreatedAt: march, ID: "0"}, 10)
	check("list keys", err)
	_, err = db.Keys().KeyByHash(t.Context(), [32]byte{1})
	check("key by hash", err)
	_, err = db.Keys().Purge(t.Context(), "acme", 10)
	check("purge keys", err)
	check("create a tenant", db.Tenants().Create(t.Context(), audit.Tenant{ID: "acme", Name: "Acme", CreatedAt: march, UpdatedAt: march,
		Settings: audit.Settings{Isolation: audit.IsolationDedicated}}))
	_, _, err = db.Tenants().List(t.Context(), []audit.TenantID{"acme"}, "", 10)
	check("list tenants", err)
	_, err = db.Tenants().Tenant(t.Context(), "acme")
	check("tenant", err)
	_, err = db.PreparePartitions(t.Context())
	check("prepare partitions", err)
	job := jobs.Job{ID: "1", Kind: jobs.KindPurgeTenant, Tenant: "acme", State: jobs.StateQueued, CreatedAt: march, ResumeAt: march}
	check("create a job", db.Jobs().CreateJob(t.Context(), job))
	check("update a job", db.Jobs().UpdateJob(t.Context(), job, 0))
	_, err = db.Jobs().Job(t.Context(), "acme", "none")
	check("job", err)
	for _, after := range []*jobs.Position{nil, {CreatedAt: march, ID: "2"}} {
		_, _, err = db.Jobs().Jobs(t.Context(), "acme", jobs.Filter{States: jobs.States(), Kinds: []jobs.Kind{job.Kind}}, after, 10)
		check("list jobs", err)
	}
	register, day := db.Activity(), march.Truncate(24*time.Hour)
	for range 2 {
		check("touch a day", register.Touch(t.Context(), "acme", []activity.Receipt{{Received: day, Day: day}}, march))
	}
	due, err := register.DueDays(t.Context(), activity.Index, march, 10)
	check("due days", err)
	for _, day := range due {
		check("check a day", register.Check(t.Context(), day, time.Time{}))
	}
	_, err = register.Purge(t.Context(), "acme", 10)
	check("purge the days", err)
	_, err = db.Jobs().OverdueJobs(t.Context(), march, march.Add(time.Hour), 10)
	check("overdue jobs", err)
	_, err = db.Entries(shared).Count(t.Context(), "acme", time.Time{}, time.Time{})
	check("count entries", err)
}

// exerciseArrivals leaves a segment behind, on which a plan can be asked for.
func exerciseArrivals(t *testing.T, db *mongostore.DB, check func(what string, err error)) {
	t.Helper()
	arrivals := db.Arrivals()
	for first := range int64(3) {
		check("append arrivals", arrivals.Append(t.Context(), "acme", segmentOf(first+1, byte(first))))
	}
	_, err := arrivals.Head(t.Context(), "acme")
	check("head of the arrivals", err)
	_, err = arrivals.Placed(t.Context(), "acme", []audit.MessageID{{1}, {9}})
	check("placed messages", err)
	for after := range int64(4) {
		_, err = arrivals.Read(t.Context(), "acme", after, 2)
		check("read arrivals", err)
	}
	_, err = arrivals.PlacesOn(t.Context(), "acme", march)
	check("count places", err)
	check("visit a day", arrivals.VisitDay(t.Context(), "acme", march, func([]audit.EntryID) {}))
	_, err = arrivals.Repaired(t.Context(), "acme", segmentOf(1, 1).IDs)
	check("repaired entries", err)
	_, err = arrivals.Prune(t.Context(), "acme", march.Add(time.Hour), 1)
	check("prune arrivals", err)
	_, err = arrivals.Purge(t.Context(), "acme", 1)
	check("purge arrivals", err)
}

// segmentOf returns a segment with one id that a message brought.
func segmentOf(first int64, message byte) arrival.Segment {
	return arrival.Segment{
		First: first, IDs: []audit.EntryID{newEntry("acme", march, uint32(first)).ID}, Messages: []audit.MessageID{{message}}, WrittenAt: march,
	}
}

// exerciseStream leaves a stream and a connection behind, on which a plan can be asked for.
func exerciseStream(t *testing.T, db *mongostore.DB, check func(what string, err error)) {
	t.Helper()
	streams, until, leased := db.Streams(), time.Now().Add(time.Hour), time.Now().Add(stream.MaxAhead/2)
	for range 2 {
		check("open", streams.Open(t.Context(), "acme", until))
		for _, holder := range []string{"x", "y"} {
			_, _, err := streams.Acquire(t.Context(), "acme", holder, leased, leased)
			check("acquire", err)
		}
		check("save", streams.Save(t.Context(), "acme", "x", map[string]stream.Progress{"s": {Place: 1}}, leased, leased))
		check("release", streams.Release(t.Context(), "acme", "x", stream.Rest{}))
		_, err := streams.Stream(t.Context(), "acme")
		check("stream", err)
		_, err = streams.Idle(t.Context(), []audit.TenantID{"acme", "globex"})
		check("idle", err)
	}
	_, err := streams.Purge(t.Context(), "acme", 2)
	check("purge the stream", err)
	check("open", streams.Open(t.Context(), "acme", until))
	_, _, err = streams.Acquire(t.Context(), "acme", "x", until, until)
	check("acquire", err)
	check("close", streams.Close(t.Context(), "acme", "x", 1))
	connections := db.Connections()
	for _, id := range []string{"a", "b", "c"} {
		check("create a connection", connections.Create(t.Context(), stream.Connection{ID: id, Tenant: "acme", ConnectedAt: march, ExpiresAt: until}))
		for _, subscription := range []string{"x", "y"} {
			check("subscribe", connections.Subscribe(t.Context(), id, stream.Subscription{ID: subscription}))
		}
		check("end a subscription", connections.EndSubscription(t.Context(), id, "x"))
		_, err = connections.Connection(t.Context(), id)
		check("connection", err)
	}
	_, err = connections.Subscribed(t.Context(), "acme")
	check("subscribed", err)
	_, err = connections.CountSubscribed(t.Context(), "acme")
	check("count the subscribed", err)
	check("remove", connections.Remove(t.Context(), "a"))
	_, err = connections.Purge(t.Context(), "acme", 1)
	check("purge connections", err)
}

// hintOf returns the index that a find or delete is meant to use; "" where it names none.
func hintOf(command bson.Raw) string {
	if hint, ok := command.Lookup("hint").StringValueOK(); ok {
		return hint
	}
	if key := command.Lookup("filter", "_id"); key.Type == bson.TypeString {
		return "_id_" // the server has no other way to an _id
	}
	return ""
}

// queriedIndexes are all but those that only keep documents or serve operators.
var queriedIndexes = []string{
	"_id_", "user", "action", "severity", "resource", "marked", "isolation",
	"hash", "tenant_created", "tenant_item", "tenant_type", "tenant_resource", "tenant_messages", "tenant_days", "tenant_subscribed", "resume", "work_due",
}

func TestEveryQueryNamesItsIndex(t *testing.T) {
	uri := enginetest.Mongo(t)
	var sent commands
	exercise(t, open(t, uri, newDatabase(t, uri), mongostore.WithMonitor(sent.monitor())))
	used := map[string]int{}
	for _, command := range sent.named("find") {
		hint := hintOf(command)
		if hint == "" {
			t.Errorf("a query names no index, want one: %s", command)
		}
		used[hint]++
	}
	for _, index := range queriedIndexes {
		if used[index] == 0 {
			t.Errorf("no query names the index %s, want one", index)
		}
	}
	for _, command := range sent.named("delete", "update") {
		name := command.Index(0).Key() + "s"
		writes, err := command.Lookup(name).Array().Values()
		if err != nil {
			t.Fatal(err)
		}
		for _, write := range writes {
			if write.Document().Lookup("q", "_id").IsZero() {
				t.Errorf("a write does not go by _id, want it to: %s", write)
			}
		}
	}
	for _, command := range sent.named("findAndModify") {
		if command.Lookup("query", "_id").IsZero() {
			t.Errorf("a write does not go by _id, want it to: %s", command)
		}
	}
	for _, command := range sent.named("aggregate") { // counts the entries of a tenant, from an index alone
		if hint := hintOf(command); hint != "time" {
			t.Errorf("a count names the index %q, want time: %s", hint, command)
		}
		match, err := command.Lookup("pipeline", "0", "$match").Document().Elements()
		if err != nil {
			t.Fatal(err)
		}
		for _, element := range match {
			if key := element.Key(); key != "tenant_id" && key != "timestamp" {
				t.Errorf("a count restricts %s, want only what its index has: %s", key, command)
			}
		}
	}
	for _, command := range sent.named("count") { // of a dedicated partition, from the server's statistics
		if query, err := command.LookupErr("query"); err == nil {
			t.Errorf("a count has the query %s, want none", query)
		}
	}
}

// TestCountsWithFewerIndexes: a partition was created with lean indexes, and another process
// counts it with full ones.
func TestCountsWithFewerIndexes(t *testing.T) {
	uri := enginetest.Mongo(t)
	name := newDatabase(t, uri)
	var entries []audit.Entry
	for n := range uint32(50) {
		entries = append(entries, newEntry("acme", march.Add(time.Duration(n)*time.Hour), n))
	}
	if _, err := open(t, uri, name, mongostore.WithIndexes(mongostore.IndexesLean)).Entries(shared).Append(t.Context(), "acme", entries); err != nil {
		t.Fatal(err)
	}
	for _, indexes := range []mongostore.Indexes{mongostore.IndexesLean, mongostore.IndexesFull} {
		got, err := open(t, uri, name, mongostore.WithIndexes(indexes)).Entries(shared).Count(t.Context(), "acme", march.Add(time.Hour), march.Add(11*time.Hour))
		if err != nil {
			t.Fatal(err)
		}
		if got != 10 {
			t.Errorf("%s: counted %d entries, want 10", indexes, got)
		}
	}
}

// TestMarkedEntriesWithoutTheirIndex: an earlier version created the partition.
func TestMarkedEntriesWithoutTheirIndex(t *testing.T) {
	uri := enginetest.Mongo(t)
	name := newDatabase(t, uri)
	store := open(t, uri, name).Entries(shared)
	entries := []audit.Entry{newEntry("acme", march, 1), newEntry("acme", march, 2)}
	_, err := store.Append(t.Context(), "acme", entries)
	if err == nil {
		err = store.Mark(t.Context(), "acme", []audit.EntryID{entries[1].ID}, time.Hour)
	}
	if err == nil {
		err = client(t, uri).Database(name).Collection("logs_2026_03").Indexes().DropOne(t.Context(), "marked")
	}
	if err != nil {
		t.Fatal(err)
	}
	got, err := store.Retained(t.Context(), "acme", retention.Selection{Marked: true}, 10)
	if err != nil {
		t.Fatal(err)
	}
	if len(got) != 1 || got[0].ID != entries[1].ID {
		t.Errorf("got %v, want the marked entry %s", got, entries[1].ID)
	}
}

// TestQueriesUseTheirIndex asks the server how it answers each query.
func TestQueriesUseTheirIndex(t *testing.T) {
	uri := enginetest.Mongo(t)
	name := newDatabase(t, uri)
	database := client(t, uri).Database(name)
	var sent commands
	exercise(t, open(t, uri, name, mongostore.WithMonitor(sent.monitor())))
	probe := bson.D{{Key: "explain", Value: bson.D{{Key: "find", Value: "tenants"}}}}
	var server mongo.ServerError
	if err := database.RunCommand(t.Context(), probe).Err(); errors.As(err, &server) && server.HasErrorCode(59) { // CommandNotFound
		t.Skip("NOT PROVEN HERE: this server has no explain; set MONGODB_URI to a MongoDB to have every query's plan asserted")
	}
	proven := map[string]bool{}
	for _, query := range sent.named("find") {
		explained := explain(t, database, query)
		if explained["EOF"] {
			continue // of a partition that does not exist (any more)
		}
		want := hintOf(query)
		proven[want] = true
		if !explained["index "+want] {
			t.Errorf("%s: got the plan %v, want the index %q", query, explained, want)
		}
		if explained["COLLSCAN"] {
			t.Errorf("%s: got the plan %v, want none with COLLSCAN", query, explained)
		}
		if explained["SORT"] {
			t.Errorf("%s: got the plan %v, want none with SORT", query, explained)
		}
	}
	for _, index := range queriedIndexes {
		if !proven[index] {
			t.Errorf("no query proves the index %s, want one", index)
		}
	}
}

// explain returns the stages of the plan and the names of its indexes.
func explain(t *testing.T, database *mongo.Database, query bson.Raw) map[string]bool {
	t.Helper()
	find := bson.D{}
	for _, name := range []string{"find", "filter", "hint", "sort", "limit", "projection"} {
		if value := query.Lookup(name); !value.IsZero() {
			find = append(find, bson.E{Key: name, Value: value})
		}
	}
	var answer bson.Raw
	err := database.RunCommand(t.Context(), bson.D{{Key: "explain", Value: find}, {Key: "verbosity", Value: "queryPlanner"}}).Decode(&answer)
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	walkPlan(answer.Lookup("queryPlanner", "winningPlan"), seen)
	return seen
}

func walkPlan(value bson.RawValue, seen map[string]bool) {
	switch value.Type {
	case bson.TypeEmbeddedDocument:
		elements, _ := value.Document().Elements()
		for _, e := range elements {
			if text, ok := e.Value().StringValueOK(); ok && e.Key() == "stage" {
				seen[text] = true
				if text == "IDHACK" || strings.HasPrefix(text, "EXPRESS") {
					seen["index _id_"] = true
				}
			} else if ok && e.Key() == "indexName" {
				seen["index "+text] = true
			}
			walkPlan(e.Value(), seen)
		}
	case bson.TypeArray:
		values, _ := value.Array().Values()
		for _, v := range values {
			walkPlan(v, seen)
		}
	}
}

func TestCommandsAskForAMajorityAndNoRetry(t *testing.T) {
	uri := enginetest.Mongo(t)
	var sent commands
	exercise(t, open(t, uri, newDatabase(t, uri), mongostore.WithMonitor(sent.monitor())))
	writes, reads := sent.named("insert", "update", "delete", "findAndModify"), sent.named("find", "distinct")
	if len(writes) == 0 {
		t.Fatal("got no writes, want some")
	}
	if len(reads) == 0 {
		t.Fatal("got no reads, want some")
	}
	for _, command := range writes {
		if w, _ := command.Lookup("writeConcern", "w").StringValueOK(); w != "majority" {
			t.Errorf("%s: got write concern %q, want %q", command, w, "majority")
		} else if !command.Lookup("txnNumber").IsZero() {
			t.Errorf("%s: got txnNumber %v, want none", command, command.Lookup("txnNumber"))
		}
	}
	for _, command := range reads {
		if level, _ := command.Lookup("readConcern", "level").StringValueOK(); level != "majority" {
			t.Errorf("a read has the read concern %q, want %q: %s", level, "majority", command)
		}
	}
}
