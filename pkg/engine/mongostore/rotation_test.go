package mongostore_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/x/mongo/driver/wiremessage"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/engine/mongostore"
	"github.com/ocelot-audit/ocelot/pkg/testkit/enginetest"
)

// guarded is a server of MongoDB's wire protocol that knows one user and answers pings. The engine
// of the other tests has no users.
type guarded struct {
	proxy    *enginetest.TCPProxy // in front of it
	password atomic.Pointer[string]
	logins   atomic.Int64 // that were accepted
}

func newGuarded(t *testing.T, password string) *guarded {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	g := &guarded{}
	g.password.Store(&password)
	serveConns(t, listener, func(conn net.Conn) {
		for g.exchange(conn) == nil {
		}
	})
	g.proxy = enginetest.NewTCPProxy(t, listener.Addr().String()) // it ends first, and with it every connection
	return g
}

// uri returns the connection string with a password.
func (g *guarded) uri(password string) string {
	return "mongodb://ocelot:" + password + "@" + g.proxy.Addr() + "/?authMechanism=PLAIN&directConnection=true"
}

// cut ends every connection.
func (g *guarded) cut() {
	g.proxy.Cut()
	g.proxy.Restore()
}

// exchange answers one request.
func (g *guarded) exchange(conn net.Conn) error {
	request, err := readWire(conn)
	if err != nil {
		return err
	}
	_, id, _, op, _, _ := wiremessage.ReadHeader(request)
	body, err := bson.Marshal(g.answer(request))
	if err != nil {
		return err
	}
	head := make([]byte, 5) // OP_MSG: flags and the kind of the section
	code := wiremessage.OpMsg
	if op != wiremessage.OpMsg { // the greeting
		head = make([]byte, 20) // OP_REPLY: flags, cursor, start, count
		head[16] = 1
		code = wiremessage.OpReply
	}
	start, reply := wiremessage.AppendHeaderStart(nil, 1, id, code)
	reply = append(append(reply, head...), body...)
	binary.LittleEndian.PutUint32(reply[start:], uint32(len(reply)))
	_, err = conn.Write(reply)
	return err
}

func (g *guarded) answer(request []byte) bson.D {
	has := func(word string) bool { return bytes.Contains(request, []byte(word+"\x00")) }
	switch {
	case has("saslStart") && bytes.Contains(request, []byte("\x00ocelot\x00"+*g.password.Load())):
		g.logins.Add(1)
		return bson.D{{Key: "ok", Value: 1}, {Key: "conversationId", Value: 1}, {Key: "done", Value: true}, {Key: "payload", Value: []byte{}}}
	case has("saslStart"):
		return bson.D{{Key: "ok", Value: 0}, {Key: "code", Value: 18}, {Key: "codeName", Value: "AuthenticationFailed"}, {Key: "errmsg", Value: "Authentication failed."}}
	case has("isMaster") || has("ismaster") || has("hello"):
		return bson.D{{Key: "ok", Value: 1}, {Key: "ismaster", Value: true}, {Key: "isWritablePrimary", Value: true}, {Key: "helloOk", Value: true},
			{Key: "minWireVersion", Value: 0}, {Key: "maxWireVersion", Value: 21}, {Key: "maxBsonObjectSize", Value: 16 << 20}, {Key: "maxMessageSizeBytes", Value: 48_000_000}}
	}
	return bson.D{{Key: "ok", Value: 1}}
}

// rotating is a database whose connection string changes.
type rotating struct {
	*mongostore.DB
	server *guarded

	mu       sync.Mutex
	current  string
	fetchErr error
	now      time.Time
	asked    int
	failures []error
	asking   chan struct{} // gets an element when the string is asked for; nil: it does not
	answer   chan struct{} // the answer waits for an element of it; nil: it does not wait
}

func newRotating(t *testing.T) *rotating {
	t.Helper()
	server := newGuarded(t, "first")
	r := &rotating{server: server, current: server.uri("first"), now: time.Date(2026, 3, 2, 9, 30, 0, 0, time.UTC)}
	r.DB = open(t, r.current, "ocelot", mongostore.WithClock(r.clock), mongostore.WithCurrentURI(
		func(context.Context) (string, error) {
			if r.asking != nil {
				r.asking <- struct{}{}
				<-r.answer
			}
			r.mu.Lock()
			defer r.mu.Unlock()
			r.asked++
			return r.current, r.fetchErr
		},
		func(err error) { r.failures = append(r.failures, err) }))
	r.works(t, "at first")
	return r
}

