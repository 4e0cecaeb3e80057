package export

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"

	"github.com/ocelot-audit/ocelot/pkg/audit"
)

// Limits of the parts of an upload, which are those of S3.
const (
	// MinPart is the size that every part but the last must have, in bytes.
	MinPart = 5 << 20
	// MaxParts is the highest number of a part.
	MaxParts = 10_000
)

// ErrUploadLost means that the store no longer has an upload, or that another process replaced a
// part. The file has to be written again from its beginning.
var ErrUploadLost = errors.New("the upload is lost")

// Upload is a file that is written in parts. Its JSON form lets another process continue it.
type Upload struct {
	Key string `json:"key"`
	ID  string `json:"id"` // given by the store
}

// Part is a stored part of an upload.
type Part struct {
	Number int    `json:"number"` // from 1 to MaxParts
	ETag   string `json:"etag"`   // given by the store
	SHA256 []byte `json:"sha256"` // of the part's content
}

// Uploads stores files that are written in parts by one process after the other. A file is read by
// its URL: the store may not be able to say the SHA-256 of the whole, so that Blobs.Get and
// Blobs.Stat may return ErrContent for it. The methods return ErrKey, ErrUploadLost, or an
// *audit.UnavailableError if a retry can succeed. Uploads is safe for concurrent use.
type Uploads interface {
	// BeginUpload begins a file. Readers see it only once it is complete. An upload that is
	// neither completed nor aborted ends by itself after a week or later.
	BeginUpload(ctx context.Context, tenant audit.TenantID, key, mediaType string) (Upload, error)
	// PutPart stores a part. It returns nil only once the part is durable. Putting a number again
	// replaces the part. Parts may have gaps in their numbers.
	PutPart(ctx context.Context, tenant audit.TenantID, u Upload, number int, content []byte) (Part, error)
	// CompleteUpload makes the parts, in the rising order of their numbers, the content of the key. It
	// returns ErrContent if they do not have the size. Repeating a call whose response was lost is
	// not an error.
	CompleteUpload(ctx context.Context, tenant audit.TenantID, u Upload, parts []Part, size int64, sum [sha256.Size]byte) error
	// AbortUpload removes the parts. An upload that the store does not have is not an error. A call of
	// CompleteUpload that goes on meanwhile can still succeed; a later one cannot.
	AbortUpload(ctx context.Context, tenant audit.TenantID, u Upload) error
}

// CheckParts returns an error unless the parts rise by their numbers.
func CheckParts(parts []Part) error {
	last := 0
	for _, part := range parts {
		if part.Number <= last || part.Number > MaxParts {
			return fmt.Errorf("part %d after part %d: %w", part.Number, last, ErrContent)
		}
		last = part.Number
	}
	if last == 0 {
		return fmt.Errorf("no part: %w", ErrContent)
	}
	return nil
}
