package main

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/manifest"
)

const (
	startRuns     = 25
	maxFunctionMB = 15
)

// startFunctions are the functions whose start is measured: the one that clients wait for
// most often, and the one that opens the most dependencies.
func startFunctions() []string {
	most := slices.MaxFunc(manifest.Functions(), func(a, b manifest.Function) int {
		return cmp.Compare(len(a.Dependencies()), len(b.Dependencies()))
	})
	return []string{"create-logs-bulk", most.Name}
}

func measureLambda(ctx context.Context, b *bench) ([]figure, error) {
	bare := filepath.Join(b.folder, "bare")
	if err := buildLambdas(ctx, runtime.GOARCH, bare, "./cmd/bench/bare"); err != nil {
		return nil, err
	}
	var figures []figure
	for _, name := range startFunctions() {
		function := filepath.Join(b.folder, name)
		if err := buildLambdas(ctx, runtime.GOARCH, function, "./functions/"+name); err != nil {
			return nil, err
		}
		starts, err := compareStarts(ctx, function, bare)
		if err != nil {
			return nil, err
		}
		figures = append(figures,
			atMost("start of "+name+" to its first poll ÷ a bare handler's", "%.2f", starts.ratio, 2.0,
				fmt.Sprintf("Over the engines of production, from exec to the first request to the Runtime API, against cmd/bench/bare. %d pairs in turn.", startRuns)),
			noBound("… the function, the bare handler: median", "", "%.1f ms, %.1f ms", millis(starts.a), millis(starts.b)))
	}
	name, size, err := b.largestFunction(ctx)
	if err != nil {
		return nil, err
	}
	return append(figures,
		atMost("largest function, stripped, arm64", "%.1f MB", float64(size)/1e6, maxFunctionMB, "The largest is "+name+", of all functions built as `make lambdas` does.")), nil
}

// buildLambdas builds packages as the Makefile builds functions: one to a file,
// several into a folder whose name ends in a slash.
func buildLambdas(ctx context.Context, arch, out string, packages ...string) error {
	args := append([]string{"build", "-trimpath", "-tags", "lambda.norpc,nethttpomithttp2", "-ldflags", "-s -w", "-o", out}, packages...)
	build := exec.CommandContext(ctx, "go", args...)
	build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOARCH="+arch, "GOOS="+runtime.GOOS)
	if arch != runtime.GOARCH {
		build.Env = append(build.Env, "GOOS=linux")
	}
	if text, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("build %s for %s: %w\n%s", strings.Join(packages, " "), arch, err, text)
	}
	return nil
}

// largestFunction builds every function for arm64 and returns the largest one's name and bytes.
func (b *bench) largestFunction(ctx context.Context) (name string, size int64, err error) {
	folder := filepath.Join(b.folder, "functions")
	if err := buildLambdas(ctx, "arm64", folder+"/", "./functions/..."); err != nil {
		return "", 0, err
	}
	files, err := os.ReadDir(folder)
	if err != nil {
		return "", 0, err
	}
	for _, file := range files {
		info, err := file.Info()
		if err != nil {
			return "", 0, err
		}
		if info.Size() > size {
			name, size = file.Name(), info.Size()
		}
	}
	return name, size, nil
}

// runtimeAPI stands for the Lambda Runtime API: it notes the first poll and
// answers none.
type runtimeAPI struct {
	server *http.Server
	addr   string
	polled chan time.Time
}

func startRuntimeAPI() (*runtimeAPI, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("listen for Lambdas: %w", err)
	}
	api := &runtimeAPI{addr: listener.Addr().String(), polled: make(chan time.Time, 1)}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /2018-06-01/runtime/invocation/next", func(_ http.ResponseWriter, r *http.Request) {
		api.polled <- time.Now()
		<-r.Context().Done()
	})
	api.server = &http.Server{Handler: mux, ReadHeaderTimeout: time.Minute}
	go func() { _ = api.server.Serve(listener) }() // ends with Close
	return api, nil
}

// nowhere is an address that refuses connections: engines are reached only once
// there is work, so a start does not depend on them.
const nowhere = "127.0.0.1:1"

// compareStarts starts both binaries in turn.
func compareStarts(ctx context.Context, function, bare string) (comparison, error) {
	api, err := startRuntimeAPI()
	if err != nil {
		return comparison{}, err
	}
	defer func() { _ = api.server.Close() }() // nothing is lost
	environment := []string{
		"AWS_LAMBDA_RUNTIME_API=" + api.addr, "AWS_REGION=eu-central-1", "AWS_ACCESS_KEY_ID=none", "AWS_SECRET_ACCESS_KEY=none",
		"MONGODB_URI=mongodb://" + nowhere, "OPENSEARCH_URL=http://" + nowhere, "AWS_ENDPOINT_URL_APIGATEWAYMANAGEMENTAPI=http://" + nowhere,
		"OCELOT_JWT_SECRET=" + strings.Repeat("j", 32), "OCELOT_CURSOR_KEY=" + strings.Repeat("c", 32), "OCELOT_MASTER_KEY=alias/bench", "OCELOT_EXPORTS_BUCKET=bench", "OCELOT_TOMBSTONES_BUCKET=bench-tombstones", "OCELOT_ARCHIVE_BUCKET=bench-archive",
	}
	var ratios []float64
	var as, bs []time.Duration
	for range startRuns {
		a, err := api.start(ctx, function, environment)
		if err != nil {
			return comparison{}, err
		}
		least, err := api.start(ctx, bare, environment)
		if err != nil {
			return comparison{}, err
		}
		as, bs, ratios = append(as, a), append(bs, least), append(ratios, a.Seconds()/least.Seconds())
	}
	return comparison{ratio: median(ratios), a: median(as), b: median(bs)}, nil
}

// start runs a binary until it polls and returns how long that took from its exec.
func (api *runtimeAPI) start(ctx context.Context, binary string, environment []string) (time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	var output bytes.Buffer
	cmd := exec.CommandContext(ctx, binary)
	cmd.Env, cmd.Stdout, cmd.Stderr = environment, &output, &output
	begun := time.Now()
	if err := cmd.Start(); err != nil {
		return 0, fmt.Errorf("start %s: %w", filepath.Base(binary), err)
	}
	var exitErr error
	exited := make(chan struct{})
	go func() {
		exitErr = cmd.Wait()
		close(exited)
	}()
	select {
	case polled := <-api.polled:
		err := cmd.Process.Kill()
		<-exited
		return polled.Sub(begun), err
	case <-exited:
		return 0, fmt.Errorf("%s ended before it polled: %w\n%s", filepath.Base(binary), errors.Join(exitErr, context.Cause(ctx)), output.String())
	}
}
