package httpapi_test

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/klauspost/compress/zstd"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/edge/httpapi"
)

// waitingQueue takes messages once it is opened, and counts the requests that wait for that.
type waitingQueue struct {
	waiting chan struct{}
	open    chan struct{}
}

func (q waitingQueue) Send(ctx context.Context, _ audit.TenantID, _ []string) error {
	q.waiting <- struct{}{}
	select {
	case <-q.open:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// crowd sends requests with the same body to one gate, which all wait in the queue.
type crowd struct {
	queue   waitingQueue
	gate    *httpapi.Gate
	handler http.Handler
	replies chan *httptest.ResponseRecorder
}

func newCrowd(t *testing.T) *crowd {
	t.Helper()
	w := newWorld(t)
	c := &crowd{queue: waitingQueue{waiting: make(chan struct{}, 100), open: make(chan struct{})}, gate: w.gate, replies: make(chan *httptest.ResponseRecorder, 100)}
	service := *w.ingest
	service.Standard, service.Priority = c.queue, c.queue
	c.handler = httpapi.CreateLogsBulk(w.gate, &service, w.limiter)
	return c
}

func (c *crowd) send(ctx context.Context, body io.Reader, encoding string) {
	r := httptest.NewRequestWithContext(ctx, "POST", "/api/v1/logs/bulk", body)
	for name, value := range map[string]string{"Authorization": "Bearer admin", "X-Tenant-ID": "acme", "Content-Type": "application/json", "Content-Encoding": encoding} {
		r.Header.Set(name, value)
	}
	recorder := httptest.NewRecorder()
	c.handler.ServeHTTP(recorder, r)
	c.replies <- recorder
}

// TestUnpackedBodiesAreBounded: bodies that unpack to the limit are handled a few at a
// time. Who gets no room in time is told to come again.
func TestUnpackedBodiesAreBounded(t *testing.T) {
	one := "[" + entry("") + "]"
	full := "[" + entry("") + strings.Repeat(" ", audit.MaxBulkUnpacked-len(one)) + "]"
	for encoding, body := range map[string]string{"gzip": gzipped(full), "zstd": zstandard(t, full, zstd.WithWindowSize(1<<20))} {
		t.Run(encoding, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := newCrowd(t)
				const requests = 40
				for range requests {
					go c.send(t.Context(), strings.NewReader(body), encoding)
				}
				synctest.Wait()
				most := httpapi.MaxUnpackedAtOnce / audit.MaxBulkUnpacked
				if n := len(c.queue.waiting); n != most {
					t.Errorf("handled %d bodies at once, want %d", n, most)
				}
				time.Sleep(httpapi.BodyWait + time.Second)
				for range requests - most {
					refused := <-c.replies
					if refused.Code != http.StatusServiceUnavailable {
						t.Fatalf("got %d %s, want 503", refused.Code, refused.Body)
					}
					if got := refused.Header().Get("Retry-After"); got != "5" {
						t.Errorf("got Retry-After %q, want 5", got)
					}
				}
				close(c.queue.open)
				for range most {
					if accepted := <-c.replies; accepted.Code != http.StatusAccepted {
						t.Errorf("got %d %s, want 202", accepted.Code, accepted.Body)
					}
				}
				if c.gate.HasBodies() {
					t.Error("room is still reserved, want none")
				}
			})
		})
	}
}

// TestSmallBodiesTakeNoRoom: what a body really unpacks to counts, not its limit.
func TestSmallBodiesTakeNoRoom(t *testing.T) {
	body := "[" + entry("") + "]"
	for encoding, body := range map[string]string{"": body, "gzip": gzipped(body), "zstd": zstandard(t, body)} {
		synctest.Test(t, func(t *testing.T) {
			c := newCrowd(t)
			const requests = 60
			for range requests {
				go c.send(t.Context(), strings.NewReader(body), encoding)
			}
			synctest.Wait()
			if n := len(c.queue.waiting); n != requests {
				t.Errorf("encoding %q: handled %d bodies at once, want %d", encoding, n, requests)
			}
			close(c.queue.open)
			for range requests {
				<-c.replies
			}
		})
	}
}

// slowBody says when it is read, and never ends before its context does.
type slowBody struct {
	ctx     context.Context
	reading chan struct{}
}

func (b slowBody) Read([]byte) (int, error) {
	b.reading <- struct{}{}
	<-b.ctx.Done()
	return 0, b.ctx.Err()
}

// TestReceivedBodiesAreBounded: a bounded number of large bodies is received at the same
// time, and a client that goes away makes room.
func TestReceivedBodiesAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCrowd(t)
		ctx, leave := context.WithCancel(t.Context())
		const requests = 45
		reading := make(chan struct{}, requests)
		for range requests {
			go c.send(ctx, slowBody{ctx, reading}, "zstd") // of unknown length
		}
		synctest.Wait()
		if n := len(reading); n != httpapi.MaxLargeAtOnce {
			t.Errorf("received %d bodies at once, want %d", n, httpapi.MaxLargeAtOnce)
		}
		leave()
		for range requests {
			<-c.replies
		}
		if c.gate.HasBodies() {
			t.Error("room is still reserved, want none")
		}
	})
}
