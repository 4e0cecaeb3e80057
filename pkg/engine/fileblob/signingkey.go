package fileblob

import (
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"path"
)

// signingKeyFile has the key that signs URLs. No tenant id can have this name.
const signingKeyFile = "_signing_key"

// SigningKey returns the key that signs URLs for the blobs. All processes that use the folder have the
// same one. The first call makes it.
func (b *Blobs) SigningKey() ([]byte, error) {
	key, err := b.root.ReadFile(signingKeyFile)
	if errors.Is(err, fs.ErrNotExist) {
		if err = b.makeSigningKey(); err == nil {
			key, err = b.root.ReadFile(signingKeyFile)
		}
	}
	if err == nil && len(key) != sha256.Size {
		err = fmt.Errorf("it has %d bytes, want %d", len(key), sha256.Size)
	}
	if err != nil {
		return nil, fmt.Errorf("the key in the file %s: %w", signingKeyFile, err)
	}
	return key, nil
}

// makeSigningKey makes a key unless another process has made one.
func (b *Blobs) makeSigningKey() error {
	key := make([]byte, sha256.Size)
	_, _ = rand.Read(key) // never fails
	err := b.writeFile(path.Join(unfinished, rand.Text()), signingKeyFile, b.root.Link, writes(key))
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	return err
}
