package main

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// file is a file of an archive.
type file struct {
	name string // in the archive
	mode int64
	text []byte
}

// documents go into every archive.
var documents = []string{"CHANGELOG.md", "LICENSE", "README.md"}

// pack writes the archive of a platform and returns its name.
func (s *settings) pack(base string, t target, binary string) (name string, err error) {
	files := make([]file, 0, len(documents)+1)
	for _, d := range documents {
		text, err := os.ReadFile(filepath.Join(s.root, d))
		if err != nil {
			return "", err
		}
		files = append(files, file{base + "/" + d, 0o644, text})
	}
	program, err := os.ReadFile(binary)
	if err != nil {
		return "", err
	}
	files = append(files, file{base + "/" + t.program(), 0o755, program})
	var out bytes.Buffer
	if t.os == "windows" {
		name, err = base+".zip", writeZip(&out, files, s.time)
	} else {
		name, err = base+".tar.gz", writeTar(&out, files, s.time)
	}
	return name, errors.Join(err, os.WriteFile(filepath.Join(s.out, name), out.Bytes(), 0o644))
}

// writeTar writes a compressed tar without users, groups and names of the machine.
func writeTar(out io.Writer, files []file, at time.Time) error {
	packed, err := gzip.NewWriterLevel(out, gzip.BestCompression)
	if err != nil {
		return err
	}
	w := tar.NewWriter(packed)
	for _, f := range files {
		err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: f.name, Mode: f.mode, Size: int64(len(f.text)), ModTime: at, Format: tar.FormatUSTAR})
		if err != nil {
			return err
		}
		if _, err := w.Write(f.text); err != nil {
			return err
		}
	}
	return errors.Join(w.Close(), packed.Close())
}

func writeZip(out io.Writer, files []file, at time.Time) error {
	w := zip.NewWriter(out)
	for _, f := range files {
		header := &zip.FileHeader{Name: f.name, Method: zip.Deflate, Modified: at}
		header.SetMode(os.FileMode(f.mode))
		entry, err := w.CreateHeader(header)
		if err != nil {
			return err
		}
		if _, err := entry.Write(f.text); err != nil {
			return err
		}
	}
	return w.Close()
}

// checksumsFile has a line for each file, as sha256sum --check reads it.
const checksumsFile = "SHA256SUMS"

func writeChecksums(folder string, names []string) error {
	var lines strings.Builder
	for _, name := range names {
		text, err := os.ReadFile(filepath.Join(folder, name))
		if err != nil {
			return err
		}
		fmt.Fprintf(&lines, "%x  %s\n", sha256.Sum256(text), name)
	}
	return os.WriteFile(filepath.Join(folder, checksumsFile), []byte(lines.String()), 0o644)
}
