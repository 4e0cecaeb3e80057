// Package keyfile keeps random keys in files that only their owner may read.
package keyfile

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
)

// Size is the size of a key in bytes.
const Size = 32

// Parse returns the key of a hexadecimal text. White space around it does not count.
func Parse(text string) ([]byte, error) {
	key, err := hex.DecodeString(strings.TrimSpace(text))
	if err != nil || len(key) != Size {
		return nil, fmt.Errorf("want %d bytes as hexadecimal text", Size)
	}
	return key, nil
}

// Read returns the key of a file. It returns fs.ErrNotExist if there is no file.
func Read(path string) ([]byte, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	key, err := Parse(string(text))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return key, nil
}

// Make makes a key and its file, unless there is a file. It reports whether it made one. It writes a
// temporary file and links it to the path. So no process reads a partial key, and the first of two
// processes wins.
func Make(path string) (made bool, err error) {
	folder, name := filepath.Split(path)
	folder = filepath.Clean(folder)
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return false, err
	}
	file, err := os.CreateTemp(folder, name+".*") // mode 0600
	if err != nil {
		return false, err
	}
	defer os.Remove(file.Name())
	key := make([]byte, Size)
	_, _ = rand.Read(key) // never fails
	_, err = file.WriteString(hex.EncodeToString(key) + "\n")
	if err = errors.Join(err, file.Sync(), file.Close()); err != nil {
		return false, err
	}
	err = os.Link(file.Name(), path)
	made = err == nil
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return false, err
	}
	return made, syncFolder(folder)
}

// syncFolder makes the entries of a folder durable. Windows has no such call.
func syncFolder(path string) error {
	if runtime.GOOS == "windows" {
		return nil
	}
	folder, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(folder.Sync(), folder.Close())
}
