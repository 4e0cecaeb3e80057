// Package localcloud runs the whole service in one process: every function of
// the manifest over the embedded engine, its routes on one HTTP server, its
// queues polled as Lambda polls them.
package localcloud

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/access"
	"github.com/ocelot-audit/ocelot/pkg/httpapi"
	"github.com/ocelot-audit/ocelot/pkg/lambdaedge"
	"github.com/ocelot-audit/ocelot/pkg/manifest"
	"github.com/ocelot-audit/ocelot/pkg/sqlite"
	"github.com/ocelot-audit/ocelot/pkg/wiring"
	"github.com/ocelot-audit/ocelot/pkg/wiring/embedded"
)

// Options say how to run.
type Options struct {
	Addr  string // host:port to listen on; port 0 takes a free one
	Data  string // folder of the file and the development key, made where missing
	Empty bool   // leave out the demo tenant
	// Tokens verifies bearer tokens. It is made once the development key is known.
	Tokens func(ctx context.Context, devSecret []byte) (access.TokenVerifier, error)
	Log    *slog.Logger
	// Ready is called once requests are answered.
	Ready func(Started)
}

// Started tells what is running.
type Started struct {
	URL    string // of the server, without a path
	Secret []byte // signs development tokens
}

const (
	// drainTime bounds how long a stop waits for requests and queues.
	drainTime   = 30 * time.Second
	pollersEach = 2 // per queue: one batch is handled while the next is received
)

// Run runs the service until ctx ends. Then it stops taking requests, lets the
// queues run empty, closes the file and returns nil. What was acknowledged and
// did not get through in time goes on at the next start.
func Run(ctx context.Context, o Options) error {
	if err := os.MkdirAll(o.Data, 0o700); err != nil {
		return fmt.Errorf("make the data folder: %w", err)
	}
	secret, err := DevSecret(o.Data)
	if err != nil {
		return err
	}
	tokens, err := o.Tokens(ctx, secret)
	if err != nil {
		return err
	}
	db, err := sqlite.Open(ctx, filepath.Join(o.Data, embedded.File))
	if err != nil {
		return err
	}
	if err := db.Recover(ctx); err != nil {
		return errors.Join(err, db.Close())
	}
	services := wiring.New(embedded.Stores(db), wiring.Security{Tokens: tokens, CursorKey: cursorKey(secret)}, o.Log)
	return errors.Join(serve(ctx, o, db, services, secret), db.Close())
}

// serve runs server and consumers over an open file.
func serve(ctx context.Context, o Options, db *sqlite.DB, services *wiring.Services, secret []byte) error {
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", o.Addr)
	if err != nil {
		return fmt.Errorf("listen on %s: %w", o.Addr, err)
	}
	workers, stopWorkers := context.WithCancel(context.WithoutCancel(ctx))
	defer stopWorkers()
	wait := startConsumers(workers, db, services, o.Log)
	server := newServer(services)
	failed := make(chan error, 1)
	go func() { failed <- server.Serve(listener) }()
	if err := ready(ctx, o, services, listener, secret); err != nil {
		stopWorkers()
		wait()
		return errors.Join(err, server.Close())
	}
	select {
	case err = <-failed:
	case <-ctx.Done():
		err = drain(context.WithoutCancel(ctx), server, db)
	}
	stopWorkers()
	wait()
	return err
}

func ready(ctx context.Context, o Options, services *wiring.Services, listener net.Listener, secret []byte) error {
	if !o.Empty {
		if err := seed(ctx, services.Tenants(), services.Stores.Tenants, services.Ingest()); err != nil && ctx.Err() == nil {
			return err
		}
	}
	if o.Ready != nil {
		o.Ready(Started{URL: "http://" + listener.Addr().String(), Secret: secret})
	}
	return nil
}

// newServer bounds what a slow or hostile client can hold.
func newServer(services *wiring.Services) *http.Server {
	return &http.Server{
		Handler:           routes(services),
		ReadHeaderTimeout: 10 * time.Second,
		ReadTimeout:       2 * time.Minute,
		WriteTimeout:      2 * time.Minute,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    64 << 10,
		ErrorLog:          slog.NewLogLogger(services.Log.Handler(), slog.LevelWarn),
	}
}

// routes mounts the API and, for people, the short addresses of its pages.
func routes(services *wiring.Services) http.Handler {
	api := httpapi.Router(services.Gate(), HTTPFunctions(services))
	mux := http.NewServeMux()
	mux.Handle("/", api)
	for _, page := range []string{"/docs", "/openapi.json", "/health"} {
		mux.Handle("GET "+page, http.RedirectHandler(manifest.BasePath+page, http.StatusTemporaryRedirect))
	}
	mux.Handle("GET /{$}", http.RedirectHandler(manifest.BasePath+"/docs", http.StatusTemporaryRedirect))
	return mux
}

// startConsumers polls every queue of the manifest; wait returns once all have stopped.
func startConsumers(ctx context.Context, db *sqlite.DB, services *wiring.Services, log *slog.Logger) (wait func()) {
	handlers := QueueFunctions(services)
	var running sync.WaitGroup
	for _, f := range manifest.Functions() {
		for _, trigger := range f.Trigger.Queues {
			c := &consumer{
				trigger: trigger, timeout: f.Timeout, queue: embedded.Queue(db, trigger.Queue),
				function: lambdaedge.Queue(handlers[f.Name]), log: log,
			}
			for range pollersEach {
				running.Go(func() { c.run(ctx) })
			}
		}
	}
	return running.Wait
}

// drain ends the server and waits until the queues are empty, both within drainTime.
func drain(ctx context.Context, server *http.Server, db *sqlite.DB) error {
	ctx, cancel := context.WithTimeout(ctx, drainTime)
	defer cancel()
	if err := server.Shutdown(ctx); err != nil {
		return fmt.Errorf("finish the requests under way: %w", err)
	}
	for {
		left, err := waiting(ctx, db)
		switch {
		case ctx.Err() != nil:
			return nil // the messages are durable and go on at the next start
		case err != nil || left == 0:
			return err
		}
		pause(ctx, 20*time.Millisecond)
	}
}

// waiting counts the messages that are not in a dead-letter queue.
func waiting(ctx context.Context, db *sqlite.DB) (int64, error) {
	var total int64
	for _, q := range manifest.Queues() {
		visible, inFlight, _, err := embedded.Queue(db, q.Name).Depth(ctx)
		if err != nil {
			return 0, fmt.Errorf("count what waits in %s: %w", q.Name, err)
		}
		total += visible + inFlight
	}
	return total, nil
}
