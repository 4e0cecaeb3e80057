package opensearchindex

import (
	"slices"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/entryjson"
)

// restoreValues replaces shortened values of groups by their full text. It reads
// the text from an entry of the group. A value stays short if that entry was
// removed meanwhile.
func (g *grouping) restoreValues(groups []audit.Group) ([]audit.Group, error) {
	type shortened struct {
		field audit.Field
		value string
	}
	full := map[shortened]string{}
	for _, group := range groups {
		for i, value := range group.Values {
			if !isShortened(value) {
				continue
			}
			short := shortened{g.fields[i], value}
			if _, known := full[short]; !known {
				text, err := g.fullValue(short.field, value)
				if err != nil {
					return nil, err
				}
				full[short] = text
			}
			group.Values[i] = full[short]
		}
	}
	if len(full) > 0 {
		sortGroups(groups)
	}
	return groups, nil
}

func (g *grouping) fullValue(field audit.Field, short string) (string, error) {
	indexed, value := string(field), short
	if path, ofMetadata := field.MetadataPath(); ofMetadata {
		indexed, value = fieldTokens, tokenPrefix(path)+short
	}
	found, err := g.index.search(g.ctx, g.scope, query{
		"size": 1, "_source": []string{fieldEntry}, "track_total_hits": false,
		"query": query{"bool": query{"filter": []query{g.where, term(indexed, value)}}},
	})
	if err != nil || len(found.Hits.Hits) == 0 {
		return short, err
	}
	e, err := entryjson.ParseStored([]byte(found.Hits.Hits[0].Source.Entry))
	if err != nil {
		return "", err
	}
	return fullValueIn(&e, field, short)
}

// fullValueIn returns the entry's value that is shortened to the given one.
func fullValueIn(e *audit.Entry, field audit.Field, short string) (string, error) {
	values := slices.Clone(e.Values(field))
	if path, ofMetadata := field.MetadataPath(); ofMetadata {
		err := entryjson.Leaves(e.Metadata, func(leaf, value string) {
			if leaf == path {
				values = append(values, value)
			}
		})
		if err != nil {
			return "", err
		}
	}
	for _, value := range values {
		if shorten(value, maxValue) == short {
			return value, nil
		}
	}
	return short, nil
}
