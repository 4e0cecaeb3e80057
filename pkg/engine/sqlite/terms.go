package sqlite

import (
	"crypto/sha256"
	"encoding/base32"
	"encoding/binary"
	"fmt"
	"strconv"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/entryjson"
)

// The body of a row of the full-text table is a list of tokens. Each token begins
// with the tenant's number, so that each tenant has its own posting lists. A
// letter follows: a for the token that all entries have, w for a word of the
// message, t for a term. A term is the hash of a field and its value.
//
// The hash has 80 bits. With a billion terms of one tenant, the probability that
// any two collide is one in a million.
const (
	tokenAll  = 'a'
	tokenWord = 'w'
	tokenTerm = 't'

	termHashBytes = 10
)

var termEncoding = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

func appendToken(dst []byte, tenant int64, kind byte) []byte {
	return append(strconv.AppendInt(dst, tenant, 10), kind)
}

func appendWord(dst []byte, tenant int64, word string) []byte {
	return append(appendToken(dst, tenant, tokenWord), word...)
}

type termHash [termHashBytes]byte

// tokenizer builds the bodies of entries.
type tokenizer struct {
	tenant   int64
	body     []byte
	preimage []byte
	seen     map[termHash]struct{}
}

// hash returns the hash of a term. It begins with the field's length, so that
// different pairs of field and value never have the same input.
func (t *tokenizer) hash(field, value string) termHash {
	t.preimage = binary.AppendUvarint(t.preimage[:0], uint64(len(field)))
	t.preimage = append(t.preimage, field...)
	t.preimage = append(t.preimage, value...)
	sum := sha256.Sum256(t.preimage)
	return termHash(sum[:termHashBytes])
}

// token returns the token of a term.
func (t *tokenizer) token(field audit.Field, value string) string {
	hash := t.hash(string(field), value)
	return string(termEncoding.AppendEncode(appendToken(nil, t.tenant, tokenTerm), hash[:]))
}

// add appends a term unless the body has it.
func (t *tokenizer) add(field audit.Field, value string) {
	hash := t.hash(string(field), value)
	if _, seen := t.seen[hash]; seen {
		return
	}
	t.seen[hash] = struct{}{}
	t.body = termEncoding.AppendEncode(appendToken(append(t.body, ' '), t.tenant, tokenTerm), hash[:])
}

// tokenize returns the body of an entry. The words of the message come first, in
// sequence, so that phrases match.
func (t *tokenizer) tokenize(e *audit.Entry) (string, error) {
	clear(t.seen)
	t.body = appendToken(t.body[:0], t.tenant, tokenAll)
	for _, word := range audit.Words(e.Message) {
		t.body = appendWord(append(t.body, ' '), t.tenant, word)
	}
	for _, field := range audit.FilterFields() {
		for _, value := range e.Values(field) {
			t.add(field, value)
		}
	}
	if len(e.Metadata) > 0 {
		err := entryjson.Leaves(e.Metadata, func(path, value string) { t.add(audit.MetadataField(path), value) })
		if err != nil {
			return "", fmt.Errorf("metadata: %w", err)
		}
	}
	return string(t.body), nil
}
