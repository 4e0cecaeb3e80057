package fileblob

import (
	"encoding/hex"
	"fmt"
	"path"
	"regexp"
	"strings"

	"github.com/ocelot-audit/ocelot/pkg/audit"
)

// The segments of a key are folders, and the last segment is the file. A segment that is
// too long for a file name continues in a subfolder. Bytes that are not plain become
// "%" with two digits, because some file systems ignore case or normalize Unicode. So
// does the first byte of a name that Windows takes for a device.
const (
	plain           = "abcdefghijklmnopqrstuvwxyz0123456789-_."
	continuedSuffix = ".more" // the segment continues in the next name
	maxEncoded      = 200     // bytes of one name without its suffix; file systems allow 255
)

// layout is how keys become paths.
type layout struct {
	tenantPrefix string // of the folder of a tenant
	plain        string // the bytes that stay as they are
	folderSuffix string // the segment ends here and others follow
	fileSuffix   string
}

var (
	// encodedLayout has suffixes. They keep a key apart from keys that begin with it: one is a file, the
	// others are in a folder.
	encodedLayout = layout{plain: plain, folderSuffix: ".d", fileSuffix: ".blob"}
	// plainLayout has the paths that S3 has.
	plainLayout = layout{tenantPrefix: "tenant=", plain: plain + "="}
)

// pathOf returns the path of the blob's file in the root folder.
func (l *layout) pathOf(tenant audit.TenantID, key string) string {
	return path.Join(l.folderOf(tenant), l.fileOf(key))
}

// fileOf returns the path of the blob's file in the tenant's folder.
func (l *layout) fileOf(key string) string {
	var names []string
	segments := strings.Split(key, "/")
	for i, segment := range segments {
		encoded := l.encode(segment)
		for ; len(encoded) > maxEncoded; encoded = encoded[maxEncoded:] {
			names = append(names, encoded[:maxEncoded]+continuedSuffix)
		}
		suffix := l.folderSuffix
		if i == len(segments)-1 {
			suffix = l.fileSuffix
		}
		names = append(names, withoutLastDot(encoded+suffix))
	}
	return path.Join(names...)
}

// withoutLastDot encodes a dot at the end of a name, which Windows ignores.
func withoutLastDot(name string) string {
	if text, dot := strings.CutSuffix(name, "."); dot {
		return text + "%2e"
	}
	return name
}

// folderOf returns the folder of a tenant's blobs.
func (l *layout) folderOf(tenant audit.TenantID) string {
	return l.tenantPrefix + l.encode(string(tenant))
}

// device matches the names of Windows' devices, which have them with every suffix.
var device = regexp.MustCompile(`^(con|prn|aux|nul|com[0-9]|lpt[0-9])(\.|$)`)

func (l *layout) encode(segment string) string {
	var b strings.Builder
	escaped := 0 // bytes at the beginning
	if device.MatchString(segment) {
		escaped = 1
	}
	for i := range len(segment) {
		if c := segment[i]; i >= escaped && strings.IndexByte(l.plain, c) >= 0 {
			b.WriteByte(c)
		} else {
			fmt.Fprintf(&b, "%%%02x", c)
		}
	}
	return b.String()
}

// keyOf returns the key of the blob whose file has this path. It returns false for a path that no key
// has.
func (l *layout) keyOf(file string) (key string, is bool) {
	_, file, _ = strings.Cut(file, "/") // the tenant
	var encoded strings.Builder
	var segments []string
	names := strings.Split(file, "/")
	for i, name := range names {
		if text, continued := strings.CutSuffix(name, continuedSuffix); continued && len(text) == maxEncoded {
			encoded.WriteString(text)
			continue
		}
		suffix := l.folderSuffix
		if i == len(names)-1 {
			suffix = l.fileSuffix
		}
		encoded.WriteString(strings.TrimSuffix(name, suffix))
		segment, err := decode(encoded.String())
		if err != nil {
			return "", false
		}
		encoded.Reset()
		segments = append(segments, segment)
	}
	key = strings.Join(segments, "/")
	return key, l.fileOf(key) == file
}

func decode(encoded string) (string, error) {
	var b strings.Builder
	for rest := encoded; rest != ""; {
		text, escape, found := strings.Cut(rest, "%")
		b.WriteString(text)
		if !found {
			break
		}
		if len(escape) < 2 {
			return "", fmt.Errorf("%q ends within an escape", encoded)
		}
		char, err := hex.DecodeString(escape[:2])
		if err != nil {
			return "", err
		}
		b.Write(char)
		rest = escape[2:]
	}
	return b.String(), nil
}
