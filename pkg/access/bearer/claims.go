package bearer

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/golang-jwt/jwt/v5"

	"github.com/ocelot-audit/ocelot/pkg/access"
	"github.com/ocelot-audit/ocelot/pkg/audit"
)

// claims are the claims of a token. They implement jwt.Claims.
type claims struct {
	fields claimFields
	// fault is why they could not be read, or nil. It is known before the signature is
	// checked, and told after that.
	fault error
}

// claimsError says to a caller what is wrong with the claims of a token.
type claimsError struct{ detail string }

func (e *claimsError) Error() string { return e.detail }

// claimFields has the supported claims. All others are ignored.
type claimFields struct {
	Subject     string           `json:"sub,omitempty"`
	Issuer      string           `json:"iss,omitempty"`
	Audience    jwt.ClaimStrings `json:"aud,omitempty"`
	ExpiresAt   *numericDate     `json:"exp,omitempty"`
	NotBefore   *numericDate     `json:"nbf,omitempty"`
	IssuedAt    *numericDate     `json:"iat,omitempty"`
	Tenants     oneOrMore        `json:"tenants,omitempty"`
	Role        roleClaim        `json:"role,omitzero"`
	Permissions []string         `json:"permissions,omitempty"`
	Resources   []string         `json:"resources,omitempty"`
}

// UnmarshalJSON parses the claims. Names are case-sensitive. It returns no error, but keeps the
// fault for GetExpirationTime.
func (c *claims) UnmarshalJSON(text []byte) error {
	err := json.Unmarshal(text, &c.fields)
	var wrong *json.SemanticError
	switch {
	case err == nil && jsontext.Value(text).Kind() == jsontext.KindBeginObject:
	case errors.As(err, &wrong) && wrong.JSONPointer != "":
		c.fault = wrongClaim(strings.Split(string(wrong.JSONPointer), "/")[1])
	default:
		c.fault = &claimsError{"The claims of the token must be a JSON object with each name once."}
	}
	return nil
}

// wrongClaim is the fault of a claim that has a name of claimFields.
func wrongClaim(name string) error {
	switch name {
	case "exp", "nbf", "iat":
		return &claimsError{"The claim " + name + " of the token must be a number: seconds since 1970, up to the year 9999."}
	}
	return &claimsError{"The claim " + name + " of the token has a value of the wrong type."}
}

// missing returns the name of a claim that every token must have and that is not there. The
// service requires iss and aud if it is configured with them.
func (c *claims) missing() string {
	switch {
	case c.fields.ExpiresAt == nil:
		return "exp"
	case c.fields.Issuer == "":
		return "iss"
	}
	return "aud"
}

// MarshalJSON writes the claims that are set.
func (c *claims) MarshalJSON() ([]byte, error) { return json.Marshal(&c.fields) }

// Validate checks the subject. The parser calls it after it has verified the signature
// and the times.
func (c *claims) Validate() error {
	if c.fields.Subject == "" || len(c.fields.Subject) > audit.MaxUserID {
		return fmt.Errorf("sub must be a text of 1 to %d bytes", audit.MaxUserID)
	}
	return nil
}

func (c *claims) access() access.Claims {
	return access.Claims{
		Subject: c.fields.Subject, Tenants: c.fields.Tenants, Role: c.fields.Role.all, Roles: c.fields.Role.byTenant,
		Permissions: c.fields.Permissions, Resources: c.fields.Resources,
	}
}

// GetExpirationTime implements jwt.Claims. The parser calls it for every token whose signature is
// valid, so that it returns the fault of all claims.
func (c *claims) GetExpirationTime() (*jwt.NumericDate, error) {
	return c.fields.ExpiresAt.date(), c.fault
}

// GetIssuedAt implements jwt.Claims.
func (c *claims) GetIssuedAt() (*jwt.NumericDate, error) { return c.fields.IssuedAt.date(), nil }

// GetNotBefore implements jwt.Claims.
func (c *claims) GetNotBefore() (*jwt.NumericDate, error) { return c.fields.NotBefore.date(), nil }

// GetIssuer implements jwt.Claims.
func (c *claims) GetIssuer() (string, error) { return c.fields.Issuer, nil }

// GetSubject implements jwt.Claims.
func (c *claims) GetSubject() (string, error) { return c.fields.Subject, nil }

// GetAudience implements jwt.Claims.
func (c *claims) GetAudience() (jwt.ClaimStrings, error) { return c.fields.Audience, nil }

// numericDate is a time in seconds since 1970, up to the year 9999. Later times could
// overflow into the past.
type numericDate time.Time

const maxNumericDate = 253_402_300_799

