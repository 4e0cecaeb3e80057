package opensearchindex

import (
	"math/bits"
	"strconv"

	"github.com/ocelot-audit/ocelot/pkg/audit"
)

// An entry with two long arrays counts under each pair of their values. OpenSearch would
// count all of them before it answers, and nothing bounds them. So a document says which
// of its paths have many values. A path with at least 2ⁿ of them has a width token for n
// and for each smaller width down to minWidth.
const (
	minWidth = 3
	// maxPairWidth bounds the widths of both fields together. A wider pair has more than
	// audit.MaxEntryGroups pairs of values. One that is not has less than four times as many,
	// or one of its fields is narrower than minWidth.
	maxPairWidth = 15
)

// changedPrefix stands for the changed paths. No path of the metadata has such a prefix,
// because tokenPrefix doubles backslashes.
const changedPrefix = `\changed=`

// widthTokens returns the width tokens of a path with n values.
func widthTokens(prefix string, n int) (tokens []string) {
	for width := minWidth; width < bits.Len(uint(n)); width++ {
		tokens = append(tokens, widthToken(prefix, width))
	}
	return tokens
}

func widthToken(prefix string, width int) string { return prefix + strconv.Itoa(width) }

// widthPrefix returns the prefix of a field's width tokens, "" if an entry has at most one value.
func widthPrefix(field audit.Field) string {
	if path, ofMetadata := field.MetadataPath(); ofMetadata {
		return tokenPrefix(path)
	}
	if field == audit.FieldChanged {
		return changedPrefix
	}
	return ""
}

// checkWidths returns an error if an entry has too many pairs of values.
func (g *grouping) checkWidths() error {
	first, second := widthPrefix(g.fields[0]), widthPrefix(g.fields[1])
	if first == "" || second == "" {
		return nil
	}
	var wide []query
	for width := minWidth; width <= maxPairWidth+1-minWidth; width++ {
		wide = append(wide, query{"bool": query{"filter": []query{
			term(fieldWidths, widthToken(first, width)), term(fieldWidths, widthToken(second, maxPairWidth+1-width)),
		}}})
	}
	found, err := g.index.search(g.ctx, g.scope, query{
		"size": 0, "track_total_hits": 1, "terminate_after": 1,
		"query": query{"bool": query{"filter": []query{g.where}, "should": wide, "minimum_should_match": 1}},
	})
	if err == nil && found.Hits.Total.Value > 0 {
		err = audit.ErrTooManyEntryGroups()
	}
	return err
}
