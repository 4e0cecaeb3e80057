package fileblob

import (
	"encoding/hex"
	"fmt"
	"path"
	"regexp"
	"strings"

	"github.com/ocelot-audit/ocelot/pkg/audit"
)

// The segments of a key are folders, and the last segment is the file. Suffixes
// keep a key apart from keys that begin with it: one is a file, the others are in a
// folder. A segment that is too long for a file name continues in a subfolder.
// Bytes that are not in plain become "%" with two digits, because some file
// systems ignore case or normalize Unicode. So does the first byte of a name that
// Windows takes for a device.
const (
	plain           = "abcdefghijklmnopqrstuvwxyz0123456789-_."
	folderSuffix    = ".d"    // the segment ends here and others follow
	continuedSuffix = ".more" // the segment continues in the next name
	fileSuffix      = ".blob"
	maxEncoded      = 200 // bytes of one name without its suffix; file systems allow 255
)

// pathOf returns the path of the blob's file in the root folder.
func pathOf(tenant audit.TenantID, key string) string {
	names := []string{folderOf(tenant)}
	segments := strings.Split(key, "/")
	for i, segment := range segments {
		encoded := encode(segment)
		for ; len(encoded) > maxEncoded; encoded = encoded[maxEncoded:] {
			names = append(names, encoded[:maxEncoded]+continuedSuffix)
		}
		suffix := folderSuffix
		if i == len(segments)-1 {
			suffix = fileSuffix
		}
		names = append(names, encoded+suffix)
	}
	return path.Join(names...)
}

// folderOf returns the folder of a tenant's blobs.
func folderOf(tenant audit.TenantID) string { return encode(string(tenant)) }

// device matches the names of Windows' devices, which have them with every suffix.
var device = regexp.MustCompile(`^(con|prn|aux|nul|com[0-9]|lpt[0-9])(\.|$)`)

func encode(segment string) string {
	var b strings.Builder
	escaped := 0 // bytes at the beginning
	if device.MatchString(segment) {
		escaped = 1
	}
	for i := range len(segment) {
		if c := segment[i]; i >= escaped && strings.IndexByte(plain, c) >= 0 {
			b.WriteByte(c)
		} else {
			fmt.Fprintf(&b, "%%%02x", c)
		}
	}
	return b.String()
}

// keyOf returns the key of the blob whose file has this path.
func keyOf(file string) (string, error) {
	_, rest, _ := strings.Cut(file, "/") // the tenant
	var key, encoded strings.Builder
	for name := range strings.SplitSeq(rest, "/") {
		text, suffix := name, ""
		for _, suffix = range []string{folderSuffix, continuedSuffix, fileSuffix} {
			if cut, found := strings.CutSuffix(name, suffix); found {
				text = cut
				break
			}
		}
		encoded.WriteString(text)
		if suffix == continuedSuffix {
			continue
		}
		segment, err := decode(encoded.String())
		if err != nil {
			return "", fmt.Errorf("%s is not the file of a blob: %w", file, err)
		}
		encoded.Reset()
		key.WriteString(segment)
		if suffix == folderSuffix {
			key.WriteByte('/')
		}
	}
	return key.String(), nil
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
