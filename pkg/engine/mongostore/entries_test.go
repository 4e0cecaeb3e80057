package mongostore_test

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/engine/mongostore"
	"github.com/ocelot-audit/ocelot/pkg/entryjson"
	"github.com/ocelot-audit/ocelot/pkg/testkit/enginetest"
)

func appendAll(t testing.TB, store *mongostore.Entries, tenant audit.TenantID, entries ...audit.Entry) {
	t.Helper()
	appended, err := store.Append(t.Context(), tenant, entries)
	rejections := appended.Rejections
	if err != nil {
		t.Fatal(err)
	}
	if len(rejections) > 0 {
		t.Fatalf("rejections %+v", rejections)
	}
}

// count returns how many documents of the tenant acme the server has in all partitions.
func count(t testing.TB, uri, name string) int {
	t.Helper()
	database := client(t, uri).Database(name)
	collections, err := database.ListCollectionNames(t.Context(), bson.D{})
	if err != nil {
		t.Fatal(err)
	}
	total := 0
	for _, collection := range collections {
		if _, ok := mongostore.ParsePartition(collection); !ok {
			continue
		}
		n, err := database.Collection(collection).CountDocuments(t.Context(), bson.D{{Key: "tenant_id", Value: "acme"}})
		if err != nil {
			t.Fatal(err)
		}
		total += int(n)
	}
	return total
}

func wantStored(t testing.TB, store *mongostore.Entries, want audit.Entry) {
	t.Helper()
	got, err := store.Entry(t.Context(), want.Tenant, want.ID)
	if err != nil {
		t.Fatal(err)
	}
	if g, w := entryjson.AppendStored(nil, &got), entryjson.AppendStored(nil, &want); !bytes.Equal(g, w) {
		t.Fatalf("comes back otherwise:\n got %s\nwant %s", g, w)
	}
}

// wantByID asks for all of the entries of one tenant at once.
func wantByID(t testing.TB, store *mongostore.Entries, want ...audit.Entry) {
	t.Helper()
	ids := make([]audit.EntryID, len(want))
	for i := range want {
		ids[i] = want[i].ID
	}
	got, err := store.EntriesByID(t.Context(), want[0].Tenant, ids)
	if err != nil {
		t.Fatal(err)
	}
	found := map[audit.EntryID]int{}
	for i := range got {
		found[got[i].ID]++
	}
	for _, id := range ids {
		if found[id] != 1 || len(got) != len(want) {
			t.Fatalf("EntriesByID found %v, want each of %v once", found, ids)
		}
	}
}

func TestEveryExactnessComesBackFromTheServer(t *testing.T) {
	uri := enginetest.Mongo(t)
	store := open(t, uri, newDatabase(t, uri)).Entries(shared)
	for i, text := range []string{
		`{}`, `{"a":0,"b":-1,"c":2147483648,"d":9223372036854775807,"e":1.5,"f":100000000000000000000,"g":1e-7}`, `{"z":1,"a":{"z":1,"a":2},"m":[]}`,
		`{"a":1.0}`, `{"a":-0}`, `{"a":1E400}`, `{"a":12345678901234567890}`, `{"":1,"a.b":2,"$set":3,"\u0000":4,"_id":5}`, `{"a":"\u00e9\/\u0000"}`,
		`{"a":[[[1,{"b":[null,true,"x"]}]]]}`, `{"$ref":"a","$id":1}`, `{"language":"klingon"}`, `{"a":"` + string(bytes.Repeat([]byte("x"), 200<<10)) + `"}`,
	} {
		e := newEntry("acme", march, uint32(i))
		e.Before, e.After, e.Metadata, e.Message = audit.Object(text), audit.Object(text), audit.Object(text), "nul \x00 and é"
		appendAll(t, store, "acme", e)
		wantStored(t, store, e)
	}
}

func TestIsolationMayChange(t *testing.T) {
	uri := enginetest.Mongo(t)
	name := newDatabase(t, uri)
	db := open(t, uri, name)
	first, second, third := newEntry("acme", march, 1), newEntry("acme", march, 2), newEntry("acme", march, 3)
	neighbour := newEntry("neighbour", march, 1)
	appendAll(t, db.Entries(shared), "neighbour", neighbour)
	appendAll(t, db.Entries(shared), "acme", first)
	appendAll(t, db.Entries(dedicated), "acme", first, second) // first is a retry
	appendAll(t, db.Entries(shared), "acme", first, second, third)
	if n := count(t, uri, name); n != 3 {
		t.Fatalf("%d documents are stored, want 3", n)
	}
	other := second
	other.Digest = audit.Digest{9}
	appended, err := db.Entries(shared).Append(t.Context(), "acme", []audit.Entry{other})
	rejections := appended.Rejections
	if err != nil {
		t.Fatal(err)
	}
	if len(rejections) != 1 || rejections[0].Code != audit.CodeIdentityConflict {
		t.Fatalf("a conflict with the other place: rejections %+v, want one", rejections)
	}
	for _, isolation := range []mongostore.IsolationFunc{shared, dedicated} {
		for _, want := range []audit.Entry{first, second, third} {
			wantStored(t, db.Entries(isolation), want)
		}
		wantByID(t, db.Entries(isolation), first, second, third)
	}
	page, err := db.Index().Find(t.Context(), "acme", audit.Filter{}, audit.PageRequest{Limit: 2})
	if err != nil {
		t.Fatal(err)
	}
	if len(page.Entries) != 2 || page.Entries[0].ID != third.ID || page.Entries[1].ID != second.ID || !page.More {
		t.Fatalf("the list of both places is %+v", page)
	}
	ids, err := db.Entries(shared).IDs(t.Context(), "acme", march.Add(-time.Hour), march.Add(time.Hour), first.ID, 10)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(ids, []audit.EntryID{second.ID, third.ID}) {
		t.Fatalf("the ids of both places after the first are %v", ids)
	}
	if n, err := db.Entries(shared).Purge(t.Context(), "acme", 100); err != nil {
		t.Fatal(err)
	} else if n != 3 {
		t.Fatalf("Purge = %d, want 3", n)
	}
	wantStored(t, db.Entries(shared), neighbour)
	collections, err := client(t, uri).Database(name).ListCollectionNames(t.Context(), bson.D{})
	if err != nil {
		t.Fatal(err)
	}
	if len(collections) != 1 || collections[0] != "logs_2026_03" {
		t.Fatalf("after the purge the collections are %v: the tenant's own must be gone", collections)
	}
}

