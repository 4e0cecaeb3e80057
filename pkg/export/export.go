// Package export hands a tenant's entries out as files. What it needs of the
// outside are the ports here: a place for the files, and URLs to fetch them by.
package export

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/ocelot-audit/ocelot/pkg/audit"
)

const (
	// MaxKey is the longest key, in bytes. S3 takes 1,024, of which the tenant has up to 71.
	MaxKey = 953
	// MaxList is the most blobs of one List. S3 lists no more at once.
	MaxList = 1000
	// MaxURLAge is the longest that a URL can be good for. It is that of S3's signature.
	MaxURLAge = 7 * 24 * time.Hour
)

var (
	// ErrKey says that something cannot be a key, see CheckKey.
	ErrKey = errors.New("not a key")
	// ErrContent says that content is not what its size and SHA-256 say.
	ErrContent = errors.New("content does not match its size and SHA-256")
)

// Blobs keeps content under keys, which are each tenant's own: no key and no
// prefix of one tenant ever reaches another's. A key that CheckKey refuses is
// ErrKey. What may work later is an *audit.UnavailableError; repeating any of
// these calls is safe. Its methods may be called concurrently.
type Blobs interface {
	// Put stores content under the key, in the place of what was there. It
	// returns nil only once all of it is durable; until then, and where it
	// fails, readers see what was there before. Content that does not match its
	// size and SHA-256 is ErrContent and not stored. Of several at once one
	// wins, as a whole. After an error the body may be partly read.
	Put(ctx context.Context, tenant audit.TenantID, key string, c Content) error
	// Create is Put for a key that has no content: where it has other content,
	// the error is audit.ErrConflict and nothing changes. The same content (by
	// its SHA-256) is no error, so that a call whose answer was lost can be repeated.
	Create(ctx context.Context, tenant audit.TenantID, key string, c Content) error
	// Get returns the content, for the caller to close, or audit.ErrNotFound.
	// Reading it to io.EOF proves that it is what was put: content that was
	// damaged since ends in ErrContent instead.
	Get(ctx context.Context, tenant audit.TenantID, key string) (io.ReadCloser, Blob, error)
	// Stat returns what Get would, without the content.
	Stat(ctx context.Context, tenant audit.TenantID, key string) (Blob, error)
	// List returns up to limit blobs, MaxList at most, whose keys begin with
	// the prefix and come after the key after, in the order of the keys' bytes.
	// Fewer than that are the last. Both may be empty. What was put before the
	// call is in it.
	List(ctx context.Context, tenant audit.TenantID, prefix, after string, limit int) ([]Listed, error)
	// Delete removes the blob; that there is none is no error.
	Delete(ctx context.Context, tenant audit.TenantID, key string) error
}

// Presigner makes URLs by which anybody can fetch one blob for a while.
type Presigner interface {
	// Presign returns a URL that answers GET with the blob, as a download of
	// this file name, until d has passed. What CheckDownload refuses is an error.
	// It does not ask whether the blob exists. The URL is a secret; it ends
	// earlier where the credentials that signed it do.
	Presign(ctx context.Context, tenant audit.TenantID, key, filename string, d time.Duration) (string, error)
}

// Content is what is to be stored.
type Content struct {
	Body   io.Reader
	Size   int64 // bytes
	SHA256 [sha256.Size]byte
	Type   string // a media type, as for HTTP; "" is application/octet-stream
}

// ContentOf returns the text as content.
func ContentOf(text []byte, mediaType string) Content {
	return Content{Body: bytes.NewReader(text), Size: int64(len(text)), SHA256: sha256.Sum256(text), Type: mediaType}
}

// Blob is what is known of stored content.
type Blob struct {
	Key        string
	Size       int64 // bytes
	SHA256     [sha256.Size]byte
	Type       string // a media type
	ModifiedAt time.Time
}

// Is reports whether the blob has this content.
func (b Blob) Is(c Content) bool { return b.Size == c.Size && b.SHA256 == c.SHA256 }

// Listed is what a list tells of a blob.
type Listed struct {
	Key        string
	Size       int64 // bytes
	ModifiedAt time.Time
}

// CheckKey returns ErrKey unless the tenant has the form of one and the key is
// 1 to MaxKey bytes of UTF-8 without control characters, in segments between
// slashes that are neither empty nor "." nor "..": those mean something to file
// systems and to HTTP.
func CheckKey(tenant audit.TenantID, key string) error {
	if err := CheckPrefix(tenant, key); err != nil {
		return err
	}
	for segment := range strings.SplitSeq(key, "/") {
		if segment == "" || segment == "." || segment == ".." {
			return fmt.Errorf("key %q: segment %q: %w", key, segment, ErrKey)
		}
	}
	return nil
}

// CheckPrefix returns ErrKey unless the tenant has the form of one and a key
// could begin so.
func CheckPrefix(tenant audit.TenantID, prefix string) error {
	if _, err := audit.ParseTenantID(string(tenant)); err != nil {
		return fmt.Errorf("tenant %q: %w", tenant, ErrKey)
	}
	if len(prefix) > MaxKey {
		return fmt.Errorf("%d bytes, at most %d: %w", len(prefix), MaxKey, ErrKey)
	}
	if !utf8.ValidString(prefix) || strings.ContainsFunc(prefix, unprintable) {
		return fmt.Errorf("key %q: %w", prefix, ErrKey)
	}
	return nil
}

// CheckDownload returns an error unless the file name is 1 to 255 letters,
// digits, dots, hyphens and underscores of ASCII, the first no dot, and d is
// whole seconds, up to MaxURLAge.
func CheckDownload(filename string, d time.Duration) error {
	if len(filename) == 0 || len(filename) > 255 || filename[0] == '.' || strings.ContainsFunc(filename, notInFilename) {
		return fmt.Errorf("%q is no name for a download", filename)
	}
	if d < time.Second || d > MaxURLAge || d%time.Second != 0 {
		return fmt.Errorf("a URL cannot be good for %v", d)
	}
	return nil
}

func notInFilename(r rune) bool {
	return ('a' > r || r > 'z') && ('A' > r || r > 'Z') && ('0' > r || r > '9') && !strings.ContainsRune("._-", r)
}

// unprintable reports whether the character controls something, or has no place
// in XML 1.0, by which S3 lists keys.
func unprintable(r rune) bool { return unicode.IsControl(r) || r == 0xFFFE || r == 0xFFFF }
