package s3blob

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

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
	created, err := b.client.CreateMultipartUpload(ctx, &s3.CreateMultipartUploadInput{
		Bucket: &o.bucket, Key: &o.key, ContentType: aws.String(cmp.Or(mediaType, defaultType)), ChecksumAlgorithm: types.ChecksumAlgorithmSha256,
	})
	if err != nil {
		return export.Upload{}, o.failure(ctx, "begin an upload of", err)
	}
	return export.Upload{Key: key, ID: aws.ToString(created.UploadId)}, nil
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
	part, err := b.sendPart(ctx, upload{object: o, id: &u.ID}, int32(number), content)
	if err != nil {
		return export.Part{}, o.failure(ctx, fmt.Sprintf("put part %d of", number), lostUpload(err))
	}
	sum := sha256.Sum256(content)
	return export.Part{Number: number, ETag: aws.ToString(part.ETag), SHA256: sum[:]}, nil
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
	completed := make([]types.CompletedPart, len(parts))
	for i, part := range parts {
		completed[i] = types.CompletedPart{
			PartNumber: aws.Int32(int32(part.Number)), ETag: &part.ETag, ChecksumSHA256: aws.String(base64.StdEncoding.EncodeToString(part.SHA256)), //nolint:gosec // CheckParts bounds the number
		}
	}
	_, err := b.client.CompleteMultipartUpload(ctx, &s3.CompleteMultipartUploadInput{
		Bucket: &o.bucket, Key: &o.key, UploadId: &u.ID, MultipartUpload: &types.CompletedMultipartUpload{Parts: completed},
		MpuObjectSize: &size,
	})
	err = lostUpload(err)
	if err != nil && !errors.Is(err, export.ErrUploadLost) {
		return err
	}
	// The size is checked here too, because not every service that speaks S3 knows MpuObjectSize.
	found, headErr := b.client.HeadObject(ctx, &s3.HeadObjectInput{Bucket: &o.bucket, Key: &o.key})
	switch {
	case headErr == nil && aws.ToInt64(found.ContentLength) == size: // of this call or of an earlier one
		return nil
	case err != nil && (headErr == nil || status(headErr) == http.StatusNotFound):
		return err
	case headErr != nil:
		return headErr
	}
	return fmt.Errorf("%d bytes, want %d: %w", aws.ToInt64(found.ContentLength), size, export.ErrContent)
}

// lostUpload returns export.ErrUploadLost for an answer of S3 that it has no such upload, or not
// these parts.
func lostUpload(err error) error {
	var answer interface{ ErrorCode() string }
	if err == nil || !errors.As(err, &answer) {
		return err
	}
	switch answer.ErrorCode() {
	case "NoSuchUpload", "InvalidPart", "InvalidPartOrder":
		return fmt.Errorf("%w: %s", export.ErrUploadLost, answer.ErrorCode())
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
	_, err = b.client.AbortMultipartUpload(ctx, &s3.AbortMultipartUploadInput{Bucket: &o.bucket, Key: &o.key, UploadId: &u.ID})
	if err = lostUpload(err); err != nil && !errors.Is(err, export.ErrUploadLost) {
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
	objects := make([]types.ObjectIdentifier, len(listed))
	for i, blob := range listed {
		objects[i].Key = aws.String(folder(tenant) + blob.Key)
	}
	deleted, err := b.client.DeleteObjects(ctx, &s3.DeleteObjectsInput{Bucket: &b.bucket, Delete: &types.Delete{Objects: objects, Quiet: aws.Bool(true)}})
	if err == nil && len(deleted.Errors) > 0 {
		err = &audit.UnavailableError{Err: fmt.Errorf("%d objects were not deleted: %s", len(deleted.Errors), aws.ToString(deleted.Errors[0].Code))}
	}
	if err != nil {
		return removed, fmt.Errorf("delete below s3://%s/%s: %w", b.bucket, folder(tenant), awsconfig.Failure(ctx, err))
	}
	return removed + len(listed), nil
}

func (b *Blobs) abortAll(ctx context.Context, tenant audit.TenantID, limit int) (removed int, err error) {
	page, err := b.client.ListMultipartUploads(ctx, &s3.ListMultipartUploadsInput{
		Bucket: &b.bucket, Prefix: aws.String(folder(tenant)), MaxUploads: aws.Int32(int32(limit)), //nolint:gosec // at most export.MaxList
	})
	if err != nil {
		return 0, err
	}
	for _, u := range page.Uploads {
		_, err := b.client.AbortMultipartUpload(ctx, &s3.AbortMultipartUploadInput{Bucket: &b.bucket, Key: u.Key, UploadId: u.UploadId})
		if err = lostUpload(err); err != nil && !errors.Is(err, export.ErrUploadLost) {
			return removed, err
		}
		removed++
	}
	return removed, nil
}
