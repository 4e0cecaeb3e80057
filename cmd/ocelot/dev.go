package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"syscall"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/access"
	"github.com/ocelot-audit/ocelot/pkg/access/bearer"
	"github.com/ocelot-audit/ocelot/pkg/config"
	"github.com/ocelot-audit/ocelot/pkg/engine/sqlite"
	"github.com/ocelot-audit/ocelot/pkg/local/localcloud"
	"github.com/ocelot-audit/ocelot/pkg/trace"
)

// devCmd runs the whole service in this process.
type devCmd struct {
	Addr  string `default:"127.0.0.1:8080" help:"Address to listen on; port 0 takes a free one."`
	Data  string `default:".ocelot" type:"path" help:"Folder of the data and the development key; created if missing."`
	Empty bool   `help:"Start without the demo tenant and its entries."`
	Quiet bool   `help:"Do not print a line for each request on standard error."`
	Pprof string `placeholder:"ADDR" help:"Loopback address to serve profiles of this process on (net/http/pprof), for example 127.0.0.1:6060."`

	Lambda    bool   `help:"Run each function's real Lambda binary with AWS events, instead of everything in this process."`
	Functions string `type:"path" placeholder:"DIR" help:"With --lambda: folder of built binaries (DIR/<function>/bootstrap). By default ocelot builds them into the user's cache folder."`

	built string // the folder of functions that this run built, "" for none
}

// devTokenTTL is how long the token that a start prints is valid.
const devTokenTTL = 12 * time.Hour

// Run serves until ctx ends, and drains the queues then.
func (c *devCmd) Run(ctx context.Context, con *console) error {
	limitMemory()
	go collectWhenIdle(ctx)
	settings, err := config.ReadDev()
	if err != nil {
		return err
	}
	log := slog.New(trace.Logging(slog.NewTextHandler(con.err, &slog.HandlerOptions{Level: settings.LogLevel})))
	slog.SetDefault(log) // the Lambda edge logs there
	if c.Pprof != "" {
		end, err := serveProfiles(con, c.Pprof)
		if err != nil {
			return err
		}
		defer end()
	}
	var lambda *localcloud.Lambda
	switch {
	case c.Lambda:
		if lambda, err = c.lambda(ctx, con, settings); err != nil {
			return err
		}
	case c.Functions != "":
		return usagef("--functions needs --lambda")
	}
	err = localcloud.Run(ctx, localcloud.Options{
		Addr: c.Addr, Data: c.Data, Empty: c.Empty, Engines: settings.Engines, MasterKey: settings.MasterKey, ExportsBucket: settings.ExportsBucket, TombstonesBucket: settings.TombstonesBucket, ArchiveBucket: settings.ArchiveBucket, Rates: settings.Rates, MaxBacklog: settings.MaxBacklog, KeyBackupDays: settings.KeyBackupDays, Origins: settings.Origins, Lambda: lambda, Log: log,
		Tokens: func(ctx context.Context, secret []byte) (access.TokenVerifier, error) {
			if settings.Auth.JWKSURL != "" {
				secret = nil
			}
			return bearer.New(ctx, bearer.Config{
				Secret: secret, JWKSURL: settings.Auth.JWKSURL, Issuer: settings.Auth.Issuer, Audience: settings.Auth.Audience, Log: log,
			})
		},
		Requests: c.requests(con),
		Ready: func(started localcloud.Started) {
			c.printGreeting(con, started, settings.Auth)
			c.printPlaces(con.out)
		},
	})
	if errors.Is(err, sqlite.ErrInUse) {
		return fmt.Errorf("%s is open in another service: stop that one first, or choose another folder with --data", c.Data)
	}
	if errors.Is(err, syscall.EADDRINUSE) || errors.Is(err, windowsInUse) {
		return fmt.Errorf("%w. Choose another address, for example --addr 127.0.0.1:0 for a free port", err)
	}
	return err
}

// windowsInUse is what Windows says about a port that is taken (WSAEADDRINUSE).
const windowsInUse = syscall.Errno(10048)

// requests returns what prints a line for each request, nil with --quiet.
func (c *devCmd) requests(con *console) func(localcloud.Request) {
	if c.Quiet {
		return nil
	}
	return func(r localcloud.Request) {
		con.report("%s %s %d %d B %.1f ms", r.Method, r.Path, r.Status, r.Bytes, float64(r.Duration.Microseconds())/1000)
	}
}

// printPlaces says what stays on disk after the end.
func (c *devCmd) printPlaces(out io.Writer) {
	fmt.Fprintf(out, "\nCtrl-C stops it. The data stays: delete the folder %s to begin again.\n", c.Data)
	if c.built != "" {
		fmt.Fprintf(out, "The built functions are in %s. You may delete the folder after the end: the next start builds them again.\n", c.built)
	}
}

// lambda builds the functions' binaries unless --functions names a folder.
func (c *devCmd) lambda(ctx context.Context, con *console, settings config.Dev) (*localcloud.Lambda, error) {
	folder := c.Functions
	if folder == "" {
		con.report("Building the functions; the first time takes a while.")
		var err error
		folder, err = localcloud.BuildBootstraps(ctx, settings.Engines)
		if errors.Is(err, localcloud.ErrNoSources) {
			return nil, fmt.Errorf("%w; otherwise name a folder of built ones with --functions", err)
		}
		if err != nil {
			return nil, err
		}
		c.built = folder
	}
	return &localcloud.Lambda{Bootstraps: folder, Auth: settings.Auth, LogLevel: settings.LogLevel, TraceDaemon: settings.TraceDaemon, Output: con.err}, nil
}

// printGreeting prints the addresses, and a token for the demo tenant.
func (c *devCmd) printGreeting(con *console, started localcloud.Started, auth config.Auth) {
	fmt.Fprintf(con.out, "Ocelot is ready.\n\n  API   %s/api/v1\n  Docs  %s/docs\n  Data  %s\n", started.URL, started.URL, c.Data)
	if auth.JWKSURL != "" {
		fmt.Fprintf(con.out, "\nTokens are those of %s. The service accepts none of the token command.\n", auth.Issuer)
		return
	}
	if c.Empty {
		fmt.Fprintf(con.out, "\nTo get a token that may create tenants:\n\n  %s token --data %s --tenant '*' --role operator\n", program(), shellWord(c.Data))
		return
	}
	token, err := bearer.Mint(started.Secret, bearer.Token{
		Claims:   access.Claims{Subject: "ann.lee", Tenants: []string{string(localcloud.DemoTenant)}, Role: access.RoleAdmin},
		IssuedAt: con.now(), ExpiresAt: con.now().Add(devTokenTTL),
	})
	if err != nil {
		con.report("ocelot: no token for the demo tenant: %s", err)
		return
	}
	printExamples(con.out, started.URL, token)
}

func printExamples(out io.Writer, url, token string) {
	fmt.Fprintf(out, `
A token for the demo tenant, role admin, valid for %dh:

  export OCELOT_URL=%s OCELOT_TENANT=%s OCELOT_TOKEN=%s

Then try:

  %[5]s search 'severity>=ERROR'
  %[5]s stats --group-by action
  curl -s "$OCELOT_URL/api/v1/logs?limit=1" -H "Authorization: Bearer $OCELOT_TOKEN" -H "X-Tenant-ID: $OCELOT_TENANT"
`, devTokenTTL/time.Hour, shellWord(url), localcloud.DemoTenant, token, program())
}

// program is the name that this program was called by, as a word of a command line.
func program() string { return shellWord(os.Args[0]) }
