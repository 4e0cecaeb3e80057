package fileblob

import (
	"encoding/hex"
	"fmt"
	"path"
	"strings"

	"github.com/ocelot-audit/ocelot/pkg/audit"
)

// A key's segments are folders, the last one is the file. Each has an ending, so
// that a key that is the beginning of another one is no folder; a segment that is
// longer than a file's name can be goes on below a folder of its own. Bytes
// that are not in plain are "%" with two digits: some file systems take capitals for
// small letters, and two ways to write a letter with an accent for one.
const (
	plain      = "abcdefghijklmnopqrstuvwxyz0123456789-_."
	folderEnd  = ".d"    // the segment ends here, others follow
	goesOnEnd  = ".more" // the segment goes on in the next name
	fileEnd    = ".blob"
	maxEncoded = 200 // bytes of one name without its ending; file systems take 255
)

// pathOf returns the path of the blob's file in the root folder.
func pathOf(tenant audit.TenantID, key string) string {
	names := []string{string(tenant)}
	segments := strings.Split(key, "/")
	for i, segment := range segments {
		encoded := encode(segment)
		for ; len(encoded) > maxEncoded; encoded = encoded[maxEncoded:] {
			names = append(names, encoded[:maxEncoded]+goesOnEnd)
		}
		end := folderEnd
		if i == len(segments)-1 {
			end = fileEnd
		}
		names = append(names, encoded+end)
	}
	return path.Join(names...)
}

func encode(segment string) string {
	var b strings.Builder
	for i := range len(segment) {
		if c := segment[i]; strings.IndexByte(plain, c) >= 0 {
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
		text, end := name, ""
		for _, end = range []string{folderEnd, goesOnEnd, fileEnd} {
			if cut, found := strings.CutSuffix(name, end); found {
				text = cut
				break
			}
		}
		encoded.WriteString(text)
		if end == goesOnEnd {
			continue
		}
		segment, err := decode(encoded.String())
		if err != nil {
			return "", fmt.Errorf("%s is not the file of a blob: %w", file, err)
		}
		encoded.Reset()
		key.WriteString(segment)
		if end == folderEnd {
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
