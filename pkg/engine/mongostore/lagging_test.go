package mongostore_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/url"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/x/mongo/driver/wiremessage"

	"github.com/ocelot-audit/ocelot/pkg/access"
	"github.com/ocelot-audit/ocelot/pkg/arrival"
	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/cursor"
	"github.com/ocelot-audit/ocelot/pkg/engine/mongostore"
	"github.com/ocelot-audit/ocelot/pkg/envelope"
	"github.com/ocelot-audit/ocelot/pkg/testkit/enginetest"
)

// member is a proxy that makes a single server look like a member of a replica set.
type member struct {
	listener net.Listener
	engine   string       // host and port
	hosts    []string     // of all members, the primary first
	finds    atomic.Int64 // of entries
}

// replicaSet returns the address of a replica set: the first engine is its primary, the others
// are secondaries, to which nothing is replicated.
func replicaSet(t *testing.T, engines ...*enginetest.Engine) (uri string, members []*member) {
	t.Helper()
	var hosts []string
	for _, engine := range engines {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		hosts, members = append(hosts, listener.Addr().String()), append(members, &member{listener: listener, engine: engine.Addr()})
	}
	for _, m := range members {
		m.hosts = hosts
		serveConns(t, m.listener, m.serve)
	}
	return fmt.Sprintf("mongodb://%s,%s/?replicaSet=rs", hosts[0], hosts[1]), members
}

// serveConns calls serve for each connection of a listener until the end of the test.
func serveConns(t *testing.T, listener net.Listener, serve func(conn net.Conn)) {
	t.Helper()
	var running sync.WaitGroup
	running.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return // closed at the end of the test
			}
			running.Go(func() {
				defer func() { _ = conn.Close() }()
				serve(conn)
			})
		}
	})
	t.Cleanup(func() {
		_ = listener.Close()
		running.Wait()
	})
}

func (m *member) serve(client net.Conn) {
	engine, err := net.Dial("tcp", m.engine)
	if err != nil {
		return
	}
	defer func() { _ = engine.Close() }()
	for m.exchange(client, engine) == nil {
	}
}

// exchange passes on one request and its answer.
func (m *member) exchange(client, engine net.Conn) error {
	request, err := readWire(client)
	if err != nil {
		return err
	}
	if bytes.Contains(request, []byte("\x02find\x00")) && bytes.Contains(request, []byte("logs_")) {
		m.finds.Add(1)
	}
	if _, err := engine.Write(request); err != nil {
		return err
	}
	answer, err := readWire(engine)
	if err != nil {
		return err
	}
	for _, hello := range []string{"hello\x00", "isMaster\x00", "ismaster\x00"} {
		if bytes.Contains(request, []byte(hello)) {
			if answer, err = m.introduced(answer); err != nil {
				return err
			}
			break
		}
	}
	_, err = client.Write(answer)
	return err
}

// readWire reads one message of MongoDB's wire protocol.
func readWire(from io.Reader) ([]byte, error) {
	size := make([]byte, 4)
	if _, err := io.ReadFull(from, size); err != nil {
		return nil, err
	}
	message := append(size, make([]byte, binary.LittleEndian.Uint32(size)-4)...)
	_, err := io.ReadFull(from, message[4:])
	return message, err
}

// introduced returns the answer to a client's greeting as a member of the set gives it.
func (m *member) introduced(answer []byte) ([]byte, error) {
	head := 16 + 4 + 1 // OP_MSG: header, flags, kind of the section
	if _, _, _, op, _, _ := wiremessage.ReadHeader(answer); op == wiremessage.OpReply {
		head = 16 + 4 + 8 + 4 + 4 // header, flags, cursor, start, count
	}
	var doc bson.D
	if err := bson.Unmarshal(answer[head:], &doc); err != nil {
		return nil, err
	}
	own := m.listener.Addr().String()
	primary := own == m.hosts[0]
	patched := bson.D{}
	for _, e := range doc {
		switch e.Key {
		case "ismaster", "isWritablePrimary", "logicalSessionTimeoutMinutes":
		default:
			patched = append(patched, e)
		}
	}
	patched = append(patched, bson.E{Key: "ismaster", Value: primary}, bson.E{Key: "isWritablePrimary", Value: primary}, bson.E{Key: "secondary", Value: !primary},
		bson.E{Key: "setName", Value: "rs"}, bson.E{Key: "hosts", Value: m.hosts}, bson.E{Key: "primary", Value: m.hosts[0]}, bson.E{Key: "me", Value: own})
	body, err := bson.Marshal(patched)
	if err != nil {
		return nil, err
	}
	message := append(bytes.Clone(answer[:head]), body...)
	binary.LittleEndian.PutUint32(message, uint32(len(message)))
	return message, nil
}

