// Package fileblob keeps blobs as files in one folder, for the embedded engine.
//
// Each blob is one file. The file's path encodes the key, so that no two keys share
// a path on any file system; see layout. The file begins with a line of JSON that
// describes it, or has the content only; see Open and OpenPlain.
package fileblob

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
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
	// lockFile is the file that a process locks while it puts a file in its place. No tenant id can have
	// this name.
	lockFile = "_lock"
	// unfinishedTTL is the age at which Open removes an unfinished file: its process was killed.
	unfinishedTTL = 24 * time.Hour
)

// Blobs is one folder. It implements export.Blobs and export.Uploads. Several processes may use
// the same folder.
type Blobs struct {
	root   *os.Root
	layout layout
	form   form
	mutex  sync.Mutex // before the lock of lock, so that few threads wait for that
	lock   *os.File
	// durable has the folders whose names this process has made durable, up to the root: another process can have been
	// killed before it did so.
	durable sync.Map
	// sync makes the entries of a folder durable.
	sync func(folder string) error
}

// Open returns the blobs of a folder. It creates the folder if it does not exist,
// and removes the unfinished files of killed processes. Only this package can read the files.
func Open(folder string) (*Blobs, error) { return open(folder, encodedLayout, described{}) }

// OpenPlain is Open for files that other programs read. A path is the key that S3 has, such as
// tenant=acme/month=2026-11/part-0.parquet, if the segments have only lower-case letters, digits, and
// the signs - _ = and dot. A file has the content only. So damage goes unnoticed here, and the caller
// compares the SHA-256. Get and Stat read the whole file for it. Every type is
// application/octet-stream. No key can lie below another key.
func OpenPlain(folder string) (*Blobs, error) { return open(folder, plainLayout, contentOnly{}) }

func open(folder string, l layout, f form) (*Blobs, error) {
	if err := os.MkdirAll(folder, folderMode); err != nil {
		return nil, fmt.Errorf("open blobs: %w", err)
	}
	root, err := os.OpenRoot(folder)
	if err != nil {
		return nil, fmt.Errorf("open blobs: %w", err)
	}
	b := &Blobs{root: root, layout: l, form: f}
	b.sync = b.syncFolder
	err = errors.Join(root.MkdirAll(unfinished, folderMode), b.removeUnfinished())
	if err == nil {
		b.lock, err = root.OpenFile(lockFile, os.O_RDWR|os.O_CREATE, fileMode)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open blobs: %w", err), root.Close())
	}
	return b, nil
}

// Close closes the folder. Readers that Get returned stay usable.
func (b *Blobs) Close() error { return errors.Join(b.lock.Close(), b.root.Close()) }

// locked calls do while no other process and no other call places or removes a file. do is short.
func (b *Blobs) locked(do func() error) error {
	b.mutex.Lock()
	defer b.mutex.Unlock()
	if err := lock(b.lock); err != nil {
		return fmt.Errorf("lock the folder: %w", err)
	}
	return errors.Join(do(), unlock(b.lock))
}

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

// blob is a tenant's key and the path of its file.
type blob struct {
	tenant audit.TenantID
	key    string
	path   string
}

func (b *Blobs) at(tenant audit.TenantID, key string) (blob, error) {
	if err := export.CheckKey(tenant, key); err != nil {
		return blob{}, err
	}
	return blob{tenant: tenant, key: key, path: b.layout.pathOf(tenant, key)}, nil
}

// failure returns the error to report for an operation on the blob.
func (b blob) failure(verb string, err error) error {
	return fmt.Errorf("%s blob %s of %s: %w", verb, b.key, b.tenant, err)
}

// Put implements export.Blobs.
func (b *Blobs) Put(ctx context.Context, tenant audit.TenantID, key string, c export.Content) error {
	at, err := b.at(tenant, key)
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
	at, err := b.at(tenant, key)
	if err != nil {
		return err
	}
	err = b.write(ctx, at, c, b.root.Link)
	if errors.Is(err, fs.ErrExist) {
		err = b.conflict(ctx, at, c)
	}
	if err != nil {
		return at.failure("create", err)
	}
	return nil
}

// Replace implements export.Blobs. An ETag is the SHA-256 of the content.
func (b *Blobs) Replace(ctx context.Context, tenant audit.TenantID, key, etag string, c export.Content) error {
	at, err := b.at(tenant, key)
	if err != nil {
		return err
	}
	err = b.write(ctx, at, c, func(from, to string) error {
		found, err := b.stat(ctx, at)
		if err == nil && found.ETag != etag || errors.Is(err, audit.ErrNotFound) {
			err = audit.ErrConflict
		}
		if err != nil {
			return err
		}
		return b.root.Rename(from, to)
	})
	if errors.Is(err, audit.ErrConflict) {
		err = b.conflict(ctx, at, c)
	}
	if err != nil {
		return at.failure("replace", err)
	}
	return nil
}

// conflict returns audit.ErrConflict unless the blob has the content: the answer to an earlier call
// was lost, or its process was killed before the name was durable.
func (b *Blobs) conflict(ctx context.Context, at blob, c export.Content) error {
	if existing, err := b.stat(ctx, at); err != nil || !existing.Is(c) {
		return audit.ErrConflict
	}
	return b.sync(path.Dir(at.path))
}

// write writes a blob. place moves or links its file.
func (b *Blobs) write(ctx context.Context, at blob, c export.Content, place func(from, to string) error) error {
	return b.writeFile(path.Join(unfinished, rand.Text()), at.path, place, func(file io.Writer) error { return b.fill(ctx, file, c) })
}

