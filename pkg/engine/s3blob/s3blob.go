// Package s3blob keeps blobs in Amazon S3.
//
// An object's key is "tenant=", the tenant, a slash and the blob's key. Query
// engines read the first segment as a column named tenant. The object's metadata
// "sha256" is the SHA-256 of the whole content. S3 itself has it only for objects
// that were sent in one part.
package s3blob

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/awsconfig"
	"github.com/ocelot-audit/ocelot/pkg/export"
)

const (
	partSize = 16 << 20 // bytes; one call of Put keeps so much in memory
	maxParts = 10_000   // S3's limit for one object

	defaultType = "application/octet-stream"
)

// The headers of S3 that this package sends or reads.
const (
	headerType         = "Content-Type"
	headerSHA256       = "X-Amz-Meta-Sha256" // our metadata, in hexadecimal digits
	headerChecksum     = "X-Amz-Checksum-Sha256"
	headerAlgorithm    = "X-Amz-Checksum-Algorithm"
	headerSize         = "X-Amz-Mp-Object-Size"
	headerETag         = "Etag"
	headerIfMatch      = "If-Match"
	headerIfNoneMatch  = "If-None-Match"
	headerLastModified = "Last-Modified"
)

// Blobs is one bucket. It implements export.Blobs, export.Uploads and export.Presigner.
//
// A versioned bucket keeps replaced and deleted objects as long as its lifecycle
// says. The lifecycle should also abort multipart uploads that a killed process
// left. Reading needs s3:ListBucket too: without it, S3 answers 403 for an object
// that does not exist.
type Blobs struct {
	client   *Client
	bucket   string
	partSize int64
}

// Open returns the blobs of the bucket, with a client of its own. It makes no call. Its errors are those
// of NewClient.
func Open(cfg aws.Config, bucket string) (*Blobs, error) {
	client, err := NewClient(cfg)
	if err != nil {
		return nil, err
	}
	return New(client, bucket), nil
}

// New returns the blobs of the bucket. It makes no call.
func New(client *Client, bucket string) *Blobs {
	return &Blobs{client: client, bucket: bucket, partSize: partSize}
}

// Ping returns nil if S3 answers for the bucket.
func (b *Blobs) Ping(ctx context.Context) error {
	if _, err := b.client.ask(ctx, call{method: http.MethodHead, bucket: b.bucket}, nil); err != nil {
		return fmt.Errorf("ask about bucket %s: %w", b.bucket, awsconfig.Failure(ctx, err))
	}
	return nil
}

// folder is the prefix of the keys of a tenant's objects.
func folder(tenant audit.TenantID) string { return "tenant=" + string(tenant) + "/" }

// object names an object in calls and errors.
type object struct{ bucket, key string }

func (b *Blobs) object(tenant audit.TenantID, key string) (object, error) {
	if err := export.CheckKey(tenant, key); err != nil {
		return object{}, err
	}
	return object{bucket: b.bucket, key: folder(tenant) + key}, nil
}

// call returns a call about the object.
func (o object) call(method string) call { return call{method: method, bucket: o.bucket, key: o.key} }

// failure returns the error to report for a call on the object.
func (o object) failure(ctx context.Context, verb string, err error) error {
	if status(err) == http.StatusNotFound && !errors.Is(err, export.ErrUploadLost) {
		var answer *answerError
		if errors.As(err, &answer) && (answer.code == "NoSuchKey" || answer.code == "") { // a HEAD's answer has no body
			err = audit.ErrNotFound
		}
	}
	return fmt.Errorf("%s s3://%s/%s: %w", verb, o.bucket, o.key, awsconfig.Failure(ctx, err))
}

// Get implements export.Blobs.
func (b *Blobs) Get(ctx context.Context, tenant audit.TenantID, key string) (io.ReadCloser, export.Blob, error) {
	o, err := b.object(tenant, key)
	if err != nil {
		return nil, export.Blob{}, err
	}
	got, err := b.client.send(ctx, o.call(http.MethodGet))
	if err != nil {
		return nil, export.Blob{}, o.failure(ctx, "get", err)
	}
	blob, err := blobOf(key, describe(got))
	if err != nil {
		return nil, export.Blob{}, errors.Join(o.failure(ctx, "get", err), got.Body.Close())
	}
	reader := struct {
		io.Reader
		io.Closer
	}{export.Verify(body{ctx: ctx, object: o, from: got.Body}, blob.Size, blob.SHA256), got.Body}
	return reader, blob, nil
}

// body reports a broken connection as an *audit.UnavailableError.
type body struct {
	ctx    context.Context
	object object
	from   io.Reader
}

func (b body) Read(p []byte) (int, error) {
	n, err := b.from.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		err = b.object.failure(b.ctx, "read", &audit.UnavailableError{RetryAfter: time.Second, Err: err})
	}
	return n, err
}

// Stat implements export.Blobs.
func (b *Blobs) Stat(ctx context.Context, tenant audit.TenantID, key string) (export.Blob, error) {
	o, err := b.object(tenant, key)
	if err != nil {
		return export.Blob{}, err
	}
	blob, err := b.stat(ctx, o)
	if err != nil {
		return export.Blob{}, o.failure(ctx, "stat", err)
	}
	blob.Key = key
	return blob, nil
}

// head asks about the object. The answer has no body.
func (b *Blobs) head(ctx context.Context, o object) (description, error) {
	got, err := b.client.send(ctx, o.call(http.MethodHead))
	if err != nil {
		return description{}, err
	}
	return describe(got), got.Body.Close()
}

