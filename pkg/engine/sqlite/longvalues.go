package sqlite

import (
	"bytes"
	"cmp"
	"context"
	"slices"
	"strings"
	"sync"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/engine/sqlite/postings"
	"github.com/ocelot-audit/ocelot/pkg/entryjson"
)

// The token of a long value has only the beginning of the value. A prefix that is longer than this beginning
// therefore compares the values themselves. All documents with a token have the same value, so one of
// them is enough.

const (
	// maxLongValues bounds the entries that a search reads for long prefixes.
	maxLongValues = 100_000
	// valueCacheBytes bounds the values that are kept in memory.
	valueCacheBytes = 16 << 20
)

// errManyLongValues returns the error of a search for a long prefix that would read too many entries.
func errManyLongValues(field audit.Field) error {
	return audit.Invalid("?q", "too_many_values",
		"must leave at most %d values of %s that agree with a longer prefix in %d bytes; narrow from and to, or give so many bytes of it",
		maxLongValues, audit.BoundedName(string(field)), maxTermValue)
}

// valueCache keeps values by their tokens. A token always stands for the same value. It has the beginning of
// the value, so only what follows is kept, up to the longest prefix.
type valueCache struct {
	mu    sync.Mutex
	ends  map[string]string
	bytes int
	most  int // bytes; 0: valueCacheBytes
}

// valueOverhead is about what a value takes beside its texts.
const valueOverhead = 64

// begins reports whether the value of a token begins like a prefix, which is longer than maxTermValue and
// agrees with it so far. known is false if the value is not kept.
func (c *valueCache) begins(token []byte, prefix string) (yes, known bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	end, known := c.ends[string(token)]
	return strings.HasPrefix(end, prefix[maxTermValue:]), known
}

func (c *valueCache) put(token []byte, value string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, known := c.ends[string(token)]; known {
		return
	}
	end := strings.Clone(value[maxTermValue:min(len(value), audit.MaxPrefix)]) // the entry is not kept
	n := len(token) + len(end) + valueOverhead
	if c.ends == nil || c.bytes+n > cmp.Or(c.most, valueCacheBytes) {
		c.ends, c.bytes = map[string]string{}, 0
	}
	c.ends[string(token)] = end
	c.bytes += n
}

// longValues finds the values of tokens for one search.
type longValues struct {
	cache  *valueCache
	docs   docReader
	tokens tokenizer
	left   int // entries that may be read
	// decided says which tokens each prefix selects. Every segment asks about its tokens, and meanwhile the cache may
	// have lost a value. A token is here the hash at its end: its beginning is that of the prefix.
	decided map[audit.Prefix]map[string]bool
}

// openValues lets the values be found in a snapshot of the file.
func (x *Index) openValues(v *longValues, c *conn, number int64, tenant audit.TenantID) {
	*v = longValues{cache: &x.db.writer.segments.values, docs: docReader{conn: c, tenant: tenant}, tokens: newTokenizer(number), left: x.maxLongValues, decided: map[audit.Prefix]map[string]bool{}}
}

// longPrefix selects the tokens of long values that begin like a prefix. It implements postings.Selector.
type longPrefix struct {
	values *longValues
	prefix audit.Prefix
}

// Select implements postings.Selector.
func (p longPrefix) Select(ctx context.Context, tokens []postings.TokenDocs) ([]bool, error) {
	selected := make([]bool, len(tokens))
	type unknown struct {
		key   int64 // of the first document
		token int
	}
	var rest []unknown
	for i, t := range tokens {
		var known bool
		if selected[i], known = p.decided(t.Token); known {
			continue
		}
		for key := range t.Keys() {
			rest = append(rest, unknown{key, i})
			break
		}
	}
	slices.SortFunc(rest, func(a, b unknown) int { return cmp.Compare(a.key, b.key) }) // as documents are stored
	for _, u := range rest {
		var err error
		if selected[u.token], err = p.selects(ctx, tokens[u.token]); err != nil {
			return nil, err
		}
	}
	return selected, nil
}

// selects decides about one token.
func (p longPrefix) selects(ctx context.Context, t postings.TokenDocs) (bool, error) {
	if yes, known := p.decided(t.Token); known { // another token's entry has it too
		return yes, nil
	}
	for key := range t.Keys() {
		value, found, err := p.values.readEntry(ctx, key, t.Token, p.prefix)
		if err != nil {
			return false, err
		}
		if found {
			return p.decide(t.Token, strings.HasPrefix(value, p.prefix.Value)), nil
		}
	}
	return p.decide(t.Token, false), nil // an earlier version spelled the value otherwise
}

// decided returns what is decided about a token, or follows from a value in the cache.
func (p longPrefix) decided(token []byte) (yes, known bool) {
	if yes, known = p.values.decided[p.prefix][string(hashOf(token))]; known {
		return yes, true
	}
	if yes, known = p.values.cache.begins(token, p.prefix.Value); known {
		p.decide(token, yes)
	}
	return yes, known
}

// decide notes whether a token is selected, for the other segments that have it.
func (p longPrefix) decide(token []byte, yes bool) bool {
	of := p.values.decided[p.prefix]
	if of == nil {
		of = map[string]bool{}
		p.values.decided[p.prefix] = of
	}
	of[string(hashOf(token))] = yes
	return yes
}

// hashOf returns the hash of the token of a long value.
func hashOf(token []byte) []byte { return token[bytes.LastIndexByte(token, hashMark)+1:] }

// readEntry finds the value of a token in an entry, and puts the entry's other values that begin like the
// prefix into the cache too. found is false if the entry does not have it.
func (v *longValues) readEntry(ctx context.Context, key int64, token []byte, prefix audit.Prefix) (value string, found bool, err error) {
	if v.left--; v.left < 0 {
		return "", false, errManyLongValues(prefix.Field)
	}
	err = v.docs.each(ctx, findKey, []any{key}, func() (bool, error) {
		e, err := v.docs.entry(ctx)
		if err != nil {
			return false, err
		}
		return false, eachValue(&e, prefix.Field, func(text string) {
			if len(text) <= maxTermValue || text[:maxTermValue] != prefix.Value[:maxTermValue] {
				return
			}
			of := v.tokens.term(nil, v.tokens.field(prefix.Field), text)
			v.cache.put(of, text)
			if bytes.Equal(of, token) {
				value, found = text, true
			}
		})
	})
	return value, found, err
}

const findKey = `SELECT ` + entryColumns + ` FROM entries e` + joinDocs + `WHERE e.key = ?`

// eachValue visits the values of a field.
func eachValue(e *audit.Entry, field audit.Field, visit func(value string)) error {
	path, ofMetadata := field.MetadataPath()
	if !ofMetadata {
		for _, value := range e.Values(field) {
			visit(value)
		}
		return nil
	}
	return entryjson.Leaves(e.Metadata, func(leaf entryjson.Leaf) {
		if leaf.Path == path {
			visit(leaf.Value)
		}
	})
}
