package localcloud

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/ocelot-audit/ocelot/pkg/edge/lambdaedge"
	"github.com/ocelot-audit/ocelot/pkg/stream"
)

// socketClosing is a reason for the end of a connection.
type socketClosing struct {
	name   string
	limits func(*socketLimits)
	act    func(*socketTest, *socketClient)
	want   websocket.StatusCode
}

// run acts, and checks that the client and the functions get the end with its status.
func (c socketClosing) run(t *testing.T) {
	s := newSocketTest(t, c.limits, allRoutes...)
	conn := s.connect()
	c.act(s, conn)
	conn.wantClosed(c.want)
	end := s.await(lambdaedge.SocketEventDisconnect, 1).RequestContext
	if end.DisconnectStatusCode != int64(c.want) {
		t.Errorf("$disconnect: got status code %d, want %d", end.DisconnectStatusCode, int64(c.want))
	}
	if end.ConnectionID != conn.id {
		t.Errorf("$disconnect: got connection ID %q, want %q", end.ConnectionID, conn.id)
	}
	if err := s.gateway.Send(t.Context(), conn.id, []byte("late")); !errors.Is(err, stream.ErrGone) {
		t.Errorf("a send after the end: got error %v, want %v", err, stream.ErrGone)
	}
	for _, e := range s.received(lambdaedge.SocketEventMessage) {
		if e.Body != "text" && len(e.Body)%stream.MaxFrameBytes != 0 {
			t.Errorf("got a message of %d bytes, want none beyond the limit", len(e.Body))
		}
	}
}

func TestSocketClosesAfterInvalidMessages(t *testing.T) {
	frame := strings.Repeat("x", stream.MaxFrameBytes)
	largest := []string{frame, frame, frame, frame} // a message of the maximum size
	for _, c := range []socketClosing{
		{"too large", nil, func(s *socketTest, c *socketClient) {
			c.writeInFrames(largest...)
			if got := s.await(lambdaedge.SocketEventMessage, 1).Body; got != strings.Join(largest, "") {
				c.t.Errorf("got a message of %d bytes, want the %d that were sent", len(got), 4*len(frame))
			}
			c.writeInFrames(append(largest, "x")...)
		}, 1009},
		{"a frame that is too large", nil, func(s *socketTest, c *socketClient) {
			c.write(frame)
			c.write(frame + "x")
			if got := s.await(lambdaedge.SocketEventMessage, 1).Body; got != frame {
				c.t.Errorf("got a message of %d bytes, want the %d that were sent", len(got), len(frame))
			}
		}, 1009},
		{"a second frame that is too large", nil, func(_ *socketTest, c *socketClient) { c.writeInFrames("x", frame+"x", "x") }, 1009},
		{"binary", nil, func(_ *socketTest, c *socketClient) {
			if err := c.conn.Write(c.t.Context(), websocket.MessageBinary, []byte("{}")); err != nil {
				c.t.Error(err)
			}
		}, 1003},
		{"no UTF-8", nil, func(_ *socketTest, c *socketClient) { c.write("\xff") }, 1007},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel() // it waits most of its time
			c.run(t)
		})
	}
}

func TestSocketClosesConnections(t *testing.T) {
	frame := strings.Repeat("x", stream.MaxFrameBytes)
	for _, c := range []socketClosing{
		{"idle", func(l *socketLimits) { l.idle = idleForTests }, func(s *socketTest, c *socketClient) {
			send := func() {
				if err := s.gateway.Send(c.t.Context(), c.id, []byte("text")); err != nil {
					c.t.Error(err)
				}
				c.wantText("text")
			}
			for _, act := range []func(){func() { c.write("text") }, send, send} { // both directions count as activity
				time.Sleep(idleForTests * 3 / 5)
				act()
			}
		}, 1001},
		{"old", func(l *socketLimits) { l.life = 300 * time.Millisecond }, func(s *socketTest, c *socketClient) {
			for s.gateway.Send(c.t.Context(), c.id, []byte("text")) == nil {
				c.wantText("text")
			}
		}, 1001},
		{"cut", nil, func(s *socketTest, c *socketClient) {
			for range 50 {
				if err := s.gateway.Send(c.t.Context(), c.id, []byte(frame)); err != nil {
					c.t.Error(err)
				}
			}
			if err := s.gateway.Cut(c.t.Context(), c.id); err != nil {
				c.t.Error(err)
			}
			for range 50 { // what was accepted before still arrives
				c.wantText(frame)
			}
		}, 1000},
		{"the service stops", nil, func(s *socketTest, _ *socketClient) { go s.gateway.close(context.Background()) }, 1001},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel() // it waits most of its time
			c.run(t)
		})
	}
}

// idleForTests is long enough for a test to send in time on a machine that pauses for a second.
const idleForTests = 3 * time.Second

func TestSocketPingsKeepConnectionOpen(t *testing.T) {
	t.Parallel() // it waits most of its time
	s := newSocketTest(t, func(l *socketLimits) { l.idle = idleForTests }, allRoutes...)
	c := s.connect()
	reading := c.conn.CloseRead(t.Context())
	for range 3 {
		time.Sleep(idleForTests * 3 / 5)
		if err := c.conn.Ping(reading); err != nil {
			t.Fatal(err)
		}
	}
}

func TestSocketOfLostClientIsDisconnected(t *testing.T) {
	s := newSocketTest(t, nil, allRoutes...)
	c := s.connect()
	if err := c.conn.CloseNow(); err != nil {
		t.Error(err)
	}
	if end := s.await(lambdaedge.SocketEventDisconnect, 1).RequestContext; end.DisconnectStatusCode != 1006 {
		t.Errorf("$disconnect: got status code %d, want 1006", end.DisconnectStatusCode)
	}
}
