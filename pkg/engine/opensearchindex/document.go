package opensearchindex

import (
	"encoding/base64"
	"slices"
	"strings"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/entryjson"
	"github.com/ocelot-audit/ocelot/pkg/words"
)

// A document has the filterable fields of the entry under their own names, the
// words of the message, and the tokens of the metadata. Under "entry" it has the
// text of entryjson.AppendStored, from which entries are read.
//
// States and metadata are only in that text. OpenSearch would parse them as objects. It
// refuses member names over 50,000 bytes and numbers of over a thousand digits. It
// rewrites numbers when it filters _source.
//
// Lucene limits a keyword term to 32,766 bytes, so all values are shortened. The
// path of a token is shortened more: an entry of 256 KiB can have 60,000 leaves
// at a path of 1,024 bytes. Their tokens would take 60 MB; shortened they take
// less than 6 MB.
const (
	maxValue = audit.MaxGroupValue // so that groups have the values as they are indexed
	maxPath  = 64
)

// A shortened value keeps more bytes than a prefix can have, so that prefixes need only the indexed
// values. Shorten leaves out 45 of the bytes at most: 43 for the hash, and a part of a character.
const _ = uint(maxValue - 45 - audit.MaxPrefix)

var pathEscapes = strings.NewReplacer(`\`, `\\`, `=`, `\=`)

// pathToken returns the token of a metadata path. It has no unescaped "=".
func pathToken(path string) string { return pathEscapes.Replace(audit.Shorten(path, maxPath)) }

// tokenPrefix returns the beginning of all tokens of a metadata path. Its last
// character is its only unescaped "=", so that a token belongs to one path only.
func tokenPrefix(path string) string { return pathToken(path) + "=" }

// token returns the token of a scalar leaf of the metadata.
func token(path, value string) string { return tokenPrefix(path) + audit.Shorten(value, maxValue) }

// appendDocument appends the document of an entry as one line of JSON. It returns
// an error only if the metadata is not a JSON object of entryjson.
func appendDocument(dst []byte, tenant audit.TenantID, e *audit.Entry) ([]byte, error) {
	d := documentWriter{append(dst, '{')}
	d.text(fieldID, e.ID.String())
	d.text(fieldTenant, string(tenant))
	for _, field := range audit.FilterFields() {
		if field != audit.FieldChanged {
			d.text(string(field), audit.Shorten(e.Value(field), maxValue))
		}
	}
	d.text(fieldUserAgent, e.UserAgent)
	d.text(fieldIdempotencyKey, e.IdempotencyKey)
	d.text(fieldMessage, strings.Join(words.Split(e.Message), " "))
	d.time(fieldTimestamp, e.Timestamp)
	d.time(fieldReceivedAt, e.ReceivedAt)
	changed := make([]string, len(e.Changed))
	for i, path := range e.Changed {
		changed[i] = audit.Shorten(path, maxValue)
	}
	d.texts(string(audit.FieldChanged), changed)
	var m metadataTokens
	if err := m.read(e.Metadata); err != nil {
		return dst, err
	}
	d.texts(fieldTokens, m.tokens.list)
	d.texts(fieldObjects, m.objects.list)
	d.texts(fieldNumbers, m.numbers.list)
	d.texts(fieldWidths, append(m.widths, widthTokens(changedPrefix, len(e.Changed))...))
	d.texts(fieldValues, valueTokens(e))
	if e.IPAddress.IsValid() {
		d.text(fieldAddress, e.IPAddress.Unmap().WithZone("").String())
	}
	d.text(fieldEntry, string(entryjson.AppendStored(nil, e)))
	return append(d.out, '}'), nil
}

// valueTokens returns the tokens of the encrypted values of an entry.
func valueTokens(e *audit.Entry) []string {
	var set tokenSet
	for i := range e.Encrypted {
		for _, t := range e.Encrypted[i].IndexTokens() {
			set.add(valueToken(t))
		}
	}
	return set.list
}

func valueToken(t audit.ValueToken) string { return base64.RawStdEncoding.EncodeToString(t[:]) }

// tokenSet has tokens, each once, in the order in which they were added.
type tokenSet struct {
	list []string
	seen map[string]struct{}
}

func (s *tokenSet) add(token string) (added bool) {
	if _, seen := s.seen[token]; seen {
		return false
	}
	if s.seen == nil {
		s.seen = map[string]struct{}{}
	}
	s.seen[token] = struct{}{}
	s.list = append(s.list, token)
	return true
}

// metadataTokens are the tokens of an entry's metadata.
type metadataTokens struct {
	tokens  tokenSet // of the leaves
	objects tokenSet // of the paths with leaves below
	numbers tokenSet
	widths  []string // of the paths with many values
}

// read reads the tokens of an object. An object always has the same tokens in the same order.
func (m *metadataTokens) read(metadata audit.Object) error {
	values := map[string]int{} // by the prefix of their path
	last := ""
	err := entryjson.Leaves(metadata, func(leaf entryjson.Leaf) {
		if m.tokens.add(token(leaf.Path, leaf.Value)) {
			values[tokenPrefix(leaf.Path)]++
		}
		if leaf.IsNumber {
			for _, t := range numberTokens(leaf.Path, leaf.Value) {
				m.numbers.add(t)
			}
		}
		if leaf.Path == last { // another element of an array
			return
		}
		last = leaf.Path
		for ancestor := range entryjson.Ancestors(leaf.Path) {
			m.objects.add(pathToken(ancestor))
		}
	})
	for prefix, n := range values {
		m.widths = append(m.widths, widthTokens(prefix, n)...)
	}
	slices.Sort(m.widths)
	return err
}

// documentWriter writes the members of one object.
type documentWriter struct{ out []byte }

func (d *documentWriter) name(name string) {
	if d.out[len(d.out)-1] != '{' {
		d.out = append(d.out, ',')
	}
	d.out = append(append(append(d.out, '"'), name...), '"', ':')
}

// text writes a member unless its value is "".
func (d *documentWriter) text(name, value string) {
	if value != "" {
		d.name(name)
		d.quote(value)
	}
}

func (d *documentWriter) quote(value string) {
	d.out, _ = jsontext.AppendQuote(d.out, value) // cannot fail: entries have valid UTF-8
}

func (d *documentWriter) time(name string, t time.Time) {
	if !t.IsZero() {
		d.text(name, entryjson.FormatTime(t))
	}
}

func (d *documentWriter) texts(name string, values []string) {
	if len(values) == 0 {
		return
	}
	d.name(name)
	d.out = append(d.out, '[')
	for i, value := range values {
		if i > 0 {
			d.out = append(d.out, ',')
		}
		d.quote(value)
	}
	d.out = append(d.out, ']')
}
