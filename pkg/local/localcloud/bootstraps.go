package localcloud

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/aws/aws-lambda-go/events"

	"github.com/ocelot-audit/ocelot/pkg/config"
	"github.com/ocelot-audit/ocelot/pkg/edge/httpapi"
	"github.com/ocelot-audit/ocelot/pkg/local/runtimehost"
	"github.com/ocelot-audit/ocelot/pkg/manifest"
	"github.com/ocelot-audit/ocelot/pkg/version"
)

// Lambda configures how functions run as Lambda binaries.
type Lambda struct {
	// Bootstraps is a folder with each function's program as <function>/bootstrap or
	// <function>. If Options.Engines names all engines of production, the programs are built
	// for these, else for the embedded engine (build tag "embedded").
	Bootstraps string
	// Auth configures the tokens that are valid in addition to those of the development key.
	Auth     config.Auth
	LogLevel slog.Level // of the functions' own log
	// TraceDaemon is the address of a daemon of X-Ray that gets the functions' segments; "": none.
	TraceDaemon string
	// Output gets the functions' log as whole lines. It must be safe for concurrent use.
	Output io.Writer
}

// maxEnvironments is the maximum number of processes of a function: one for each poller of two
// queues.
const maxEnvironments = 2 * pollersPerQueue

// bootstraps runs each function's real binary behind a Lambda Runtime API.
type bootstraps struct {
	hosts       map[string]*runtimehost.Host
	gateway     *gateway
	connections *managementAPI // by which they send to clients
}

func newBootstraps(o Options, gate *httpapi.Gate, sockets *socketGateway, secret []byte) (*bootstraps, error) {
	data, err := filepath.Abs(o.Data)
	if err != nil {
		return nil, fmt.Errorf("the data folder: %w", err)
	}
	connections, err := serveManagementAPI(sockets)
	if err != nil {
		return nil, err
	}
	master, err := masterKey(o)
	if err != nil {
		return nil, err
	}
	exports, err := exportsBucket(o)
	if err != nil {
		return nil, err
	}
	erased, err := tombstonesBucket(o)
	if err != nil {
		return nil, err
	}
	archived, err := archiveBucket(o)
	if err != nil {
		return nil, err
	}
	function := config.Function{Auth: o.Lambda.Auth, CursorKey: cursorKey(secret), MasterKey: master, ExportsBucket: exports, TombstonesBucket: erased, ArchiveBucket: archived, LogLevel: o.Lambda.LogLevel, TraceDaemon: o.Lambda.TraceDaemon, Rates: o.Rates, MaxBacklog: o.MaxBacklog, KeyBackupDays: o.KeyBackupDays, Origins: o.Origins}
	if function.Auth.JWKSURL == "" {
		function.Auth.JWTSecret = secret
	}
	environ := config.Embedded{Data: data, Sockets: connections.url, Function: function}.Environ()
	if allOutside(o.Engines) {
		engines := o.Engines
		engines.AWS.Endpoints = maps.Clone(engines.AWS.Endpoints)
		engines.AWS.Endpoints[config.SocketsService] = connections.url
		environ = config.Cloud{Function: function, Engines: engines}.Environ()
	}
	b := &bootstraps{hosts: map[string]*runtimehost.Host{}, connections: connections}
	var missing []string
	for _, f := range manifest.Functions() {
		host, err := runtimehost.New(runtimehost.Function{
			Name: f.Name, Bootstrap: programIn(o.Lambda.Bootstraps, f.Name), Env: environ, MemoryMB: f.MemoryMB, Timeout: f.Timeout,
			Concurrency: maxEnvironments, Output: o.Lambda.Output, Log: o.Log,
		})
		if err != nil {
			missing = append(missing, f.Name)
			continue
		}
		b.hosts[f.Name] = host
		if f.Trigger.Authorizer {
			b.gateway = newGateway(gate, host)
		}
	}
	if len(missing) > 0 {
		connections.close()
		return nil, fmt.Errorf("no bootstrap of %s in %s, where each function's program is looked for as <function>/bootstrap", strings.Join(missing, ", "), o.Lambda.Bootstraps)
	}
	return b, nil
}

// programIn returns the path of a function's program in a folder of bootstraps.
func programIn(folder, function string) string {
	path := filepath.Join(folder, function)
	if info, err := os.Stat(path); err == nil && info.IsDir() {
		return filepath.Join(path, "bootstrap")
	}
	if _, err := os.Stat(path + ".exe"); err == nil { // as go build names it on Windows
		return path + ".exe"
	}
	return path
}

