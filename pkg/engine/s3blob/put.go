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
	"maps"
	"net/http"
	"net/url"
	"strconv"
	"strings"
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
	err = b.write(ctx, upload{object: o, content: c, condition: http.Header{headerIfNoneMatch: {anyContent}}})
	if isRefusal(err) {
		// Without an object, the one that S3 saw was deleted, or is not written yet.
		err = b.refusal(ctx, o, "", c, &audit.UnavailableError{Err: err})
	}
	if err != nil {
		return o.failure(ctx, "create", err)
	}
	return nil
}

// Replace implements export.Blobs. It sends content as Put does. It needs s3:GetObject as well as
// s3:PutObject. Its condition is the header If-Match, which versitygw 1.8.0 and ministack 1.5.33 are
// tested to honour.
func (b *Blobs) Replace(ctx context.Context, tenant audit.TenantID, key, etag string, c export.Content) error {
	o, err := b.object(tenant, key)
	if err != nil {
		return err
	}
	err = errETag
	if isETag(etag) {
		err = b.write(ctx, upload{object: o, content: c, condition: http.Header{headerIfMatch: {etag}}})
	}
	if isRefusal(err) {
		err = b.refusal(ctx, o, etag, c, audit.ErrConflict)
	}
	if err != nil {
		return o.failure(ctx, "replace", err)
	}
	return nil
}

// errETag is the refusal of a text that is not an ETag, which this package gives instead of S3.
var errETag = &answerError{status: http.StatusPreconditionFailed, code: "PreconditionFailed"}

// isETag reports whether the text is an ETag of S3. Other texts mean something else in If-Match.
func isETag(text string) bool {
	inner, quoted := strings.CutPrefix(text, `"`)
	inner, ends := strings.CutSuffix(inner, `"`)
	return quoted && ends && inner != "" && strings.Trim(inner, letters+"0123456789-") == ""
}

// isRefusal reports whether the condition of a write was not met: another object exists, is being
// written, or was deleted.
func isRefusal(err error) bool {
	s := status(err)
	return s == http.StatusPreconditionFailed || s == http.StatusConflict || isNoSuchKey(err)
}

// isNoSuchKey reports whether S3 answered that it has no such object.
func isNoSuchKey(err error) bool {
	var answer *answerError
	return errors.As(err, &answer) && answer.code == "NoSuchKey"
}

// refusal returns the error of a write whose condition was not met. It returns nil if the object has
// the content: the answer to an earlier try was lost. It returns absent if there is no object.
func (b *Blobs) refusal(ctx context.Context, o object, etag string, c export.Content, absent error) error {
	existing, err := b.stat(ctx, o)
	switch {
	case err == nil && existing.Is(c):
		return nil
	case err == nil && existing.ETag == etag: // another write was under way and failed
		return &audit.UnavailableError{Err: errors.New("another write was under way")}
	case err == nil || errors.Is(err, export.ErrContent):
		return audit.ErrConflict
	case status(err) == http.StatusNotFound:
		return absent
	}
	return err
}

// upload is one object that is being written.
type upload struct {
	object
	content   export.Content
	condition http.Header // without which S3 refuses it; nil: none
	id        string      // S3's id of an upload in parts
}

// described returns a call that says what the object is.
func (u *upload) described(method string) call {
	of := u.call(method)
	of.header = http.Header{headerType: {cmp.Or(u.content.Type, defaultType)}, headerSHA256: {hex.EncodeToString(u.content.SHA256[:])}}
	return of
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
	maps.Copy(of.header, u.condition)
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
	maps.Copy(header, u.condition)
	err := b.join(ctx, u.object, u.id, parts, header)
	if status(err) != http.StatusNotFound || isNoSuchKey(err) {
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
