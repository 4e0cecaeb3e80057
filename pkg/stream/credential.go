package stream

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/access"
	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/ttlcache"
)

// Keys finds API keys.
type Keys interface {
	// Key returns the tenant's API key. It returns audit.ErrNotFound if none exists, so
	// also after the key was revoked.
	Key(ctx context.Context, tenant audit.TenantID, id string) (access.Key, error)
}

// The reasons for which the service ends a connection.
var (
	ErrConnectionExpired = fmt.Errorf("the connection has expired: %w", audit.ErrNotFound)
	ErrKeyRevoked        = fmt.Errorf("the API key was revoked: %w", audit.ErrUnauthenticated)
	ErrTenantSuspended   = fmt.Errorf("the tenant is suspended: %w", audit.ErrForbidden)
	errTenantDeleted     = fmt.Errorf("the tenant is deleted: %w", audit.ErrForbidden)
)

// EndsConnection reports whether the error says that the client must not use its connection
// any longer.
func EndsConnection(err error) bool {
	return errors.Is(err, ErrConnectionExpired) || errors.Is(err, audit.ErrUnauthenticated) || errors.Is(err, audit.ErrForbidden)
}

const (
	// keyTTL is how long a check of an API key is valid. Nothing is sent to a client whose
	// key was revoked longer ago.
	keyTTL = access.DefaultKeyTTL
	// maxCheckedKeys bounds the memory of a Service to less than a megabyte.
	maxCheckedKeys = 4096
)

// checkedKey is an API key that existed when it was checked.
type checkedKey struct {
	tenant audit.TenantID
	id     string
}

// check returns an error for which EndsConnection is true if the client must not use the
// connection any longer: it has expired, its API key was revoked, its tenant is suspended
// or deleted, or its principal must not read the stream. Service calls it before it sends
// entries and for every message of a client. It relies on records that are some seconds old
// (keyTTL, and the age of Tenants).
func (s *Service) check(ctx context.Context, c Connection) error {
	if !s.Now().Before(c.ExpiresAt) {
		return ErrConnectionExpired
	}
	if _, err := c.Principal.Authorize(c.Tenant, access.LogsStream); err != nil {
		return err
	}
	tenant, err := s.Tenants.Tenant(ctx, c.Tenant)
	deleted, err := audit.IsDeleted(tenant, err)
	switch {
	case err != nil:
		return fmt.Errorf("check a connection of %s: %w", c.Tenant, err)
	case deleted:
		return errTenantDeleted
	case tenant.Status == audit.TenantSuspended:
		return ErrTenantSuspended
	case c.Principal.KeyID == "":
		return nil
	}
	return s.checkKey(ctx, checkedKey{c.Tenant, c.Principal.KeyID}, s.Now())
}

// checkKey returns ErrKeyRevoked unless the API key exists.
func (s *Service) checkKey(ctx context.Context, key checkedKey, now time.Time) error {
	s.once.Do(s.makeCaches)
	if last, found := s.checked.Get(key); found && last.Fresh(now, keyTTL) {
		return nil
	}
	_, err := s.Keys.Key(ctx, key.tenant, key.id)
	if errors.Is(err, audit.ErrNotFound) {
		s.checked.Remove(key)
		return ErrKeyRevoked
	}
	if err != nil {
		return fmt.Errorf("check an API key of %s: %w", key.tenant, err)
	}
	s.checked.Put(key, ttlcache.Entry[struct{}]{ReadAt: now})
	return nil
}
