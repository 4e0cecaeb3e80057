package sqlite

import (
	"context"
	"slices"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/entryjson"
)

// maxGroupedDocs limits the documents that are read to count groups. Reading them
// takes about as long as a request may. More of them are refused before the first is read. Fewer
// large ones are refused once their time is foreseen.
const maxGroupedDocs = 2_000_000

// groupsOfDocs groups by fields that only documents have: changed paths and
// metadata. entries is the number of entries to read.
func (s *counter) groupsOfDocs(by []audit.Field, top int, entries int64) ([]audit.Group, error) {
	if entries > maxGroupedDocs {
		return nil, audit.ErrTooManyEntries("at most %d can be grouped by changed or metadata", maxGroupedDocs)
	}
	groups := groupCounts{fields: len(by), most: audit.MaxGroups}
	docs := docReader{conn: s.conn}
	var done int64
	s.forecast.begin()
	err := s.eachDoc(&docs, func() (bool, error) {
		if s.forecast.due() {
			if err := s.forecast.check(done, entries); err != nil {
				return false, err
			}
		}
		done++
		e, err := docs.entry(s.ctx)
		if err != nil {
			return false, err
		}
		values, err := valuesOf(&e, by)
		if err != nil {
			return false, err
		}
		return true, groups.addCombinations(s.ctx, values)
	})
	if err != nil {
		return nil, err
	}
	return groups.top(top), nil
}

// groupKey has the values of one group. Those of a single field are followed by "".
type groupKey [audit.MaxGroupBy]string

// addCombinations counts an entry under each combination of its values.
func (g *groupCounts) addCombinations(ctx context.Context, values [audit.MaxGroupBy][]string) error {
	if len(values[0])*len(values[1]) > audit.MaxEntryGroups {
		return audit.ErrTooManyEntryGroups()
	}
	for _, first := range values[0] {
		if err := ctx.Err(); err != nil { // an entry can have MaxEntryGroups
			return err
		}
		for _, second := range values[1] {
			if g.add(groupKey{first, second}, 1); g.hashes != nil {
				return audit.ErrTooManyGroups()
			}
		}
	}
	return nil
}

// valuesOf returns the values of one or two fields. A missing field has the value "".
func valuesOf(e *audit.Entry, by []audit.Field) (values [audit.MaxGroupBy][]string, err error) {
	for i := range values {
		values[i] = []string{""}
		if i < len(by) {
			if values[i], err = groupValues(e, by[i]); err != nil {
				return values, err
			}
		}
	}
	return values, nil
}

// groupValues returns the distinct values of a field, "" if there is none.
func groupValues(e *audit.Entry, field audit.Field) ([]string, error) {
	path, ofMetadata := field.MetadataPath()
	var values []string
	add := func(value string) { values = append(values, audit.Shorten(value, audit.MaxGroupValue)) }
	if !ofMetadata {
		for _, value := range e.Values(field) {
			add(value)
		}
	} else if len(e.Metadata) > 0 {
		err := entryjson.Leaves(e.Metadata, func(leaf entryjson.Leaf) {
			if leaf.Path == path {
				add(leaf.Value)
			}
		})
		if err != nil {
			return nil, err
		}
	}
	if len(values) == 0 {
		return []string{""}, nil
	}
	slices.Sort(values)
	return slices.Compact(values), nil
}
