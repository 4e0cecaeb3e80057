package localcloud_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/ocelot-audit/ocelot/pkg/access"
	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/config"
	"github.com/ocelot-audit/ocelot/pkg/edge/httpapi"
	"github.com/ocelot-audit/ocelot/pkg/local/localcloud"
)

// subscriber is a client of the live stream.
type subscriber struct {
	t      *testing.T
	conn   *websocket.Conn
	items  []map[string]json.RawMessage
	cursor string // of the last frame that had one
}

func (f streamFrame) String() string {
	return fmt.Sprintf("%s of %d entries, %+v", f.Type, len(f.Items), f.Error)
}

// streamFrame is a frame that a subscriber receives.
type streamFrame struct {
	Type, Cursor string
	Items        []map[string]json.RawMessage
	Error        struct {
		Type   string
		Status int
		Errors []audit.FieldError
	}
}

// connect opens a WebSocket connection; the status is that of the handshake's answer.
func (c caller) connect(query string) (conn *websocket.Conn, status int, err error) {
	c.t.Helper()
	header := http.Header{}
	if c.authorization != "" {
		header.Set("Authorization", c.authorization)
	}
	if c.tenant != "" {
		header.Set("X-Tenant-ID", string(c.tenant))
	}
	conn, response, err := websocket.Dial(c.t.Context(), c.url+"/api/v1/logs/stream"+query, &websocket.DialOptions{HTTPHeader: header}) //nolint:bodyclose // Dial closes it
	if response != nil {
		status = response.StatusCode
	}
	return conn, status, err
}

// subscribe connects and subscribes with the filter. It sends the cursor if that is not "".
func (c caller) subscribe(filter, after string) *subscriber {
	c.t.Helper()
	return c.subscribeBy("", filter, after)
}

// subscribeBy is subscribe with a query string for the handshake.
func (c caller) subscribeBy(query, filter, after string) *subscriber {
	c.t.Helper()
	conn, status, err := c.connect(query)
	if err != nil {
		c.t.Fatalf("connect: got status %d and error %v, want a connection", status, err)
	}
	conn.SetReadLimit(1 << 20)
	s := &subscriber{t: c.t, conn: conn}
	c.t.Cleanup(func() { _ = conn.CloseNow() })
	message := map[string]any{"action": "subscribe", "filter": json.RawMessage(filter)}
	if after != "" {
		message["after"] = after
	}
	text, err := json.Marshal(message)
	if err != nil {
		c.t.Fatal(err)
	}
	s.write(string(text))
	if got := s.read(); got.Type != "subscribed" {
		c.t.Fatalf("got type %q, want %q", got.Type, "subscribed")
	} else if got.Cursor == "" {
		c.t.Fatal("got an empty cursor, want a value")
	}
	return s
}

func (s *subscriber) write(message string) {
	s.t.Helper()
	if err := s.conn.Write(s.t.Context(), websocket.MessageText, []byte(message)); err != nil {
		s.t.Fatal(err)
	}
}

// read returns the next frame and keeps its entries.
func (s *subscriber) read() streamFrame {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), 60*time.Second)
	defer cancel()
	f, err := s.next(ctx)
	if err != nil {
		s.t.Fatalf("read after %d entries: got error %v, want a frame", len(s.items), err)
	}
	return f
}

func (s *subscriber) next(ctx context.Context) (f streamFrame, err error) {
	_, text, err := s.conn.Read(ctx)
	if err != nil {
		return f, err
	}
	if err := json.Unmarshal(text, &f); err != nil {
		return f, fmt.Errorf("%s: %w", text, err)
	}
	s.items = append(s.items, f.Items...)
	if f.Cursor != "" {
		s.cursor = f.Cursor
	}
	return f, nil
}

// until reads until there are n entries.
func (s *subscriber) until(n int) {
	s.t.Helper()
	for len(s.items) < n {
		if f := s.read(); f.Type != "entries" {
			s.t.Fatalf("got frame %v, want one of type %q", f, "entries")
		}
	}
}

