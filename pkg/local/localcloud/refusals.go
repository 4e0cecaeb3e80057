package localcloud

import (
	"bufio"
	"bytes"
	"context"
	"net"
	"net/http"
	"strings"
	"sync/atomic"

	"github.com/ocelot-audit/ocelot/pkg/edge/httpapi"
)

// maxHeaderBytes is the limit of a request's line and header fields. net/http reads 4 KiB
// more before it refuses a request.
const maxHeaderBytes = 64 << 10

// refusals gives the answers of net/http itself the form of the service's answers. net/http
// refuses what it cannot read as a request before a handler runs, in plain text.
type refusals struct{ gate *httpapi.Gate }

// listen returns the listener with connections that carry such answers.
func (f refusals) listen(listener net.Listener) net.Listener {
	return refusingListener{listener, f.gate}
}

// apply tells the connections of the server when a handler answers.
func (f refusals) apply(server *http.Server) {
	handler := server.Handler
	server.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if conn, is := r.Context().Value(connKey{}).(*refusingConn); is {
			conn.answering.Store(true)
		}
		handler.ServeHTTP(w, r)
	})
	server.ConnContext = func(ctx context.Context, conn net.Conn) context.Context {
		return context.WithValue(ctx, connKey{}, conn)
	}
	server.ConnState = func(c net.Conn, state http.ConnState) {
		if conn, is := c.(*refusingConn); is && state == http.StateIdle { // the answer is sent
			conn.answering.Store(false)
		}
	}
}

type connKey struct{} // of a request's connection in its context

type refusingListener struct {
	net.Listener
	gate *httpapi.Gate
}

func (l refusingListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if tcp, is := conn.(*net.TCPConn); err == nil && is {
		return &refusingConn{TCPConn: tcp, gate: l.gate}, nil
	}
	return conn, err
}

// refusingConn is a connection of the server. It replaces an answer that no handler wrote by a
// problem document.
type refusingConn struct {
	*net.TCPConn // with the methods for which net/http asks
	gate         *httpapi.Gate
	answering    atomic.Bool // from the start of a handler until its answer is sent
}

func (c *refusingConn) Write(p []byte) (int, error) {
	if c.answering.Load() {
		return c.TCPConn.Write(p)
	}
	answer, refused := c.refusal(p)
	if !refused {
		return c.TCPConn.Write(p)
	}
	if _, err := c.TCPConn.Write(answer); err != nil {
		return 0, err
	}
	return len(p), nil
}

// refusal returns the answer that takes the place of net/http's. It returns false for an answer
// that refuses nothing, such as that to OPTIONS *.
func (c *refusingConn) refusal(p []byte) ([]byte, bool) {
	response, err := http.ReadResponse(bufio.NewReader(bytes.NewReader(p)), nil)
	if err != nil || response.StatusCode < http.StatusBadRequest {
		return nil, false
	}
	defer response.Body.Close()
	_, reason, _ := strings.Cut(response.Status, ": ")
	return httpapi.RefuseUnread(c.gate, response.StatusCode, reason), true
}
