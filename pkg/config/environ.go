package config

import "strings"

// Environ is the environment that ReadEmbedded reads e from, as "NAME=value". It
// has the secrets in plain text: it is for a process that is to be started.
func (e Embedded) Environ() []string {
	return []string{
		"OCELOT_DATA=" + e.Data,
		"OCELOT_CURSOR_KEY=" + string(e.CursorKey),
		"OCELOT_LOG_LEVEL=" + strings.ToLower(e.LogLevel.String()),
		"OCELOT_JWT_SECRET=" + string(e.Auth.JWTSecret),
		"OIDC_JWKS_URL=" + e.Auth.JWKSURL,
		"OIDC_ISSUER=" + e.Auth.Issuer,
		"OIDC_AUDIENCE=" + e.Auth.Audience,
	}
}
