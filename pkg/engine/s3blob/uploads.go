package s3blob

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/xml"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/awsconfig"
	"github.com/ocelot-audit/ocelot/pkg/export"
)

// BeginUpload implements export.Uploads. S3 takes an object's metadata only here, when its SHA-256 is
// not known yet. So Get and Stat return export.ErrContent for the object.
func (b *Blobs) BeginUpload(ctx context.Context, tenant audit.TenantID, key, mediaType string) (export.Upload, error) {
	o, err := b.object(tenant, key)
	if err != nil {
		return export.Upload{}, err
	}
	of := o.call(http.MethodPost)
	of.header = http.Header{headerType: {cmp.Or(mediaType, defaultType)}}
	id, err := b.begin(ctx, of)
	if err != nil {
		return export.Upload{}, o.failure(ctx, "begin an upload of", err)
	}
	return export.Upload{Key: key, ID: id}, nil
}

// uploadOf returns the object of an upload. Without an id, a call would be about the object itself.
func (b *Blobs) uploadOf(tenant audit.TenantID, u export.Upload) (object, error) {
	o, err := b.object(tenant, u.Key)
	if err == nil && u.ID == "" {
		err = fmt.Errorf("an upload of s3://%s/%s without an id: %w", o.bucket, o.key, export.ErrUploadLost)
	}
	return o, err
}

// PutPart implements export.Uploads.
func (b *Blobs) PutPart(ctx context.Context, tenant audit.TenantID, u export.Upload, number int, content []byte) (export.Part, error) {
	o, err := b.uploadOf(tenant, u)
	if err != nil {
		return export.Part{}, err
	}
	if number < 1 || number > export.MaxParts {
		return export.Part{}, o.failure(ctx, "put a part of", fmt.Errorf("part %d: %w", number, export.ErrContent))
	}
	sent, err := b.sendPart(ctx, upload{object: o, id: u.ID}, number, content)
	if err != nil {
		return export.Part{}, o.failure(ctx, fmt.Sprintf("put part %d of", number), lostUpload(err))
	}
	sum := sha256.Sum256(content)
	return export.Part{Number: number, ETag: sent.ETag, SHA256: sum[:]}, nil
}

// CompleteUpload implements export.Uploads. S3 verifies each part, and the size of the whole.
func (b *Blobs) CompleteUpload(ctx context.Context, tenant audit.TenantID, u export.Upload, parts []export.Part, size int64, _ [sha256.Size]byte) error {
	o, err := b.uploadOf(tenant, u)
	if err != nil {
		return err
	}
	if err := b.completeUpload(ctx, o, u, parts, size); err != nil {
		return o.failure(ctx, "complete the upload of", err)
	}
	return nil
}

func (b *Blobs) completeUpload(ctx context.Context, o object, u export.Upload, parts []export.Part, size int64) error {
	if err := export.CheckParts(parts); err != nil {
		return err
	}
	joined := make([]part, len(parts))
	for i, p := range parts {
		joined[i] = part{Number: p.Number, ETag: p.ETag, Checksum: base64.StdEncoding.EncodeToString(p.SHA256)}
	}
	err := b.join(ctx, o, u.ID, joined, http.Header{headerSize: {strconv.FormatInt(size, 10)}})
	err = lostUpload(err)
	if err != nil && !errors.Is(err, export.ErrUploadLost) {
		return err
	}
	// The size is checked here too, because not every service that speaks S3 knows the header.
	found, headErr := b.head(ctx, o)
	switch {
	case headErr == nil && found.size == size: // of this call or of an earlier one
		return nil
	case headErr != nil && status(headErr) != http.StatusNotFound:
		return headErr
	case err != nil:
		return err
	case headErr != nil:
		return fmt.Errorf("%w: the file was removed at once", export.ErrUploadLost)
	}
	return fmt.Errorf("%d bytes, want %d: %w", found.size, size, export.ErrContent)
}

// lostUpload returns export.ErrUploadLost for an answer of S3 that it has no such upload, or not
// these parts.
func lostUpload(err error) error {
	var answer *answerError
	if !errors.As(err, &answer) {
		return err
	}
	switch answer.code {
	case "NoSuchUpload", "InvalidPart", "InvalidPartOrder":
		return fmt.Errorf("%w: %s", export.ErrUploadLost, answer.code)
	}
	return err
}

