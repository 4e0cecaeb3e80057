package client_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/google/go-cmp/cmp"

	"github.com/ocelot-audit/ocelot/pkg/client"
)

// entryText is the n-th entry as a frame has it.
func entryText(n int, more ...string) string {
	return fmt.Sprintf(`{"id":"01a19671-c1c0-74f6-bc50-%012x","n":12345678901234567890.10%s}`, n, strings.Join(more, ""))
}

// entriesFrame returns a frame of entries. The place of the n-th entry is n + 1.
func entriesFrame(cursor string, texts ...string) string {
	places := make([]string, len(texts))
	for i, text := range texts {
		const before = len(`{"id":"01a19671-c1c0-74f6-bc50-`)
		places[i] = "1"
		if len(text) > before+12 {
			n, err := strconv.ParseInt(text[before:before+12], 16, 64)
			if err != nil {
				panic(err) // the texts are those of entryText
			}
			places[i] = strconv.FormatInt(n+1, 10)
		}
	}
	return fmt.Sprintf(`{"type":"entries","items":[%s],"places":[%s],"cursor":%q}`, strings.Join(texts, ","), strings.Join(places, ","), cursor)
}

func subscribedFrame(cursor string) string {
	return fmt.Sprintf(`{"type":"subscribed","cursor":%q}`, cursor)
}

// streamServer plays a part for each handshake, in their order; one more fails the test.
type streamServer struct {
	t     *testing.T
	parts []http.HandlerFunc
	reads http.HandlerFunc // GET /logs/{id}

	mu     sync.Mutex
	played int
}

