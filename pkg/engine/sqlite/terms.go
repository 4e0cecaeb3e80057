package sqlite

import (
	"bytes"
	"crypto/sha256"
	"encoding/base32"
	"encoding/hex"
	"fmt"
	"net/netip"
	"strconv"
	"sync"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/decimal"
	"github.com/ocelot-audit/ocelot/pkg/engine/sqlite/postings"
	"github.com/ocelot-audit/ocelot/pkg/entryjson"
	"github.com/ocelot-audit/ocelot/pkg/words"
)

// A document of the full-text index is a list of tokens. Each token begins with the
// tenant's number, so that each tenant has its own posting lists. One of these letters follows.
const (
	tokenAll     = 'a' // every entry has this token
	tokenWord    = 'w' // a word of the message
	tokenTerm    = 't' // a field and its value
	tokenObject  = 'o' // a path of the metadata with scalars below
	tokenNumber  = 'n' // a field and the key of its number
	tokenAddress = 'i' // the digits of the address
	tokenTime    = 'r' // the key of received_at
	tokenValue   = 'e' // what stands for an encrypted value
	// The buckets of numbers, and those of received_at. The level is added.
	tokenNumberBucket = 'p'
	tokenTimeBucket   = 'x'
)

// numberLevels are the levels of the numbers in the metadata: the exponent, one digit, and
// two digits.
var numberLevels = decimal.Levels{4, 5, 6}

// timeLevels is the level of received_at: 10⁷ ms, which is almost three hours.
var timeLevels = decimal.Levels{10}

// A field is its hash in a token. Of a hundred thousand fields, any two have the same hash with
// a probability of one in a hundred million.
const fieldHashBytes = 8

// maxTermValue is the length of a value that stands in a token as a whole. A longer value is its
// beginning and its hash; see longvalues.go.
const (
	maxTermValue   = 64
	valueHashBytes = 10
)

// Spaces separate tokens. byteEscape stands for a space in a value, and hashMark is before a hash.
// UTF-8 contains neither of them.
const (
	byteEscape = 0xfe
	hashMark   = 0xff
)

var termEncoding = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

func appendToken(dst []byte, tenant int64, kind byte) []byte {
	return append(strconv.AppendInt(dst, tenant, 10), kind)
}

func appendWord(dst []byte, tenant int64, word string) []byte {
	return append(appendToken(dst, tenant, tokenWord), word...)
}

// tokenizer builds tokens and the documents of entries.
type tokenizer struct {
	tenant   int64
	sequence []byte                 // the words so far
	set      []byte                 // the other tokens so far
	fields   map[audit.Field]string // the hashes so far
	metadata map[string]string      // those of fields of the metadata, by their paths

	values         []string  // of a field
	received       time.Time // of the last entry
	receivedTokens []byte    // of that time
}

// newTokenizer returns a tokenizer for entries of a tenant, or for queries.
func newTokenizer(tenant int64) tokenizer {
	return tokenizer{tenant: tenant, fields: map[audit.Field]string{}, metadata: map[string]string{}}
}

// tokenizers are used again because they know the hashes of fields, which are the same for all tenants.
var tokenizers = sync.Pool{New: func() any {
	t := newTokenizer(0)
	return &t
}}

// tokenizerFor returns a tokenizer from tokenizers for entries of a tenant.
func tokenizerFor(tenant int64) *tokenizer {
	t := tokenizers.Get().(*tokenizer)
	t.tenant, t.receivedTokens = tenant, t.receivedTokens[:0]
	return t
}

// maxFields bounds the hashes that a tokenizer keeps.
const maxFields = 4096

// field returns the hash of a field.
func (t *tokenizer) field(field audit.Field) string {
	hash, known := t.fields[field]
	if !known {
		sum := sha256.Sum256([]byte(field))
		hash = termEncoding.EncodeToString(sum[:fieldHashBytes])
		if len(t.fields) < maxFields {
			t.fields[field] = hash
		}
	}
	return hash
}

// metadataField returns the hash of the field at a path of the metadata.
func (t *tokenizer) metadataField(path string) string {
	hash, known := t.metadata[path]
	if !known {
		hash = t.field(audit.MetadataField(path))
		if len(t.metadata) < maxFields {
			t.metadata[path] = hash
		}
	}
	return hash
}

// The functions below append tokens to dst. field is the hash of a field. The key of a number or
// a time, and the start of a bucket, may be the beginning of several: then the result is the
// beginning of their tokens.

// start appends the beginning of the tokens of a kind and a field.
func (t *tokenizer) start(dst []byte, kind byte, field string) []byte {
	return append(appendToken(dst, t.tenant, kind), field...)
}

// term appends the token of a field's value.
func (t *tokenizer) term(dst []byte, field, value string) []byte {
	dst = t.start(dst, tokenTerm, field)
	if len(value) <= maxTermValue {
		return appendValue(dst, value)
	}
	sum := sha256.Sum256([]byte(value))
	return termEncoding.AppendEncode(append(appendValue(dst, value[:maxTermValue]), hashMark), sum[:valueHashBytes])
}

// longTerms appends the beginning of the tokens of a field's values that are longer than maxTermValue and
// begin like a value, which is that long at least.
func (t *tokenizer) longTerms(dst []byte, field, value string) []byte {
	return append(t.term(dst, field, value[:maxTermValue]), hashMark)
}

