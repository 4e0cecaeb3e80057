// Package certificate certifies that a key was destroyed, or a tenant was deleted. A certificate is a JSON Web Signature
// (RFC 7515) in the compact form, with the algorithm EdDSA and an Ed25519 key of the service.
// Certificates belong to no tenant's records, so that they outlive the tenant.
package certificate

import (
	"context"
	"encoding/hex"
	"fmt"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/audit"
)

// ID names a certificate. It is random, and whoever knows it may read the certificate.
type ID [16]byte

// ParseID reads what ID.String returns. It returns audit.ErrNotFound for other texts: no certificate
// has such an id.
func ParseID(text string) (ID, error) {
	b, err := hex.DecodeString(text)
	if err != nil || len(b) != len(ID{}) || hex.EncodeToString(b) != text {
		return ID{}, fmt.Errorf("id of a certificate: %w", audit.ErrNotFound)
	}
	return ID(b), nil
}

// String returns 32 hexadecimal digits.
func (id ID) String() string { return hex.EncodeToString(id[:]) }

// MarshalText returns what String returns.
func (id ID) MarshalText() ([]byte, error) { return []byte(id.String()), nil }

// UnmarshalText reads what MarshalText returns.
func (id *ID) UnmarshalText(text []byte) (err error) {
	*id, err = ParseID(string(text))
	return err
}

// Kind is what a certificate is about.
type Kind string

const (
	// KindErasure is the kind of certificates about the key of a subject.
	KindErasure Kind = "erasure"
	// KindDeletion is the kind of certificates about a tenant.
	KindDeletion Kind = "deletion"
)

// Statement is what a certificate says. It has no name of a subject.
type Statement struct {
	ID          ID             `json:"id"`
	Kind        Kind           `json:"kind"`
	Tenant      audit.TenantID `json:"tenant_id"`
	RequestedBy string         `json:"requested_by"`
	RequestedAt time.Time      `json:"requested_at"`
	*Erasure                   // of KindErasure; else nil
	*Deletion                  // of KindDeletion; else nil
	// DestroyedAt is when all of Destroyed was gone at the latest. From GoneAt on no process uses the
	// keys any more.
	DestroyedAt time.Time `json:"destroyed_at"`
	GoneAt      time.Time `json:"gone_from_memory_at"`
	// BackupsUntil is until when backups of the keys may hold them.
	BackupsUntil time.Time `json:"backups_until"`
	Destroyed    []string  `json:"destroyed"`
	Remains      []string  `json:"remains"`
}

// Erasure is what is said of an erasure alone.
type Erasure struct {
	Job string `json:"erasure_id"` // its job's id
	// Subject is the HMAC of the subject's name, and Generation the one of its key.
	Subject    string `json:"subject_hmac"`
	Generation uint32 `json:"key_generation"`
	// Exports is how many files of revealed exports were removed.
	Exports int64 `json:"revealed_exports_removed"`
	// Masks are those of the tenant's rules when the certificate was issued.
	Masks []Mask `json:"masks"`
}

// Mask is a path whose values were encrypted, and the mask that stays there.
type Mask struct {
	Path string     `json:"path"`
	Mask audit.Mask `json:"mask"`
}

// Deletion is what is said of the deletion of a tenant alone.
type Deletion struct {
	Job    string  `json:"deletion_id"` // its job's id
	Places []Place `json:"places"`
	// KeptArchive is what stays of the tenant's archive; nil: it was removed.
	KeptArchive *KeptArchive `json:"kept_archive,omitempty"`
	// MessagesUntil is until when queues may hold messages of the tenant.
	MessagesUntil time.Time `json:"messages_until"`
}

// KeptArchive is the size of an archive that outlives its tenant.
type KeptArchive struct {
	Files int64 `json:"files"`
	Bytes int64 `json:"bytes"`
}

// Place is a store that was emptied. Removed is how many records it had, at least.
type Place struct {
	Name    string `json:"place"`
	Removed int64  `json:"removed"`
}

// StoredKey is a signing key as stores have it.
type StoredKey struct {
	Number  int    // from 1; the highest signs
	Public  []byte // of ed25519.PublicKeySize bytes
	Wrapped []byte // by the master key
}

// Store keeps certificates and signing keys for good. Reads see every write that was confirmed, and a
// confirmed write lasts. It is safe for concurrent use.
type Store interface {
	// AddCertificate keeps a certificate unless its id is taken.
	AddCertificate(ctx context.Context, id ID, text string) error
	// Certificate returns what AddCertificate kept first. It returns audit.ErrNotFound if there is none.
	Certificate(ctx context.Context, id ID) (string, error)
	// AddSigningKey keeps a key unless its number is taken: whoever wants to use one reads it back.
	AddSigningKey(ctx context.Context, key StoredKey) error
	// SigningKeys returns every key, by number.
	SigningKeys(ctx context.Context) ([]StoredKey, error)
}