// once checks that the subscribers got, one after the other, exactly the entries
// of these numbers, each once.
func once(t *testing.T, from, to int, lives ...*subscriber) {
	t.Helper()
	seen := map[string]int{}
	for _, s := range lives {
		for _, item := range s.items {
			seen[string(item["resource_id"])]++
		}
	}
	for n := from; n < to; n++ {
		if got := seen[fmt.Sprintf(`"order-%d"`, n)]; got != 1 {
			t.Errorf("got entry %d %d times, want once", n, got)
		}
	}
	if len(seen) != to-from {
		t.Errorf("%d different entries came, want %d", len(seen), to-from)
	}
}

func texts(from, to int) (entries []string) {
	for n := from; n < to; n++ {
		entries = append(entries, entryText(n))
	}
	return entries
}

func TestEndToEndStream(t *testing.T) { everyWay(t, streamsWhatIsStored) }

func streamsWhatIsStored(t *testing.T, start starter) {
	service := start(t, t.TempDir())
	admin, other := service.tenantAdmin("acme"), service.tenantAdmin("globex")
	admin.bulk(texts(0, 50)) // nobody has subscribed yet
	admin.eventually(50)
	all := admin.subscribe(`{}`, "")
	narrow := admin.subscribe(`{"user_id":["user-1","user-2"],"q":"entry"}`, "")
	scoped := service.as(service.token(access.Claims{
		Subject: "s", Tenants: []string{"acme"}, Role: access.RoleAuditor, Resources: []string{"order:order-77"},
	}), "acme").subscribe(`{}`, "")
	foreign := other.subscribe(`{}`, "")
	for from := 50; from < 1050; from += 100 {
		admin.bulk(texts(from, from+100))
	}
	other.bulk(texts(5000, 5001))
	admin.do("POST", "/logs", entryText(1050), nil)
	admin.bulk(texts(0, 100)) // the same entries again, and new ones
	admin.do("POST", "/logs", entryText(1051), nil)
	all.until(1002)
	once(t, 50, 1052, all)
	narrow.until(200)
	for _, item := range narrow.items {
		if user := string(item["user_id"]); user != `"user-1"` && user != `"user-2"` {
			t.Errorf("got an entry of %s, want one that matches the filter", user)
		}
	}
	scoped.until(1)
	once(t, 77, 78, scoped)
	foreign.until(1)
	once(t, 5000, 5001, foreign)

	// The stream sends an entry as a read returns it.
	var got map[string]json.RawMessage
	item := all.items[17]
	admin.get("/logs/"+strings.Trim(string(item["id"]), `"`), nil).decode(t, &got)
	delete(got, "status")
	if want, streamed := fmt.Sprintf("%s", got), fmt.Sprintf("%s", item); want != streamed {
		t.Errorf("got %s over the stream, want %s as a read returns it", streamed, want)
	}

	all.write(`{"action":"ping"}`)
	if f := all.read(); f.Type != "pong" {
		t.Errorf("got type %q, want %q", f.Type, "pong")
	} else if f.Cursor == "" {
		t.Error("got an empty cursor, want a value")
	}
	all.write(`{"action":"subscribe","filter":{"color":"red"}}`)
	switch f := all.read(); {
	case f.Type != "error":
		t.Errorf("got type %q, want %q", f.Type, "error")
	case f.Error.Status != 422:
		t.Errorf("got status %d, want 422", f.Error.Status)
	case f.Error.Errors[0].Pointer != "/filter/color":
		t.Errorf("got pointer %q, want %q", f.Error.Errors[0].Pointer, "/filter/color")
	}
	all.write(`hello`)
	if f := all.read(); f.Type != "error" {
		t.Errorf("got type %q, want %q", f.Type, "error")
	} else if f.Error.Status != 422 {
		t.Errorf("got status %d, want 422", f.Error.Status)
	}
	all.write(`{"action":"unsubscribe"}`)
	if f := all.read(); f.Type != "unsubscribed" {
		t.Errorf("got frame %v, want one of type %q", f, "unsubscribed")
	}
}

func TestEndToEndStreamConnects(t *testing.T) { everyWay(t, streamConnects) }

