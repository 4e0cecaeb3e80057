package wiring

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/ocelot-audit/ocelot/pkg/access"
	"github.com/ocelot-audit/ocelot/pkg/access/bearer"
	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/config"
	"github.com/ocelot-audit/ocelot/pkg/sqlite"
)

// DataFile is the embedded engine's file in a data folder.
const DataFile = "ocelot.db"

// FromEnvironment returns the use cases of a Lambda over the engine that its
// environment names. Its log goes to standard output as JSON, and to slog.Default.
func FromEnvironment(ctx context.Context) (*Services, error) {
	settings, err := config.ReadFunction()
	if err != nil {
		return nil, fmt.Errorf("configuration: %w", err)
	}
	log := slog.New(slog.NewJSONHandler(os.Stdout, &slog.HandlerOptions{Level: settings.LogLevel}))
	slog.SetDefault(log)
	tokens, err := verifier(ctx, settings.Auth, log)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(settings.Data, 0o700); err != nil {
		return nil, fmt.Errorf("make the data folder: %w", err)
	}
	db, err := sqlite.Open(ctx, filepath.Join(settings.Data, DataFile))
	if err != nil {
		return nil, err
	}
	return New(Embedded(db), Security{Tokens: tokens, CursorKey: settings.CursorKey}, log), nil
}

// verifier returns what checks bearer tokens; where none can be good, API keys are all there is.
func verifier(ctx context.Context, auth config.Auth, log *slog.Logger) (access.TokenVerifier, error) {
	if !auth.Enabled() {
		return noTokens{}, nil
	}
	v, err := bearer.New(ctx, bearer.Config{
		Secret: auth.JWTSecret, JWKSURL: auth.JWKSURL, Issuer: auth.Issuer, Audience: auth.Audience, Log: log,
	})
	if err != nil {
		return nil, fmt.Errorf("bearer tokens: %w", err)
	}
	return v, nil
}

// noTokens is the verifier where bearer tokens are not set up.
type noTokens struct{}

// Verify refuses every token.
func (noTokens) Verify(context.Context, string) (access.Principal, error) {
	return access.Principal{}, audit.ErrUnauthenticated
}
