package sqlite

import (
	"crypto/sha256"
	"encoding/base32"
	"encoding/hex"
	"fmt"
	"net/netip"
	"strconv"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/decimal"
	"github.com/ocelot-audit/ocelot/pkg/entryjson"
	"github.com/ocelot-audit/ocelot/pkg/words"
)

// The body of a row of the full-text table is a list of tokens. Each token begins with the
// tenant's number, so that each tenant has its own posting lists. One of these letters follows.
const (
	tokenAll     = 'a' // every entry has this token
	tokenWord    = 'w' // a word of the message
	tokenTerm    = 't' // a field and its value
	tokenObject  = 'o' // a path of the metadata with scalars below
	tokenNumber  = 'n' // a field and the key of its number
	tokenAddress = 'i' // the digits of the address
	tokenTime    = 'r' // the key of received_at
	// The buckets of numbers, and those of received_at. The level is added.
	tokenNumberBucket = 'p'
	tokenTimeBucket   = 'x'
)

// numberLevels are the levels of the numbers in the metadata: the exponent, and two digits.
var numberLevels = decimal.Levels{4, 6}

// timeLevels is the level of received_at: 10⁷ ms, which is almost three hours.
var timeLevels = decimal.Levels{10}

// A field is its hash in a token. Of a hundred thousand fields, any two have the same hash with
// a probability of one in a hundred million.
const fieldHashBytes = 8

// maxTermValue is the length of a value that stands in a token as a whole. It is not less than
// the longest prefix of a query. A longer value is its beginning and its hash.
const (
	maxTermValue   = audit.MaxPrefix
	valueHashBytes = 10
)

// The full-text table's tokens consist of letters, digits and bytes over 0x7f. It compares
// letters without case. Every other byte of a value is written as two: byteEscape and the byte
// with the highest bit set. UTF-8 contains neither byteEscape nor hashMark.
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

// tokenizer builds tokens and the bodies of entries.
type tokenizer struct {
	tenant int64
	body   []byte
	fields map[audit.Field]string // the hashes so far
	seen   map[string]struct{}
}

// newTokenizer returns a tokenizer for entries of a tenant, or for queries.
func newTokenizer(tenant int64) tokenizer {
	return tokenizer{tenant: tenant, fields: map[audit.Field]string{}, seen: map[string]struct{}{}}
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

// start returns the beginning of the tokens of a kind and a field.
func (t *tokenizer) start(kind byte, field audit.Field) []byte {
	return append(appendToken(nil, t.tenant, kind), t.field(field)...)
}

// term returns the token of a field's value.
func (t *tokenizer) term(field audit.Field, value string) string {
	token := t.start(tokenTerm, field)
	if len(value) <= maxTermValue {
		return string(appendValue(token, value))
	}
	sum := sha256.Sum256([]byte(value))
	return string(termEncoding.AppendEncode(append(appendValue(token, value[:maxTermValue]), hashMark), sum[:valueHashBytes]))
}

// appendValue appends a value in the characters of tokens. The beginning of a value is
// the beginning of its result.
func appendValue(dst []byte, value string) []byte {
	for i := range len(value) {
		c := value[i]
		if c >= 0x80 || c >= 'a' && c <= 'z' || c >= '0' && c <= '9' {
			dst = append(dst, c)
		} else {
			dst = append(dst, byteEscape, c|0x80)
		}
	}
	return dst
}

// object returns the token of a path of the metadata with scalars below.
func (t *tokenizer) object(path string) string {
	return string(t.start(tokenObject, audit.MetadataField(path)))
}

// number returns the token of a number's key, or the beginning of tokens.
func (t *tokenizer) number(field audit.Field, key string) string {
	return string(append(t.start(tokenNumber, field), key...))
}

// numberBucket returns the token of a bucket of numbers, or the beginning of tokens.
func (t *tokenizer) numberBucket(field audit.Field, b decimal.Bucket) string {
	return string(append(t.start(tokenNumberBucket+byte(b.Level), field), b.Start...))
}

// time returns the token of the key of received_at, or the beginning of tokens.
func (t *tokenizer) time(key string) string {
	return string(append(appendToken(nil, t.tenant, tokenTime), key...))
}

// timeBucket returns the token of a bucket of received_at, or the beginning of tokens.
func (t *tokenizer) timeBucket(b decimal.Bucket) string {
	return string(append(appendToken(nil, t.tenant, tokenTimeBucket+byte(b.Level)), b.Start...))
}

// timeKey returns the key of a time, in milliseconds.
func timeKey(at time.Time) string { return decimal.KeyOf(strconv.FormatInt(at.UnixMilli(), 10)) }

// address returns the token of an address.
func (t *tokenizer) address(address netip.Addr) string {
	address = address.Unmap()
	return t.network(address, hex.EncodeToString(address.AsSlice()))
}

// network returns the beginning of the tokens of a network of the address's family, whose
// addresses begin with these hexadecimal digits.
func (t *tokenizer) network(address netip.Addr, digits string) string {
	family := "6"
	if address.Is4() {
		family = "4"
	}
	return string(appendToken(nil, t.tenant, tokenAddress)) + family + digits
}

// add appends a token unless the body has it.
func (t *tokenizer) add(token string) {
	if _, seen := t.seen[token]; seen {
		return
	}
	t.seen[token] = struct{}{}
	t.body = append(append(t.body, ' '), token...)
}

// tokenize returns the body of an entry. The words of the message come first, in
// sequence, so that phrases match.
func (t *tokenizer) tokenize(e *audit.Entry) (string, error) {
	clear(t.seen)
	t.body = appendToken(t.body[:0], t.tenant, tokenAll)
	for _, word := range words.Split(e.Message) {
		t.body = appendWord(append(t.body, ' '), t.tenant, word)
	}
	for _, field := range audit.FilterFields() {
		for _, value := range e.Values(field) {
			t.add(t.term(field, value))
		}
	}
	if e.IPAddress.IsValid() {
		t.add(t.address(e.IPAddress))
	}
	received := timeKey(e.ReceivedAt)
	t.add(t.time(received))
	for _, b := range timeLevels.Buckets(received) {
		t.add(t.timeBucket(b))
	}
	if len(e.Metadata) > 0 {
		if err := t.addMetadata(e.Metadata); err != nil {
			return "", fmt.Errorf("metadata: %w", err)
		}
	}
	return string(t.body), nil
}

// addMetadata appends the tokens of the metadata's scalars.
func (t *tokenizer) addMetadata(metadata audit.Object) error {
	last := ""
	return entryjson.Leaves(metadata, func(leaf entryjson.Leaf) {
		field := audit.MetadataField(leaf.Path)
		t.add(t.term(field, leaf.Value))
		if leaf.IsNumber {
			t.addNumber(field, decimal.KeyOf(leaf.Value))
		}
		if leaf.Path == last { // another element of an array
			return
		}
		last = leaf.Path
		for ancestor := range entryjson.Ancestors(leaf.Path) {
			t.add(t.object(ancestor))
		}
	})
}

// addNumber appends the tokens of a number. A number out of range has none.
func (t *tokenizer) addNumber(field audit.Field, key string) {
	if key == "" {
		return
	}
	t.add(t.number(field, key))
	for _, b := range numberLevels.Buckets(key) {
		t.add(t.numberBucket(field, b))
	}
}
