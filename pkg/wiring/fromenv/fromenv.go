// Package fromenv puts the engines that a Lambda's environment names under the
// use cases.
package fromenv

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"

	"github.com/ocelot-audit/ocelot/pkg/access"
	"github.com/ocelot-audit/ocelot/pkg/access/bearer"
	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/config"
	"github.com/ocelot-audit/ocelot/pkg/sqlite"
	"github.com/ocelot-audit/ocelot/pkg/wiring"
	"github.com/ocelot-audit/ocelot/pkg/wiring/embedded"
)

// Services returns the use cases of a Lambda over the engine that its
// environment names. Its log goes to standard output as JSON, and to slog.Default.
func Services(ctx context.Context) (*wiring.Services, error) {
	settings, err := config.ReadFunction()
	if err != nil {
		return nil, fmt.Errorf("configuration: %w", err)
	}
	log := slog.New(slog.NewJSONHandler(os.Stdout, &slog.HandlerOptions{Level: settings.LogLevel}))
	slog.SetDefault(log)
	if err := os.MkdirAll(settings.Data, 0o700); err != nil {
		return nil, fmt.Errorf("make the data folder: %w", err)
	}
	db, err := sqlite.Open(ctx, filepath.Join(settings.Data, embedded.File))
	if err != nil {
		return nil, err
	}
	return wiring.New(embedded.Stores(db), wiring.Security{Tokens: tokensOf(ctx, settings.Auth, log), CursorKey: settings.CursorKey}, log), nil
}

// tokens verifies bearer tokens. What that takes is set up at the first one, since
// most functions never see any: their authorizer has.
type tokens struct {
	open func() (access.TokenVerifier, error)
}

func tokensOf(ctx context.Context, auth config.Auth, log *slog.Logger) *tokens {
	return &tokens{open: sync.OnceValues(func() (access.TokenVerifier, error) {
		if !auth.Enabled() {
			return nil, audit.ErrUnauthenticated // without a key no token is good, only API keys are
		}
		return bearer.New(ctx, bearer.Config{
			Secret: auth.JWTSecret, JWKSURL: auth.JWKSURL, Issuer: auth.Issuer, Audience: auth.Audience, Log: log,
		})
	})}
}

// Verify implements access.TokenVerifier.
func (t *tokens) Verify(ctx context.Context, token string) (access.Principal, error) {
	verifier, err := t.open()
	if err != nil {
		return access.Principal{}, fmt.Errorf("set up bearer tokens: %w", err)
	}
	return verifier.Verify(ctx, token)
}