func (s *streamServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path != "/api/v1/logs/stream" {
		s.reads(w, r)
		return
	}
	s.mu.Lock()
	n := s.played
	s.played++
	s.mu.Unlock()
	if n >= len(s.parts) {
		s.t.Errorf("got handshake %d, want at most %d", n+1, len(s.parts))
		w.WriteHeader(http.StatusForbidden)
		return
	}
	for name, want := range map[string]string{"Authorization": "Bearer e30.e30.e30", "X-Tenant-Id": "acme", "User-Agent": "test/1"} {
		if got := r.Header.Get(name); got != want {
			s.t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
	s.parts[n](w, r)
}

// wire is the service's end of a connection.
type wire struct {
	t *testing.T
	*websocket.Conn
}

// socket is a part that accepts the connection, plays and cuts it.
func socket(t *testing.T, play func(c wire)) http.HandlerFunc {
	var playing sync.WaitGroup
	t.Cleanup(playing.Wait) // the server does not wait for what it handed over
	return func(w http.ResponseWriter, r *http.Request) {
		playing.Add(1)
		defer playing.Done()
		conn, err := websocket.Accept(w, r, nil)
		if err != nil {
			t.Error(err)
			return
		}
		play(wire{t, conn})
		_ = conn.CloseNow() // the play may have closed it
	}
}

// wantMessage reads a message and compares it.
func (c wire) wantMessage(want string) {
	c.t.Helper()
	_, text, err := c.Read(c.t.Context())
	if err != nil {
		c.t.Error(err)
	} else if string(text) != want {
		c.t.Errorf("got the message %s, want %s", text, want)
	}
}

func (c wire) send(frames ...string) {
	c.t.Helper()
	for _, frame := range frames {
		if err := c.Write(c.t.Context(), websocket.MessageText, []byte(frame)); err != nil {
			c.t.Errorf("send %s: %v", frame, err)
		}
	}
}

// awaitClose reads until the client closes the connection. It answers each message with the frames.
func (c wire) awaitClose(answers ...string) {
	for {
		if _, _, err := c.Read(context.WithoutCancel(c.t.Context())); err != nil {
			return
		}
		for _, answer := range answers {
			_ = c.Write(context.WithoutCancel(c.t.Context()), websocket.MessageText, []byte(answer)) // it may have closed by now
		}
	}
}

func refuse(status int, header map[string]string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		for name, value := range header {
			w.Header().Set(name, value)
		}
		w.Header().Set("Content-Type", "application/problem+json")
		w.WriteHeader(status)
		_, _ = fmt.Fprintf(w, `{"status":%d,"title":"X","detail":"because"}`, status)
	}
}

var errEnough = errors.New("enough")

// stream follows until the handler has been told so many events, and returns them
// each as a line.
func stream(t *testing.T, s *streamServer, events int, sub client.Subscription, alter ...func(*client.Config)) (lines []string, pauses []time.Duration, err error) {
	t.Helper()
	s.t = t
	c, slept := connect(t, s.ServeHTTP, alter...)
	err = c.Stream(t.Context(), sub, func(e client.Event) error {
		line := string(e.Kind) + " " + e.Cursor
		for _, entry := range e.Entries {
			line += " " + string(entry)
		}
		if e.Kind == client.StreamCut {
			if e.Err == nil {
				t.Error("a cut has no error, want one")
			}
			if e.Pause <= 0 {
				t.Errorf("a cut by %v has the pause %s, want more than 0", e.Err, e.Pause)
			}
		}
		if lines = append(lines, line); len(lines) == events {
			return errEnough
		}
		return nil
	})
	if s.played != len(s.parts) {
		t.Errorf("%d handshakes, want %d", s.played, len(s.parts))
	}
	return lines, *slept, err
}

func TestStreamGoesOnAfterCuts(t *testing.T) {
	const first = `{"action":"subscribe","filter":{"q":["refund"],"severity":["ERROR","CRITICAL"]}}`
	const again = `{"action":"subscribe","filter":{"q":["refund"],"severity":["ERROR","CRITICAL"]},"after":%q}`
	s := &streamServer{parts: []http.HandlerFunc{
		refuse(http.StatusServiceUnavailable, nil),
		socket(t, func(c wire) {
			c.wantMessage(first)
			c.send(subscribedFrame("c0"), `{"type":"greeting"}`, entriesFrame("c2", entryText(1), entryText(2)))
		}),
		refuse(http.StatusServiceUnavailable, map[string]string{"Retry-After": "7"}),
		refuse(http.StatusInternalServerError, nil),
		socket(t, func(wire) {}), // cut before it says a thing
		socket(t, func(c wire) {
			c.wantMessage(fmt.Sprintf(again, "c2"))
			c.send(subscribedFrame("c2"), entriesFrame("c2", entryText(2)), entriesFrame("c3", entryText(2), entryText(3)), entriesFrame("c4", entryText(4)))
			if err := c.Close(websocket.StatusGoingAway, "two hours"); err != nil {
				t.Error(err)
			}
		}),
		socket(t, func(c wire) {
			c.wantMessage(fmt.Sprintf(again, "c4"))
			c.send(subscribedFrame("c4"), entriesFrame("c5", entryText(5)))
			c.awaitClose()
		}),
	}}
	lines, pauses, err := stream(t, s, 14, client.Subscription{Filter: url.Values{"severity": {"ERROR", "CRITICAL"}, "q": {"refund"}}})
	want := []string{
		"cut ",
		"subscribed c0", "entries c2 " + entryText(1) + " " + entryText(2),
		"cut c2", "cut c2", "cut c2", "cut c2",
		"subscribed c2", "entries c2", "entries c3 " + entryText(3), "entries c4 " + entryText(4), "cut c4",
		"subscribed c4", "entries c5 " + entryText(5),
	}
	if diff := cmp.Diff(want, lines); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	} else if !errors.Is(err, errEnough) {
		t.Errorf("got error %v, want %v", err, errEnough)
	}
	const ms = time.Millisecond
	if diff := cmp.Diff([]time.Duration{200 * ms, 200 * ms, 7100 * ms, 800 * ms, 1600 * ms, 200 * ms}, pauses); diff != "" {
		t.Errorf("pauses (-want +got):\n%s", diff)
	}
}

