// Package fileblob keeps blobs as files in one folder, for the embedded engine.
//
// Each blob is one file: a line of JSON that describes it, then the content. The
// file's path encodes the key, so that no two keys share a path on any file
// system; see pathOf.
package fileblob

import (
	"bufio"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/export"
)

const (
	folderMode = 0o700
	fileMode   = 0o600
	// unfinished is the folder of files and uploads that are being written. No tenant id can have
	// this name.
	unfinished = "_unfinished"
	// unfinishedTTL is the age at which Open removes an unfinished file: its process was killed.
	unfinishedTTL = 24 * time.Hour

	maxHeaderBytes = 4096
	defaultType    = "application/octet-stream"
)

// Blobs is one folder. It implements export.Blobs and export.Uploads. Several processes may use
// the same folder.
type Blobs struct{ root *os.Root }

// Open returns the blobs of a folder. It creates the folder if it does not exist,
// and removes the unfinished files of killed processes.
func Open(folder string) (*Blobs, error) {
	if err := os.MkdirAll(folder, folderMode); err != nil {
		return nil, fmt.Errorf("open blobs: %w", err)
	}
	root, err := os.OpenRoot(folder)
	if err != nil {
		return nil, fmt.Errorf("open blobs: %w", err)
	}
	b := &Blobs{root: root}
	if err := errors.Join(root.MkdirAll(unfinished, folderMode), b.removeUnfinished()); err != nil {
		return nil, errors.Join(fmt.Errorf("open blobs: %w", err), root.Close())
	}
	return b, nil
}

// Close closes the folder. Readers that Get returned stay usable.
func (b *Blobs) Close() error { return b.root.Close() }

func (b *Blobs) removeUnfinished() error {
	files, err := fs.ReadDir(b.root.FS(), unfinished)
	if err != nil {
		return err
	}
	for _, file := range files {
		info, err := file.Info()
		if err == nil && time.Since(info.ModTime()) > unfinishedTTL {
			err = b.root.RemoveAll(path.Join(unfinished, file.Name()))
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) { // another process removed it first
			return err
		}
	}
	return nil
}

// header is the first line of a file.
type header struct {
	Size   int64  `json:"size"`
	SHA256 string `json:"sha256"` // in hexadecimal digits
	Type   string `json:"type"`
}

// blob is a tenant's key and the path of its file.
type blob struct {
	tenant audit.TenantID
	key    string
	path   string
}

func blobAt(tenant audit.TenantID, key string) (blob, error) {
	if err := export.CheckKey(tenant, key); err != nil {
		return blob{}, err
	}
	return blob{tenant: tenant, key: key, path: pathOf(tenant, key)}, nil
}

// failure returns the error to report for an operation on the blob.
func (b blob) failure(verb string, err error) error {
	return fmt.Errorf("%s blob %s of %s: %w", verb, b.key, b.tenant, err)
}

// Put implements export.Blobs.
func (b *Blobs) Put(ctx context.Context, tenant audit.TenantID, key string, c export.Content) error {
	at, err := blobAt(tenant, key)
	if err != nil {
		return err
	}
	if err := b.write(ctx, at, c, b.root.Rename); err != nil {
		return at.failure("put", err)
	}
	return nil
}

// Create implements export.Blobs.
func (b *Blobs) Create(ctx context.Context, tenant audit.TenantID, key string, c export.Content) error {
	at, err := blobAt(tenant, key)
	if err != nil {
		return err
	}
	err = b.write(ctx, at, c, b.root.Link)
	if errors.Is(err, fs.ErrExist) {
		err = audit.ErrConflict
		if existing, statErr := b.Stat(ctx, tenant, key); statErr == nil && existing.Is(c) {
			return nil
		}
	}
	if err != nil {
		return at.failure("create", err)
	}
	return nil
}

// write writes a blob. place moves or links its file.
func (b *Blobs) write(ctx context.Context, at blob, c export.Content, place func(from, to string) error) error {
	return b.writeFile(at.path, place, func(file io.Writer) error { return fill(ctx, file, c) })
}

// writeFile writes a temporary file. If its content is complete, place moves or links the file to the
// path.
func (b *Blobs) writeFile(at string, place func(from, to string) error, fill func(io.Writer) error) error {
	temporary := path.Join(unfinished, rand.Text())
	err := b.newFile(temporary, fill)
	if err == nil {
		err = b.makeFolders(path.Dir(at))
	}
	if err == nil {
		err = place(temporary, at)
	}
	if removeErr := b.root.Remove(temporary); !errors.Is(removeErr, fs.ErrNotExist) { // place may have renamed it
		err = errors.Join(err, removeErr)
	}
	if err != nil {
		return err
	}
	return b.sync(path.Dir(at))
}

// newFile creates a file and makes its content durable.
func (b *Blobs) newFile(name string, fill func(io.Writer) error) error {
	file, err := b.root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, fileMode)
	if err != nil {
		return err
	}
	return errors.Join(fill(file), file.Sync(), file.Close())
}

// writes returns what fills a file with the content.
func writes(content []byte) func(io.Writer) error {
	return func(file io.Writer) error {
		_, err := file.Write(content)
		return err
	}
}

