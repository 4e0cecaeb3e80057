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
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/awsconfig"
	"github.com/ocelot-audit/ocelot/pkg/export"
)

const (
	maxAttempts = 7        // of one call, by the SDK: within 1.6 s on average
	partSize    = 16 << 20 // bytes; one call of Put keeps so much in memory
	maxParts    = 10_000   // S3's limit for one object

	shaMetadata = "sha256" // in hexadecimal digits
	defaultType = "application/octet-stream"
)

// NewClient returns a client of S3 for any number of buckets. It retries calls
// that fail transiently.
func NewClient(cfg aws.Config) *s3.Client {
	return s3.NewFromConfig(awsconfig.WithClient(cfg), func(o *s3.Options) {
		o.Retryer = awsconfig.Retryer(maxAttempts)
		o.UsePathStyle = o.BaseEndpoint != nil // a custom endpoint has no host name for each bucket
		// This package verifies the whole content, in one part or in many.
		o.ResponseChecksumValidation = aws.ResponseChecksumValidationWhenRequired
	})
}

// Blobs is one bucket. It implements export.Blobs, export.Uploads and export.Presigner.
//
// A versioned bucket keeps replaced and deleted objects as long as its lifecycle
// says. The lifecycle should also abort multipart uploads that a killed process
// left. Reading needs s3:ListBucket too: without it, S3 answers 403 for an object
// that does not exist.
type Blobs struct {
	client   *s3.Client
	presign  *s3.PresignClient
	bucket   string
	partSize int64
}

// New returns the blobs of the bucket. It makes no call.
func New(client *s3.Client, bucket string) *Blobs {
	return &Blobs{client: client, presign: s3.NewPresignClient(client), bucket: bucket, partSize: partSize}
}

// Ping returns nil if S3 answers for the bucket.
func (b *Blobs) Ping(ctx context.Context) error {
	_, err := b.client.HeadBucket(ctx, &s3.HeadBucketInput{Bucket: &b.bucket})
	if err != nil {
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

// failure returns the error to report for a call on the object.
func (o object) failure(ctx context.Context, verb string, err error) error {
	var noKey *types.NoSuchKey
	var notFound *types.NotFound // of a HEAD, whose answer has no body
	if errors.As(err, &noKey) || errors.As(err, &notFound) {
		err = audit.ErrNotFound
	}
	return fmt.Errorf("%s s3://%s/%s: %w", verb, o.bucket, o.key, awsconfig.Failure(ctx, err))
}

// status returns the HTTP status of S3's answer. It returns 0 if S3 did not answer.
func status(err error) int {
	var answer *awshttp.ResponseError
	if !errors.As(err, &answer) {
		return 0
	}
	return answer.HTTPStatusCode()
}

// Get implements export.Blobs.
func (b *Blobs) Get(ctx context.Context, tenant audit.TenantID, key string) (io.ReadCloser, export.Blob, error) {
	o, err := b.object(tenant, key)
	if err != nil {
		return nil, export.Blob{}, err
	}
	got, err := b.client.GetObject(ctx, &s3.GetObjectInput{Bucket: &o.bucket, Key: &o.key})
	if err != nil {
		return nil, export.Blob{}, o.failure(ctx, "get", err)
	}
	blob, err := blobOf(key, got.ContentLength, got.ContentType, got.LastModified, got.Metadata)
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

// stat describes the object. The Key that it returns is the object's key.
func (b *Blobs) stat(ctx context.Context, o object) (export.Blob, error) {
	got, err := b.client.HeadObject(ctx, &s3.HeadObjectInput{Bucket: &o.bucket, Key: &o.key})
	if err != nil {
		return export.Blob{}, err
	}
	return blobOf(o.key, got.ContentLength, got.ContentType, got.LastModified, got.Metadata)
}

// blobOf returns the blob that S3 describes. It returns export.ErrContent for an
// object without our checksum: this package did not write it.
func blobOf(key string, size *int64, mediaType *string, modified *time.Time, metadata map[string]string) (export.Blob, error) {
	blob := export.Blob{Key: key, Size: aws.ToInt64(size), Type: aws.ToString(mediaType), ModifiedAt: aws.ToTime(modified).UTC()}
	sum, err := hex.DecodeString(metadata[shaMetadata])
	if err != nil || len(sum) != len(blob.SHA256) {
		return export.Blob{}, fmt.Errorf("the object's metadata has no %s: %w", shaMetadata, export.ErrContent)
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
	input := &s3.ListObjectsV2Input{Bucket: &b.bucket, Prefix: aws.String(root + prefix), MaxKeys: aws.Int32(int32(limit))}
	if after != "" {
		input.StartAfter = aws.String(root + after)
	}
	var listed []export.Listed
	for { // S3 may return fewer objects than exist
		page, err := b.client.ListObjectsV2(ctx, input)
		if err != nil {
			return nil, fmt.Errorf("list s3://%s/%s: %w", b.bucket, *input.Prefix, awsconfig.Failure(ctx, err))
		}
		for _, item := range page.Contents {
			listed = append(listed, export.Listed{
				Key: strings.TrimPrefix(aws.ToString(item.Key), root), Size: aws.ToInt64(item.Size), ModifiedAt: aws.ToTime(item.LastModified).UTC(),
			})
		}
		if len(listed) >= limit || !aws.ToBool(page.IsTruncated) {
			return listed, nil
		}
		input.ContinuationToken, input.MaxKeys = page.NextContinuationToken, aws.Int32(int32(limit-len(listed)))
	}
}

// Delete implements export.Blobs.
func (b *Blobs) Delete(ctx context.Context, tenant audit.TenantID, key string) error {
	o, err := b.object(tenant, key)
	if err != nil {
		return err
	}
	_, err = b.client.DeleteObject(ctx, &s3.DeleteObjectInput{Bucket: &o.bucket, Key: &o.key})
	if err != nil {
		return o.failure(ctx, "delete", err)
	}
	return nil
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
	request, err := b.presign.PresignGetObject(ctx, &s3.GetObjectInput{
		Bucket: &o.bucket, Key: &o.key, ResponseContentDisposition: aws.String(mime.FormatMediaType("attachment", map[string]string{"filename": filename})),
	}, s3.WithPresignExpires(d))
	if err != nil {
		return "", o.failure(ctx, "presign", err)
	}
	return request.URL, nil
}
