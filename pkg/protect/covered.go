package protect

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"slices"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/entryjson"
)

// Encrypt encrypts the values: one element for each key. keys has the key of each of Subjects. See
// CheckStored for the size that the entry has then.
func (c *Covered) Encrypt(tenantKeys *TenantKeys, keys map[string]Key, e *audit.Entry, random func([]byte)) error {
	groups := make([]group, 0, 2)
	for i := range c.values {
		v := &c.values[i]
		key := tenantKeys.Values
		if v.subject != "" {
			var has bool
			if key, has = keys[v.subject]; !has {
				return fmt.Errorf("encrypt values of %s: the key of a subject is missing", e.ID)
			}
		}
		n := slices.IndexFunc(groups, func(g group) bool { return g.key.Ref == key.Ref })
		if n < 0 {
			n = len(groups)
			room := min(len(c.values)-i, usualValues)
			groups = append(groups, group{key: key, paths: make([]string, 0, room), values: make([][]byte, 0, room)})
		}
		groups[n].add(v, tenantKeys)
	}
	e.Encrypted = make([]audit.Encrypted, 0, len(groups))
	for i := range groups {
		g := &groups[i]
		sealed, err := Seal(&g.key, e.Tenant, e.ID, g.paths, g.values, random)
		if err != nil {
			return err
		}
		sealed.Tokens = g.sortedTokens()
		e.Encrypted = append(e.Encrypted, sealed)
	}
	e.Digest = tenantKeys.KeyedDigest(e.Digest)
	return nil
}

// CheckStored returns an error if an entry, whose values are encrypted by now, is too large for queues and
// stores.
func CheckStored(e *audit.Entry) *audit.ValidationError {
	size := len(e.Before) + len(e.After) + len(e.Metadata)
	for i := range e.Encrypted {
		element := &e.Encrypted[i]
		size += base64.StdEncoding.EncodedLen(len(element.Data)) + len(element.Tokens)*base64.StdEncoding.EncodedLen(len(audit.ValueToken{}))
		for _, path := range element.Paths {
			size += entryjson.QuotedLen(path)
		}
	}
	if size > audit.MaxObjectBytes {
		return audit.Invalid("", "too_large", "must have at most %d bytes in its objects once its sensitive fields are encrypted", audit.MaxObjectBytes)
	}
	return nil
}

// group has the values of one key.
type group struct {
	key    Key
	paths  []string
	values [][]byte
	tokens []audit.ValueToken
}

func (g *group) add(v *covered, keys *TenantKeys) {
	g.paths, g.values = append(g.paths, v.pointer), append(g.values, v.text)
	if v.token != nil {
		g.tokens = append(g.tokens, keys.token(v.token))
	}
}

// sortedTokens returns each token once. Their order tells nothing about the order of the values.
func (g *group) sortedTokens() []audit.ValueToken {
	slices.SortFunc(g.tokens, func(a, b audit.ValueToken) int { return bytes.Compare(a[:], b[:]) })
	return slices.Compact(g.tokens)
}