func (d *numericDate) date() *jwt.NumericDate {
	if d == nil {
		return nil
	}
	return jwt.NewNumericDate(time.Time(*d))
}

// MarshalJSON writes whole seconds.
func (d *numericDate) MarshalJSON() ([]byte, error) {
	return strconv.AppendInt(nil, time.Time(*d).Unix(), 10), nil
}

// UnmarshalJSON parses a number of seconds, with or without a fraction.
func (d *numericDate) UnmarshalJSON(text []byte) error {
	seconds, err := strconv.ParseFloat(string(text), 64)
	if err != nil || seconds < 0 || seconds > maxNumericDate {
		return fmt.Errorf("must be a number of seconds from 0 to %d", maxNumericDate)
	}
	*d = numericDate(time.UnixMilli(int64(seconds * 1000)))
	return nil
}

// oneOrMore is a string or an array of strings.
type oneOrMore []string

// UnmarshalJSON parses both forms.
func (m *oneOrMore) UnmarshalJSON(text []byte) error {
	if jsontext.Value(text).Kind() != '"' {
		return json.Unmarshal(text, (*[]string)(m))
	}
	*m = make(oneOrMore, 1)
	return json.Unmarshal(text, &(*m)[0])
}

// roleClaim is one role, or an object with a role for each tenant.
type roleClaim struct {
	all      access.Role
	byTenant map[string]access.Role
}

// UnmarshalJSON parses both forms.
func (r *roleClaim) UnmarshalJSON(text []byte) error {
	if jsontext.Value(text).Kind() == '{' {
		return json.Unmarshal(text, &r.byTenant)
	}
	return json.Unmarshal(text, &r.all)
}

// MarshalJSON writes the form that is set.
func (r roleClaim) MarshalJSON() ([]byte, error) {
	if r.byTenant != nil {
		return json.Marshal(r.byTenant, json.Deterministic(true))
	}
	return json.Marshal(r.all)
}

// Caller returns a text that is the same for tokens that have the same rights, whenever they were issued, and the
// credential itself if it is no token. It checks no signature.
func Caller(credential string) string {
	var c claims
	if _, _, err := jwt.NewParser().ParseUnverified(credential, &c); err != nil || c.fault != nil {
		return credential
	}
	c.fields.ExpiresAt, c.fields.NotBefore, c.fields.IssuedAt = nil, nil, nil
	text, err := json.Marshal(&c.fields)
	if err != nil {
		return credential
	}
	return string(text)
}

// OnlyTenant returns the tenant of a token that is valid for exactly one, else "". It verifies
// nothing: it is for the holder of a token, who may trust it.
func OnlyTenant(token string) string {
	if len(token) > MaxTokenBytes {
		return ""
	}
	var c claims
	if _, _, err := jwt.NewParser().ParseUnverified(token, &c); err != nil {
		return ""
	}
	if tenants := c.fields.Tenants; len(tenants) == 1 && tenants[0] != string(access.AnyTenant) {
		return tenants[0]
	}
	return ""
}

// Token describes a token for Mint.
type Token struct {
	access.Claims
	Issuer, Audience    string // "": omitted
	IssuedAt, ExpiresAt time.Time
}

// Mint returns an HS256 token for development. The secret must have at least
// MinSecretBytes. Mint refuses unknown roles and permissions and malformed tenants and
// resources. It returns an error if the token exceeds MaxTokenBytes.
func Mint(secret []byte, token Token) (string, error) {
	if len(secret) < MinSecretBytes {
		return "", fmt.Errorf("mint token: the secret must have at least %d bytes", MinSecretBytes)
	}
	if err := check(token); err != nil {
		return "", fmt.Errorf("mint token: %w", err)
	}
	issued, expires := numericDate(token.IssuedAt), numericDate(token.ExpiresAt)
	c := &claims{fields: claimFields{
		Subject: token.Subject, Issuer: token.Issuer, IssuedAt: &issued, ExpiresAt: &expires,
		Tenants: token.Tenants, Role: roleClaim{all: token.Role, byTenant: token.Roles},
		Permissions: token.Permissions, Resources: token.Resources,
	}}
	if token.Audience != "" {
		c.fields.Audience = jwt.ClaimStrings{token.Audience}
	}
	signed, err := jwt.NewWithClaims(jwt.SigningMethodHS256, c).SignedString(secret)
	if err != nil {
		return "", fmt.Errorf("mint token: %w", err)
	}
	if len(signed) > MaxTokenBytes {
		return "", fmt.Errorf("mint token: over %d bytes; name fewer tenants, permissions or resources", MaxTokenBytes)
	}
	return signed, nil
}
