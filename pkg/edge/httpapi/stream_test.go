package httpapi_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/edge/httpapi"
	"github.com/ocelot-audit/ocelot/pkg/manifest"
	"github.com/ocelot-audit/ocelot/pkg/stream"
)

// connect asks for a connection with this id; query is of the address.
func (w *world) connect(id, as, tenant, query string) (status int, body string) {
	w.t.Helper()
	r := httptest.NewRequestWithContext(stream.WithConnection(w.t.Context(), id), http.MethodGet, manifest.BasePath+manifest.StreamPath+"?"+query, http.NoBody)
	if as != "" {
		r.Header.Set("Authorization", "Bearer "+as)
	}
	if tenant != "" {
		r.Header.Set("X-Tenant-ID", tenant)
	}
	recorder := httptest.NewRecorder()
	httpapi.ConnectStream(w.gate, w.stream).ServeHTTP(recorder, r)
	return recorder.Code, recorder.Body.String()
}

func TestWhoMayConnect(t *testing.T) {
	w := newWorld(t)
	var ticket struct{ Ticket, URL string }
	w.call("auditor", "POST", "/logs/stream/tickets", "", nil).decode(t, &ticket)
	address, err := url.Parse(ticket.URL)
	if err != nil {
		t.Fatal(err)
	} else if address.Query().Get("ticket") != ticket.Ticket {
		t.Fatalf("got ticket %q, want %q", address.Query().Get("ticket"), ticket.Ticket)
	} else if !strings.HasPrefix(ticket.URL, "wss://stream.acme.example?") {
		t.Fatalf("got URL %q, want it to begin with %q", ticket.URL, "wss://stream.acme.example?")
	}
	for _, tt := range []struct {
		name, as, tenant, query string
		status                  int
	}{
		{"an auditor", "auditor", "acme", "", 200},
		{"an operator", "operator", "globex", "", 200},
		{"a ticket", "", "", address.RawQuery, 200},
		{"a ticket that disagrees with the headers", "foreign", "globex", address.RawQuery, 200},
		{"nobody", "", "acme", "", 401},
		{"a writer", "writer", "acme", "", 403},
		{"a user", "user", "acme", "", 403},
		{"a foreigner", "foreign", "acme", "", 403},
		{"no tenant, of one", "auditor", "", "", 200},
		{"no tenant, of two", "both", "", "", 400},
		{"a suspended tenant", "operator", "sleepy", "", 403},
		{"a tenant that is being deleted", "operator", "leaving", "", 403},
		{"a forged ticket", "", "", "ticket=bogus", 401},
		{"two tickets", "auditor", "acme", "ticket=a&ticket=b", 422},
		{"a parameter that is unknown", "auditor", "acme", "token=a", 422},
	} {
		status, body := w.connect("of "+tt.name, tt.as, tt.tenant, tt.query)
		if status != tt.status {
			t.Errorf("%s: got %d %s, want %d", tt.name, status, body, tt.status)
		}
		_, err := w.db.Connections().Connection(t.Context(), "of "+tt.name)
		if want := status == 200; (err == nil) != want {
			t.Errorf("%s: the connection's record: got error %v, want it kept: %t", tt.name, err, want)
		}
	}
	c, err := w.db.Connections().Connection(t.Context(), "of a ticket that disagrees with the headers")
	if err != nil {
		t.Error(err)
	} else if c.Tenant != "acme" {
		t.Errorf("got tenant %q, want %q", c.Tenant, "acme")
	} else if c.Principal.Subject != "auditor" {
		t.Errorf("got subject %q, want %q", c.Principal.Subject, "auditor")
	}
	w.advance(stream.TicketTTL)
	if status, _ := w.connect("late", "", "", address.RawQuery); status != 401 {
		t.Errorf("an old ticket: got status %d, want 401", status)
	}
	w.faults.set("tenants", &audit.UnavailableError{Err: errors.New("down")})
	if status, _ := w.connect("down", "auditor", "acme", ""); status != 503 {
		t.Errorf("while the tenants cannot be read: got status %d, want 503", status)
	}
}

