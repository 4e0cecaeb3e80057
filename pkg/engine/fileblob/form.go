package fileblob

import (
	"bufio"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/ocelot-audit/ocelot/pkg/export"
)

const (
	maxHeaderBytes = 4096
	defaultType    = "application/octet-stream"
)

// form is what the file of a blob has besides the content.
type form interface {
	// begin writes what comes before the content.
	begin(file io.Writer, c export.Content) error
	// read returns a reader of the content, and what the file says of it: its size, its SHA-256 and its
	// type.
	read(ctx context.Context, file *os.File) (io.Reader, export.Blob, error)
	// size returns the size of the content, in bytes.
	size(file *os.File, info fs.FileInfo) (int64, error)
}

// described is the form of files that begin with a header.
type described struct{}

// header is the first line of a file.
type header struct {
	Size   int64  `json:"size"`
	SHA256 string `json:"sha256"` // in hexadecimal digits
	Type   string `json:"type"`
}

func (described) begin(file io.Writer, c export.Content) error {
	line, err := json.Marshal(header{Size: c.Size, SHA256: hex.EncodeToString(c.SHA256[:]), Type: cmp.Or(c.Type, defaultType)})
	if err != nil {
		return err
	}
	_, err = file.Write(append(line, '\n'))
	return err
}

func (described) read(_ context.Context, file *os.File) (io.Reader, export.Blob, error) {
	buffered := bufio.NewReaderSize(file, maxHeaderBytes)
	found, err := readHeader(buffered)
	return buffered, found, err
}

func (described) size(file *os.File, _ fs.FileInfo) (int64, error) {
	found, err := readHeader(bufio.NewReaderSize(file, maxHeaderBytes))
	return found.Size, err
}

func readHeader(r *bufio.Reader) (export.Blob, error) {
	line, err := r.ReadSlice('\n')
	if err != nil {
		return export.Blob{}, fmt.Errorf("read the header: %w", errors.Join(err, export.ErrContent))
	}
	var h header
	if err := json.Unmarshal(line, &h); err != nil {
		return export.Blob{}, fmt.Errorf("read the header: %w", errors.Join(err, export.ErrContent))
	}
	sum, err := hex.DecodeString(h.SHA256)
	if err != nil || len(sum) != sha256.Size {
		return export.Blob{}, fmt.Errorf("read the header: no SHA-256: %w", export.ErrContent)
	}
	return export.Blob{Size: h.Size, SHA256: [sha256.Size]byte(sum), Type: h.Type}, nil
}

// contentOnly is the form of files that have the content only.
type contentOnly struct{}

func (contentOnly) begin(io.Writer, export.Content) error { return nil }

// read reads the file twice: the first time for its SHA-256.
func (contentOnly) read(ctx context.Context, file *os.File) (io.Reader, export.Blob, error) {
	hash := sha256.New()
	size, err := io.Copy(hash, contextReader{ctx, file})
	if err == nil {
		_, err = file.Seek(0, io.SeekStart)
	}
	return file, export.Blob{Size: size, SHA256: [sha256.Size]byte(hash.Sum(nil)), Type: defaultType}, err
}

func (contentOnly) size(_ *os.File, info fs.FileInfo) (int64, error) { return info.Size(), nil }