func streamConnects(t *testing.T, start starter) {
	service := start(t, t.TempDir())
	admin := service.tenantAdmin("acme")
	service.tenantAdmin("globex")
	ofTwo := service.token(access.Claims{Subject: "admin", Tenants: []string{"acme", "globex"}, Role: access.RoleAdmin})
	for name, tt := range map[string]struct {
		as     caller
		status int
	}{
		"nobody":      {service.as("", "acme"), http.StatusUnauthorized},
		"a user":      {service.as(service.roleToken("acme", access.RoleUser, "u"), "acme"), http.StatusForbidden},
		"a foreigner": {service.as(service.roleToken("globex", access.RoleAdmin, "u"), "acme"), http.StatusForbidden},
		"no tenant":   {service.as(ofTwo, ""), http.StatusBadRequest},
		"nonsense":    {service.as("Bearer x", "acme"), http.StatusUnauthorized},
	} {
		if _, status, err := tt.as.connect(""); err == nil {
			t.Errorf("%s: got no error, want one", name)
		} else if status != tt.status {
			t.Errorf("%s: got status %d, want %d", name, status, tt.status)
		}
	}
	if conn, status, err := service.as(admin.authorization, "").connect(""); err != nil {
		t.Errorf("a credential of one tenant without its name: got status %d and error %v, want a connection", status, err)
	} else if err := conn.Close(websocket.StatusNormalClosure, ""); err != nil {
		t.Error(err)
	}
	var ticket struct{ URL string }
	admin.do("POST", "/logs/stream/tickets", "", nil).decode(t, &ticket)
	address, err := url.Parse(ticket.URL)
	if err != nil {
		t.Fatal(err)
	}
	browser := service.as("", "")
	conn, status, err := browser.connect("?" + address.RawQuery)
	if err != nil {
		t.Fatal(err)
	}
	if "http://"+address.Host != service.url {
		t.Fatalf("the ticket is for %s (status %d), want %s", ticket.URL, status, service.url)
	}
	if err := conn.Close(websocket.StatusNormalClosure, ""); err != nil {
		t.Error(err)
	}
	if _, status, err := browser.connect("?ticket=forged"); err == nil {
		t.Error("a forged ticket: got no error, want one")
	} else if status != http.StatusUnauthorized {
		t.Errorf("a forged ticket: got status %d, want %d", status, http.StatusUnauthorized)
	}
	if got := admin.get("/logs/stream", nil); got.status == http.StatusSwitchingProtocols {
		t.Errorf("without an upgrade: got status %d, want it to differ from %d", got.status, http.StatusSwitchingProtocols)
	} else if got.status < 400 {
		t.Errorf("without an upgrade: got status %d, want at least 400", got.status)
	}
}

func TestEndToEndStreamEndsWithItsCredential(t *testing.T) {
	everySlowWay(t, streamEndsWithItsCredential)
}

// maxEnd is how long after a revocation or a suspension a subscription may go on.
const maxEnd = time.Minute

