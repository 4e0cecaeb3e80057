// Package protect keeps values of entries from those who may not read them. It removes secrets and
// encrypts sensitive fields before anything is stored (RemoveSecrets, Rules, Covered), has the keys
// of tenants and subjects (Keyring), and reveals values to who may see them (Revealer).
package protect

import (
	"context"
	"errors"
	"fmt"

	"github.com/ocelot-audit/ocelot/pkg/audit"
)

// MaxKey is the maximum length of a key that is wrapped, in bytes. It is the limit of AWS KMS.
const MaxKey = 4096

var (
	// ErrMasterKey means that the master key is disabled, scheduled for deletion or
	// deleted. A retry fails until an operator restores the key.
	ErrMasterKey = errors.New("the master key cannot be used")
	// ErrWrapped means that this master key did not wrap these bytes for this tenant.
	ErrWrapped = errors.New("not a key wrapped for this tenant")
)

// KeyWrapper encrypts keys under a master key that never leaves it. It returns an
// *audit.UnavailableError if a retry can succeed, for example after throttling. It is
// safe for concurrent use.
type KeyWrapper interface {
	// Wrap encrypts the key. Only Unwrap with the same tenant can decrypt it. It returns
	// the error of CheckKey for an invalid key.
	Wrap(ctx context.Context, tenant audit.TenantID, key []byte) (wrapped []byte, err error)
	// Unwrap decrypts a key. It returns ErrWrapped for bytes that were altered, or wrapped
	// for another tenant or under another master key.
	Unwrap(ctx context.Context, tenant audit.TenantID, wrapped []byte) (key []byte, err error)
}

// CheckKey returns an error unless the tenant id is valid and the key has 1 to MaxKey
// bytes. The error for a longer key is audit.ErrTooLarge.
func CheckKey(tenant audit.TenantID, key []byte) error {
	if _, err := audit.ParseTenantID(string(tenant)); err != nil {
		return fmt.Errorf("tenant %q: %w", tenant, err)
	}
	switch {
	case len(key) == 0:
		return errors.New("the key is empty")
	case len(key) > MaxKey:
		return fmt.Errorf("the key has %d bytes, at most %d: %w", len(key), MaxKey, audit.ErrTooLarge)
	}
	return nil
}