// TestIDsLackNothingThatASecondaryLacks: an export waits until the index has every id.
func TestIDsLackNothingThatASecondaryLacks(t *testing.T) {
	primary, secondary := enginetest.StartMongo(t), enginetest.StartMongo(t)
	uri, _ := replicaSet(t, primary, secondary)
	db := open(t, uri, newDatabase(t, primary.URL()), mongostore.WithReadPreference("secondaryPreferred"))
	e := newEntry("acme", march, 1)
	appendAll(t, db.Entries(shared), "acme", e) // the secondary has nothing
	ids, err := db.Entries(shared).IDs(t.Context(), "acme", time.Time{}, time.Time{}, audit.EntryID{}, 10)
	if err != nil {
		t.Fatal(err)
	}
	if want := []audit.EntryID{e.ID}; !slices.Equal(ids, want) {
		t.Errorf("got the ids %v, want %v", ids, want)
	}
}

// TestWhatASecondaryStillHasIsGone: a restore would take it for a living entry, and not bring it back.
func TestWhatASecondaryStillHasIsGone(t *testing.T) {
	primary, secondary := enginetest.StartMongo(t), enginetest.StartMongo(t)
	uri, _ := replicaSet(t, primary, secondary)
	name := newDatabase(t, primary.URL())
	db := open(t, uri, name, mongostore.WithReadPreference("secondaryPreferred"))
	gone, kept := newEntry("acme", march, 1), newEntry("acme", march, 2)
	appendAll(t, open(t, secondary.URL(), name).Entries(shared), "acme", gone)
	appendAll(t, db.Entries(shared), "acme", kept)
	ids := []audit.EntryID{gone.ID, kept.ID}
	stored, err := db.Entries(shared).EntriesByID(t.Context(), "acme", ids)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := audit.IDsOf(stored), []audit.EntryID{kept.ID}; !slices.Equal(got, want) {
		t.Errorf("read the entries %v, want %v", got, want)
	}
	listed, err := db.Index(shared).EntriesByID(t.Context(), "acme", ids)
	if err != nil {
		t.Fatal(err)
	}
	if got := audit.IDsOf(listed); !slices.Equal(got, ids) {
		t.Errorf("lists read %v, want %v", got, ids)
	}
}

// TestFeedOverALaggingSecondary: the feed reads from a secondary that answers as long ago. It
// passes over no entry that the secondary merely lacks.
func TestFeedOverALaggingSecondary(t *testing.T) {
	primary, secondary := enginetest.StartMongo(t), enginetest.StartMongo(t)
	uri, members := replicaSet(t, primary, secondary)
	name := newDatabase(t, primary.URL())
	db := open(t, uri, name, mongostore.WithReadPreference("secondaryPreferred"))
	const total, replicated = 30, 10
	var want []audit.EntryID
	var bodies []string
	for n := range uint32(total) {
		e := newEntry("acme", march, n)
		if n == total-1 {
			e = newEntry("acme", march.AddDate(-1, 0, 0), n) // late, in a collection that the secondary does not have
		}
		appendAll(t, db.Entries(shared), "acme", e)
		if n < replicated {
			appendAll(t, open(t, secondary.URL(), name).Entries(shared), "acme", e)
		}
		packed, err := envelope.PackArrivals("acme", []envelope.Arrival{{Message: audit.MessageID{15: byte(n) + 1}, IDs: []audit.EntryID{e.ID}}})
		if err != nil {
			t.Fatal(err)
		}
		want, bodies = append(want, e.ID), append(bodies, packed...)
	}
	o := &arrival.Orderer{Log: db.Arrivals(), Tenants: allTenants{}, Now: time.Now}
	for _, body := range bodies { // a segment each
		if err := o.Order(t.Context(), []string{body})[0]; err != nil {
			t.Fatal(err)
		}
	}
	feed := &arrival.Feed{Log: db.Arrivals(), Reader: db.Index(shared), Cursors: cursor.NewSigner(make([]byte, 32)), Now: time.Now}
	tenant := audit.Tenant{ID: "acme", Settings: audit.Settings{}} // keeps entries for ever
	var got []audit.EntryID
	members[1].finds.Store(0)
	for after, more := "", true; more; {
		query := url.Values{"limit": {"7"}}
		if after != "" {
			query.Set("cursor", after)
		}
		page, err := feed.Read(t.Context(), tenant, access.Scope{}, query)
		if err != nil {
			t.Fatal(err)
		}
		for i := range page.Entries {
			got = append(got, page.Entries[i].ID)
		}
		after, more = page.Next, page.More
	}
	if len(got) != len(want) {
		t.Fatalf("the feed has %d entries, want %d", len(got), len(want))
	}
	for i := range want {
		if got[i] != want[i] {
			t.Errorf("place %d has the entry %s, want %s", i+1, got[i], want[i])
		}
	}
	if members[1].finds.Load() == 0 {
		t.Error("the secondary was not asked for entries, want that the feed reads from it")
	}
}