func TestStreamBeginsAfterACursor(t *testing.T) {
	s := &streamServer{parts: []http.HandlerFunc{socket(t, func(c wire) {
		c.wantMessage(`{"action":"subscribe","after":"c7"}`)
		c.send(subscribedFrame("c7"), `{"type":"lagged","cursor":"c8"}`, entriesFrame("c100"))
		c.awaitClose()
	})}}
	lines, _, err := stream(t, s, 3, client.Subscription{After: "c7"})
	if diff := cmp.Diff([]string{"subscribed c7", "lagged c8", "entries c100"}, lines); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	} else if !errors.Is(err, errEnough) {
		t.Errorf("got error %v, want %v", err, errEnough)
	}
}

// API Gateway would end the connection without a word, again and again.
func TestStreamEndsWhereTheFilterIsTooLong(t *testing.T) {
	s := &streamServer{parts: []http.HandlerFunc{socket(t, func(c wire) { c.awaitClose() })}}
	lines, pauses, err := stream(t, s, 1, client.Subscription{Filter: url.Values{"q": {strings.Repeat("x", 128<<10)}}})
	switch {
	case err == nil:
		t.Error("got no error, want one")
	case !strings.Contains(err.Error(), "the filter is too long"):
		t.Errorf("got error %q, want it to contain %q", err.Error(), "the filter is too long")
	case len(lines) > 0:
		t.Errorf("got lines %q, want none", lines)
	case len(pauses) > 0:
		t.Errorf("got pauses %v, want none", pauses)
	}
}

func errorFrame(status int, fields string) string {
	return fmt.Sprintf(`{"type":"error","error":{"status":%d,"title":"X","detail":"because","request_id":"r1","errors":[%s]}}`, status, fields)
}

func TestStreamEndsWhereTheServiceRefuses(t *testing.T) {
	answer := func(frame string) http.HandlerFunc {
		return socket(t, func(c wire) {
			c.wantMessage(`{"action":"subscribe","after":"c1"}`)
			c.send(frame)
			c.awaitClose()
		})
	}
	for _, c := range []struct {
		name   string
		part   http.HandlerFunc
		status int
	}{
		{"malformed", refuse(400, nil), 400},
		{"no credential", refuse(401, nil), 401},
		{"not allowed", refuse(403, nil), 403},
		{"not now, nor for an hour", refuse(503, map[string]string{"Retry-After": "3600"}), 503},
		{"a redirect", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/elsewhere", http.StatusFound) }, 302},
		{"no WebSocket", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "hello") }, 200},
		{"a faulty filter", answer(errorFrame(422, `{"pointer":"/filter/x","code":"unknown_field","detail":"is unknown"}`)), 422},
		{"a foreign cursor", answer(errorFrame(422, `{"pointer":"/after","code":"invalid_cursor","detail":"must be a cursor"}`)), 422},
	} {
		t.Run(c.name, func(t *testing.T) {
			lines, pauses, err := stream(t, &streamServer{parts: []http.HandlerFunc{c.part}}, 1, client.Subscription{After: "c1"})
			var p *client.Problem
			switch {
			case !errors.As(err, &p):
				t.Errorf("got error %v, want one of type %T", err, p)
			case p.Status != c.status:
				t.Errorf("got status %d, want %d", p.Status, c.status)
			case len(lines) > 0:
				t.Errorf("got lines %q, want none", lines)
			case len(pauses) > 0:
				t.Errorf("got pauses %v, want none", pauses)
			}
		})
	}
}

func TestStreamTriesAgainAfterErrorFrames(t *testing.T) {
	for name, frame := range map[string]string{
		"unavailable": errorFrame(503, ""), "internal": errorFrame(500, ""), "too many": errorFrame(429, ""), "time over": errorFrame(401, ""),
		"the gateway's own": `{"message":"Internal server error","connectionId":"x"}`,
	} {
		t.Run(name, func(t *testing.T) {
			s := &streamServer{parts: []http.HandlerFunc{
				socket(t, func(c wire) {
					c.wantMessage(`{"action":"subscribe"}`)
					c.send(frame)
					c.awaitClose()
				}),
				socket(t, func(c wire) {
					c.wantMessage(`{"action":"subscribe"}`)
					c.send(subscribedFrame("c0"), errorFrame(503, ""), errorFrame(401, ""))
					c.awaitClose()
				}),
				refuse(http.StatusUnauthorized, nil),
			}}
			lines, _, err := stream(t, s, 9, client.Subscription{})
			var p *client.Problem
			switch diff := cmp.Diff([]string{"cut ", "subscribed c0", "cut c0"}, lines); {
			case diff != "":
				t.Errorf("(-want +got):\n%s", diff)
			case !errors.As(err, &p):
				t.Errorf("got error %v, want one of type %T", err, p)
			case p.Status != http.StatusUnauthorized:
				t.Errorf("got status %d, want %d", p.Status, http.StatusUnauthorized)
			}
		})
	}
}