// AbortUpload implements export.Uploads.
func (b *Blobs) AbortUpload(ctx context.Context, tenant audit.TenantID, u export.Upload) error {
	o, err := b.uploadOf(tenant, u)
	if errors.Is(err, export.ErrUploadLost) {
		return nil
	}
	if err != nil {
		return err
	}
	if err = lostUpload(b.abort(ctx, o, u.ID)); err != nil && !errors.Is(err, export.ErrUploadLost) {
		return o.failure(ctx, "abort the upload of", err)
	}
	return nil
}

// Purge removes up to limit blobs and uploads of the tenant, and returns how many it removed. It
// returns 0 if the tenant has none left. A versioned bucket keeps what was removed as its lifecycle
// says.
func (b *Blobs) Purge(ctx context.Context, tenant audit.TenantID, limit int) (int, error) {
	removed, err := b.abortAll(ctx, tenant, min(limit, export.MaxList))
	if err != nil {
		return removed, fmt.Errorf("abort the uploads below s3://%s/%s: %w", b.bucket, folder(tenant), awsconfig.Failure(ctx, err))
	}
	listed, err := b.List(ctx, tenant, "", "", limit)
	if err != nil || len(listed) == 0 {
		return removed, err
	}
	keys := make([]string, len(listed))
	for i, blob := range listed {
		keys[i] = folder(tenant) + blob.Key
	}
	if err := b.deleteAll(ctx, keys); err != nil {
		return removed, fmt.Errorf("delete below s3://%s/%s: %w", b.bucket, folder(tenant), awsconfig.Failure(ctx, err))
	}
	return removed + len(listed), nil
}

// deleteAll removes up to 1,000 objects.
func (b *Blobs) deleteAll(ctx context.Context, keys []string) error {
	type object struct{ Key string }
	objects := make([]object, len(keys))
	for i, key := range keys {
		objects[i].Key = key
	}
	text, err := xml.Marshal(struct {
		XMLName xml.Name `xml:"http://s3.amazonaws.com/doc/2006-03-01/ Delete"`
		Objects []object `xml:"Object"`
		Quiet   bool
	}{Objects: objects, Quiet: true})
	if err != nil {
		return err
	}
	sum := sha256.Sum256(text)
	var answer struct {
		Errors []struct{ Code string } `xml:"Error"`
	}
	_, err = b.client.ask(ctx, call{
		method: http.MethodPost, bucket: b.bucket, query: url.Values{"delete": {""}}, body: text,
		header: http.Header{headerChecksum: {base64.StdEncoding.EncodeToString(sum[:])}, headerType: {"application/xml"}},
	}, &answer)
	if err == nil && len(answer.Errors) > 0 {
		err = &audit.UnavailableError{Err: fmt.Errorf("%d objects were not deleted: %.64q", len(answer.Errors), answer.Errors[0].Code)}
	}
	return err
}

// CountRecords counts what Purge would remove: the blobs, and up to 1,000 uploads. A tenant has no more than a few.
func (b *Blobs) CountRecords(ctx context.Context, tenant audit.TenantID) (int64, error) {
	uploads, err := b.openUploads(ctx, tenant, export.MaxList)
	if err != nil {
		return 0, fmt.Errorf("count the uploads below s3://%s/%s: %w", b.bucket, folder(tenant), awsconfig.Failure(ctx, err))
	}
	n := int64(len(uploads))
	err = export.EachListed(ctx, b.List, tenant, "", func(export.Listed) error { n++; return nil })
	return n, err
}

// openUpload is an upload as S3 lists it.
type openUpload struct {
	Key string
	ID  string `xml:"UploadId"`
}

// openUploads returns up to limit uploads of the tenant.
func (b *Blobs) openUploads(ctx context.Context, tenant audit.TenantID, limit int) ([]openUpload, error) {
	var page struct {
		Uploads []openUpload `xml:"Upload"`
	}
	_, err := b.client.ask(ctx, call{
		method: http.MethodGet, bucket: b.bucket, query: url.Values{"uploads": {""}, "prefix": {folder(tenant)}, "max-uploads": {strconv.Itoa(limit)}},
	}, &page)
	return page.Uploads, err
}

func (b *Blobs) abortAll(ctx context.Context, tenant audit.TenantID, limit int) (removed int, err error) {
	uploads, err := b.openUploads(ctx, tenant, limit)
	if err != nil {
		return 0, err
	}
	for _, u := range uploads {
		err := lostUpload(b.abort(ctx, object{bucket: b.bucket, key: u.Key}, u.ID))
		if err != nil && !errors.Is(err, export.ErrUploadLost) {
			return removed, err
		}
		removed++
	}
	return removed, nil
}
