package fileblob

import (
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
	"regexp"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/export"
)

// An upload is a folder of unfinished, which has its name. The file aboutFile says what it is for,
// and each part is a file. The name of a part has its SHA-256, so that no process replaces the part
// of another.
const aboutFile = "about"

// about is the content of aboutFile.
type about struct {
	Tenant audit.TenantID `json:"tenant"`
	Key    string         `json:"key"`
	Type   string         `json:"type"`
}

// uploadID matches the texts of crypto/rand.
var uploadID = regexp.MustCompile(`^[A-Z2-7]{26}$`)

// BeginUpload implements export.Uploads.
func (b *Blobs) BeginUpload(ctx context.Context, tenant audit.TenantID, key, mediaType string) (export.Upload, error) {
	at, err := b.at(tenant, key)
	if err != nil {
		return export.Upload{}, err
	}
	u := export.Upload{Key: key, ID: rand.Text()}
	if err := b.beginUpload(ctx, u, about{Tenant: tenant, Key: key, Type: mediaType}); err != nil {
		return export.Upload{}, at.failure("begin an upload of", err)
	}
	return u, nil
}

func (b *Blobs) beginUpload(ctx context.Context, u export.Upload, what about) error {
	text, err := json.Marshal(what)
	if err == nil {
		err = ctx.Err()
	}
	if err == nil {
		err = b.makeFolders(path.Join(unfinished, u.ID))
	}
	if err != nil {
		return err
	}
	return b.writePart(u, aboutFile, text)
}

// writePart writes a file of the upload durably and as a whole.
func (b *Blobs) writePart(u export.Upload, name string, content []byte) error {
	folder := path.Join(unfinished, u.ID)
	temporary := path.Join(folder, rand.Text())
	err := b.newFile(temporary, writes(content))
	if err == nil {
		err = b.root.Rename(temporary, path.Join(folder, name))
	}
	if err == nil {
		err = b.sync(folder)
	}
	return lostIfAbsent(err)
}

// lostIfAbsent returns export.ErrUploadLost for a file or a folder that does not exist.
func lostIfAbsent(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return export.ErrUploadLost
	}
	return err
}

// upload returns where the upload leads, and what its content is. It returns export.ErrUploadLost if
// the tenant has no such upload.
func (b *Blobs) upload(ctx context.Context, tenant audit.TenantID, u export.Upload) (blob, about, error) {
	at, err := b.at(tenant, u.Key)
	if err == nil {
		err = ctx.Err()
	}
	if err != nil {
		return blob{}, about{}, err
	}
	if !uploadID.MatchString(u.ID) {
		return at, about{}, export.ErrUploadLost
	}
	text, err := b.root.ReadFile(path.Join(unfinished, u.ID, aboutFile))
	if err != nil {
		return at, about{}, lostIfAbsent(err)
	}
	var what about
	if err := json.Unmarshal(text, &what); err != nil {
		return at, about{}, err
	}
	if what.Tenant != tenant || what.Key != u.Key {
		return at, about{}, export.ErrUploadLost
	}
	return at, what, nil
}

// PutPart implements export.Uploads.
func (b *Blobs) PutPart(ctx context.Context, tenant audit.TenantID, u export.Upload, number int, content []byte) (export.Part, error) {
	at, _, err := b.upload(ctx, tenant, u)
	if err == nil && (number < 1 || number > export.MaxParts) {
		err = export.ErrContent
	}
	sum := sha256.Sum256(content)
	part := export.Part{Number: number, ETag: hex.EncodeToString(sum[:]), SHA256: sum[:]}
	if err == nil {
		err = b.writePart(u, partName(part), content)
	}
	if err != nil {
		return export.Part{}, at.failure(fmt.Sprintf("put part %d of", number), err)
	}
	return part, nil
}

func partName(p export.Part) string { return fmt.Sprintf("%05d-%x", p.Number, p.SHA256) }