func TestStreamGivesTheFirstConnectionUp(t *testing.T) {
	parts := []http.HandlerFunc{refuse(503, nil), refuse(502, nil), refuse(504, nil)}
	threeTries := func(c *client.Config) { c.Attempts = 3 }
	lines, pauses, err := stream(t, &streamServer{parts: parts}, 9, client.Subscription{}, threeTries)
	switch {
	case err == nil:
		t.Error("got no error, want one")
	case !strings.Contains(err.Error(), "given up after 3 attempts"):
		t.Errorf("got error %q, want it to contain %q", err.Error(), "given up after 3 attempts")
	case len(lines) != 2:
		t.Errorf("got %d lines, want 2", len(lines))
	case len(pauses) != 2:
		t.Errorf("got %d pauses, want 2", len(pauses))
	}
	running := socket(t, func(c wire) {
		c.wantMessage(`{"action":"subscribe"}`)
		c.send(subscribedFrame("c0"))
	})
	parts = append([]http.HandlerFunc{running}, append(parts, parts...)...)
	lines, _, err = stream(t, &streamServer{parts: append(parts, refuse(403, nil))}, 99, client.Subscription{}, threeTries)
	var p *client.Problem
	switch {
	case !errors.As(err, &p):
		t.Errorf("one that ran: got error %v, want one of type %T", err, p)
	case p.Status != http.StatusForbidden:
		t.Errorf("one that ran: got status %d, want %d", p.Status, http.StatusForbidden)
	case len(lines) != 8:
		t.Errorf("one that ran: got %d lines, want 8", len(lines))
	}
}

func TestStreamPings(t *testing.T) {
	t.Parallel() // it waits most of its time
	const ping = `{"action":"ping"}`
	s := &streamServer{parts: []http.HandlerFunc{
		socket(t, func(c wire) {
			c.wantMessage(`{"action":"subscribe"}`)
			c.send(subscribedFrame("c0"))
			c.wantMessage(ping)
			c.send(`{"type":"pong","cursor":"c0"}`)
			c.wantMessage(ping)
			c.send(errorFrame(503, "")) // alive all the same
			c.wantMessage(ping)
			c.send(`{"type":"pong","cursor":"c5"}`) // past what the filter does not choose
			c.wantMessage(ping)
			// It may have been asked for before the entries that it follows.
			c.send(entriesFrame("c6", entryText(6)), `{"type":"pong","cursor":"c5"}`)
			c.awaitClose() // and silence
		}),
		socket(t, func(c wire) {
			c.wantMessage(`{"action":"subscribe","after":"c6"}`)
			c.send(subscribedFrame("c6"))
			c.awaitClose()
		}),
	}}
	begun := time.Now()
	lines, _, err := stream(t, s, 5, client.Subscription{}, func(c *client.Config) { c.PingEvery = 2400 * time.Millisecond })
	want := []string{"subscribed c0", "entries c5", "entries c6 " + entryText(6), "cut c6", "subscribed c6"}
	if diff := cmp.Diff(want, lines); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	} else if !errors.Is(err, errEnough) {
		t.Errorf("got error %v, want %v", err, errEnough)
	}
	if took := time.Since(begun); took > 30*time.Second {
		t.Errorf("the silence was noticed after %s, want at most 30s", took)
	}
}

