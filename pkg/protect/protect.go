// Package protect keeps sensitive fields from whoever may not read them. What
// it needs of the outside is the port here: a master key for the tenants' own keys.
package protect

import (
	"context"
	"errors"
	"fmt"

	"github.com/ocelot-audit/ocelot/pkg/audit"
)

// MaxKey is the most bytes that can be wrapped. It is that of AWS KMS.
const MaxKey = 4096

var (
	// ErrMasterKey says that the master key is disabled, about to be destroyed
	// or gone. Repeating the call does not help until somebody restores the key.
	ErrMasterKey = errors.New("the master key cannot be used")
	// ErrWrapped says that something is no key that this master key wrapped for
	// this tenant.
	ErrWrapped = errors.New("not a key wrapped for this tenant")
)

// KeyWrapper encrypts keys under a master key that it does not give out. What
// may work later, such as a call that was throttled, is an *audit.UnavailableError.
// Its methods may be called concurrently.
type KeyWrapper interface {
	// Wrap returns the key so encrypted that Unwrap alone reads it, and for this
	// tenant only. A key that CheckKey refuses is not wrapped.
	Wrap(ctx context.Context, tenant audit.TenantID, key []byte) (wrapped []byte, err error)
	// Unwrap returns the key that Wrap was given. What was wrapped for another
	// tenant or under another master key, or was altered, is ErrWrapped.
	Unwrap(ctx context.Context, tenant audit.TenantID, wrapped []byte) (key []byte, err error)
}

// CheckKey returns an error unless the tenant has the form of one and the key
// is 1 to MaxKey bytes; a longer one is audit.ErrTooLarge.
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
