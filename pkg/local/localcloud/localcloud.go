// Package localcloud runs the whole service on one machine, with every function of the
// manifest. One HTTP server has all routes, and the queues are polled as Lambda polls
// them. The engine is the embedded one, unless settings name another. The functions run
// in this process, or as the real Lambda binaries behind a Runtime API. The binaries
// get the events that API Gateway and SQS would send.
package localcloud

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/access"
	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/config"
	"github.com/ocelot-audit/ocelot/pkg/edge/httpapi"
	"github.com/ocelot-audit/ocelot/pkg/manifest"
	"github.com/ocelot-audit/ocelot/pkg/wiring"
	"github.com/ocelot-audit/ocelot/pkg/wiring/exportfiles"
)

// Options are the settings of Run.
type Options struct {
	Addr  string // host:port to listen on; port 0 takes a free one
	Data  string // folder of the file and the development key, created if missing
	Empty bool   // leave out the demo tenant
	// Tokens verifies bearer tokens. It is made once the development key is known.
	Tokens func(ctx context.Context, devSecret []byte) (access.TokenVerifier, error)
	// Engines replace parts of the embedded engine; those that are not set do not.
	Engines config.Engines
	// MasterKey is that of config.Function; "": a key in the data folder.
	MasterKey string
	// ExportsBucket, TombstonesBucket and ArchiveBucket are those of config.Function; "": a folder in the
	// data folder.
	ExportsBucket, TombstonesBucket, ArchiveBucket string
	// Rates are the quotas of entries.
	Rates config.Rates
	// MaxBacklog is how many messages may wait to be stored.
	MaxBacklog int
	// KeyBackupDays is how long backups of the tenants' keys are kept.
	KeyBackupDays config.Days
	// Origins are the pages whose scripts may call the API; see httpapi.Gate.
	Origins []string
	// Lambda runs the functions as Lambda binaries; nil: in this process.
	Lambda *Lambda
	Log    *slog.Logger
	// Requests is called with each answered request, by several goroutines. It may be nil.
	Requests func(Request)
	// Ready is called once requests are answered.
	Ready func(Started)
}

// Started describes the running service.
type Started struct {
	URL    string // of the server, without a path
	Secret []byte // signs development tokens
}

const (
	// drainTimeout bounds how long a stop waits for requests and queues.
	drainTimeout = 30 * time.Second
	// requestTimeout is how long the API works on a request. It is the longest timeout of a
	// function with a route.
	requestTimeout = 25 * time.Second
	// dialTimeout bounds a connection from this process to its own server.
	dialTimeout = time.Second
	// pollersPerQueue lets one batch be handled while the next is received.
	pollersPerQueue = 2
	// maxGathered is the most messages that a function in this process handles together.
	maxGathered = 1000
	// inUseTimeout is how long a start waits while the file is in use. The functions of
	// a killed runner end shortly after it.
	inUseTimeout = 2 * time.Second
)

// Run runs the service until ctx ends. Then it stops accepting requests,
// closes the streams, waits until the queues are empty, closes the file and returns
// nil. Messages that are left after 30 seconds are handled after the next start.
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
	engine, err := openEngine(ctx, o)
	if err != nil {
		return err
	}
	sockets := newSocketGateway(defaultSocketLimits(), o.Log)
	engine.stores.Sockets = sockets
	engine.stores.Limits, engine.stores.MaxBacklog = wiring.LimitsOf(o.Rates), int64(o.MaxBacklog)
	engine.stores.Origins, engine.stores.KeyBackupTime = o.Origins, o.KeyBackupDays.Duration()
	keys := [][]byte{cursorKey(secret)}
	services := wiring.New(engine.stores, wiring.Security{Tokens: tokens, CursorKeys: func() [][]byte { return keys }}, o.Log)
	functions, err := functionsOf(o, services, sockets, secret)
	if err == nil {
		err = replayErasures(ctx, services, o)
	}
	if err != nil {
		return errors.Join(err, engine.close())
	}
	r := &runner{Options: o, secret: secret, engine: engine, services: services, functions: functions, sockets: sockets}
	return errors.Join(r.serve(ctx), engine.close())
}

// outsideReplayTimeout bounds how long a start waits for outside engines.
const outsideReplayTimeout = 10 * time.Second

