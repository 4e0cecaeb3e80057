package localcloud_test

import (
	"bytes"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/config"
	"github.com/ocelot-audit/ocelot/pkg/envelope"
	"github.com/ocelot-audit/ocelot/pkg/local/localcloud"
	"github.com/ocelot-audit/ocelot/pkg/manifest"
	"github.com/ocelot-audit/ocelot/pkg/testkit/enginetest"
	"github.com/ocelot-audit/ocelot/pkg/wiring/queues"
)

// startOnWatchedServers is startOnServers. checkSent fails the test if the mark was sent to MongoDB,
// OpenSearch or SQS, or if nothing was sent.
func startOnWatchedServers(t *testing.T, data string) *service {
	t.Helper()
	engines := servers(t, data)
	mongo, checkMongo := watched(t, "MongoDB", string(engines.MongoURI))
	search, checkSearch := watched(t, "OpenSearch", string(engines.OpenSearchURL))
	engines.MongoURI, engines.OpenSearchURL = config.Secret(mongo), config.Secret(search)
	messages := watchMessages(t, &engines)
	s := startWith(t, localcloud.Options{Data: data, Log: discard(), Engines: engines})
	s.checkSent = func() {
		checkMongo()
		checkSearch()
		messages.checkDeadLetter(t, engines)
		messages.check(t)
	}
	return s
}

// messageWatcher has the bodies that were sent to SQS, by the URL of the queue.
type messageWatcher struct {
	mu     sync.Mutex
	bodies map[string][]string
}

// watchMessages puts a proxy in front of SQS.
func watchMessages(t *testing.T, engines *config.Engines) *messageWatcher {
	t.Helper()
	w := &messageWatcher{bodies: map[string][]string{}}
	proxy := enginetest.NewHTTPProxy(t, engines.AWS.Endpoints["SQS"])
	proxy.Inject(func(r *http.Request) enginetest.HTTPFault { w.see(t, r); return nil })
	engines.AWS.Endpoints["SQS"] = proxy.URL()
	return w
}

// see notes the bodies in a request. Requests that send nothing have none.
func (w *messageWatcher) see(t *testing.T, r *http.Request) {
	text, err := io.ReadAll(r.Body)
	if err != nil {
		return // the client is gone
	}
	r.Body = io.NopCloser(bytes.NewReader(text))
	var request struct {
		QueueURL    string `json:"QueueUrl"`
		MessageBody string
		Entries     []struct{ MessageBody string }
	}
	if err := json.Unmarshal(text, &request); err != nil {
		t.Errorf("a request to SQS is no JSON: %v", err)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, entry := range append(request.Entries, struct{ MessageBody string }{request.MessageBody}) {
		if entry.MessageBody != "" {
			w.bodies[request.QueueURL] = append(w.bodies[request.QueueURL], entry.MessageBody)
		}
	}
}

// sentTo returns the bodies that were sent to a queue.
func (w *messageWatcher) sentTo(queue manifest.QueueName) []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	for url, bodies := range w.bodies {
		if strings.HasSuffix(url, "-"+string(queue)) {
			return slices.Clone(bodies)
		}
	}
	return nil
}

// checkDeadLetter sends the encrypted entries again as those of another tenant, and waits for a dead
// letter.
func (w *messageWatcher) checkDeadLetter(t *testing.T, engines config.Engines) {
	t.Helper()
	var others []audit.Entry
	for _, body := range w.sentTo(manifest.QueueIngest) {
		contents, err := envelope.Unpack(body)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range contents.Entries {
			if e.Tenant = "other"; len(e.Encrypted) > 0 {
				others = append(others, e)
			}
		}
	}
	bodies, err := envelope.Pack("acme", others)
	if err != nil {
		t.Fatal(err)
	}
	if err := queues.New(engines).Queue(manifest.QueueIngest).Send(t.Context(), "acme", bodies); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(30 * time.Second); len(w.sentTo(manifest.QueueIngest.DeadLetters())) == 0; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("got no dead letter, want one")
		}
	}
}

// check looks for the mark in what was sent, and in what its compressed parts have.
func (w *messageWatcher) check(t *testing.T) {
	t.Helper()
	for _, q := range manifest.Queues() {
		for _, queue := range []manifest.QueueName{q.Name, q.Name.DeadLetters()} {
			for _, body := range w.sentTo(queue) {
				wantNoMark(t, "a message of "+string(queue), append([]byte(body), linesOf(t, body)...))
			}
		}
	}
	for _, queue := range []manifest.QueueName{manifest.QueueIngest, manifest.QueueIndex, manifest.QueueIngest.DeadLetters()} {
		if bodies := w.sentTo(queue); !slices.ContainsFunc(bodies, func(body string) bool { return bytes.Contains(linesOf(t, body), []byte(`"•••@example.com"`)) }) {
			t.Errorf("none of %d messages of %s has a masked value, want one", len(bodies), queue)
		}
	}
	for _, queue := range []manifest.QueueName{manifest.QueueArrival, manifest.QueueStream} {
		if len(w.sentTo(queue)) == 0 {
			t.Errorf("nothing was sent to the queue %s, want a message", queue)
		}
	}
}

// linesOf returns what the data of a message with entries has, nil for other messages.
func linesOf(t *testing.T, body string) []byte {
	t.Helper()
	var message struct{ Data []byte }
	if err := json.Unmarshal([]byte(body), &message); err != nil {
		t.Fatal(err)
	}
	reader, err := zstd.NewReader(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	lines, err := reader.DecodeAll(message.Data, nil)
	if err != nil {
		t.Fatal(err)
	}
	return lines
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
