package tenants

import (
	"context"
	"fmt"
	"slices"
	"time"
	"unicode/utf8"

	"github.com/ocelot-audit/ocelot/pkg/access"
	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/entryjson"
)

// validateKey returns every fault in the fields that the caller sets. It also sorts the
// permissions, removes duplicates, and converts the expiry to UTC and milliseconds.
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
			break // one fault is enough: there may be thousands
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
	key.Permissions = inDeclaredOrder(key.Permissions)
	if !key.ExpiresAt.IsZero() {
		key.ExpiresAt = key.ExpiresAt.UTC().Truncate(time.Millisecond)
	}
	return faults
}

// outlives returns the fault of a key that would be valid for longer than the API key that creates
// it. A token has no such limit: it expires soon in any case, and creates keys that stay.
func outlives(by access.Principal, key *Key) []audit.FieldError {
	switch end := by.ExpiresAt; {
	case by.KeyID == "" || end.IsZero():
		return nil
	case key.ExpiresAt.IsZero():
		return audit.Invalid("/expires_at", "required", "is required, and must be at most %s: the API key that creates it expires then", entryjson.FormatTime(end)).Fields
	case key.ExpiresAt.After(end):
		return audit.Invalid("/expires_at", "out_of_range", "must be at most %s: the API key that creates it expires then", entryjson.FormatTime(end)).Fields
	}
	return nil
}

// grantable returns the permissions that a key can have.
func grantable() []access.Permission {
	return slices.DeleteFunc(access.Permissions(), access.Permission.Platform)
}

// inDeclaredOrder returns the known permissions in the order of access.Permissions, unique.
func inDeclaredOrder(words []string) []string {
	var ordered []string
	for _, p := range access.Permissions() {
		if slices.Contains(words, string(p)) {
			ordered = append(ordered, string(p))
		}
	}
	return ordered
}

// state returns the part of a key that the log shows. It has neither the hash nor the
// last use.
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

// accessKey returns the key as package access uses it. It ignores permissions that this
// version does not know. A malformed resource is an error, because ignoring it could
// widen access.
func (k *Key) accessKey() (access.Key, error) {
	converted := access.Key{ID: k.ID, Creator: k.CreatedBy, Tenant: k.Tenant, ExpiresAt: k.ExpiresAt, LastUsedAt: k.LastUsedAt}
	for _, word := range k.Permissions {
		if p := access.Permission(word); p.Known() {
			converted.Permissions = append(converted.Permissions, p)
		}
	}
	for _, text := range k.Resources {
		r, err := access.ParseResource(text)
		if err != nil {
			return access.Key{}, fmt.Errorf("key %s of %s: a resource %w", k.ID, k.Tenant, err)
		}
		converted.Resources = append(converted.Resources, r)
	}
	return converted, nil
}

// KeyFinder implements access.KeyFinder and stream.Keys over a KeyStore.
type KeyFinder struct{ Store KeyStore }

// KeyByHash implements access.KeyFinder.
func (f KeyFinder) KeyByHash(ctx context.Context, hash [32]byte) (access.Key, error) {
	key, err := f.Store.KeyByHash(ctx, hash)
	if err != nil {
		return access.Key{}, err
	}
	return key.accessKey()
}

// Key implements stream.Keys.
func (f KeyFinder) Key(ctx context.Context, tenant audit.TenantID, id string) (access.Key, error) {
	key, err := f.Store.Key(ctx, tenant, id)
	if err != nil {
		return access.Key{}, err
	}
	return key.accessKey()
}

// TouchKey implements access.KeyFinder.
func (f KeyFinder) TouchKey(ctx context.Context, tenant audit.TenantID, id string, t time.Time) error {
	return f.Store.TouchKey(ctx, tenant, id, t)
}