// appendValue appends a value. The beginning of a value is the beginning of its result.
func appendValue(dst []byte, value string) []byte {
	from := len(dst)
	dst = append(dst, value...)
	for i := from; i < len(dst); i++ {
		if dst[i] == ' ' {
			dst[i] = byteEscape
		}
	}
	return dst
}

// object appends the token of a path of the metadata with scalars below.
func (t *tokenizer) object(dst []byte, path string) []byte {
	return t.start(dst, tokenObject, t.metadataField(path))
}

// number appends the token of a number's key.
func (t *tokenizer) number(dst []byte, field, key string) []byte {
	return append(t.start(dst, tokenNumber, field), key...)
}

// numberBucket appends the token of a bucket of numbers.
func (t *tokenizer) numberBucket(dst []byte, field string, b decimal.Bucket) []byte {
	return append(t.start(dst, tokenNumberBucket+byte(b.Level), field), b.Start...)
}

// time appends the token of the key of received_at.
func (t *tokenizer) time(dst []byte, key string) []byte {
	return append(t.start(dst, tokenTime, ""), key...)
}

// timeBucket appends the token of a bucket of received_at.
func (t *tokenizer) timeBucket(dst []byte, b decimal.Bucket) []byte {
	return append(t.start(dst, tokenTimeBucket+byte(b.Level), ""), b.Start...)
}

// timeKey returns the key of a time, in milliseconds.
func timeKey(at time.Time) string { return decimal.KeyOf(strconv.FormatInt(at.UnixMilli(), 10)) }

// value appends the token of an encrypted value.
func (t *tokenizer) value(dst []byte, token audit.ValueToken) []byte {
	return termEncoding.AppendEncode(t.start(dst, tokenValue, ""), token[:])
}

// network appends the token of an address, or the beginning of those of a network of the
// address's family. digits are the first hexadecimal ones.
func (t *tokenizer) network(dst []byte, address netip.Addr, digits []byte) []byte {
	family := "6"
	if address.Is4() {
		family = "4"
	}
	return append(t.start(dst, tokenAddress, family), digits...)
}

// hexDigits returns the hexadecimal digits of an address, which is not IPv4-mapped.
func hexDigits(address netip.Addr) []byte { return hex.AppendEncode(nil, address.AsSlice()) }

// next returns the set with a space, to which the next token is appended.
func (t *tokenizer) next() []byte { return append(t.set, ' ') }

// tokenize returns the document of an entry. The words of its message are a sequence, so that phrases
// match.
func (t *tokenizer) tokenize(e *audit.Entry) (postings.Doc, error) {
	t.sequence = t.sequence[:0]
	for i, word := range words.Split(e.Message) {
		if i > 0 {
			t.sequence = append(t.sequence, ' ')
		}
		t.sequence = appendWord(t.sequence, t.tenant, word)
	}
	t.set = appendToken(t.set[:0], t.tenant, tokenAll)
	for _, field := range audit.FilterFields() {
		hash := t.field(field)
		t.values = e.AppendValues(t.values[:0], field)
		for _, value := range t.values {
			t.set = t.term(t.next(), hash, value)
		}
	}
	if e.IPAddress.IsValid() {
		address := e.IPAddress.Unmap()
		t.set = t.network(t.next(), address, hexDigits(address))
	}
	for i := range e.Encrypted {
		for _, token := range e.Encrypted[i].IndexTokens() {
			t.set = t.value(t.next(), token)
		}
	}
	t.addReceived(e.ReceivedAt)
	if len(e.Metadata) > 0 {
		if err := t.addMetadata(e.Metadata); err != nil {
			return postings.Doc{}, fmt.Errorf("metadata: %w", err)
		}
	}
	return postings.Doc{Sequence: bytes.Clone(t.sequence), Set: bytes.Clone(t.set)}, nil
}

// addReceived appends the tokens of the time of receipt, which the entries of a request share.
func (t *tokenizer) addReceived(at time.Time) {
	if len(t.receivedTokens) > 0 && at.Equal(t.received) {
		t.set = append(t.set, t.receivedTokens...)
		return
	}
	begin := len(t.set)
	key := timeKey(at)
	t.set = t.time(t.next(), key)
	for _, b := range timeLevels.Buckets(key) {
		t.set = t.timeBucket(t.next(), b)
	}
	t.received, t.receivedTokens = at, append(t.receivedTokens[:0], t.set[begin:]...)
}

// addMetadata appends the tokens of the metadata's scalars.
func (t *tokenizer) addMetadata(metadata audit.Object) error {
	last, hash := "", ""
	return entryjson.Leaves(metadata, func(leaf entryjson.Leaf) {
		if hash == "" || leaf.Path != last { // not another element of an array
			last, hash = leaf.Path, t.metadataField(leaf.Path)
			for ancestor := range entryjson.Ancestors(leaf.Path) {
				t.set = t.object(t.next(), ancestor)
			}
		}
		t.set = t.term(t.next(), hash, leaf.Value)
		if leaf.IsNumber {
			t.addNumber(hash, decimal.KeyOf(leaf.Value))
		}
	})
}

// addNumber appends the tokens of a number. A number out of range has none.
func (t *tokenizer) addNumber(field, key string) {
	if key == "" {
		return
	}
	t.set = t.number(t.next(), field, key)
	for _, b := range numberLevels.Buckets(key) {
		t.set = t.numberBucket(t.next(), field, b)
	}
}
