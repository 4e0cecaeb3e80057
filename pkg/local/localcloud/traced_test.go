package localcloud_test

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/local/localcloud"
	"github.com/ocelot-audit/ocelot/pkg/trace"
)

// logLines are the JSON lines of the service and its functions.
type logLines struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *logLines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *logLines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// logLine is what the test reads of a line.
type logLine struct {
	Message string `json:"msg"`
	Tenant  string
	TraceID string `json:"trace_id"`
	Traces  []string
}

// named returns the messages of the lines that name the trace and the tenant.
func (l *logLines) named(id trace.ID, tenant string) (messages []string) {
	for text := range strings.Lines(l.String()) {
		_, text, isJSON := strings.Cut(text, "{")
		var line logLine
		if !isJSON || json.Unmarshal([]byte("{"+text), &line) != nil || line.Tenant != tenant {
			continue
		}
		if line.TraceID == id.String() || slices.Contains(line.Traces, id.String()) {
			messages = append(messages, line.Message)
		}
	}
	return messages
}

// The log messages of an entry's way in their order, if one
// process does all of it in the embedded engine, and if each function does its part.
var (
	togetherSteps = []string{"request", "entries stored, indexed and ordered", "entries sent to subscribers"}
	separateSteps = []string{"request", "entries stored", "entries indexed", "entries ordered", "entries sent to subscribers"}
)

// missing waits until the log has every step of the trace, and returns what it lacks after a time.
func (l *logLines) missing(id trace.ID, steps []string, wait time.Duration) []string {
	for end := time.Now().Add(wait); ; time.Sleep(10 * time.Millisecond) {
		got := l.named(id, "acme")
		lacking := slices.DeleteFunc(slices.Clone(steps), func(step string) bool { return slices.Contains(got, step) })
		if len(lacking) == 0 || time.Now().After(end) {
			return lacking
		}
	}
}

func TestATraceLeadsFromTheRequestToTheSubscriber(t *testing.T) {
	t.Run("in process", func(t *testing.T) { followInProcess(t, localcloud.Options{Data: t.TempDir()}, togetherSteps) })
	t.Run("lambda", func(t *testing.T) {
		followLambda(t, localcloud.Options{Data: t.TempDir()}, separateSteps, "persist-logs", "index-logs", "order-logs", "stream-logs")
	})
}

func TestEndToEndTrace(t *testing.T) {
	t.Run("in process on servers", func(t *testing.T) {
		data := t.TempDir()
		followInProcess(t, localcloud.Options{Data: data, Engines: servers(t, data)}, separateSteps)
	})
	t.Run("lambda on servers", func(t *testing.T) {
		data := t.TempDir()
		followLambda(t, localcloud.Options{Data: data, Engines: servers(t, data)}, separateSteps,
			"persist-logs", "index-logs", "order-logs", "stream-logs", "MongoDB")
	})
}

func followInProcess(t *testing.T, o localcloud.Options, steps []string) {
	t.Helper()
	lines := &logLines{}
	o.Log = slog.New(trace.Logging(slog.NewJSONHandler(lines, nil)))
	followRequests(t, startWith(t, o), lines, steps)
}

// followLambda is followInProcess with the functions as Lambda binaries. Segments of these names
// must come.
func followLambda(t *testing.T, o localcloud.Options, steps []string, segments ...string) {
	t.Helper()
	daemon, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer daemon.Close()
	lines := &logLines{}
	o.Lambda = lambda(t, o.Engines)
	o.Lambda.LogLevel, o.Lambda.Output, o.Lambda.TraceDaemon = slog.LevelInfo, lines, daemon.LocalAddr().String()
	o.Log = slog.New(trace.Logging(slog.NewJSONHandler(lines, nil)))
	sampled := followRequests(t, startWith(t, o), lines, steps)
	wantSegments(t, daemon, sampled, segments)
}

// followRequests sends entries and looks for their traces in the log of each step. It returns
// the trace that was sampled.
func followRequests(t *testing.T, s *service, lines *logLines, steps []string) (sampled trace.Trace) {
	t.Helper()
	c := s.tenantAdmin("acme")
	subscriber := c.subscribe(`{}`, "")
	sampled, _ = trace.Parse("00-5759e988bd862e3fe1be46a994272793-53995c3f42cd8ad8-01")
	w3c, _ := trace.Parse("00-5759e988bd862e3fe1be46a994272794-53995c3f42cd8ad8-00")
	sent := 0
	for _, ask := range []struct {
		name   string
		header map[string]string
		want   trace.ID // zero: any
	}{
		{"X-Ray", map[string]string{trace.Header: sampled.Header()}, sampled.ID},
		{"W3C", map[string]string{trace.W3CHeader: w3c.String()}, w3c.ID},
		{"none", nil, trace.ID{}},
		{"malformed", map[string]string{trace.Header: "Root=1-x", trace.W3CHeader: "x\"y"}, trace.ID{}},
	} {
		// A pump that works already sends the entry without a message, so the step is not
		// the trace's. It ends a second after the last entry.
		missing := []string{"nothing sent"}
		for try := 0; len(missing) > 0; try++ {
			if try == 10 {
				t.Fatalf("%s: the log lacks %q of the trace, want every step", ask.name, missing)
			}
			sent++
			got := c.do("POST", "/logs", entryText(sent), ask.header)
			if got.status != 202 {
				t.Fatalf("%s: got status %d, want 202: %s", ask.name, got.status, got.body)
			}
			answered, ok := trace.ParseHeader(got.header.Get(trace.Header))
			if !ok {
				t.Fatalf("%s: the answer names the trace %q, want a trace", ask.name, got.header.Get(trace.Header))
			}
			if ask.want != (trace.ID{}) && answered.ID != ask.want {
				t.Fatalf("%s: the answer names the trace %s, want %s", ask.name, answered.ID, ask.want)
			}
			subscriber.until(sent)
			if missing = lines.missing(answered.ID, steps[:len(steps)-1], time.Minute); len(missing) > 0 {
				t.Fatalf("%s: the log lacks %q of the trace, want every step", ask.name, missing)
			}
			missing = lines.missing(answered.ID, steps, 3*time.Second)
		}
	}
	if text := lines.String(); strings.Contains(text, "entry number") {
		t.Error("the log has the content of an entry, want none")
	}
	return sampled
}

// wantSegments reads from the daemon until each step of the trace has come.
func wantSegments(t *testing.T, daemon net.PacketConn, sampled trace.Trace, names []string) {
	t.Helper()
	wanted := map[string]bool{}
	for _, name := range names {
		wanted[name] = true
	}
	buffer := make([]byte, 64<<10)
	for len(wanted) > 0 {
		if err := daemon.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
			t.Fatal(err)
		}
		n, _, err := daemon.ReadFrom(buffer)
		if err != nil {
			t.Fatalf("the segments %v have not come: %v", wanted, err)
		}
		_, document, _ := bytes.Cut(buffer[:n], []byte("\n"))
		var segment struct {
			Name   string
			Trace  string `json:"trace_id"`
			Parent string `json:"parent_id"`
		}
		if err := json.Unmarshal(document, &segment); err != nil {
			t.Fatal(err)
		}
		if segment.Trace != sampled.ID.String() {
			t.Errorf("got a segment of the trace %s, want only %s: no other is sampled", segment.Trace, sampled.ID)
		}
		if segment.Parent != sampled.Parent.String() {
			t.Errorf("%s: got the parent %s, want %s", segment.Name, segment.Parent, sampled.Parent)
		}
		delete(wanted, segment.Name)
	}
}
