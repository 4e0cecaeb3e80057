// Package export exports a tenant's entries as files. It also has the ports of the store of
// such files, in one piece or in parts, and of URLs for downloading them.
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
	// MaxKey is the maximum length of a key, in bytes. S3 accepts 1,024; the tenant's
	// prefix uses up to 71 of them.
	MaxKey = 953
	// MaxList is the maximum number of blobs that List returns. S3 lists no more at once.
	MaxList = 1000
	// MaxURLAge is the longest time for which a URL can be valid. It is the limit of S3's signatures.
	MaxURLAge = 7 * 24 * time.Hour
)

var (
	// ErrKey means that a key is invalid; see CheckKey.
	ErrKey = errors.New("not a key")
	// ErrContent means that content does not have the size and SHA-256 that belong to it.
	ErrContent = errors.New("content does not match its size and SHA-256")
)

// Blobs stores content under keys. Each tenant has its own keys: no key and no prefix
// reaches another tenant's content. The methods return ErrKey for a key that CheckKey
// rejects, and an *audit.UnavailableError if a retry can succeed. Every call can be
// repeated safely. Blobs is safe for concurrent use.
type Blobs interface {
	// Put stores content under the key and replaces earlier content. It returns nil only
	// once all of it is durable. Until then, and if it fails, readers see the earlier
	// content. It returns ErrContent and stores nothing if the content does not match its
	// size and SHA-256. Of several concurrent calls, one wins as a whole. After an error
	// the body may be partly read.
	Put(ctx context.Context, tenant audit.TenantID, key string, c Content) error
	// Create is Put for a key without content. If the key has other content, Create
	// returns audit.ErrConflict and changes nothing. The same content, by its SHA-256, is
	// not an error, so that a call whose response was lost can be repeated.
	Create(ctx context.Context, tenant audit.TenantID, key string, c Content) error
	// Replace is Put for a key whose content still has the ETag that Get or Stat returned. Otherwise,
	// or if the key has no content, Replace returns audit.ErrConflict and changes nothing. Of
	// several concurrent calls with one ETag and different contents, one wins. The content that the key has
	// already, by its SHA-256, is not an error, so that a call whose response was lost can be repeated.
	// After audit.ErrConflict the caller reads again: an earlier call that failed may have stored its
	// content, which others have replaced since.
	Replace(ctx context.Context, tenant audit.TenantID, key, etag string, c Content) error
	// Get returns the content, which the caller must close. It returns audit.ErrNotFound
	// if the key has none. Reading to io.EOF proves that the content is unchanged: reading
	// damaged content ends with ErrContent.
	Get(ctx context.Context, tenant audit.TenantID, key string) (io.ReadCloser, Blob, error)
	// Stat returns the blob's description as Get does, without the content.
	Stat(ctx context.Context, tenant audit.TenantID, key string) (Blob, error)
	// List returns up to limit blobs, at most MaxList, in the byte order of their keys.
	// The keys begin with prefix and come after the key after. Both may be empty. Fewer
	// blobs than the limit are the last ones. The list has everything that was put
	// before the call.
	List(ctx context.Context, tenant audit.TenantID, prefix, after string, limit int) ([]Listed, error)
	// Delete removes the blob. A missing blob is not an error.
	Delete(ctx context.Context, tenant audit.TenantID, key string) error
}

// EachListed calls use with all blobs of a tenant whose keys begin with a prefix, in the byte order of their
// keys. list is Blobs.List.
func EachListed(ctx context.Context, list func(ctx context.Context, tenant audit.TenantID, prefix, after string, limit int) ([]Listed, error),
	tenant audit.TenantID, prefix string, use func(Listed) error,
) error {
	for after := ""; ; {
		page, err := list(ctx, tenant, prefix, after, MaxList)
		if err != nil {
			return fmt.Errorf("list the files %s of %s: %w", prefix, tenant, err)
		}
		for _, file := range page {
			if err := use(file); err != nil {
				return err
			}
			after = file.Key
		}
		if len(page) < MaxList {
			return nil
		}
	}
}

// Presigner makes URLs with which anybody can download one blob for a limited time.
type Presigner interface {
	// Presign returns a URL that answers GET with the blob, as a download with the file
	// name, for the duration d. It returns the error of CheckDownload, and does not check
	// that the blob exists. The URL is a secret. It expires earlier if the credentials
	// that signed it do.
	Presign(ctx context.Context, tenant audit.TenantID, key, filename string, d time.Duration) (string, error)
}

// Content is content to store.
type Content struct {
	Body   io.Reader
	Size   int64 // bytes
	SHA256 [sha256.Size]byte
	Type   string // a media type of HTTP; "" means application/octet-stream
}

// ContentOf returns the text as content.
func ContentOf(text []byte, mediaType string) Content {
	return Content{Body: bytes.NewReader(text), Size: int64(len(text)), SHA256: sha256.Sum256(text), Type: mediaType}
}

// Blob describes stored content.
type Blob struct {
	Key        string
	Size       int64 // bytes
	SHA256     [sha256.Size]byte
	ETag       string // given by the store; see Blobs.Replace. Equal contents may have equal ETags
	Type       string // a media type
	ModifiedAt time.Time
}

// Is reports whether the blob has this content.
func (b Blob) Is(c Content) bool { return b.Size == c.Size && b.SHA256 == c.SHA256 }

// Listed describes a blob in a list.
type Listed struct {
	Key        string
	Size       int64 // bytes
	ModifiedAt time.Time
}

// CheckKey returns ErrKey unless the tenant id is valid and the key has 1 to MaxKey bytes
// of UTF-8 without control characters. Slashes divide the key into segments. No segment
// may be empty, "." or "..", because these have a meaning in file systems and HTTP.
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

// CheckPrefix returns ErrKey unless the tenant id is valid and a key can begin with the prefix.
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

// CheckDownload returns an error unless the file name and the duration are valid. A file
// name has 1 to 255 ASCII letters, digits, dots, hyphens and underscores and does not
// begin with a dot. A duration is a whole number of seconds up to MaxURLAge.
func CheckDownload(filename string, d time.Duration) error {
	if len(filename) == 0 || len(filename) > 255 || filename[0] == '.' || strings.ContainsFunc(filename, notInFilename) {
		return fmt.Errorf("%q is not a valid name for a download", filename)
	}
	if d < time.Second || d > MaxURLAge || d%time.Second != 0 {
		return fmt.Errorf("a URL cannot be valid for %v", d)
	}
	return nil
}

func notInFilename(r rune) bool {
	return ('a' > r || r > 'z') && ('A' > r || r > 'Z') && ('0' > r || r > '9') && !strings.ContainsRune("._-", r)
}

// unprintable reports whether the character is a control character, or cannot occur in
// XML 1.0, in which S3 lists keys.
func unprintable(r rune) bool { return unicode.IsControl(r) || r == 0xFFFE || r == 0xFFFF }