// replayErasures destroys again the erased keys that a restored database brought back, before anybody
// can use them. While an outside engine is down, the scheduled function does it later.
func replayErasures(ctx context.Context, services *wiring.Services, o Options) error {
	replay := services.ReplayErasures()
	if !keysOutside(o) {
		return replay(ctx)
	}
	bounded, cancel := context.WithTimeout(ctx, outsideReplayTimeout)
	defer cancel()
	if err := replay(bounded); err != nil {
		o.Log.ErrorContext(ctx, "erasures are not replayed yet", "error", err)
	}
	return nil
}

// keysOutside reports whether keys or their tombstones are in an outside engine.
func keysOutside(o Options) bool {
	named := o.TombstonesBucket
	return len(o.Engines.MongoURI) > 0 || named != "" && !strings.HasPrefix(named, config.LocalFolder)
}

func functionsOf(o Options, services *wiring.Services, sockets *socketGateway, secret []byte) (functions, error) {
	if o.Lambda == nil {
		return inProcess{services}, nil
	}
	return newBootstraps(o, services.Gate(), sockets, secret)
}

// runner is one run of the service over its engines.
type runner struct {
	Options
	secret    []byte
	engine    *engine
	services  *wiring.Services
	functions functions
	sockets   *socketGateway
}

// serve runs server and consumers until ctx ends.
func (r *runner) serve(ctx context.Context) error {
	defer r.functions.close()
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", r.Addr)
	if err != nil {
		return fmt.Errorf("listen on %s: %w", r.Addr, err)
	}
	workers, stopWorkers := context.WithCancel(context.WithoutCancel(ctx))
	defer stopWorkers()
	schedulers := r.schedulers()
	wait := r.startConsumers(workers, schedulers)
	stopInvocations := r.serveInvocations(workers, schedulers)
	defer stopInvocations()
	server, own := r.server(), refusals{r.services.Gate()}
	own.apply(server)
	failed := make(chan error, 1)
	go func() { failed <- server.Serve(own.listen(listener)) }()
	if err := r.ready(ctx, listener); err != nil {
		stopWorkers()
		r.functions.close()
		wait()
		r.sockets.stop()
		return errors.Join(err, server.Close())
	}
	select {
	case err = <-failed:
	case <-ctx.Done():
		err = r.drain(context.WithoutCancel(ctx), server)
	}
	stopWorkers()
	r.functions.close() // unfinished messages are handled after the next start
	wait()
	r.sockets.stop()
	return err
}

func (r *runner) ready(ctx context.Context, listener net.Listener) error {
	if !r.Empty {
		err := seed(ctx, r.services.Tenants(), r.services.Stores.Tenants, r.services.Ingest())
		switch {
		case err == nil || ctx.Err() != nil:
		case errors.Is(err, audit.ErrStorageFull):
			r.Log.WarnContext(ctx, "the demo data is not complete", "error", err)
		default:
			return err
		}
	}
	if r.Ready != nil {
		r.Ready(Started{URL: "http://" + openable(ctx, listener.Addr()), Secret: r.secret})
	}
	return nil
}

// openable returns an address that a browser on this machine can open. A listener on all addresses
// has none of its own, and takes those of IPv4, of IPv6 or of both.
func openable(ctx context.Context, address net.Addr) string {
	host, port, err := net.SplitHostPort(address.String())
	if ip := net.ParseIP(host); err != nil || !ip.IsUnspecified() {
		return address.String()
	}
	for _, loopback := range []string{"127.0.0.1", "::1"} {
		candidate := net.JoinHostPort(loopback, port)
		if conn, err := (&net.Dialer{Timeout: dialTimeout}).DialContext(ctx, "tcp", candidate); err == nil {
			_ = conn.Close() // nothing was sent
			return candidate
		}
	}
	return address.String()
}

// server returns the HTTP server. Its timeouts bound what a slow or hostile client can use.
func (r *runner) server() *http.Server {
	return &http.Server{
		Handler:           traced(logged(r.routes(), r.Requests)),
		ReadHeaderTimeout: 10 * time.Second,
		ReadTimeout:       requestTimeout + 5*time.Second, // so that a slow request still gets an answer
		WriteTimeout:      2 * time.Minute,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    maxHeaderBytes,
		ErrorLog:          slog.NewLogLogger(r.Log.Handler(), slog.LevelWarn),
	}
}

// within lets a handler work on a request for a time, as Lambda does.
func within(d time.Duration, handler http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), d)
		defer cancel()
		handler.ServeHTTP(w, r.WithContext(ctx))
	})
}

