package s3blob

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/export"
)

// abortTimeout bounds the removal of the parts of an upload that failed, which
// happens even where the caller's context has ended.
const abortTimeout = 5 * time.Second

// anyContent makes S3 refuse to write where there is an object.
const anyContent = "*"

// Put implements export.Blobs. Content of up to 16 MiB is sent at once,
// larger content in parts; one part is held in memory.
func (b *Blobs) Put(ctx context.Context, tenant audit.TenantID, key string, c export.Content) error {
	o, err := b.object(tenant, key)
	if err != nil {
		return err
	}
	if err := b.write(ctx, upload{object: o, content: c}); err != nil {
		return o.failure(ctx, "put", err)
	}
	return nil
}

// Create implements export.Blobs, in the way of Put.
func (b *Blobs) Create(ctx context.Context, tenant audit.TenantID, key string, c export.Content) error {
	o, err := b.object(tenant, key)
	if err != nil {
		return err
	}
	err = b.write(ctx, upload{object: o, content: c, unless: aws.String(anyContent)})
	if err == nil {
		return nil
	}
	if s := status(err); s != http.StatusPreconditionFailed && s != http.StatusConflict {
		return o.failure(ctx, "create", err)
	}
	// Something is there, or is being written. It may be our own, whose answer was lost.
	there, statErr := b.Stat(ctx, tenant, key)
	switch {
	case statErr == nil && there.Is(c):
		return nil
	case statErr == nil || errors.Is(statErr, export.ErrContent):
		err = audit.ErrConflict
	case errors.Is(statErr, audit.ErrNotFound): // deleted since, or not there yet
		err = &audit.UnavailableError{Err: err}
	default:
		err = statErr
	}
	return o.failure(ctx, "create", err)
}

// upload is one object on its way.
type upload struct {
	object
	content export.Content
	unless  *string // the ETag of an object that is not to be replaced
	id      *string // S3's, of an upload in parts
}

func (u *upload) metadata() map[string]string {
	return map[string]string{shaMetadata: hex.EncodeToString(u.content.SHA256[:])}
}

func (u *upload) mediaType() *string { return aws.String(cmp.Or(u.content.Type, defaultType)) }

func (b *Blobs) write(ctx context.Context, u upload) error {
	if u.content.Size < 0 {
		return fmt.Errorf("%d bytes: %w", u.content.Size, export.ErrContent)
	}
	u.content.Body = export.Verify(u.content.Body, u.content.Size, u.content.SHA256)
	if u.content.Size <= b.part {
		return b.writeAtOnce(ctx, u)
	}
	return b.writeInParts(ctx, u)
}

func (b *Blobs) writeAtOnce(ctx context.Context, u upload) error {
	buffer := make([]byte, u.content.Size+1) // room for the read that finds the end
	n, err := fill(u.content.Body, buffer)
	if !errors.Is(err, io.EOF) {
		return fmt.Errorf("read the content: %w", err)
	}
	_, err = b.client.PutObject(ctx, &s3.PutObjectInput{
		Bucket: &u.bucket, Key: &u.key, IfNoneMatch: u.unless, Body: bytes.NewReader(buffer[:n]), ContentLength: &u.content.Size,
		ContentType: u.mediaType(), Metadata: u.metadata(), ChecksumSHA256: aws.String(base64.StdEncoding.EncodeToString(u.content.SHA256[:])),
	})
	return err
}

func (b *Blobs) writeInParts(ctx context.Context, u upload) error {
	created, err := b.client.CreateMultipartUpload(ctx, &s3.CreateMultipartUploadInput{
		Bucket: &u.bucket, Key: &u.key, ContentType: u.mediaType(), Metadata: u.metadata(), ChecksumAlgorithm: types.ChecksumAlgorithmSha256,
	})
	if err != nil {
		return err
	}
	u.id = created.UploadId
	parts, err := b.sendParts(ctx, u)
	if err == nil {
		err = b.complete(ctx, u, parts)
	}
	if err == nil {
		return nil
	}
	// The first error counts: parts that stay are removed by the bucket's lifecycle.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), abortTimeout)
	defer cancel()
	_, _ = b.client.AbortMultipartUpload(ctx, &s3.AbortMultipartUploadInput{Bucket: &u.bucket, Key: &u.key, UploadId: u.id})
	return err
}

// sendParts sends the content and returns nil only if all of it was as it should be.
func (b *Blobs) sendParts(ctx context.Context, u upload) ([]types.CompletedPart, error) {
	size := max(b.part, (u.content.Size+maxParts-1)/maxParts)
	buffer := make([]byte, size)
	var parts []types.CompletedPart
	for number := int32(1); ; number++ {
		n, err := fill(u.content.Body, buffer)
		if err != nil && !errors.Is(err, io.EOF) {
			return nil, fmt.Errorf("read the content: %w", err)
		}
		if n > 0 {
			part, err := b.sendPart(ctx, u, number, buffer[:n])
			if err != nil {
				return nil, err
			}
			parts = append(parts, part)
		}
		if errors.Is(err, io.EOF) {
			return parts, nil
		}
	}
}

// fill reads until the buffer is full or the reader ends, which alone is io.EOF:
// io.ReadFull does not tell an end from a reader that was itself cut short.
func fill(r io.Reader, buffer []byte) (n int, err error) {
	for n < len(buffer) && err == nil {
		var more int
		more, err = r.Read(buffer[n:])
		n += more
	}
	return n, err
}

func (b *Blobs) sendPart(ctx context.Context, u upload, number int32, text []byte) (types.CompletedPart, error) {
	sum := sha256.Sum256(text)
	checksum := aws.String(base64.StdEncoding.EncodeToString(sum[:]))
	sent, err := b.client.UploadPart(ctx, &s3.UploadPartInput{
		Bucket: &u.bucket, Key: &u.key, UploadId: u.id, PartNumber: &number, Body: bytes.NewReader(text), ChecksumSHA256: checksum,
	})
	if err != nil {
		return types.CompletedPart{}, err
	}
	return types.CompletedPart{PartNumber: &number, ETag: sent.ETag, ChecksumSHA256: checksum}, nil
}

// complete makes an object of the parts. When S3 does not know the upload any
// more, the SDK may have repeated a call that had succeeded; if not, all is to be
// sent anew.
func (b *Blobs) complete(ctx context.Context, u upload, parts []types.CompletedPart) error {
	_, err := b.client.CompleteMultipartUpload(ctx, &s3.CompleteMultipartUploadInput{
		Bucket: &u.bucket, Key: &u.key, UploadId: u.id, IfNoneMatch: u.unless, MultipartUpload: &types.CompletedMultipartUpload{Parts: parts},
	})
	if status(err) != http.StatusNotFound {
		return err
	}
	if there, statErr := b.stat(ctx, u.object); statErr != nil || !there.Is(u.content) {
		return &audit.UnavailableError{Err: err}
	}
	return nil
}
