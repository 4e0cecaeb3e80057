package trace_test

import (
	"bytes"
	"encoding/json"
	"net"
	"testing"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/trace"
)

// segment is what a daemon reads.
type segment struct {
	Name, ID, Type, Namespace, Origin string
	Trace                             string  `json:"trace_id"`
	Parent                            string  `json:"parent_id"`
	Start                             float64 `json:"start_time"`
	End                               float64 `json:"end_time"`
	Fault                             bool
}

// daemon records what this process sends to a daemon until the test ends.
func daemon(t *testing.T) net.PacketConn {
	t.Helper()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	recorder, err := trace.NewRecorder("tcp:127.0.0.1:1 udp:"+conn.LocalAddr().String(), "persist-logs")
	if err != nil {
		t.Fatal(err)
	}
	trace.SetRecorder(recorder)
	t.Cleanup(func() {
		trace.SetRecorder(nil)
		_ = conn.Close()
	})
	return conn
}

func received(t *testing.T, conn net.PacketConn) (s segment) {
	t.Helper()
	if err := conn.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	buffer := make([]byte, 64<<10)
	n, _, err := conn.ReadFrom(buffer)
	if err != nil {
		t.Fatal(err)
	}
	head, body, _ := bytes.Cut(buffer[:n], []byte("\n"))
	if got, want := string(head), `{"format":"json","version":1}`; got != want {
		t.Fatalf("got the header %s, want %s", got, want)
	}
	if err := json.Unmarshal(body, &s); err != nil {
		t.Fatal(err)
	}
	return s
}

func TestSampledTracesAreRecorded(t *testing.T) {
	conn := daemon(t)
	sampled, _ := trace.Parse(w3cText)
	unsampled := sampled
	unsampled.Sampled = false
	start := time.UnixMilli(1772360430123)

	trace.Called(t.Context(), "MongoDB", start, false)
	trace.Called(trace.With(t.Context(), unsampled), "MongoDB", start, false)
	trace.Called(trace.With(t.Context(), sampled), "MongoDB", start, true)
	call := received(t, conn) // the first two sent nothing
	if got, want := [3]string{call.Name, call.Type, call.Namespace}, [3]string{"MongoDB", "subsegment", "remote"}; got != want {
		t.Errorf("got name, type and namespace %q, want %q", got, want)
	}
	if !call.Fault {
		t.Error("the failed call is no fault, want one")
	}
	if call.Start != 1772360430.123 {
		t.Errorf("got the start %f, want 1772360430.123", call.Start)
	}

	trace.Work{Traces: []trace.Trace{unsampled, sampled}, Start: start}.Record(start.Add(time.Second))
	step := received(t, conn)
	if got, want := [3]string{step.Name, step.Type, step.Origin}, [3]string{"persist-logs", "", "AWS::Lambda::Function"}; got != want {
		t.Errorf("got name, type and origin %q, want %q", got, want)
	}
	if step.End != 1772360431.123 {
		t.Errorf("got the end %f, want 1772360431.123", step.End)
	}
	for _, s := range []segment{call, step} {
		if got, want := [2]string{s.Trace, s.Parent}, [2]string{rootText, parentText}; got != want {
			t.Errorf("%s: got trace and parent %q, want %q", s.Name, got, want)
		}
		if len(s.ID) != 16 {
			t.Errorf("%s: got the id %q, want 16 digits", s.Name, s.ID)
		}
	}
	if call.ID == step.ID {
		t.Errorf("got the id %s twice, want different ones", call.ID)
	}
}

func TestAProcessWithoutADaemonRecordsNothing(t *testing.T) {
	if trace.Recording() {
		t.Error("the process records without a recorder, want nothing recorded")
	}
	sampled, _ := trace.Parse(w3cText)
	trace.Called(trace.With(t.Context(), sampled), "MongoDB", time.Now(), false)
	trace.Work{Traces: []trace.Trace{sampled}}.Record(time.Now())
	if _, err := trace.NewRecorder("nowhere", "s"); err == nil {
		t.Error("an address without a port: got no error, want one")
	}
}