// routes mounts the API, the WebSocket API and, for people, the short addresses
// of the API's pages.
func (r *runner) routes() http.Handler {
	api := within(requestTimeout, httpapi.Router(r.services.Gate(), r.functions.handlers()))
	mux := http.NewServeMux()
	mux.Handle("/", api)
	stream := &socketServer{gateway: r.sockets, gate: r.services.Gate(), functions: socketFunctions(r.functions)}
	mux.HandleFunc("GET "+manifest.BasePath+manifest.StreamPath, func(w http.ResponseWriter, r *http.Request) {
		if isUpgrade(r) {
			stream.ServeHTTP(w, r)
			return
		}
		api.ServeHTTP(w, r)
	})
	if r.engine.files != nil {
		mux.Handle(exportfiles.DownloadPath, r.engine.files.Downloads)
	}
	for _, page := range []string{"/docs", "/openapi.json", "/health"} {
		mux.Handle("GET "+page, http.RedirectHandler(manifest.BasePath+page, http.StatusTemporaryRedirect))
	}
	mux.Handle("GET /{$}", http.RedirectHandler(manifest.BasePath+"/docs", http.StatusTemporaryRedirect))
	return httpapi.WithoutRedirects(mux, api)
}

// schedulers returns one for each scheduled function of the manifest.
func (r *runner) schedulers() []*scheduler {
	var all []*scheduler
	for _, f := range manifest.Functions() {
		if f.Trigger.Schedule != nil {
			all = append(all, &scheduler{name: f.Name, every: f.Trigger.Schedule.Every, timeout: f.Timeout, function: r.functions.ofSchedule(f), log: r.Log})
		}
	}
	return all
}

// serveInvocations takes invocations until stop. The service also runs without, for example if the
// disk is full.
func (r *runner) serveInvocations(ctx context.Context, schedulers []*scheduler) (stop func()) {
	served, err := serveInvocations(ctx, r.Data, schedulers, r.Requests)
	if err != nil {
		r.Log.WarnContext(ctx, "the command invoke does not work", "error", err)
		return func() {}
	}
	return func() {
		if err := served.close(); err != nil {
			r.Log.WarnContext(ctx, "end the invocations", "error", err)
		}
	}
}

// startConsumers polls every queue of the manifest, runs the schedulers and removes old exports; wait
// returns once all have stopped.
func (r *runner) startConsumers(ctx context.Context, schedulers []*scheduler) (wait func()) {
	var running sync.WaitGroup
	for _, f := range manifest.Functions() {
		for _, trigger := range f.Trigger.Queues {
			c := &consumer{
				trigger: trigger, timeout: f.Timeout, queue: r.engine.queue(trigger.Queue), source: r.engine.named(trigger.Queue),
				function: r.functions.ofQueue(f), log: r.Log, batchSize: trigger.BatchSize,
			}
			if trigger.Window > 0 && r.Lambda == nil { // it handles together what has gathered
				c.batchSize = maxGathered
			}
			if trigger.Queue == manifest.QueueStream { // its function mostly waits
				c.slots = make(chan struct{}, trigger.MaxConcurrency)
			}
			for range pollersPerQueue {
				running.Go(func() { c.run(ctx) })
			}
		}
	}
	for _, s := range schedulers {
		running.Go(func() { s.run(ctx) })
	}
	if r.engine.files != nil {
		running.Go(func() { r.expireExports(ctx) })
	}
	return running.Wait
}

// drain ends the server, closes the connections of the WebSocket API and waits
// until the queues are empty, all within drainTimeout.
func (r *runner) drain(ctx context.Context, server *http.Server) error {
	ctx, cancel := context.WithTimeout(ctx, drainTimeout)
	defer cancel()
	if err := server.Shutdown(ctx); err != nil {
		return fmt.Errorf("finish the running requests: %w", err)
	}
	r.sockets.close(ctx)
	for {
		left, err := r.waiting(ctx)
		switch {
		case ctx.Err() != nil:
			return nil // the messages are durable and are handled after the next start
		case err != nil || left == 0:
			return err
		}
		pause(ctx, 20*time.Millisecond)
	}
}

// waiting counts the messages that are not in a dead-letter queue. The queue
// stream does not count: no client is connected any more, and some of its messages have a long delay.
func (r *runner) waiting(ctx context.Context) (int64, error) {
	var total int64
	for _, q := range manifest.Queues() {
		if q.Name == manifest.QueueStream {
			continue
		}
		visible, inFlight, _, err := r.engine.queue(q.Name).Depth(ctx)
		if err != nil {
			return 0, fmt.Errorf("count the messages of %s: %w", q.Name, err)
		}
		total += visible + inFlight
	}
	return total, nil
}