// streamEndsWithItsCredential revokes a key and suspends a tenant while entries arrive.
func streamEndsWithItsCredential(t *testing.T, start starter) {
	service := start(t, t.TempDir())
	admin := service.tenantAdmin("acme")
	var key struct{ ID, Secret string }
	admin.do("POST", "/tenants/acme/api-keys", `{"name":"k","permissions":["logs:stream","logs:search"]}`, nil).decode(t, &key)
	byKey := service.as("ApiKey "+key.Secret, "acme")
	var ticket struct{ Ticket string }
	byKey.do("POST", "/logs/stream/tickets", "", nil).decode(t, &ticket)
	query := "?" + url.Values{"ticket": {ticket.Ticket}}.Encode()
	byKey.getsUntil("/logs", http.StatusOK, time.Now())
	direct, byTicket, kept := byKey.subscribe(`{}`, ""), service.as("", "").subscribeBy(query, `{}`, ""), admin.subscribe(`{}`, "")
	writer := admin.writeSteadily()

	if got := admin.do("DELETE", "/tenants/acme/api-keys/"+key.ID, "", nil); got.status != http.StatusNoContent {
		t.Fatalf("revoke: got status %d, want %d: %s", got.status, http.StatusNoContent, got.body)
	}
	revoked := time.Now()
	for name, s := range map[string]*subscriber{"the key": direct, "a ticket of the key": byTicket} {
		s.untilEnded(name, "credential_revoked", revoked)
	}
	byKey.getsUntil("/logs", http.StatusUnauthorized, revoked)
	byKey.connectsUntil("", http.StatusUnauthorized, revoked)
	service.as("", "").connectsUntil(query, http.StatusUnauthorized, revoked)

	operator := service.as(service.operator(), "")
	setStatus := func(to string) {
		t.Helper()
		got := operator.do("PATCH", "/tenants/acme", `{"status":"`+to+`"}`, map[string]string{"If-Match": "*"})
		if got.status != http.StatusOK {
			t.Fatalf("PATCH of the status to %s: got status %d, want %d: %s", to, got.status, http.StatusOK, got.body)
		}
	}
	setStatus("suspended")
	suspended := time.Now()
	kept.untilEnded("a token", "tenant_suspended", suspended)
	sent, unsure := writer()
	admin.connectsUntil("", http.StatusForbidden, suspended)
	admin.getsUntil("/logs", http.StatusForbidden, suspended)
	if got := service.as(service.operator(), "acme").get("/logs", nil); got.status != http.StatusOK {
		t.Errorf("list of the suspended tenant by an operator: got status %d, want %d: %s", got.status, http.StatusOK, got.body)
	}

	setStatus("active")
	admin.connectsUntil("", http.StatusSwitchingProtocols, time.Now())
	again := admin.subscribe(`{"action":"UPDATE"}`, kept.cursor)
	updates := func() (n int) {
		for _, item := range append(append([]map[string]json.RawMessage{}, kept.items...), again.items...) {
			if string(item["action"]) == `"UPDATE"` {
				n++
			}
		}
		return n
	}
	for updates() < sent {
		again.read()
	}
	if got := updates(); got != sent && got != sent+unsure {
		t.Errorf("got %d entries before and after the suspension, want %d and at most %d more", got, sent, unsure)
	}
}

// connectsUntil connects until the handshake has the status, at most until maxEnd after since:
// a process caches keys and tenants.
func (c caller) connectsUntil(query string, want int, since time.Time) {
	c.t.Helper()
	for {
		conn, status, err := c.connect(query)
		if err == nil {
			_ = conn.CloseNow()
		}
		if status == want {
			return
		}
		if time.Since(since) > maxEnd {
			c.t.Fatalf("connect: got status %d and error %v, want %d within %v", status, err, want, maxEnd)
		}
		time.Sleep(100 * time.Millisecond)
	}
}

// getsUntil reads the path until the answer has the status, at most until maxEnd after since.
func (c caller) getsUntil(path string, want int, since time.Time) {
	c.t.Helper()
	got := c.get(path, nil)
	for ; got.status != want; got = c.get(path, nil) {
		if time.Since(since) > maxEnd {
			c.t.Fatalf("GET %s: got status %d, want %d within %v: %s", path, got.status, want, maxEnd, got.body)
		}
		time.Sleep(100 * time.Millisecond)
	}
}

// writeSteadily sends an entry every few milliseconds until one is not accepted or stop is
// called. stop returns how many were accepted, and how many more may be stored: after a 5xx
// nobody knows.
func (c caller) writeSteadily() (stop func() (accepted, unsure int)) {
	type counts struct{ accepted, unsure int }
	end, sent := make(chan struct{}), make(chan counts)
	go func() {
		var n counts
		defer func() { sent <- n }()
		for {
			select {
			case <-end:
				return
			case <-time.After(20 * time.Millisecond):
			}
			if status := c.do("POST", "/logs", entryText(n.accepted), nil).status; status != http.StatusAccepted {
				if status >= http.StatusInternalServerError {
					n.unsure = 1
				}
				return
			}
			n.accepted++
		}
	}()
	stop = sync.OnceValues(func() (accepted, unsure int) {
		close(end)
		n := <-sent
		return n.accepted, n.unsure
	})
	c.t.Cleanup(func() { _, _ = stop() })
	return stop
}

