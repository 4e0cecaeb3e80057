// Package fromenv puts the engines that a Lambda's environment names under the
// use cases.
package fromenv

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"sync"

	"github.com/ocelot-audit/ocelot/pkg/access"
	"github.com/ocelot-audit/ocelot/pkg/access/bearer"
	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/config"
	"github.com/ocelot-audit/ocelot/pkg/edge/httpapi"
	"github.com/ocelot-audit/ocelot/pkg/wiring"
)

// Services returns the use cases of a Lambda over the engines that its
// environment names: those of production, or, built with the tag "embedded", the
// embedded one. Its log goes to standard output as JSON, and to slog.Default; its
// metrics go to standard output.
func Services(ctx context.Context) (*wiring.Services, error) {
	opened, settings, err := stores(ctx)
	if err != nil {
		return nil, fmt.Errorf("configuration: %w", err)
	}
	log := slog.New(slog.NewJSONHandler(os.Stdout, &slog.HandlerOptions{Level: settings.LogLevel}))
	slog.SetDefault(log)
	services := wiring.New(opened, wiring.Security{Tokens: tokensOf(ctx, settings.Auth, log), CursorKey: settings.CursorKey}, log)
	services.Metrics, services.StreamURL = os.Stdout, httpapi.StreamURL(settings.StreamURL)
	return services, nil
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