func TestMessagesAreAnsweredOverTheConnection(t *testing.T) {
	w := newWorld(t)
	if status, body := w.connect("c", "auditor", "acme", ""); status != 200 {
		t.Fatalf("connect: got %d %s, want 200", status, body)
	}
	say := func(handle func(*httpapi.Gate, *stream.Service) httpapi.Message, body string) (answers []string) {
		t.Helper()
		w.sent = nil
		if err := handle(w.gate, w.stream)(t.Context(), "c", []byte(body)); err != nil {
			t.Errorf("%.100s: %v", body, err)
		}
		w.processStream()
		return w.sent
	}
	// types are those of the frames, with the status of a problem.
	types := func(answers []string) (got []string) {
		for _, answer := range answers {
			_, text, _ := strings.Cut(answer, " ")
			var f struct {
				Type  string
				Error *struct {
					Status    int
					RequestID string `json:"request_id"`
				}
			}
			if err := json.Unmarshal([]byte(text), &f); err != nil {
				got = append(got, text)
				continue
			}
			if f.Error != nil {
				if f.Error.RequestID != "req-1" {
					t.Errorf("got request id %q, want %q: %s", f.Error.RequestID, "req-1", text)
				}
				f.Type += " " + http.StatusText(f.Error.Status)
			}
			got = append(got, f.Type)
		}
		return got
	}
	var unknown []string // filters whose names are as long in JSON as can be
	for i := range 400 {
		unknown = append(unknown, fmt.Sprintf(`"%s%d":"x"`, strings.Repeat(`\u0001`, 90), i))
	}
	for _, tt := range []struct {
		handle func(*httpapi.Gate, *stream.Service) httpapi.Message
		body   string
		want   []string
	}{
		{httpapi.PingStream, `{"action":"ping"}`, []string{"pong"}},
		{httpapi.SubscribeStream, `{"action":"subscribe","filter":{"severity":"LOUD"}}`, []string{"error Unprocessable Entity"}},
		{httpapi.SubscribeStream, `{"action":"subscribe","filter":{` + strings.Join(unknown, ",") + `}}`, []string{"error Unprocessable Entity"}},
		{httpapi.SubscribeStream, `{"action":"subscribe","filter":{"` + strings.Repeat("n", 30_000) + `":7}}`, []string{"error Unprocessable Entity"}},
		{httpapi.SubscribeStream, `{"action":"subscribe","filter":{"severity":"ERROR"}}`, []string{"subscribed"}},
		{httpapi.UnsubscribeStream, `{"action":"unsubscribe"}`, []string{"unsubscribed"}},
		{httpapi.RefuseMessage, `{"action":"dance"}`, []string{"error Unprocessable Entity"}},
		{httpapi.DisconnectStream, ``, nil},
		{httpapi.PingStream, `{"action":"ping"}`, []string{"error Unauthorized", "cut"}},
	} {
		if got := types(say(tt.handle, tt.body)); !slices.Equal(got, tt.want) {
			t.Errorf("%.100s: %v, want %v", tt.body, got, tt.want)
		}
	}

	if status, body := w.connect("c", "auditor", "acme", ""); status != 200 {
		t.Fatalf("connect: got %d %s, want 200", status, body)
	}
	w.faults.set("queue", errors.New("queue.internal is down"))
	w.sent = nil
	err := httpapi.SubscribeStream(w.gate, w.stream)(t.Context(), "c", []byte(`{"action":"subscribe"}`))
	if err == nil || !strings.Contains(err.Error(), "queue.internal") {
		t.Errorf("got error %v, want one with %q", err, "queue.internal")
	}
	if got := types(w.sent); !slices.Equal(got, []string{"error Internal Server Error"}) {
		t.Errorf("the client: got %q, want %q", got, []string{"error Internal Server Error"})
	} else if strings.Contains(strings.Join(w.sent, ""), "queue.internal") {
		t.Errorf("the client: got %q, want it without %q", strings.Join(w.sent, ""), "queue.internal")
	}
}

func TestTicketsAreForTheHostThatWasAsked(t *testing.T) {
	w := newWorld(t)
	handler := httpapi.CreateStreamTicket(w.gate, w.stream, "")
	r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "http://127.0.0.1:8080/api/v1/logs/stream/tickets", http.NoBody)
	r.Header.Set("Authorization", "Bearer auditor")
	r.Header.Set("X-Tenant-ID", "acme")
	recorder := httptest.NewRecorder()
	handler.ServeHTTP(recorder, r)
	var got struct {
		URL       string
		ExpiresAt time.Time `json:"expires_at"`
	}
	if err := json.Unmarshal(recorder.Body.Bytes(), &got); err != nil {
		t.Error(err)
	} else if !strings.HasPrefix(got.URL, "ws://127.0.0.1:8080/api/v1/logs/stream?ticket=") {
		t.Errorf("got URL %q, want it to begin with %q", got.URL, "ws://127.0.0.1:8080/api/v1/logs/stream?ticket=")
	} else if !got.ExpiresAt.Equal(start.Add(time.Minute)) {
		t.Errorf("got expires at %v, want %v", got.ExpiresAt, start.Add(time.Minute))
	}
}
