// Package tokens sets up the verification of bearer tokens for a Lambda.
package tokens

import (
	"context"
	"fmt"
	"log/slog"
	"sync"

	"github.com/ocelot-audit/ocelot/pkg/access"
	"github.com/ocelot-audit/ocelot/pkg/access/bearer"
	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/config"
	"github.com/ocelot-audit/ocelot/pkg/manifest"
	"github.com/ocelot-audit/ocelot/pkg/wiring/fromenv"
	"github.com/ocelot-audit/ocelot/pkg/wiring/secretvalue"
)

// FromEnv verifies tokens by the keys that the environment names.
var FromEnv = fromenv.Dependency{Name: manifest.DependencyTokens, Open: open}

func open(ctx context.Context, o *fromenv.Opening) (err error) {
	auth := o.Settings.Auth
	if auth.JWTSecret, err = secretvalue.Resolve(ctx, o, "OCELOT_JWT_SECRET", auth.JWTSecret); err != nil {
		return err
	}
	o.Security.Tokens = newVerifier(ctx, auth, o.Log)
	return nil
}

// verifier verifies bearer tokens. It sets itself up at the first token, because a
// function whose callers all have API keys never needs that.
type verifier struct {
	open func() (access.TokenVerifier, error)
}

func newVerifier(ctx context.Context, auth config.Auth, log *slog.Logger) *verifier {
	return &verifier{open: sync.OnceValues(func() (access.TokenVerifier, error) {
		if !auth.Enabled() {
			return nil, audit.ErrUnauthenticated // no key is configured, so no token can be valid
		}
		return bearer.New(ctx, bearer.Config{
			Secret: auth.JWTSecret, JWKSURL: auth.JWKSURL, Issuer: auth.Issuer, Audience: auth.Audience, Log: log,
		})
	})}
}

// Verify implements access.TokenVerifier.
func (v *verifier) Verify(ctx context.Context, token string) (access.Principal, error) {
	verify, err := v.open()
	if err != nil {
		return access.Principal{}, fmt.Errorf("set up bearer tokens: %w", err)
	}
	return verify.Verify(ctx, token)
}
