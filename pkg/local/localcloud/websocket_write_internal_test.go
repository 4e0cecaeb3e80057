package localcloud

import (
	"bytes"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/edge/lambdaedge"
	"github.com/ocelot-audit/ocelot/pkg/stream"
)

// fill sends to a client that does not read, until the gateway accepts no more frames. It counts
// refusals instead of time, because a busy machine can pause the gateway but not the clock.
func (s *socketTest) fill(c *socketClient) {
	s.t.Helper()
	frame := bytes.Repeat([]byte("x"), stream.MaxFrameBytes)
	busy := 0           // refusals in a row; after each the writer gets time
	for range 100_000 { // the network buffers some MB
		err := s.gateway.Send(s.t.Context(), c.id, frame)
		switch {
		case err == nil:
			busy = 0
		case !errors.Is(err, stream.ErrBusy):
			s.t.Fatalf("got error %v, want none or %v", err, stream.ErrBusy)
		case busy == 50:
			return
		default:
			busy++
			time.Sleep(time.Millisecond)
		}
	}
	s.t.Fatal("the gateway accepted 100,000 frames, want a refusal")
}

func TestSlowSocketIsCutAndDelaysNoOther(t *testing.T) {
	t.Parallel() // it waits most of its time
	s := newSocketTest(t, func(l *socketLimits) { l.write, l.frames = 6*time.Second, 8 }, allRoutes...)
	api, err := serveManagementAPI(s.gateway)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(api.close)
	slow, other := s.connect(), s.connect()
	s.fill(slow)
	began := time.Now()
	for range 100 {
		if err := s.gateway.Send(t.Context(), other.id, []byte("text")); err != nil {
			t.Fatal(err)
		}
		other.wantText("text")
	}
	if took := time.Since(began); took > 3*time.Second {
		t.Errorf("the other client waited %v, want at most 3s", took)
	}
	status := http.StatusOK
	for range 1000 { // the network may have buffered a little more by now
		if status = signedCall(t, http.MethodPost, api.url+"/@connections/"+slow.id, "text"); status != http.StatusOK {
			break
		}
	}
	if status != http.StatusTooManyRequests {
		t.Errorf("the connections API answered with %d, want 429", status)
	}
	if end := s.await(lambdaedge.SocketEventDisconnect, 1).RequestContext; end.ConnectionID != slow.id {
		t.Errorf("$disconnect: got connection ID %q, want %q", end.ConnectionID, slow.id)
	} else if end.DisconnectStatusCode != 1006 {
		t.Errorf("$disconnect: got status code %d, want 1006", end.DisconnectStatusCode)
	}
	if log := s.log.String(); !strings.Contains(log, "the client read too little for 6s") {
		t.Errorf("the log has no reason of the cut: %s", log)
	}
	if err := s.gateway.Send(t.Context(), slow.id, []byte("late")); !errors.Is(err, stream.ErrGone) {
		t.Errorf("a send after the end: got error %v, want %v", err, stream.ErrGone)
	}
}

// TestTheServiceCutsSlowSocketsFirst: the service tells why, and gives a client that reads
// slowly a minute for each frame. The gateway must not be faster.
func TestTheServiceCutsSlowSocketsFirst(t *testing.T) {
	if got, least := defaultSocketLimits().write, time.Minute+10*time.Second; got < least {
		t.Errorf("a frame may take %s, want at least %s", got, least)
	}
}

func TestSocketBytesAreBounded(t *testing.T) {
	s := newSocketTest(t, func(l *socketLimits) { l.bytes, l.frames = 128<<10, 1_000_000 }, allRoutes...)
	c := s.connect()
	open, _ := s.gateway.socket(c.id)
	s.fill(c)
	for deadline := time.Now().Add(socketTimeout); ; {
		err := s.gateway.Send(t.Context(), c.id, make([]byte, stream.MaxFrameBytes))
		open.mu.Lock()
		size, n := open.size, len(open.frames)
		open.mu.Unlock()
		switch {
		case size != n*stream.MaxFrameBytes:
			t.Fatalf("%d bytes wait in %d frames, want %d bytes", size, n, n*stream.MaxFrameBytes)
		case size > 128<<10:
			t.Fatalf("%d bytes wait, want at most %d", size, 128<<10)
		case err != nil && !errors.Is(err, stream.ErrBusy):
			t.Fatalf("got error %v, want %v", err, stream.ErrBusy)
		case err != nil && n == 4: // as many as fit
			return
		case time.Now().After(deadline):
			t.Fatalf("%d frames wait, want 4", n)
		}
	}
}