// CompleteUpload implements export.Uploads. It copies the parts into one file.
func (b *Blobs) CompleteUpload(ctx context.Context, tenant audit.TenantID, u export.Upload, parts []export.Part, size int64, sum [sha256.Size]byte) error {
	at, what, err := b.upload(ctx, tenant, u)
	if err == nil {
		err = export.CheckParts(parts)
	}
	if err == nil {
		body := &partsReader{blobs: b, upload: u, parts: parts}
		place := func(from, to string) error { // an upload that was aborted meanwhile is not completed
			if _, err := b.root.Stat(path.Join(unfinished, u.ID, aboutFile)); err != nil {
				return lostIfAbsent(err)
			}
			return b.root.Rename(from, to)
		}
		content := export.Content{Body: body, Size: size, SHA256: sum, Type: what.Type}
		// If the process is killed, the copy is removed with the upload.
		err = b.writeFile(path.Join(unfinished, u.ID, rand.Text()), at.path, place, func(file io.Writer) error { return b.fill(ctx, file, content) })
		err = lostIfAbsent(errors.Join(err, body.Close()))
	}
	if errors.Is(err, export.ErrUploadLost) && b.has(ctx, tenant, u.Key, size, sum) { // another call completed it
		return nil
	}
	if err == nil {
		err = b.removeUpload(u)
	}
	if err != nil {
		return at.failure("complete the upload of", err)
	}
	return nil
}

// has reports whether the key has the content.
func (b *Blobs) has(ctx context.Context, tenant audit.TenantID, key string, size int64, sum [sha256.Size]byte) bool {
	found, err := b.Stat(ctx, tenant, key)
	return err == nil && found.Is(export.Content{Size: size, SHA256: sum})
}

// partsReader reads one part after the other.
type partsReader struct {
	blobs  *Blobs
	upload export.Upload
	parts  []export.Part // that are not opened yet
	open   *os.File
}

func (r *partsReader) Read(p []byte) (int, error) {
	for {
		if r.open == nil {
			if len(r.parts) == 0 {
				return 0, io.EOF
			}
			file, err := r.blobs.root.Open(path.Join(unfinished, r.upload.ID, partName(r.parts[0])))
			if err != nil {
				return 0, lostIfAbsent(err)
			}
			r.open, r.parts = file, r.parts[1:]
		}
		n, err := r.open.Read(p)
		if !errors.Is(err, io.EOF) {
			return n, err
		}
		if err := r.Close(); n > 0 || err != nil {
			return n, err
		}
	}
}

// Close closes the part that is being read.
func (r *partsReader) Close() error {
	if r.open == nil {
		return nil
	}
	err := r.open.Close()
	r.open = nil
	return err
}

// AbortUpload implements export.Uploads.
func (b *Blobs) AbortUpload(ctx context.Context, tenant audit.TenantID, u export.Upload) error {
	at, _, err := b.upload(ctx, tenant, u)
	if errors.Is(err, export.ErrUploadLost) {
		return nil
	}
	if err == nil { // a call that completes it meanwhile comes before, or not at all
		err = b.locked(func() error { return b.removeUpload(u) })
	}
	if err != nil {
		return at.failure("abort the upload of", err)
	}
	return nil
}

// maxRemovals bounds the attempts of removeUpload. Completions that began before can add a copy each.
const maxRemovals = 20

// removeUpload removes what says whose upload it is last, so that a call that was killed can be repeated.
func (b *Blobs) removeUpload(u export.Upload) error {
	folder := path.Join(unfinished, u.ID)
	parts, err := fs.ReadDir(b.root.FS(), folder)
	for _, part := range parts {
		if err == nil && part.Name() != aboutFile {
			err = b.root.RemoveAll(path.Join(folder, part.Name()))
		}
	}
	if err == nil || errors.Is(err, fs.ErrNotExist) {
		err = b.root.RemoveAll(folder)
	}
	for n := 1; errors.Is(err, fs.ErrExist) && n < maxRemovals; n++ { // the folder was not empty: it got a copy meanwhile
		err = b.root.RemoveAll(folder)
	}
	if err != nil {
		return err
	}
	return b.sync(unfinished)
}

// Erase implements export.RevealedFiles. A folder keeps no earlier versions.
func (b *Blobs) Erase(ctx context.Context, tenant audit.TenantID, key string) error {
	return b.Delete(ctx, tenant, key)
}
