package localcloud_test

import (
	"bytes"
	"io"
	"net"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/ocelot-audit/ocelot/pkg/config"
	"github.com/ocelot-audit/ocelot/pkg/local/localcloud"
)

// startOnWatchedServers is startOnServers. checkSent fails the test if the mark was sent to MongoDB or
// OpenSearch, or if nothing was sent.
func startOnWatchedServers(t *testing.T, data string) *service {
	t.Helper()
	engines := servers(t, data)
	mongo, checkMongo := watched(t, "MongoDB", string(engines.MongoURI))
	search, checkSearch := watched(t, "OpenSearch", string(engines.OpenSearchURL))
	engines.MongoURI, engines.OpenSearchURL = config.Secret(mongo), config.Secret(search)
	s := startWith(t, localcloud.Options{Data: data, Log: discard(), Engines: engines})
	s.checkSent = func() {
		checkMongo()
		checkSearch()
	}
	return s
}

// watched returns the URI with the address of a proxy, and what checks the bytes that it has sent.
func watched(t *testing.T, engine, uri string) (proxied string, check func()) {
	t.Helper()
	at, err := url.Parse(uri)
	if err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var sent, marks atomic.Int64
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return // closed
			}
			go relay(conn, at.Host, &watcher{sent: &sent, marks: &marks})
		}
	}()
	t.Cleanup(func() { _ = listener.Close() })
	check = func() {
		t.Helper()
		if sent.Load() == 0 {
			t.Errorf("nothing was sent to %s, want entries", engine)
		}
		if n := marks.Load(); n > 0 {
			t.Errorf("the mark was sent to %s %d times, want never", engine, n)
		}
	}
	return strings.Replace(uri, at.Host, listener.Addr().String(), 1), check
}

// relay connects a client with a server until either ends. The watcher sees what the client sends.
func relay(client net.Conn, addr string, w *watcher) {
	defer func() { _ = client.Close() }()
	server, err := net.Dial("tcp", addr)
	if err != nil {
		return
	}
	defer func() { _ = server.Close() }()
	go func() {
		_, _ = io.Copy(client, server)
		_ = client.Close()
	}()
	_, _ = io.Copy(server, io.TeeReader(client, w))
}

// watcher counts the marks in what is written to it.
type watcher struct {
	sent, marks *atomic.Int64
	tail        []byte // of what was written: a mark can be in two parts
}

func (w *watcher) Write(p []byte) (int, error) {
	w.sent.Add(int64(len(p)))
	text := append(w.tail, p...)
	w.marks.Add(int64(bytes.Count(text, []byte(mark))))
	w.tail = bytes.Clone(text[max(0, len(text)-len(mark)+1):])
	return len(p), nil
}
