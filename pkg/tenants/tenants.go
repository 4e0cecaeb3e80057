// Package tenants administers tenants and their API keys. It starts the jobs
// that remove deleted tenants; package jobs does them.
package tenants

import (
	"context"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/audit"
)

// Store stores the records of tenants.
type Store interface {
	// Create adds a tenant with Version 1. It returns audit.ErrConflict if the id is or ever was taken.
	Create(ctx context.Context, tenant audit.Tenant) error
	// Tenant returns one tenant. It returns audit.ErrNotFound if none exists or if it was purged.
	Tenant(ctx context.Context, id audit.TenantID) (audit.Tenant, error)
	// List returns up to limit tenants after the id after, ordered by id, and whether more
	// follow. If only is not nil, it restricts the list to these ids.
	List(ctx context.Context, only []audit.TenantID, after audit.TenantID, limit int) (tenants []audit.Tenant, more bool, err error)
	// Update replaces the record if the stored Version is tenant.Version-1. It
	// returns audit.ErrPrecondition if it is another, and audit.ErrNotFound if none exists.
	Update(ctx context.Context, tenant audit.Tenant) error
	// Tombstone removes the record if its stored Version is the given one, and reserves the
	// id for ever. It returns audit.ErrPrecondition if the version is another, and
	// audit.ErrNotFound if no such tenant ever existed. Repeating it is not an error.
	Tombstone(ctx context.Context, id audit.TenantID, version int64) error
}

// Key is an API key as it is stored. The secret itself is never stored.
type Key struct {
	ID          string         // 16 hexadecimal digits
	Tenant      audit.TenantID // the only tenant it is valid in
	Name        string
	Hash        [32]byte // SHA-256 of the secret
	Permissions []string
	Resources   []string // text forms of access.Resource; empty: no restriction
	CreatedAt   time.Time
	CreatedBy   string    // the subject of who created it, also through another key; "": nobody knows
	ExpiresAt   time.Time // zero: never
	LastUsedAt  time.Time // to the minute, up to an hour before the last use; zero: not yet used
}

// KeyPosition is the place of a key in the list of its tenant. The key need not exist any more.
type KeyPosition struct {
	CreatedAt time.Time
	ID        string
}

// KeyStore stores API keys.
type KeyStore interface {
	// CreateKey adds a key. It returns audit.ErrConflict if its id or hash is taken.
	CreateKey(ctx context.Context, key Key) error
	// Keys returns up to limit keys of the tenant, ordered by CreatedAt, then ID, and whether
	// more follow. They come after a position; nil: from the first on.
	Keys(ctx context.Context, tenant audit.TenantID, after *KeyPosition, limit int) (keys []Key, more bool, err error)
	// Key returns one key of the tenant. It returns audit.ErrNotFound if none exists.
	Key(ctx context.Context, tenant audit.TenantID, id string) (Key, error)
	// KeyByHash returns the key with this hash. It returns audit.ErrNotFound if none exists.
	KeyByHash(ctx context.Context, hash [32]byte) (Key, error)
	// TouchKey records that the key was used at t.
	TouchKey(ctx context.Context, tenant audit.TenantID, id string, t time.Time) error
	// DeleteKey removes a key. It returns audit.ErrNotFound if none exists.
	DeleteKey(ctx context.Context, tenant audit.TenantID, id string) error
}
