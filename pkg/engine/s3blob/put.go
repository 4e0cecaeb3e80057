package s3blob

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"time"

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
	err = b.write(ctx, upload{object: o, content: c, onlyNew: true})
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
	content export.Content
	onlyNew bool   // S3 refuses it if any object exists; else it replaces one
	id      string // S3's id of an upload in parts
}

// described returns a call that says what the object is.
func (u *upload) described(method string) call {
	of := u.call(method)
	of.header = http.Header{headerType: {cmp.Or(u.content.Type, defaultType)}, headerSHA256: {hex.EncodeToString(u.content.SHA256[:])}}
	return of
}

// condition adds the condition of a write to its headers.
func (u *upload) condition(header http.Header) {
	if u.onlyNew {
		header.Set(headerIfNoneMatch, anyContent)
	}
}

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
	of := u.described(http.MethodPut)
	of.body = buffer[:n]
	of.header.Set(headerChecksum, base64.StdEncoding.EncodeToString(u.content.SHA256[:]))
	u.condition(of.header)
	_, err = b.client.ask(ctx, of, nil)
	return err
}

func (b *Blobs) writeInParts(ctx context.Context, u upload) error {
	var err error
	if u.id, err = b.begin(ctx, u.described(http.MethodPost)); err != nil {
		return err
	}
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
	_ = b.abort(ctx, u.object, u.id)
	return err
}

// begin begins an upload in parts, with the headers of the call, and returns its id.
func (b *Blobs) begin(ctx context.Context, of call) (id string, err error) {
	of.query = url.Values{"uploads": {""}}
	of.header.Set(headerAlgorithm, "SHA256")
	var begun struct {
		ID string `xml:"UploadId"`
	}
	_, err = b.client.ask(ctx, of, &begun)
	return begun.ID, err
}

// uploadID is the query of calls about an upload.
func uploadID(id string) url.Values { return url.Values{"uploadId": {id}} }

func (b *Blobs) abort(ctx context.Context, o object, id string) error {
	of := o.call(http.MethodDelete)
	of.query = uploadID(id)
	_, err := b.client.ask(ctx, of, nil)
	return err
}

// sendParts sends the content. It returns an error if the content does not have its size and SHA-256.
func (b *Blobs) sendParts(ctx context.Context, u upload) ([]part, error) {
	size := max(b.partSize, (u.content.Size+maxParts-1)/maxParts)
	buffer := make([]byte, size)
	var parts []part
	for number := 1; ; number++ {
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

// part is a part that S3 has, as the completion of an upload names it.
type part struct {
	Number   int    `xml:"PartNumber"`
	ETag     string `xml:"ETag"`
	Checksum string `xml:"ChecksumSHA256"` // in base64
}

func (b *Blobs) sendPart(ctx context.Context, u upload, number int, text []byte) (part, error) {
	sum := sha256.Sum256(text)
	sent := part{Number: number, Checksum: base64.StdEncoding.EncodeToString(sum[:])}
	of := u.call(http.MethodPut)
	of.query = uploadID(u.id)
	of.query.Set("partNumber", strconv.Itoa(number))
	of.header, of.body = http.Header{headerChecksum: {sent.Checksum}}, text
	header, err := b.client.ask(ctx, of, nil)
	sent.ETag = header.Get(headerETag)
	return sent, err
}

// complete creates the object from the parts. If S3 no longer knows the upload,
// the client may have repeated a call that succeeded. If the object does not exist
// either, complete returns an *audit.UnavailableError: the caller must send all
// parts again.
func (b *Blobs) complete(ctx context.Context, u upload, parts []part) error {
	header := http.Header{}
	u.condition(header)
	err := b.join(ctx, u.object, u.id, parts, header)
	if status(err) != http.StatusNotFound {
		return err
	}
	if existing, statErr := b.stat(ctx, u.object); statErr != nil || !existing.Is(u.content) {
		return &audit.UnavailableError{Err: err}
	}
	return nil
}

// join makes an object of the parts of an upload.
func (b *Blobs) join(ctx context.Context, o object, id string, parts []part, header http.Header) error {
	text, err := xml.Marshal(struct {
		XMLName xml.Name `xml:"http://s3.amazonaws.com/doc/2006-03-01/ CompleteMultipartUpload"`
		Parts   []part   `xml:"Part"`
	}{Parts: parts})
	if err != nil {
		return err
	}
	of := o.call(http.MethodPost)
	of.query, of.header, of.body = uploadID(id), header, text
	of.header.Set(headerType, "application/xml")
	_, err = b.client.ask(ctx, of, nil)
	return err
}
