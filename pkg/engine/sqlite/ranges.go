package sqlite

import (
	"fmt"
	"net/netip"
	"strconv"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/decimal"
	"github.com/ocelot-audit/ocelot/pkg/engine/sqlite/postings"
)

// alternatives returns expressions. One of them matches if the condition is true.
func (c *compiler) alternatives(condition audit.Expr) (postings.Or, error) {
	switch e := condition.(type) {
	case audit.Has:
		return c.has(e.Field), nil
	case audit.Number:
		field := c.tokens.field(e.Field)
		whole, parts := numberLevels.Cover(decimal.Range{From: e.From, To: e.To})
		return c.inRange(numberLevels, whole, parts,
			func(b decimal.Bucket) []byte { return c.tokens.numberBucket(nil, field, b) },
			func(key string) []byte { return c.tokens.number(nil, field, key) }), nil
	case audit.Received:
		var received decimal.Range
		if !e.From.IsZero() {
			received.From = timeKey(e.From)
		}
		if !e.To.IsZero() {
			received.To = timeKey(e.To)
		}
		whole, parts := timeLevels.Cover(received)
		return c.inRange(timeLevels, whole, parts,
			func(b decimal.Bucket) []byte { return c.tokens.timeBucket(nil, b) },
			func(key string) []byte { return c.tokens.time(nil, key) }), nil
	case audit.Network:
		return c.inNetwork(e.Prefix), nil
	case audit.HasToken:
		return postings.Or{exactly(c.tokens.value(nil, e.Token))}, nil
	}
	return nil, fmt.Errorf("sqlite: cannot compile a %T", condition)
}

// has returns the alternatives for the entries that have the field.
func (c *compiler) has(field audit.Field) postings.Or {
	alternatives := postings.Or{beginning(c.tokens.term(nil, c.tokens.field(field), ""))}
	if path, ofMetadata := field.MetadataPath(); ofMetadata {
		alternatives = append(alternatives, exactly(c.tokens.object(nil, path)))
	}
	return alternatives
}

// inRange returns the alternatives of a range that a Cover has divided.
func (c *compiler) inRange(levels decimal.Levels, whole []decimal.Bucket, parts []decimal.Range, bucket func(decimal.Bucket) []byte, number func(key string) []byte) postings.Or {
	var alternatives postings.Or
	for _, b := range whole {
		if len(b.Start) == levels[b.Level] {
			alternatives = append(alternatives, exactly(bucket(b)))
		} else {
			alternatives = append(alternatives, beginning(bucket(b)))
		}
	}
	for _, part := range parts {
		for _, p := range part.Prefixes() {
			if p.Exact {
				alternatives = append(alternatives, exactly(number(p.Text)))
			} else {
				alternatives = append(alternatives, beginning(number(p.Text)))
			}
		}
	}
	return alternatives
}

// inNetwork returns the alternatives for the addresses of a network. A digit that the network divides
// leads to up to eight of them.
func (c *compiler) inNetwork(network netip.Prefix) postings.Or {
	address, bits := network.Addr(), network.Bits()
	digits := hexDigits(address)
	whole, rest := bits/4, bits%4
	if rest == 0 {
		return postings.Or{beginning(c.tokens.network(nil, address, digits[:whole]))}
	}
	divided, _ := strconv.ParseUint(string(digits[whole:whole+1]), 16, 8) // of hexadecimal digits
	var alternatives postings.Or
	for last := divided; last < divided+1<<(4-rest); last++ {
		alternatives = append(alternatives, beginning(c.tokens.network(nil, address, strconv.AppendUint(digits[:whole:whole], last, 16))))
	}
	return alternatives
}