func (r *rotating) clock() time.Time {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.now
}

func (r *rotating) after(d time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.now = r.now.Add(d)
}

func (r *rotating) stores(uri string, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.current, r.fetchErr = uri, err
}

func (r *rotating) works(t *testing.T, when string) {
	t.Helper()
	if err := r.Ping(t.Context()); err != nil {
		t.Errorf("%s: got error %v, want an answer", when, err)
	}
}

func (r *rotating) refused(t *testing.T, when string) {
	t.Helper()
	if err := r.Ping(t.Context()); !audit.IsUnavailable(err) {
		t.Errorf("%s: got error %v, want one that may pass", when, err)
	}
}

func (r *rotating) wantAsked(t *testing.T, when string, want int) {
	t.Helper()
	if r.asked != want {
		t.Errorf("%s: the connection string was asked for %d times, want %d", when, r.asked, want)
	}
}

// The operator changes the password: a process that runs must take up the new one.
func TestARefusedPasswordIsReadAgain(t *testing.T) {
	r := newRotating(t)
	second := "second"
	r.server.password.Store(&second)
	r.works(t, "over a connection from before") // it has logged in
	r.stores(r.server.uri(second), nil)
	r.server.cut()
	r.refused(t, "over a connection that was cut")
	r.refused(t, "with the old password")
	r.wantAsked(t, "within a minute of the start", 0)
	r.after(mongostore.URIMinAge)
	r.works(t, "with the new password")
	r.wantAsked(t, "after a refusal", 1)
	r.after(mongostore.URIMinAge)
	r.works(t, "later")
	r.wantAsked(t, "without a refusal", 1)
	if len(r.failures) != 0 {
		t.Errorf("got the failures %v, want none", r.failures)
	}
}

// Two users alternate: no call fails.
func TestAChangedConnectionStringIsTakenUpByAge(t *testing.T) {
	r := newRotating(t)
	before := r.server.logins.Load()
	r.stores(r.server.uri("first")+"&appName=other", nil)
	r.after(mongostore.URIMaxAge - time.Second)
	r.works(t, "before its age")
	r.wantAsked(t, "before its age", 0)
	r.after(time.Second)
	r.works(t, "at its age")
	r.wantAsked(t, "at its age", 1)
	if got := r.server.logins.Load(); got != before+1 {
		t.Errorf("got %d logins, want %d: the new client has its own", got, before+1)
	}
}

// A slow secret store must not hold up calls that can go on with the present string.
func TestCallsGoOnWhileTheConnectionStringIsAskedFor(t *testing.T) {
	r := newRotating(t)
	r.asking, r.answer = make(chan struct{}), make(chan struct{})
	r.after(mongostore.URIMaxAge)
	first := make(chan error, 1)
	go func() { first <- r.Ping(t.Context()) }()
	<-r.asking
	r.works(t, "meanwhile")
	r.answer <- struct{}{}
	if err := <-first; err != nil {
		t.Errorf("the call that asked: got error %v, want an answer", err)
	}
	r.wantAsked(t, "by one call of two", 1)
}

// A mistake in the secret must not end what works.
func TestAConnectionStringThatDoesNotWorkIsNotTakenUp(t *testing.T) {
	r := newRotating(t)
	for i, test := range []struct {
		name, uri string
		err       error
	}{
		{"a wrong password", r.server.uri("wrong"), nil},
		{"no connection string", "secret text", nil},
		{"no secret", "", errors.New("down")},
	} {
		r.stores(test.uri, test.err)
		r.after(mongostore.URIMaxAge)
		r.works(t, test.name)
		r.wantAsked(t, test.name, i+1)
		if len(r.failures) != i+1 {
			t.Fatalf("%s: got %d failures, want %d", test.name, len(r.failures), i+1)
		}
		for _, hidden := range []string{"wrong", "secret text"} {
			if got := r.failures[i].Error(); bytes.Contains([]byte(got), []byte(hidden)) {
				t.Errorf("%s: got the failure %q, want it without %q", test.name, got, hidden)
			}
		}
	}
}