// writeFile writes a temporary file. If its content is complete, place moves or links the file to the
// path.
func (b *Blobs) writeFile(temporary, at string, place func(from, to string) error, fill func(io.Writer) error) error {
	err := b.newFile(temporary, fill)
	if err == nil {
		err = b.makeFolders(path.Dir(at))
	}
	if err == nil {
		err = b.locked(func() error { return place(temporary, at) })
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

// fill writes the content as a file has it. It verifies the content's size and SHA-256.
func (b *Blobs) fill(ctx context.Context, file io.Writer, c export.Content) error {
	if c.Size < 0 {
		return fmt.Errorf("%d bytes: %w", c.Size, export.ErrContent)
	}
	if err := b.form.begin(file, c); err != nil {
		return err
	}
	_, err := io.Copy(file, contextReader{ctx, export.Verify(c.Body, c.Size, c.SHA256)})
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
		if _, is := b.durable.Load(folder); is {
			return nil
		}
	}
	if err := b.makeFolders(path.Dir(folder)); err != nil {
		return err
	}
	if err := b.root.Mkdir(folder, folderMode); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	if err := b.sync(path.Dir(folder)); err != nil {
		return err
	}
	if path.Dir(folder) != unfinished { // those are made once
		b.durable.Store(folder, true)
	}
	return nil
}

// syncFolder makes the entries of a folder durable. Windows has no such call.
func (b *Blobs) syncFolder(folder string) error {
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
	at, err := b.at(tenant, key)
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
	at, err := b.at(tenant, key)
	if err != nil {
		return export.Blob{}, err
	}
	found, err := b.stat(ctx, at)
	if err != nil {
		return export.Blob{}, at.failure("stat", err)
	}
	return found, nil
}

func (b *Blobs) stat(ctx context.Context, at blob) (export.Blob, error) {
	file, _, found, err := b.open(ctx, at)
	if err != nil {
		return export.Blob{}, err
	}
	return found, file.Close()
}

// open returns the blob's file, a reader of its content, and the blob that the file describes.
func (b *Blobs) open(ctx context.Context, at blob) (file *os.File, text io.Reader, found export.Blob, err error) {
	file, info, err := b.openFile(ctx, at)
	if err != nil {
		return nil, nil, export.Blob{}, err
	}
	text, found, err = b.form.read(ctx, file)
	if err != nil {
		return nil, nil, export.Blob{}, errors.Join(err, file.Close())
	}
	found.Key, found.ModifiedAt = at.key, info.ModTime().UTC()
	found.ETag = hex.EncodeToString(found.SHA256[:])
	return file, text, found, nil
}

// openFile opens the blob's file. It returns audit.ErrNotFound if there is none.
func (b *Blobs) openFile(ctx context.Context, at blob) (*os.File, fs.FileInfo, error) {
	if err := ctx.Err(); err != nil {
		return nil, nil, err
	}
	file, err := b.root.Open(at.path)
	if isAbsent(err) {
		err = audit.ErrNotFound
	}
	if err != nil {
		return nil, nil, err
	}
	info, err := file.Stat()
	if err == nil && info.IsDir() {
		err = audit.ErrNotFound
	}
	if err != nil {
		return nil, nil, errors.Join(err, file.Close())
	}
	return file, info, nil
}

// isAbsent reports whether an error says that there is no such file. A key below another key has a
// file as its folder.
func isAbsent(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR)
}

// List implements export.Blobs. Every call walks all folders of the tenant, which
// is fast enough for development. It passes over files that are not the file of a blob.
func (b *Blobs) List(ctx context.Context, tenant audit.TenantID, prefix, after string, limit int) ([]export.Listed, error) {
	if err := errors.Join(export.CheckPrefix(tenant, prefix), export.CheckPrefix(tenant, after)); err != nil {
		return nil, err
	}
	var keys []string
	err := fs.WalkDir(b.root.FS(), b.layout.folderOf(tenant), func(path string, entry fs.DirEntry, err error) error {
		if err := errors.Join(err, ctx.Err()); err != nil || entry.IsDir() {
			return err
		}
		key, is := b.layout.keyOf(path)
		if is && strings.HasPrefix(key, prefix) && key > after && export.CheckKey(tenant, key) == nil {
			keys = append(keys, key)
		}
		return nil
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
		item, err := b.listed(ctx, tenant, key)
		switch {
		case errors.Is(err, audit.ErrNotFound):
		case err != nil:
			return nil, err
		default:
			listed = append(listed, item)
		}
	}
	return listed, nil
}

func (b *Blobs) listed(ctx context.Context, tenant audit.TenantID, key string) (export.Listed, error) {
	at, err := b.at(tenant, key)
	if err != nil {
		return export.Listed{}, err
	}
	file, info, err := b.openFile(ctx, at)
	if err != nil {
		return export.Listed{}, at.failure("list", err)
	}
	size, err := b.form.size(file, info)
	if err := errors.Join(err, file.Close()); err != nil {
		return export.Listed{}, at.failure("list", err)
	}
	return export.Listed{Key: key, Size: size, ModifiedAt: info.ModTime().UTC()}, nil
}

// Delete implements export.Blobs.
func (b *Blobs) Delete(ctx context.Context, tenant audit.TenantID, key string) error {
	at, err := b.at(tenant, key)
	if err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return at.failure("delete", err)
	}
	err = b.locked(func() error { return b.remove(at.path) })
	if err == nil || isAbsent(err) { // a call that removed it can have been killed before that was durable
		err = b.sync(path.Dir(at.path))
	}
	if err != nil && !isAbsent(err) { // there is no such folder
		return at.failure("delete", err)
	}
	return nil
}

// remove removes a file. A folder is not a blob.
func (b *Blobs) remove(file string) error {
	info, err := b.root.Lstat(file)
	if err == nil && info.IsDir() {
		err = fs.ErrNotExist
	}
	if err != nil {
		return err
	}
	return b.root.Remove(file)
}
