package tenants

import (
	"context"
	"fmt"
	"slices"
	"time"
	"unicode/utf8"

	"github.com/ocelot-audit/ocelot/pkg/access"
	"github.com/ocelot-audit/ocelot/pkg/audit"
)

// validateKey returns every fault of what the caller chose, and puts the
// permissions into their usual order, each once, and the expiry into UTC and
// whole milliseconds.
func validateKey(key *Key, now time.Time) []audit.FieldError {
	var faults []audit.FieldError
	add := func(pointer, code, format string, args ...any) {
		faults = append(faults, audit.FieldError{Pointer: pointer, Code: code, Detail: fmt.Sprintf(format, args...)})
	}
	switch {
	case key.Name == "":
		add("/name", "required", "is required")
	case len(key.Name) > MaxKeyName:
		add("/name", "too_long", "must be at most %d bytes", MaxKeyName)
	case !utf8.ValidString(key.Name):
		add("/name", "invalid_utf8", "must be valid UTF-8")
	}
	if len(key.Permissions) == 0 {
		add("/permissions", "required", "must name at least one permission")
	}
	for i, word := range key.Permissions {
		if p := access.Permission(word); !p.Known() || p.Platform() {
			add(fmt.Sprintf("/permissions/%d", i), "invalid_choice", "must be one of %v", grantable())
			break // one is enough: there may be thousands
		}
	}
	if len(key.Resources) > MaxKeyResources {
		add("/resources", "too_many", "must be at most %d resources", MaxKeyResources)
	} else {
		for i, text := range key.Resources {
			if _, err := access.ParseResource(text); err != nil {
				add(fmt.Sprintf("/resources/%d", i), "invalid_resource", "%v", err)
			}
		}
	}
	if !key.ExpiresAt.IsZero() && !key.ExpiresAt.After(now) {
		add("/expires_at", "in_past", "must be in the future")
	}
	key.Permissions = inOrder(key.Permissions)
	if !key.ExpiresAt.IsZero() {
		key.ExpiresAt = key.ExpiresAt.UTC().Truncate(time.Millisecond)
	}
	return faults
}

// grantable are the permissions that a key can have.
func grantable() []access.Permission {
	return slices.DeleteFunc(access.Permissions(), access.Permission.Platform)
}

func inOrder(words []string) []string {
	var ordered []string
	for _, p := range access.Permissions() {
		if slices.Contains(words, string(p)) {
			ordered = append(ordered, string(p))
		}
	}
	return ordered
}

// state is what the log shows of a key: nothing of its secret, nor of its use.
func (k *Key) state() audit.Object {
	state := struct {
		Name        string     `json:"name"`
		Permissions []string   `json:"permissions"`
		Resources   []string   `json:"resources,omitempty"`
		ExpiresAt   *time.Time `json:"expires_at,omitempty"`
	}{Name: k.Name, Permissions: k.Permissions, Resources: k.Resources}
	if !k.ExpiresAt.IsZero() {
		state.ExpiresAt = &k.ExpiresAt
	}
	return object(state)
}

// forAccess returns what deciding about the key takes. Permissions that this
// version does not know stay out; a resource that it cannot read is an error,
// because leaving it out could widen what the others narrow.
func (k *Key) forAccess() (access.Key, error) {
	decided := access.Key{ID: k.ID, Tenant: k.Tenant, ExpiresAt: k.ExpiresAt, LastUsedAt: k.LastUsedAt}
	for _, word := range k.Permissions {
		if p := access.Permission(word); p.Known() {
			decided.Permissions = append(decided.Permissions, p)
		}
	}
	for _, text := range k.Resources {
		r, err := access.ParseResource(text)
		if err != nil {
			return access.Key{}, fmt.Errorf("key %s of %s: a resource %w", k.ID, k.Tenant, err)
		}
		decided.Resources = append(decided.Resources, r)
	}
	return decided, nil
}

// KeyFinder implements access.KeyFinder over a KeyStore.
type KeyFinder struct{ Store KeyStore }

// KeyByHash implements access.KeyFinder.
func (f KeyFinder) KeyByHash(ctx context.Context, hash [32]byte) (access.Key, error) {
	key, err := f.Store.KeyByHash(ctx, hash)
	if err != nil {
		return access.Key{}, err
	}
	return key.forAccess()
}

// TouchKey implements access.KeyFinder.
func (f KeyFinder) TouchKey(ctx context.Context, tenant audit.TenantID, id string, t time.Time) error {
	return f.Store.TouchKey(ctx, tenant, id, t)
}