func TestSlowHandlerIsNoCut(t *testing.T) {
	t.Parallel() // it waits most of its time
	const pingEvery = 1500 * time.Millisecond
	s := &streamServer{t: t, parts: []http.HandlerFunc{socket(t, func(c wire) {
		c.wantMessage(`{"action":"subscribe"}`)
		c.send(subscribedFrame("c0"), entriesFrame("c1", entryText(1)), entriesFrame("c2", entryText(2)))
		c.awaitClose(`{"type":"pong","cursor":"c2"}`)
	})}}
	c, _ := connect(t, s.ServeHTTP, func(c *client.Config) { c.PingEvery = pingEvery })
	err := c.Stream(t.Context(), client.Subscription{}, func(e client.Event) error {
		if e.Kind == client.StreamCut {
			t.Errorf("got a cut by %v, want none", e.Err)
		}
		if e.Cursor == "c2" {
			return errEnough
		}
		time.Sleep(pingEvery * 3 / 2) // longer than a silence may last
		return nil
	})
	if !errors.Is(err, errEnough) {
		t.Errorf("got error %v, want %v", err, errEnough)
	}
}

func TestStreamEndsWithItsContext(t *testing.T) {
	interrupted := errors.New("interrupted")
	for name, part := range map[string]http.HandlerFunc{
		"while it waits": refuse(http.StatusServiceUnavailable, nil),
		"while it reads": socket(t, func(c wire) {
			c.wantMessage(`{"action":"subscribe"}`)
			c.send(subscribedFrame("c0"))
			c.awaitClose()
		}),
	} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithCancelCause(t.Context())
			s := &streamServer{t: t, parts: []http.HandlerFunc{part}}
			c, _ := connect(t, s.ServeHTTP, func(c *client.Config) { c.Sleep = nil; c.Jitter = nil })
			err := c.Stream(ctx, client.Subscription{}, func(client.Event) error { cancel(interrupted); return nil })
			if !errors.Is(err, interrupted) {
				t.Errorf("got error %v, want %v", err, interrupted)
			}
		})
	}
}

func TestStreamCompletesEntries(t *testing.T) {
	lacking := func(n int) string { return entryText(n, `,"omitted":["metadata","message"]`) }
	whole := func(n int) string { return entryText(n, `,"metadata":{"a":1.50},"message":"long"`) }
	unavailable := true
	s := &streamServer{
		parts: []http.HandlerFunc{
			socket(t, func(c wire) {
				c.wantMessage(`{"action":"subscribe"}`)
				c.send(subscribedFrame("c0"), entriesFrame("c4", entryText(1), lacking(2), lacking(3), lacking(4)), entriesFrame("c6", entryText(5), lacking(6)))
				c.awaitClose()
			}),
			socket(t, func(c wire) {
				c.wantMessage(`{"action":"subscribe","after":"c4"}`)
				c.send(subscribedFrame("c4"), entriesFrame("c6", entryText(5), lacking(6)))
				c.awaitClose()
			}),
		},
	}
	asked := map[string]int{}
	s.reads = func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		defer s.mu.Unlock()
		id := strings.TrimPrefix(r.URL.Path, "/api/v1/logs/")
		asked[id]++
		var n int
		if _, err := fmt.Sscanf(id, "01a19671-c1c0-74f6-bc50-%012x", &n); err != nil {
			t.Error(err)
		}
		switch {
		case n == 3:
			refuse(http.StatusForbidden, nil)(w, r)
		case n == 4 && asked[id] == 1:
			refuse(http.StatusNotFound, map[string]string{"Retry-After": "1"})(w, r)
		case n == 6 && unavailable:
			unavailable = asked[id] < 2
			refuse(http.StatusServiceUnavailable, nil)(w, r)
		default:
			_, _ = io.WriteString(w, strings.TrimSuffix(whole(n), "}")+`,"status":"stored"}`)
		}
	}
	twoTries := func(c *client.Config) {
		c.Attempts = 2
		c.Sleep = func(ctx context.Context, _ time.Duration) error { return ctx.Err() }
	}
	lines, _, err := stream(t, s, 5, client.Subscription{}, twoTries)
	want := []string{
		"subscribed c0", strings.Join([]string{"entries c4", entryText(1), whole(2), lacking(3), whole(4)}, " "),
		"cut c4", "subscribed c4", strings.Join([]string{"entries c6", entryText(5), whole(6)}, " "),
	}
	if diff := cmp.Diff(want, lines); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	} else if !errors.Is(err, errEnough) {
		t.Errorf("got error %v, want %v", err, errEnough)
	}
}

