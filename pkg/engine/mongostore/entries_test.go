package mongostore_test

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
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
		t.Fatalf("got rejections %+v, want none", rejections)
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
		if !strings.HasPrefix(collection, mongostore.PartitionPrefix+"_") {
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
		if found[id] != 1 {
			t.Fatalf("entry %v is found %d times, want once", id, found[id])
		}
		if len(got) != len(want) {
			t.Fatalf("got %d entries, want %d", len(got), len(want))
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

// collections returns the names of the collections that have a prefix, in order.
func collections(t testing.TB, uri, name, prefix string) []string {
	t.Helper()
	names, err := client(t, uri).Database(name).ListCollectionNames(t.Context(), bson.D{})
	if err != nil {
		t.Fatal(err)
	}
	names = slices.DeleteFunc(names, func(n string) bool { return !strings.HasPrefix(n, prefix) })
	slices.Sort(names)
	return names
}

func TestDedicatedTenantsHaveACollectionForEachYear(t *testing.T) {
	uri := enginetest.Mongo(t)
	name := newDatabase(t, uri)
	db := open(t, uri, name)
	long := audit.TenantID(strings.Repeat("long-", 12) + "end")
	for _, tenant := range []audit.TenantID{"acme", "2026", long} {
		entries := []audit.Entry{newEntry(tenant, march, 1), newEntry(tenant, march.AddDate(0, 8, 0), 2), newEntry(tenant, march.AddDate(1, 0, 0), 3)}
		appendAll(t, db.Entries(dedicated), tenant, entries...)
		wantByID(t, db.Entries(dedicated), entries...)
		page, err := db.Index(dedicated).Find(t.Context(), tenant, audit.Filter{}, audit.PageRequest{Limit: 2})
		if err != nil {
			t.Fatal(err)
		}
		if !page.More {
			t.Errorf("%s: the first page says that it is the last, want more", tenant)
		}
		if diff := cmp.Diff([]audit.EntryID{entries[2].ID, entries[1].ID}, audit.IDsOf(page.Entries)); diff != "" {
			t.Errorf("%s: the first page (-want +got):\n%s", tenant, diff)
		}
	}
	neighbour := newEntry("neighbour", march, 1)
	appendAll(t, db.Entries(shared), "neighbour", neighbour)
	want := []string{
		"logs_2026_03", "logs_2026_2026", "logs_2026_2027", "logs_acme_2026", "logs_acme_2027",
		"logs_long-long-long-long-lon_e4855d75ecb56dc3_2026", "logs_long-long-long-long-lon_e4855d75ecb56dc3_2027",
	}
	if diff := cmp.Diff(want, collections(t, uri, name, "logs_")); diff != "" {
		t.Errorf("collections (-want +got):\n%s", diff)
	}
	for _, tenant := range []audit.TenantID{"acme", "2026", long} {
		n, err := db.Entries(dedicated).Purge(t.Context(), tenant, 100)
		if err != nil {
			t.Fatal(err)
		}
		if n != 3 {
			t.Errorf("Purge of %s = %d, want 3", tenant, n)
		}
	}
	if diff := cmp.Diff([]string{"logs_2026_03"}, collections(t, uri, name, "logs_")); diff != "" {
		t.Errorf("collections after the purges (-want +got):\n%s", diff)
	}
	wantStored(t, db.Entries(shared), neighbour)
}

// TestPurgeFindsLateWrites writes by a process that has not heard of the drop.
func TestPurgeFindsLateWrites(t *testing.T) {
	uri := enginetest.Mongo(t)
	name := newDatabase(t, uri)
	db, other := open(t, uri, name), open(t, uri, name)
	purge := func(want int) {
		t.Helper()
		n, err := db.Entries(dedicated).Purge(t.Context(), "acme", 100)
		if err != nil {
			t.Fatal(err)
		}
		if n != want {
			t.Errorf("Purge = %d, want %d", n, want)
		}
	}
	appendAll(t, other.Entries(dedicated), "acme", newEntry("acme", march, 1))
	purge(1)
	appendAll(t, other.Entries(dedicated), "acme", newEntry("acme", march, 2))
	purge(1)
	purge(0)
	if n := count(t, uri, name); n != 0 {
		t.Errorf("%d documents are stored, want 0", n)
	}
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
		t.Fatalf("got rejections %+v, want 3", rejections)
	}
	for i, index := range []int{0, 2, 3} {
		if rejections[i].Index != index {
			t.Errorf("item %d: got index %d, want %d", i, rejections[i].Index, index)
		}
		if rejections[i].Code != audit.CodeUnstorable {
			t.Errorf("item %d: got code %q, want %q", i, rejections[i].Code, audit.CodeUnstorable)
		}
		if rejections[i].Reason == "" {
			t.Errorf("item %d: got an empty reason, want a value", i)
		}
	}
	wantStored(t, store, good)
	if _, err := store.Append(t.Context(), "other", []audit.Entry{good}); err == nil {
		t.Error("an entry of another tenant: got no error, want one")
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
		t.Errorf("%d documents are stored, want 0", n)
	}
}
