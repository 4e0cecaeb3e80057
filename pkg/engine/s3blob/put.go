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

// abortTimeout bounds the removal of the parts of a failed upload. The removal
// does not depend on the caller's context.
const abortTimeout = 5 * time.Second

// anyContent is a condition: S3 refuses the write if any object exists.
const anyContent = "*"

// Put implements export.Blobs. It sends content of up to 16 MiB in one call, and
// larger content in parts. It keeps one part in memory.
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

// Create implements export.Blobs. It sends content as Put does.
func (b *Blobs) Create(ctx context.Context, tenant audit.TenantID, key string, c export.Content) error {
	o, err := b.object(tenant, key)
	if err != nil {
		return err
	}
	err = b.write(ctx, upload{object: o, content: c, ifNoneMatch: aws.String(anyContent)})
	if err == nil {
		return nil
	}
	if s := status(err); s != http.StatusPreconditionFailed && s != http.StatusConflict {
		return o.failure(ctx, "create", err)
	}
	// Another object exists or is being written. It may be ours, if the answer to an
	// earlier try was lost.
	existing, statErr := b.Stat(ctx, tenant, key)
	switch {
	case statErr == nil && existing.Is(c):
		return nil
	case statErr == nil || errors.Is(statErr, export.ErrContent):
		err = audit.ErrConflict
	case errors.Is(statErr, audit.ErrNotFound): // it was deleted, or is not written yet
		err = &audit.UnavailableError{Err: err}
	default:
		err = statErr
	}
	return o.failure(ctx, "create", err)
}

// upload is one object that is being written.
type upload struct {
	object
	content     export.Content
	ifNoneMatch *string // anyContent, or nil to replace an object
	id          *string // S3's id of an upload in parts
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
	if u.content.Size <= b.partSize {
		return b.writeWhole(ctx, u)
	}
	return b.writeInParts(ctx, u)
}

func (b *Blobs) writeWhole(ctx context.Context, u upload) error {
	buffer := make([]byte, u.content.Size+1) // one byte more, to read the end of the content
	n, err := fill(u.content.Body, buffer)
	if !errors.Is(err, io.EOF) {
		return fmt.Errorf("read the content: %w", err)
	}
	_, err = b.client.PutObject(ctx, &s3.PutObjectInput{
		Bucket: &u.bucket, Key: &u.key, IfNoneMatch: u.ifNoneMatch, Body: bytes.NewReader(buffer[:n]), ContentLength: &u.content.Size,
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
	// An error of the removal is ignored: the bucket's lifecycle removes the parts later.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), abortTimeout)
	defer cancel()
	_, _ = b.client.AbortMultipartUpload(ctx, &s3.AbortMultipartUploadInput{Bucket: &u.bucket, Key: &u.key, UploadId: u.id})
	return err
}

// sendParts sends the content. It returns an error if the content does not have its size and SHA-256.
func (b *Blobs) sendParts(ctx context.Context, u upload) ([]types.CompletedPart, error) {
	size := max(b.partSize, (u.content.Size+maxParts-1)/maxParts)
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

// fill reads until the buffer is full or the reader returns an error. It returns
// io.EOF only at the end of the reader. io.ReadFull would return
// io.ErrUnexpectedEOF there, which is also the error of a reader that was cut.
func fill(r io.Reader, buffer []byte) (n int, err error) {
	for n < len(buffer) && err == nil {
		var read int
		read, err = r.Read(buffer[n:])
		n += read
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

// complete creates the object from the parts. If S3 no longer knows the upload,
// the SDK may have retried a call that succeeded. If the object does not exist
// either, complete returns an *audit.UnavailableError: the caller must send all
// parts again.
func (b *Blobs) complete(ctx context.Context, u upload, parts []types.CompletedPart) error {
	_, err := b.client.CompleteMultipartUpload(ctx, &s3.CompleteMultipartUploadInput{
		Bucket: &u.bucket, Key: &u.key, UploadId: u.id, IfNoneMatch: u.ifNoneMatch, MultipartUpload: &types.CompletedMultipartUpload{Parts: parts},
	})
	if status(err) != http.StatusNotFound {
		return err
	}
	if existing, statErr := b.stat(ctx, u.object); statErr != nil || !existing.Is(u.content) {
		return &audit.UnavailableError{Err: err}
	}
	return nil
}