// What was sent before a part of the service was killed may come again, in other frames.
func TestStreamHandsRepeatedEntriesOnOnce(t *testing.T) {
	const entries, perFrame = 40_000, 100
	frames := func(c wire, from, to int) {
		for at := from; at < to; at += perFrame {
			texts := make([]string, min(perFrame, to-at))
			for i := range texts {
				texts[i] = entryText(at + i)
			}
			c.send(entriesFrame(fmt.Sprintf("c%d", at+perFrame), texts...))
		}
	}
	s := &streamServer{t: t, parts: []http.HandlerFunc{socket(t, func(c wire) {
		c.wantMessage(`{"action":"subscribe"}`)
		c.send(subscribedFrame("c0"))
		frames(c, 0, entries/2)
		frames(c, entries/2-16_050, entries)
		c.send(entriesFrame("end"))
		c.awaitClose()
	})}}
	c, _ := connect(t, s.ServeHTTP)
	next := 0
	err := c.Stream(t.Context(), client.Subscription{}, func(e client.Event) error {
		for _, text := range e.Entries {
			if want := entryText(next); string(text) != want {
				t.Fatalf("%s, want %s", text, want)
			}
			next++
		}
		if e.Cursor == "end" {
			return errEnough
		}
		return nil
	})
	if !errors.Is(err, errEnough) {
		t.Errorf("got error %v, want %v", err, errEnough)
	}
	if next != entries {
		t.Errorf("got %d entries, want %d", next, entries)
	}
}

// On AWS the WebSocket API has an address of its own.
func TestStreamAtAnAddressOfItsOwn(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/live" {
			t.Errorf("got path %q, want %q", r.URL.Path, "/live")
		}
		if r.Header.Get("X-Tenant-Id") != "acme" {
			t.Errorf("got X-Tenant-Id %q, want %q", r.Header.Get("X-Tenant-Id"), "acme")
		}
		socket(t, func(c wire) {
			c.wantMessage(`{"action":"subscribe"}`)
			c.send(subscribedFrame("c0"))
			c.awaitClose()
		})(w, r)
	}))
	defer server.Close()
	c, _ := connect(t, nil, func(c *client.Config) { c.StreamURL = "ws" + strings.TrimPrefix(server.URL, "http") + "/live" })
	err := c.Stream(t.Context(), client.Subscription{}, func(client.Event) error { return errEnough })
	if !errors.Is(err, errEnough) {
		t.Errorf("got error %v, want %v", err, errEnough)
	}
	if _, err := client.New(client.Config{URL: "http://host", StreamURL: "host/live"}); err == nil {
		t.Error("an address without a scheme: got no error, want one")
	}
}

// A frame that cannot be read is no cut: it would come again.
func TestStreamEndsWithWhatItCannotRead(t *testing.T) {
	for name, frame := range map[string]string{"no JSON": `hello`, "an odd id": entriesFrame("c1", `{"id":7}`), "no id": entriesFrame("c1", `{}`), "no places": `{"type":"entries","items":[{}],"cursor":"c1"}`} {
		s := &streamServer{parts: []http.HandlerFunc{socket(t, func(c wire) {
			c.wantMessage(`{"action":"subscribe"}`)
			c.send(subscribedFrame("c0"), frame)
			c.awaitClose()
		})}}
		if lines, _, err := stream(t, s, 9, client.Subscription{}); err == nil {
			t.Errorf("%s: got no error, want one", name)
		} else if len(lines) != 1 {
			t.Errorf("%s: got %d lines, want 1", name, len(lines))
		}
	}
}