// TestEntriesStoredInBothPlacesAreListedOnce has what two processes leave behind that see a change of isolation at different times.
func TestEntriesStoredInBothPlacesAreListedOnce(t *testing.T) {
	uri := enginetest.Mongo(t)
	name := newDatabase(t, uri)
	db := open(t, uri, name)
	var entries []audit.Entry
	for i := range uint32(10) {
		entries = append(entries, newEntry("acme", march, i))
	}
	appendAll(t, db.Entries(shared), "acme", entries...)
	database := client(t, uri).Database(name)
	cursor, err := database.Collection("logs_2026_03").Find(t.Context(), bson.D{})
	if err != nil {
		t.Fatal(err)
	}
	var docs []bson.Raw
	if err := cursor.All(t.Context(), &docs); err != nil {
		t.Fatal(err)
	}
	if _, err := database.Collection("logs_acme_2026_03").InsertMany(t.Context(), docs[3:8]); err != nil {
		t.Fatal(err)
	}
	wantByID(t, db.Entries(shared), entries...)
	wantByID(t, db.Entries(dedicated), entries...)
	for _, order := range []audit.Order{audit.NewestFirst, audit.OldestFirst} {
		seen := map[audit.EntryID]bool{}
		request := audit.PageRequest{Order: order, Limit: 3}
		for more := true; more; {
			page, err := db.Index().Find(t.Context(), "acme", audit.Filter{}, request)
			if err != nil {
				t.Fatal(err)
			}
			for _, e := range page.Entries {
				if seen[e.ID] {
					t.Fatalf("%s is listed twice", e.ID)
				}
				seen[e.ID] = true
			}
			request.From, more = page.Last, page.More
		}
		if len(seen) != len(entries) {
			t.Fatalf("%d entries are listed, want %d", len(seen), len(entries))
		}
	}
	var ids []audit.EntryID
	for more := true; more; {
		page, err := db.Entries(shared).IDs(t.Context(), "acme", time.Time{}, time.Time{}, lastOf(ids), 3)
		if err != nil {
			t.Fatal(err)
		}
		ids, more = append(ids, page...), len(page) > 0
	}
	if len(ids) != len(entries) || !slices.IsSortedFunc(ids, func(a, b audit.EntryID) int { return bytes.Compare(a[:], b[:]) }) {
		t.Fatalf("the ids are %v, want those of %d entries in rising order", ids, len(entries))
	}
}

// lastOf returns the last id, the zero id where there is none.
func lastOf(ids []audit.EntryID) (last audit.EntryID) {
	if n := len(ids); n > 0 {
		last = ids[n-1]
	}
	return last
}

func TestUnstorableEntriesAreRejectedAlone(t *testing.T) {
	uri := enginetest.Mongo(t)
	store := open(t, uri, newDatabase(t, uri)).Entries(shared)
	good, wrongTime, tooLarge := newEntry("acme", march, 1), newEntry("acme", march, 2), newEntry("acme", march, 3)
	wrongTime.Timestamp = march.Add(time.Millisecond)
	tooLarge.Message = string(bytes.Repeat([]byte("x"), 16<<20))
	appended, err := store.Append(t.Context(), "acme", []audit.Entry{tooLarge, good, wrongTime, wrongTime})
	rejections := appended.Rejections
	if err != nil {
		t.Fatal(err)
	}
	if len(rejections) != 3 {
		t.Fatalf("rejections %+v", rejections)
	}
	for i, index := range []int{0, 2, 3} {
		if rejections[i].Index != index || rejections[i].Code != audit.CodeUnstorable || rejections[i].Reason == "" {
			t.Errorf("rejection %d is %+v", i, rejections[i])
		}
	}
	wantStored(t, store, good)
	if _, err := store.Append(t.Context(), "other", []audit.Entry{good}); err == nil {
		t.Error("an entry of another tenant was taken")
	}
}

func TestWithoutIsolationNothingIsStored(t *testing.T) {
	uri := enginetest.Mongo(t)
	name := newDatabase(t, uri)
	store := open(t, uri, name).Entries(func(context.Context, audit.TenantID) (audit.Isolation, error) { return "", audit.ErrNotFound })
	e := newEntry("acme", march, 1)
	if _, err := store.Append(t.Context(), "acme", []audit.Entry{e}); !errors.Is(err, audit.ErrNotFound) {
		t.Errorf("Append: %v, want audit.ErrNotFound", err)
	}
	if _, err := store.Entry(t.Context(), "acme", e.ID); !errors.Is(err, audit.ErrNotFound) {
		t.Errorf("Entry: %v, want audit.ErrNotFound", err)
	}
	if n := count(t, uri, name); n != 0 {
		t.Errorf("%d documents are stored", n)
	}
}
