package opensearchindex

import (
	"net/netip"
	"slices"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/decimal"
)

// A number of the metadata has four tokens: its key, and its buckets of numberLevels. A range
// matches a few whole buckets and a few keys. OpenSearch looks at each
// different token in a range, so a range of keys alone would take long.

// numberLevels are the exponent of a number, one digit, and two digits.
var numberLevels = decimal.Levels{4, 5, 6}

// The first characters of the tokens. The level is added to that of buckets.
const (
	keyMark    = "\x01"
	bucketMark = 0x02
)

// numberTokens returns the tokens of a number, none if it is out of range.
func numberTokens(path, value string) []string {
	key := decimal.KeyOf(value)
	if key == "" {
		return nil
	}
	tokens := []string{keyToken(path, key)}
	for _, b := range numberLevels.Buckets(key) {
		tokens = append(tokens, bucketToken(path, b))
	}
	return tokens
}

func keyToken(path, key string) string { return keyMark + tokenPrefix(path) + key }

func bucketToken(path string, b decimal.Bucket) string {
	return string(rune(bucketMark+b.Level)) + tokenPrefix(path) + b.Start
}

func prefixQuery(field, value string) query { return query{"prefix": query{field: value}} }

// lazyTerms is how many terms of one query Lucene reads entry by entry, and can leave when the page is
// full. Of more terms it first reads all entries, as TermInSetQuery's documentation says.
const lazyTerms = 16

// clausesOfNumber is more than the clauses of any renderNumber.
const clausesOfNumber = 80

func renderNumber(e audit.Number) query {
	path, _ := e.Field.MetadataPath()
	whole, parts := numberLevels.Cover(decimal.Range{From: e.From, To: e.To})
	var should []query
	var exact []string
	for _, b := range whole {
		if len(b.Start) == numberLevels[b.Level] {
			exact = append(exact, bucketToken(path, b))
		} else {
			should = append(should, prefixQuery(fieldNumbers, bucketToken(path, b)))
		}
	}
	for few := range slices.Chunk(exact, lazyTerms) {
		should = append(should, query{"terms": query{fieldNumbers: few}})
	}
	for _, part := range parts {
		should = append(should, query{"range": query{fieldNumbers: query{"gte": keyToken(path, part.From), "lt": keyToken(path, part.To)}}})
	}
	if len(should) == 0 {
		return query{"match_none": query{}}
	}
	return query{"bool": query{"should": should, "minimum_should_match": 1}}
}

func renderPrefix(e audit.Prefix) query {
	if path, ofMetadata := e.Field.MetadataPath(); ofMetadata {
		return prefixQuery(fieldTokens, tokenPrefix(path)+e.Value)
	}
	return prefixQuery(string(e.Field), e.Value)
}

func renderHas(e audit.Has) query {
	path, ofMetadata := e.Field.MetadataPath()
	if !ofMetadata {
		return query{"exists": query{"field": string(e.Field)}}
	}
	should := []query{prefixQuery(fieldTokens, tokenPrefix(path)), term(fieldObjects, pathToken(path))}
	return query{"bool": query{"should": should, "minimum_should_match": 1}}
}

// renderNetwork returns the query of a network. OpenSearch counts IPv4 addresses to the IPv6
// network ::/80.
func renderNetwork(network netip.Prefix) query {
	matches := term(fieldAddress, network.String())
	if network.Addr().Is4() {
		return matches
	}
	return query{"bool": query{"filter": []query{matches}, "must_not": []query{term(fieldAddress, "0.0.0.0/0")}}}
}