// untilEnded reads until the service ends the connection. The last frame must name the code,
// and it must come within maxEnd after since.
func (s *subscriber) untilEnded(name, code string, since time.Time) {
	s.t.Helper()
	f := s.read()
	for ; f.Type == "entries"; f = s.read() {
		if late := time.Since(since); late > maxEnd {
			s.t.Fatalf("%s: got entries after %v, want none after %v", name, late, maxEnd)
		}
	}
	if f.Type != "error" {
		s.t.Fatalf("%s: got frame %v, want one of type %q", name, f, "error")
	}
	if want := httpapi.ProblemTypePrefix + code; f.Error.Type != want {
		s.t.Errorf("%s: got problem %q, want %q", name, f.Error.Type, want)
	}
	ctx, cancel := context.WithTimeout(s.t.Context(), maxEnd)
	defer cancel()
	if f, err := s.next(ctx); err == nil {
		s.t.Errorf("%s: got frame %v after the error, want the end of the connection", name, f)
	}
}

func TestEndToEndStreamResumes(t *testing.T) { everyWay(t, streamResumes) }

// streamResumes cuts a subscriber again and again, and the service once, while
// entries are written; nothing is missed and nothing repeated.
func streamResumes(t *testing.T, start starter) {
	const total = 2000
	data := t.TempDir()
	first := start(t, data)
	admin := first.tenantAdmin("acme")
	before := admin.subscribe(`{}`, "")
	cursor := before.cursor

	write := func(c caller, from, to int) (wait func()) {
		var writing sync.WaitGroup
		writing.Go(func() {
			for n := from; n < to; n += 50 {
				c.bulk(texts(n, n+50))
			}
		})
		return writing.Wait
	}
	var lives []*subscriber
	got := 0
	follow := func(c caller, until int) {
		random := rand.New(rand.NewPCG(1, uint64(until)))
		for got < until {
			s := c.subscribe(`{}`, cursor)
			lives = append(lives, s)
			for range 1 + random.IntN(20) {
				if got+len(s.items) >= until {
					break
				}
				s.read()
			}
			got += len(s.items)
			cursor = s.cursor
			_ = s.conn.CloseNow()
		}
	}
	wait := write(admin, 0, total/2)
	follow(admin, total/2)
	wait()
	first.stop()

	second := start(t, data)
	again := second.as(second.roleToken("acme", access.RoleAdmin, "admin"), "acme")
	wait = write(again, total/2, total)
	follow(again, total)
	wait()
	once(t, 0, total, lives...)
}

// If the delivering function is killed, the stream continues. The entries that it sent without
// recording that come again, and none is missing.
func TestEndToEndStreamWithKilledFunctions(t *testing.T) {
	const total, size, kills = 2000, 50, 2
	processes := &environments{Handler: slog.DiscardHandler, pids: map[string][]int{}}
	service := startWith(t, localcloud.Options{Data: t.TempDir(), Log: slog.New(processes), Lambda: lambda(t, config.Engines{})})
	admin := service.tenantAdmin("acme")
	s := admin.subscribe(`{}`, "")
	var writing sync.WaitGroup
	writing.Go(func() {
		killed := 0
		for n := 0; n < total; n += size {
			admin.bulk(texts(n, n+size))
			if n >= total*(killed+1)/(kills+1) && processes.kill(t, "stream-logs") {
				killed++
			}
		}
		if killed == 0 {
			t.Error("killed no process, want at least one")
		}
	})
	seen := map[string]bool{}
	repeated := 0
	for len(seen) < total {
		before := len(s.items)
		// A pump that was killed before it saved its progress is followed by one that announces the
		// subscription again.
		if f := s.read(); f.Type != "entries" && f.Type != "subscribed" {
			t.Fatalf("got frame %v, want one of type %q", f, "entries")
		}
		for _, item := range s.items[before:] {
			if id := string(item["id"]); seen[id] {
				repeated++
			} else {
				seen[id] = true
			}
		}
	}
	writing.Wait()
	t.Logf("%d entries came again", repeated)
	if repeated > kills*1000 { // a segment each
		t.Errorf("got %d entries again, want at most %d", repeated, kills*1000)
	}
}
