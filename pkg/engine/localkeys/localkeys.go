// Package localkeys wraps keys with a master key in a file. It is for development
// only: anyone who can read the file can unwrap every tenant's key. A service such
// as AWS KMS prevents that.
package localkeys

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/keyfile"
	"github.com/ocelot-audit/ocelot/pkg/protect"
)

const (
	keyFile = "master.key"
	version = 1 // the first byte of a wrapped key; the nonce and the sealed key follow
)

// Wrapper is the master key of one data folder. It implements protect.KeyWrapper.
type Wrapper struct{ path string }

// Open returns the wrapper of a data folder. The first call creates the master
// key: 32 random bytes as hexadecimal text in the file master.key, which only its
// owner may read. Without the file, no wrapped key can be unwrapped. Two processes
// that open the same new folder get the same key.
func Open(folder string) (*Wrapper, error) {
	w := &Wrapper{path: filepath.Join(folder, keyFile)}
	_, err := w.cipher()
	if errors.Is(err, fs.ErrNotExist) {
		if _, err := keyfile.Make(w.path); err != nil {
			return nil, fmt.Errorf("create the master key: %w", err)
		}
		_, err = w.cipher()
	}
	if err != nil {
		return nil, err
	}
	return w, nil
}

// cipher reads the master key. It does not cache the key, so that removing the
// file destroys the key at once.
func (w *Wrapper) cipher() (cipher.AEAD, error) {
	key, err := keyfile.Read(w.path)
	if err != nil {
		return nil, fmt.Errorf("read the master key: %w", err)
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, fmt.Errorf("read the master key: %w", err)
	}
	return cipher.NewGCMWithRandomNonce(block)
}

// masterKey returns the master key's cipher. It returns protect.ErrMasterKey if the file is missing or invalid.
func (w *Wrapper) masterKey(ctx context.Context) (cipher.AEAD, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	aead, err := w.cipher()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", protect.ErrMasterKey, err)
	}
	return aead, nil
}

// binding is the associated data that binds a wrapped key to its use and to the tenant.
func binding(tenant audit.TenantID) []byte { return []byte("ocelot wrapped key\x00" + string(tenant)) }

// Wrap implements protect.KeyWrapper.
func (w *Wrapper) Wrap(ctx context.Context, tenant audit.TenantID, key []byte) ([]byte, error) {
	if err := protect.CheckKey(tenant, key); err != nil {
		return nil, fmt.Errorf("wrap a key: %w", err)
	}
	aead, err := w.masterKey(ctx)
	if err != nil {
		return nil, fmt.Errorf("wrap a key for %s: %w", tenant, err)
	}
	return aead.Seal([]byte{version}, nil, key, binding(tenant)), nil
}

// Unwrap implements protect.KeyWrapper.
func (w *Wrapper) Unwrap(ctx context.Context, tenant audit.TenantID, wrapped []byte) ([]byte, error) {
	aead, err := w.masterKey(ctx)
	if err != nil {
		return nil, fmt.Errorf("unwrap a key for %s: %w", tenant, err)
	}
	if len(wrapped) == 0 || wrapped[0] != version {
		return nil, fmt.Errorf("unwrap a key for %s: %w", tenant, protect.ErrWrapped)
	}
	key, err := aead.Open(nil, nil, wrapped[1:], binding(tenant))
	if err != nil {
		return nil, fmt.Errorf("unwrap a key for %s: %w", tenant, protect.ErrWrapped)
	}
	return key, nil
}
