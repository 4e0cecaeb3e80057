package localcloud

import (
	"context"
	"net"
	"time"

	"github.com/coder/websocket"

	"github.com/ocelot-audit/ocelot/pkg/stream"
)

// send queues the text for the client. It returns stream.ErrGone after the end
// of the connection, and stream.ErrBusy if the queue is full.
func (s *socket) send(text []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.ending != nil:
		return stream.ErrGone
	case len(s.frames) == s.gateway.limits.frames || s.size+len(text) > s.gateway.limits.bytes:
		return stream.ErrBusy
	}
	s.frames, s.size = append(s.frames, text), s.size+len(text)
	s.wakeWriter()
	return nil
}

func (s *socket) wakeWriter() {
	select {
	case s.wake <- struct{}{}:
	default: // a signal waits already
	}
}

// write sends the queued frames until the connection ends, and closes it.
func (s *socket) write(network net.Conn) {
	written := make(chan struct{})
	defer close(written)
	go s.boundClosing(network, written)
	for {
		frame, deadline, more := s.next()
		if !more {
			break
		}
		ctx, cancel := context.WithDeadline(context.Background(), deadline)
		err := s.conn.Write(ctx, websocket.MessageText, frame)
		late := ctx.Err() != nil
		cancel()
		if err != nil { // the client reads nothing, or is gone
			if late {
				s.gateway.log.Warn("a connection is cut", "connection", s.id, "why", "the client read too little for "+s.gateway.limits.write.String())
			}
			s.end(websocket.StatusAbnormalClosure, "", byClient)
			break
		}
		s.markActive()
	}
	s.closeConn(network)
}

// boundClosing ends a frame that is still being sent some time after the connection has ended.
func (s *socket) boundClosing(network net.Conn, written <-chan struct{}) {
	select {
	case <-s.ended:
	case <-written:
		return
	}
	timer := time.NewTimer(s.gateway.limits.closing)
	defer timer.Stop()
	select {
	case <-timer.C:
		_ = network.SetWriteDeadline(time.Now()) // fails if it is closed already
	case <-written:
	}
}

// closeConn closes the connection, which has ended. A client that does not
// answer the close frame in time is disconnected.
func (s *socket) closeConn(network net.Conn) {
	if s.ending.by == byClient {
		_ = s.conn.CloseNow() // it may be closed already
		return
	}
	_ = network.SetDeadline(time.Now().Add(s.gateway.limits.closing)) // fails if it is closed already
	_ = s.conn.Close(s.ending.code, s.ending.reason)                  // fails if the client does not answer
}

// next waits for a frame. more is false once the connection has ended and the
// queue is empty. next itself ends a connection that is idle or old.
func (s *socket) next() (frame []byte, deadline time.Time, more bool) {
	for {
		s.expire()
		frame, deadline, ended := s.pop()
		if frame != nil || ended {
			return frame, deadline, frame != nil
		}
		timer := time.NewTimer(time.Until(deadline))
		select {
		case <-s.wake:
		case <-timer.C:
		}
		timer.Stop()
	}
}

// pop removes the next frame from the queue and returns it with the deadline for
// sending it. If the queue is empty, the deadline is when the connection expires.
func (s *socket) pop() (frame []byte, deadline time.Time, ended bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	ended = s.ending != nil
	if len(s.frames) == 0 {
		return nil, s.expiry(), ended
	}
	frame = s.frames[0]
	s.frames[0] = nil
	s.frames, s.size = s.frames[1:], s.size-len(frame)
	if ended {
		return frame, s.ending.at.Add(s.gateway.limits.closing), ended
	}
	return frame, time.Now().Add(s.gateway.limits.write), ended
}

// expiry is when the connection closes if no message follows. The caller has locked mu.
func (s *socket) expiry() time.Time {
	idle, old := s.active.Add(s.gateway.limits.idle), s.connectedAt.Add(s.gateway.limits.life)
	if old.Before(idle) {
		return old
	}
	return idle
}

// expire ends the connection if it is idle or old.
func (s *socket) expire() {
	s.mu.Lock()
	expired := !time.Now().Before(s.expiry())
	s.mu.Unlock()
	if expired {
		s.end(websocket.StatusGoingAway, goingAway, byGateway)
	}
}
