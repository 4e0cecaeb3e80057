package sqlite

import (
	"encoding/hex"
	"fmt"
	"net/netip"
	"strconv"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/decimal"
)

// alternatives returns the phrases of which one matches if the condition is true.
func (c *compiler) alternatives(condition audit.Expr) ([]string, error) {
	switch e := condition.(type) {
	case audit.Has:
		return c.has(e.Field), nil
	case audit.Number:
		whole, parts := numberLevels.Cover(decimal.Range{From: e.From, To: e.To})
		return c.inRange(numberLevels, whole, parts,
			func(b decimal.Bucket) string { return c.tokens.numberBucket(e.Field, b) },
			func(key string) string { return c.tokens.number(e.Field, key) }), nil
	case audit.Received:
		var received decimal.Range
		if !e.From.IsZero() {
			received.From = timeKey(e.From)
		}
		if !e.To.IsZero() {
			received.To = timeKey(e.To)
		}
		whole, parts := timeLevels.Cover(received)
		return c.inRange(timeLevels, whole, parts, c.tokens.timeBucket, c.tokens.time), nil
	case audit.Network:
		return c.inNetwork(e.Prefix), nil
	}
	return nil, fmt.Errorf("sqlite: cannot compile a %T", condition)
}

// has returns the phrases of the entries that have the field.
func (c *compiler) has(field audit.Field) []string {
	phrases := []string{beginning(c.tokens.term(field, ""))}
	if path, ofMetadata := field.MetadataPath(); ofMetadata {
		phrases = append(phrases, exactly(c.tokens.object(path)))
	}
	return phrases
}

// inRange returns the phrases of a range that a Cover has divided.
func (c *compiler) inRange(levels decimal.Levels, whole []decimal.Bucket, parts []decimal.Range, bucket func(decimal.Bucket) string, number func(key string) string) []string {
	var phrases []string
	for _, b := range whole {
		if len(b.Start) == levels[b.Level] {
			phrases = append(phrases, exactly(bucket(b)))
		} else {
			phrases = append(phrases, beginning(bucket(b)))
		}
	}
	for _, part := range parts {
		for _, p := range part.Prefixes() {
			if p.Exact {
				phrases = append(phrases, exactly(number(p.Text)))
			} else {
				phrases = append(phrases, beginning(number(p.Text)))
			}
		}
	}
	return phrases
}

// inNetwork returns the phrases of the addresses of a network. A digit that the network divides
// leads to up to eight phrases.
func (c *compiler) inNetwork(network netip.Prefix) []string {
	address, bits := network.Addr(), network.Bits()
	digits := hex.EncodeToString(address.AsSlice())
	whole, rest := bits/4, bits%4
	if rest == 0 {
		return []string{beginning(c.tokens.network(address, digits[:whole]))}
	}
	divided, _ := strconv.ParseUint(digits[whole:whole+1], 16, 8) // of hexadecimal digits
	var phrases []string
	for last := divided; last < divided+1<<(4-rest); last++ {
		phrases = append(phrases, beginning(c.tokens.network(address, digits[:whole]+strconv.FormatUint(last, 16))))
	}
	return phrases
}
