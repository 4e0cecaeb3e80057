package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"

	"github.com/ocelot-audit/ocelot/pkg/keyfile"
)

// lineKey is the key of the idempotency keys of lines that have none.
type lineKey struct {
	given string // hexadecimal; "": that of the file
	// report tells the user about the file.
	report func(format string, args ...any)
}

// key returns the given key, or that of the file in the user's configuration folder. The first call
// on a machine makes the file.
func (k *lineKey) key() ([]byte, error) {
	if k.given != "" {
		key, err := keyfile.Parse(k.given)
		if err != nil {
			return nil, fmt.Errorf("--line-key or OCELOT_LINE_KEY: %w", err)
		}
		return key, nil
	}
	key, err := k.ofFile()
	if err != nil {
		return nil, fmt.Errorf("a key is needed for lines that have neither id nor idempotency_key: %w. Set OCELOT_LINE_KEY to %d hexadecimal digits, and keep them: openssl rand -hex %d",
			err, 2*keyfile.Size, keyfile.Size)
	}
	return key, nil
}

func (k *lineKey) ofFile() ([]byte, error) {
	path, err := userFile("line.key")
	if err != nil {
		return nil, err
	}
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		made, err := keyfile.Make(path)
		if err != nil {
			return nil, err
		}
		if made {
			k.report("ocelot: made %s. Keep it: with another key, the same lines are stored again.", path)
		}
	case err != nil:
		return nil, err
	case !info.Mode().IsRegular(): // a pipe would wait for who writes to it
		return nil, fmt.Errorf("%s is no file", path)
	case runtime.GOOS != "windows" && info.Mode()&openToOthers != 0:
		k.report("ocelot: other users can read or change %s. Run: chmod 600 %s", path, shellWord(path))
	}
	return keyfile.Read(path)
}

// userFile returns the path of a file in the user's configuration folder.
func userFile(name string) (string, error) {
	folder, err := os.UserConfigDir()
	if err != nil {
		return "", err
	}
	return filepath.Join(folder, "ocelot", name), nil
}
