package sqlite

import (
	"slices"
	"sort"

	"github.com/ocelot-audit/ocelot/pkg/audit"
)

// section is a range of keys and a condition on the columns of its entries. A filter whose
// conditions are on time and few columns only is some sections. These are counted without the
// full-text index.
type section struct {
	span
	where condition
}

// sectionsOf returns the sections of a filter. ok is false if the filter has other conditions.
func sectionsOf(filter audit.Filter) (sections []section, ok bool) {
	where := audit.All(filter.Where, filter.Unexpired)
	for e := range audit.Conditions(where) {
		switch e := e.(type) {
		case audit.Time:
		case audit.Equals:
			if column := columnOf(e.Field); column < 0 || column > columnSubmittedBy {
				return nil, false
			}
		default:
			return nil, false
		}
	}
	for _, part := range everything.within(filter.From, filter.To).divide(timeCuts(where)) {
		normal := part.normalize(where)
		if !matchesNone(normal) {
			sections = append(sections, section{part, newCondition(normal)})
		}
	}
	return sections, true
}

// hours returns the whole hours in the span, as numbers since 1970: from ≤ hour < to. There are
// none if from ≥ to. Otherwise all of their keys and the next one exist.
func (s span) hours() (from, to int64) {
	begin, end := millisOf(s.first), millisOf(s.last)+1
	if keyOf(begin, 0) != s.first {
		begin++
	}
	if keyOf(end-1, slots-1) != s.last {
		end--
	}
	return (begin + hourMillis - 1) / hourMillis, end / hourMillis
}

// hourSpan returns the span of the hours from ≤ hour < to.
func hourSpan(from, to int64) span {
	return span{keyOf(from*hourMillis, 0), keyOf(to*hourMillis, 0) - 1}
}

// around returns the parts of s before and after its whole hours from ≤ hour < to.
func (s span) around(from, to int64) (parts []span) {
	whole := hourSpan(from, to)
	if s.first < whole.first {
		parts = append(parts, span{s.first, whole.first - 1})
	}
	if whole.last < s.last {
		parts = append(parts, span{whole.last + 1, s.last})
	}
	return parts
}

// wholeDays returns the hours of the whole days within hours. There are none if from ≥ to.
func wholeDays(from, to int64) (dayFrom, dayTo int64) {
	return (from + dayRollup - 1) / dayRollup * dayRollup, to / dayRollup * dayRollup
}

// condition is a condition in normal form on columns of facets. The zero condition is true.
type condition struct {
	expr    audit.Expr
	columns columnSet // that expr reads
}

func newCondition(normal audit.Expr) condition {
	if matchesAll(normal) {
		return condition{}
	}
	c := condition{expr: normal}
	for e := range audit.Conditions(normal) {
		c.columns.add(columnOf(e.(audit.Equals).Field))
	}
	return c
}

func (c condition) all() bool { return c.expr == nil }

// rollsUp reports whether the condition can be decided for a cell of a roll-up.
func (c condition) rollsUp() bool {
	for e := range audit.Conditions(c.expr) {
		equals := e.(audit.Equals)
		if equals.Field == audit.FieldSubmittedBy && !slices.Equal(equals.Values, []string{audit.SubmittedByService}) {
			return false
		}
	}
	return true
}

// holds decides the condition for an entry with the values.
func (c condition) holds(value func(audit.Field) string) bool { return c.all() || holds(c.expr, value) }

func holds(e audit.Expr, value func(audit.Field) string) bool {
	switch e := e.(type) {
	case audit.And:
		return !slices.ContainsFunc(e, func(part audit.Expr) bool { return !holds(part, value) })
	case audit.Or:
		return slices.ContainsFunc(e, func(part audit.Expr) bool { return holds(part, value) })
	case audit.Not:
		return !holds(e.Expr, value)
	case audit.Equals:
		actual := value(e.Field)
		return actual != "" && slices.Contains(e.Values, actual)
	}
	return false // newCondition takes no others
}

// value returns a field of the entries of a cell. That of submitted_by is only told apart from
// the service's.
func (c *rollupCell) value(field audit.Field) string {
	switch field {
	case audit.FieldSeverity:
		return c.severity
	case audit.FieldAction:
		return c.action
	case audit.FieldResourceType:
		return c.resourceType
	case audit.FieldSubmittedBy:
		if c.service {
			return audit.SubmittedByService
		}
	}
	return ""
}

// choose returns the entries of the block in the span for which the condition holds.
func (c condition) choose(b *facetBlock, s span) []int32 {
	from := sort.Search(len(b.keys), func(i int) bool { return b.keys[i] >= s.first })
	to := sort.Search(len(b.keys), func(i int) bool { return b.keys[i] > s.last })
	chosen := make([]int32, 0, max(to-from, 0))
	if c.all() {
		for i := from; i < to; i++ {
			chosen = append(chosen, int32(i))
		}
		return chosen
	}
	decided := map[uint64]bool{}
	var before uint64 // entries in sequence often have the same codes
	var result bool
	for i := int32(from); i < int32(to); i++ {
		if codes := c.codes(b, i); codes != before || int(i) == from {
			before, result = codes, c.decide(b, i, codes, decided)
		}
		if result {
			chosen = append(chosen, i)
		}
	}
	return chosen
}

// codes returns the codes of the columns that the condition reads, as one number.
func (c condition) codes(b *facetBlock, i int32) (codes uint64) {
	for column := range columnSubmittedBy + 1 {
		if c.columns.has(column) {
			codes = codes<<16 | uint64(b.columns[column].code(i))
		}
	}
	return codes
}

// decide is holds for an entry of a block with the codes. It decides once for each of them.
func (c condition) decide(b *facetBlock, i int32, codes uint64, decided map[uint64]bool) bool {
	result, known := decided[codes]
	if !known {
		result = c.holds(func(field audit.Field) string {
			column := b.columns[columnOf(field)]
			return column.values[column.code(i)]
		})
		decided[codes] = result
	}
	return result
}