// description is what S3 says of an object.
type description struct {
	header http.Header
	size   int64 // bytes
}

func describe(got *http.Response) description { return description{got.Header, got.ContentLength} }

// stat describes the object. The Key that it returns is the object's key.
func (b *Blobs) stat(ctx context.Context, o object) (export.Blob, error) {
	got, err := b.head(ctx, o)
	if err != nil {
		return export.Blob{}, err
	}
	return blobOf(o.key, got)
}

// blobOf returns the blob that S3 describes. It returns export.ErrContent for an
// object without our checksum: this package did not write it.
func blobOf(key string, got description) (export.Blob, error) {
	blob := export.Blob{Key: key, Size: got.size, ETag: got.header.Get(headerETag), Type: got.header.Get(headerType)}
	modified, err := http.ParseTime(got.header.Get(headerLastModified))
	if err != nil {
		return export.Blob{}, fmt.Errorf("the answer has no time of the last change: %w", err)
	}
	blob.ModifiedAt = modified.UTC()
	sum, err := hex.DecodeString(got.header.Get(headerSHA256))
	if err != nil || len(sum) != len(blob.SHA256) {
		return export.Blob{}, fmt.Errorf("the object's metadata has no sha256: %w", export.ErrContent)
	}
	blob.SHA256 = [32]byte(sum)
	return blob, nil
}

// List implements export.Blobs.
func (b *Blobs) List(ctx context.Context, tenant audit.TenantID, prefix, after string, limit int) ([]export.Listed, error) {
	if err := errors.Join(export.CheckPrefix(tenant, prefix), export.CheckPrefix(tenant, after)); err != nil {
		return nil, err
	}
	limit = min(limit, export.MaxList)
	if limit <= 0 {
		return nil, nil
	}
	root := folder(tenant)
	query := url.Values{"list-type": {"2"}, "prefix": {root + prefix}}
	if after != "" {
		query.Set("start-after", root+after)
	}
	var listed []export.Listed
	for { // S3 may return fewer objects than exist
		query.Set("max-keys", strconv.Itoa(limit-len(listed)))
		var page struct {
			Contents []struct {
				Key          string
				Size         int64
				LastModified time.Time
			}
			IsTruncated           bool
			NextContinuationToken string
		}
		if _, err := b.client.ask(ctx, call{method: http.MethodGet, bucket: b.bucket, query: query}, &page); err != nil {
			return nil, fmt.Errorf("list s3://%s/%s: %w", b.bucket, root+prefix, awsconfig.Failure(ctx, err))
		}
		for _, item := range page.Contents {
			listed = append(listed, export.Listed{Key: strings.TrimPrefix(item.Key, root), Size: item.Size, ModifiedAt: item.LastModified.UTC()})
		}
		if len(listed) >= limit || !page.IsTruncated {
			return listed, nil
		}
		query.Set("continuation-token", page.NextContinuationToken)
	}
}

// Delete implements export.Blobs.
func (b *Blobs) Delete(ctx context.Context, tenant audit.TenantID, key string) error {
	o, err := b.object(tenant, key)
	if err != nil {
		return err
	}
	if _, err := b.client.ask(ctx, o.call(http.MethodDelete), nil); err != nil {
		return o.failure(ctx, "delete", err)
	}
	return nil
}

// Erase implements export.RevealedFiles. It removes the newest version last, so that List has the object
// until no version is left: a call that was killed can be repeated.
func (b *Blobs) Erase(ctx context.Context, tenant audit.TenantID, key string) error {
	o, err := b.object(tenant, key)
	for left := true; left && err == nil; {
		left, err = b.eraseVersions(ctx, o)
	}
	if err != nil {
		return o.failure(ctx, "erase", err)
	}
	return nil
}

// eraseVersions removes versions of an object. It reports whether there were any.
func (b *Blobs) eraseVersions(ctx context.Context, o object) (found bool, err error) {
	type version struct {
		Key string
		ID  string `xml:"VersionId"`
	}
	var page struct {
		Version, DeleteMarker []version
	}
	query := url.Values{"versions": {""}, "prefix": {o.key}}
	if _, err := b.client.ask(ctx, call{method: http.MethodGet, bucket: b.bucket, query: query}, &page); err != nil {
		return false, err
	}
	slices.Reverse(page.Version) // S3 lists the newest first
	for _, v := range append(page.Version, page.DeleteMarker...) {
		if v.Key != o.key { // another object, whose key begins with this one
			continue
		}
		of := o.call(http.MethodDelete)
		of.query = url.Values{"versionId": {v.ID}}
		if _, err := b.client.ask(ctx, of, nil); err != nil {
			return false, err
		}
		found = true
	}
	return found, nil
}

// Presign implements export.Presigner.
func (b *Blobs) Presign(ctx context.Context, tenant audit.TenantID, key, filename string, d time.Duration) (string, error) {
	o, err := b.object(tenant, key)
	if err != nil {
		return "", err
	}
	if err := export.CheckDownload(filename, d); err != nil {
		return "", o.failure(ctx, "presign", err)
	}
	of := o.call(http.MethodGet)
	of.query = url.Values{"response-content-disposition": {mime.FormatMediaType("attachment", map[string]string{"filename": filename})}}
	address, err := b.client.presign(ctx, of, d)
	if err != nil {
		return "", o.failure(ctx, "presign", err)
	}
	return address, nil
}