// fill writes the header and the content. It verifies the content's size and SHA-256.
func fill(ctx context.Context, file io.Writer, c export.Content) error {
	if c.Size < 0 {
		return fmt.Errorf("%d bytes: %w", c.Size, export.ErrContent)
	}
	mediaType := c.Type
	if mediaType == "" {
		mediaType = defaultType
	}
	line, err := json.Marshal(header{Size: c.Size, SHA256: hex.EncodeToString(c.SHA256[:]), Type: mediaType})
	if err != nil {
		return err
	}
	if _, err := file.Write(append(line, '\n')); err != nil {
		return err
	}
	_, err = io.Copy(file, contextReader{ctx, export.Verify(c.Body, c.Size, c.SHA256)})
	return err
}

// contextReader is a reader whose reads fail once its context ends.
type contextReader struct {
	ctx  context.Context
	from io.Reader
}

func (c contextReader) Read(p []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	return c.from.Read(p)
}

// makeFolders creates a folder and its parents durably.
func (b *Blobs) makeFolders(folder string) error {
	if folder == "." {
		return nil
	}
	if info, err := b.root.Stat(folder); err == nil && info.IsDir() {
		return nil
	}
	if err := b.makeFolders(path.Dir(folder)); err != nil {
		return err
	}
	if err := b.root.Mkdir(folder, folderMode); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return b.sync(path.Dir(folder))
}

// sync makes the entries of a folder durable. Windows has no such call.
func (b *Blobs) sync(folder string) error {
	if runtime.GOOS == "windows" {
		return nil
	}
	opened, err := b.root.Open(folder)
	if err != nil {
		return err
	}
	return errors.Join(opened.Sync(), opened.Close())
}

// Get implements export.Blobs.
func (b *Blobs) Get(ctx context.Context, tenant audit.TenantID, key string) (io.ReadCloser, export.Blob, error) {
	at, err := blobAt(tenant, key)
	if err != nil {
		return nil, export.Blob{}, err
	}
	file, text, found, err := b.open(ctx, at)
	if err != nil {
		return nil, export.Blob{}, at.failure("get", err)
	}
	reader := struct {
		io.Reader
		io.Closer
	}{contextReader{ctx, export.Verify(text, found.Size, found.SHA256)}, file}
	return reader, found, nil
}

// Stat implements export.Blobs.
func (b *Blobs) Stat(ctx context.Context, tenant audit.TenantID, key string) (export.Blob, error) {
	at, err := blobAt(tenant, key)
	if err != nil {
		return export.Blob{}, err
	}
	file, _, found, err := b.open(ctx, at)
	if err != nil {
		return export.Blob{}, at.failure("stat", err)
	}
	if err := file.Close(); err != nil {
		return export.Blob{}, at.failure("stat", err)
	}
	return found, nil
}

// open returns the blob's file, a reader of its content, and the blob that its header describes.
func (b *Blobs) open(ctx context.Context, at blob) (file *os.File, text io.Reader, found export.Blob, err error) {
	if err := ctx.Err(); err != nil {
		return nil, nil, export.Blob{}, err
	}
	file, err = b.root.Open(at.path)
	if errors.Is(err, fs.ErrNotExist) {
		err = audit.ErrNotFound
	}
	if err != nil {
		return nil, nil, export.Blob{}, err
	}
	info, err := file.Stat()
	if err == nil {
		buffered := bufio.NewReaderSize(file, maxHeaderBytes)
		text = buffered
		found, err = readHeader(buffered)
	}
	if err != nil {
		return nil, nil, export.Blob{}, errors.Join(err, file.Close())
	}
	found.Key, found.ModifiedAt = at.key, info.ModTime().UTC()
	return file, text, found, nil
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

// List implements export.Blobs. Every call walks all folders of the tenant, which
// is fast enough for development.
func (b *Blobs) List(ctx context.Context, tenant audit.TenantID, prefix, after string, limit int) ([]export.Listed, error) {
	if err := errors.Join(export.CheckPrefix(tenant, prefix), export.CheckPrefix(tenant, after)); err != nil {
		return nil, err
	}
	var keys []string
	err := fs.WalkDir(b.root.FS(), folderOf(tenant), func(path string, entry fs.DirEntry, err error) error {
		if err := errors.Join(err, ctx.Err()); err != nil || entry.IsDir() {
			return err
		}
		key, err := keyOf(path)
		if err == nil && strings.HasPrefix(key, prefix) && key > after {
			keys = append(keys, key)
		}
		return err
	})
	if err != nil && !errors.Is(err, fs.ErrNotExist) { // the tenant has no folder before its first blob
		return nil, fmt.Errorf("list blobs of %s: %w", tenant, err)
	}
	slices.Sort(keys)
	return b.describe(ctx, tenant, keys, min(limit, export.MaxList))
}

// describe describes the blobs of the first keys, up to limit. It skips blobs that were deleted since.
func (b *Blobs) describe(ctx context.Context, tenant audit.TenantID, keys []string, limit int) ([]export.Listed, error) {
	var listed []export.Listed
	for _, key := range keys {
		if len(listed) >= limit {
			break
		}
		found, err := b.Stat(ctx, tenant, key)
		switch {
		case errors.Is(err, audit.ErrNotFound):
		case err != nil:
			return nil, err
		default:
			listed = append(listed, export.Listed{Key: key, Size: found.Size, ModifiedAt: found.ModifiedAt})
		}
	}
	return listed, nil
}

// Delete implements export.Blobs.
func (b *Blobs) Delete(ctx context.Context, tenant audit.TenantID, key string) error {
	at, err := blobAt(tenant, key)
	if err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return at.failure("delete", err)
	}
	err = b.root.Remove(at.path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil {
		err = b.sync(path.Dir(at.path))
	}
	if err != nil {
		return at.failure("delete", err)
	}
	return nil
}