func (b *bootstraps) handlers() map[string]http.Handler {
	handlers := map[string]http.Handler{}
	for _, f := range manifest.Functions() {
		if f.Trigger.Route != nil {
			handlers[f.Name] = &integration{gateway: b.gateway, route: *f.Trigger.Route, host: b.hosts[f.Name]}
		}
	}
	return handlers
}

func (b *bootstraps) ofQueue(f manifest.Function) queueFunction {
	host := b.hosts[f.Name]
	return func(ctx context.Context, event events.SQSEvent) (response events.SQSEventResponse, err error) {
		err = invoke(ctx, host, event, &response)
		return response, err
	}
}

func (b *bootstraps) ofSocket(f manifest.Function) socketFunction {
	host := b.hosts[f.Name]
	return func(ctx context.Context, event events.APIGatewayWebsocketProxyRequest) (response events.APIGatewayProxyResponse, err error) {
		err = invoke(ctx, host, event, &response)
		return response, err
	}
}

func (b *bootstraps) close() {
	for _, host := range b.hosts {
		host.Close()
	}
	b.connections.close()
}

// invoke runs a function with an event and reads its answer.
func invoke(ctx context.Context, host *runtimehost.Host, event, answer any) error {
	payload, err := json.Marshal(event)
	if err != nil {
		return fmt.Errorf("event as JSON: %w", err)
	}
	text, err := host.Invoke(ctx, payload)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(text, answer); err != nil {
		return fmt.Errorf("the function's answer has not the form of its trigger: %w", err)
	}
	return nil
}

// modulePath is the module of the functions' sources.
const modulePath = "github.com/ocelot-audit/ocelot"

// healthFunction alone tells its version. So a commit does not link every function again.
const healthFunction = modulePath + "/functions/get-health"

// ErrNoSources is BuildBootstraps's error outside of Ocelot's sources or without Go.
var ErrNoSources = errors.New("the functions can only be built with Go and within Ocelot's sources")

// BuildBootstraps builds every function for this machine as <folder>/<function>. If all
// engines of production are named, it builds for these, else for the embedded engine. The
// folder is in the user's cache; each checkout and kind of engines has its own. It is removed by a
// later build once nobody has built there for a month. Programs that are up to date are not built again. Except on Windows, several processes may build at the
// same time. The error is ErrNoSources if the working folder is not within Ocelot's sources.
func BuildBootstraps(ctx context.Context, engines config.Engines) (folder string, err error) {
	root, err := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Dir}}", modulePath).Output()
	if err != nil {
		return "", errors.Join(ErrNoSources, ctx.Err())
	}
	tags := "embedded,lambda.norpc,nethttpomithttp2"
	if allOutside(engines) {
		tags = "lambda.norpc,nethttpomithttp2"
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("find the folder of the bootstraps: %w", err)
	}
	folder = filepath.Join(cache, "ocelot", "functions", fmt.Sprintf("%x", sha256.Sum256(append(root, tags...)))[:16])
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return "", fmt.Errorf("make the folder of the bootstraps: %w", err)
	}
	if err := removeUnused(filepath.Dir(folder), folder, time.Now()); err != nil {
		return "", fmt.Errorf("remove bootstraps of other checkouts: %w", err)
	}
	build := exec.CommandContext(ctx, "go", "build", "-trimpath", "-buildvcs=false", "-tags", tags,
		"-ldflags", "-s -w", "-ldflags", healthFunction+"=-s -w "+version.LinkerFlag(version.Build()), "-o", folder+string(filepath.Separator), modulePath+"/functions/...")
	// The target is this machine, whatever the environment says. The temporary folder is
	// on the same file system. go build therefore renames each finished program into
	// place, and no process sees a partial one.
	build.Env = append(build.Environ(), "GOOS=", "GOARCH=", "GOTMPDIR="+filepath.Dir(folder))
	if out, err := build.CombinedOutput(); err != nil {
		return "", errors.Join(fmt.Errorf("build the functions: %w\n%s", err, out), ctx.Err())
	}
	return folder, nil
}

// unusedAfter is how long a folder of bootstraps stays after the last build there. A checkout's
// functions take about 400 MB.
const unusedAfter = 30 * 24 * time.Hour

// removeUnused marks a folder as used, and removes those beside it that are not used any more.
func removeUnused(parent, used string, now time.Time) error {
	if err := os.Chtimes(used, now, now); err != nil {
		return err
	}
	entries, err := os.ReadDir(parent)
	if err != nil {
		return err
	}
	for _, entry := range entries {
		info, err := entry.Info()
		if errors.Is(err, fs.ErrNotExist) { // another process removed it
			continue
		}
		if err == nil && now.Sub(info.ModTime()) > unusedAfter {
			err = os.RemoveAll(filepath.Join(parent, entry.Name()))
		}
		if err != nil {
			return err
		}
	}
	return nil
}
