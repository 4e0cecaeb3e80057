package protect

import (
	"context"
	"errors"

	"github.com/ocelot-audit/ocelot/pkg/audit"
)

// ErrDestroyed means that a key was destroyed, so that nothing can read what it encrypted.
var ErrDestroyed = errors.New("the key was destroyed")

// RootRef names the root of a tenant in a KeyStore.
var RootRef = KeyRef{}

// StoredKey is a key as stores have it.
type StoredKey struct {
	Ref KeyRef
	// Wrapped is the encrypted key. It is empty if the key was destroyed.
	Wrapped []byte
}

// KeyStore keeps wrapped keys of tenants: the root and one key of each subject. A subject's key has
// generations. One is made only once the one before was destroyed, so a store has the newest alone.
// Reads see every write that was confirmed, and a confirmed write lasts. KeyStore is safe for
// concurrent use.
type KeyStore interface {
	// Keys returns the newest generation of the key of each subject, destroyed ones included. It leaves
	// out subjects without one. RootRef.Subject stands for the tenant itself.
	Keys(ctx context.Context, tenant audit.TenantID, subjects []SubjectID) ([]StoredKey, error)
	// CreateKeys stores each key whose generation is the first, if the subject has none, or the one
	// after a destroyed one. It ignores others: whoever wants to use a key reads it back. RootRef has
	// one generation. There is at most one key for a subject.
	CreateKeys(ctx context.Context, tenant audit.TenantID, keys []StoredKey) error
	// DestroyKey removes a key for good and remembers that, and so it does for every generation before.
	// A generation that is not stored is never stored then. A newer one stays.
	DestroyKey(ctx context.Context, tenant audit.TenantID, ref KeyRef) error
}

// first returns the first generation of the key of a subject.
func (s SubjectID) first() uint32 {
	if s == RootRef.Subject {
		return RootRef.Generation
	}
	return 1
}

// IsFirst reports whether the key is the first generation of its subject.
func (r KeyRef) IsFirst() bool { return r.Generation == r.Subject.first() }
