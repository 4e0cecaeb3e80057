package opensearchindex

import (
	"crypto/sha256"
	"encoding/base64"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/entryjson"
)

// A document has the entry's fields that can be filtered on under their own
// names, the words of the message, the tokens of the metadata, and under
// "entry" the text of entryjson.AppendStored, from which answers are read.
// States and metadata are in that text only: as objects they would be parsed by
// OpenSearch, which refuses member names over 50,000 bytes and numbers of more
// than a thousand digits, and spells numbers its own way where it filters _source.
//
// Keyword terms end at 32,766 bytes (Lucene), so every value goes through
// bounded. The path of a token is bounded more tightly: an entry of 256 KiB can
// have 60,000 leaves at a path of 1,024 bytes, whose tokens would be 60 MB;
// bounded, they are under 6 MB.
const (
	maxValue = 1024
	maxPath  = 64
)

// bounded returns text of at most limit bytes as it is, and of longer text its
// beginning and the SHA-256 of all of it. What it shortens stays longer than
// limit, so that it equals no text that was not shortened.
func bounded(text string, limit int) string {
	if len(text) <= limit {
		return text
	}
	sum := sha256.Sum256([]byte(text))
	hash := base64.RawURLEncoding.EncodeToString(sum[:]) // 43 bytes
	cut := limit + 1 - len(hash)
	for !utf8.RuneStart(text[cut]) {
		cut-- // at most 3 bytes, which the ellipsis has
	}
	return text[:cut] + "…" + hash
}

// isShortened reports whether the value is one that bounded shortened.
func isShortened(value string) bool { return len(value) > maxValue }

var pathEscapes = strings.NewReplacer(`\`, `\\`, `=`, `\=`)

// tokenPrefix begins the tokens of a metadata path. Within it no "=" stands
// without a backslash but the last character, so that a path is never taken for
// the path and half the value of another.
func tokenPrefix(path string) string { return pathEscapes.Replace(bounded(path, maxPath)) + "=" }

// token is what a document has for a scalar leaf of the metadata.
func token(path, value string) string { return tokenPrefix(path) + bounded(value, maxValue) }

// appendDocument appends the document of an entry, which is one line of JSON.
// Its only error says that the metadata is not what entryjson makes of an object.
func appendDocument(dst []byte, tenant audit.TenantID, e *audit.Entry) ([]byte, error) {
	d := documentWriter{append(dst, '{')}
	d.text(fieldID, e.ID.String())
	d.text(fieldTenant, string(tenant))
	for _, field := range audit.FilterFields() {
		if field != audit.FieldChanged {
			d.text(string(field), bounded(e.Value(field), maxValue))
		}
	}
	d.text(fieldUserAgent, e.UserAgent)
	d.text(fieldIdempotencyKey, e.IdempotencyKey)
	d.text(fieldMessage, strings.Join(audit.Words(e.Message), " "))
	d.time(fieldTimestamp, e.Timestamp)
	d.time(fieldReceivedAt, e.ReceivedAt)
	d.time(fieldExpiresAt, e.ExpiresAt)
	changed := make([]string, len(e.Changed))
	for i, path := range e.Changed {
		changed[i] = bounded(path, maxValue)
	}
	d.texts(string(audit.FieldChanged), changed)
	tokens, err := tokensOf(e.Metadata)
	if err != nil {
		return dst, err
	}
	d.texts(fieldTokens, tokens)
	d.text(fieldEntry, string(entryjson.AppendStored(nil, e)))
	return append(d.out, '}'), nil
}

// tokensOf returns the tokens of the metadata's leaves, each once.
func tokensOf(metadata audit.Object) ([]string, error) {
	seen := map[string]struct{}{}
	var tokens []string
	err := entryjson.Leaves(metadata, func(path, value string) {
		t := token(path, value)
		if _, repeated := seen[t]; !repeated {
			seen[t] = struct{}{}
			tokens = append(tokens, t)
		}
	})
	return tokens, err
}

// documentWriter writes the members of one object.
type documentWriter struct{ out []byte }

func (d *documentWriter) name(name string) {
	if d.out[len(d.out)-1] != '{' {
		d.out = append(d.out, ',')
	}
	d.out = append(append(append(d.out, '"'), name...), '"', ':')
}

// text writes a member unless it is unset.
func (d *documentWriter) text(name, value string) {
	if value != "" {
		d.name(name)
		d.quote(value)
	}
}

func (d *documentWriter) quote(value string) {
	d.out, _ = jsontext.AppendQuote(d.out, value) // entries hold valid UTF-8 only
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
