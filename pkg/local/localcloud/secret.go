package localcloud

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/ocelot-audit/ocelot/pkg/keyfile"
)

const secretFile = "jwt.key"

// DevSecret returns the key that signs development tokens of a data folder. The key is the
// text of the file jwt.key without the line end, so that an environment variable can hold the
// same bytes. The first call creates it: 32 random bytes in hexadecimal, readable by the owner
// only. Concurrent processes get the same key.
func DevSecret(dataDir string) ([]byte, error) {
	path := filepath.Join(dataDir, secretFile)
	secret, err := readSecret(path)
	if !errors.Is(err, fs.ErrNotExist) {
		return secret, err
	}
	if _, err := keyfile.Make(path); err != nil {
		return nil, fmt.Errorf("make the development key: %w", err)
	}
	return readSecret(path)
}

// ExistingDevSecret returns the key of a data folder that has one. It returns fs.ErrNotExist for
// any other folder, and creates nothing.
func ExistingDevSecret(dataDir string) ([]byte, error) {
	return readSecret(filepath.Join(dataDir, secretFile))
}

func readSecret(path string) ([]byte, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read the development key: %w", err)
	}
	secret := strings.TrimSpace(string(text))
	if random, err := hex.DecodeString(secret); err != nil || len(random) < keyfile.Size {
		return nil, fmt.Errorf("read the development key: %s does not hold %d bytes as hexadecimal text; remove it to have a new one made", path, keyfile.Size)
	}
	return []byte(secret), nil
}

// cursorKey returns the key that signs the cursors of a data folder. It is a text too.
func cursorKey(secret []byte) []byte {
	sum := sha256.Sum256(append([]byte("ocelot cursor key\x00"), secret...))
	return hex.AppendEncode(nil, sum[:])
}
