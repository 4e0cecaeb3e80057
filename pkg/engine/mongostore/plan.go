package mongostore

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/ocelot-audit/ocelot/pkg/audit"
)

// ErrNoIndex says that no index of MongoDB answers a request. It is always
// inside an *audit.UnavailableError: the search index may answer later.
var ErrNoIndex = errors.New("mongodb: no index answers this")

// retryWithoutIndex is how long a caller should wait for the search index to come back.
const retryWithoutIndex = 30 * time.Second

func noIndex(format string, args ...any) error {
	return &audit.UnavailableError{RetryAfter: retryWithoutIndex, Err: fmt.Errorf("%w: %s", ErrNoIndex, fmt.Sprintf(format, args...))}
}

// maxScans is how many ranges of an index one query may merge. MongoDB merges
// up to 200 ranges that are each sorted, and sorts in memory beyond.
const maxScans = 100

// MongoDB bounds the depth of a query at 100 levels, of which a condition takes
// two, and its size.
const (
	maxConditions = 500
	maxLevels     = 20
)

// plan is a filter as one index of a partition answers it: the entries that
// meet equals and lie in time are read in the index's order, and those that do
// not meet rest are left out.
type plan struct {
	index  string
	time   audit.Time
	equals bson.D
	rest   bson.A
	// loose is set where the index has the resource type between what equals
	// gives and the time: its values must be found and given as well.
	loose bool
	// none is set where no entry can be chosen.
	none bool
}

// indexedFields are the fields by which an index can be chosen, the one that
// chooses the fewest entries first.
var indexedFields = [...]struct {
	field audit.Field
	index string
}{
	{audit.FieldResourceID, indexResource}, {audit.FieldUserID, indexUser},
	{audit.FieldAction, indexAction}, {audit.FieldSeverity, indexSeverity},
}

// newPlan plans a filter. The error is a noIndex, or an *audit.ValidationError
// where the filter is too complex.
func newPlan(filter audit.Filter) (plan, error) {
	p := plan{index: indexTime, time: audit.Time{From: filter.From, To: filter.To}}
	c := compiler{}
	var equals []audit.Equals
	var rest []audit.Expr
	for _, e := range conditions(filter.Where) {
		switch e := e.(type) {
		case audit.Time:
			p.time = both(p.time, e)
		case audit.Equals:
			if len(e.Values) == 0 {
				p.none = true
			}
			equals = append(equals, e)
		default:
			rest = append(rest, e)
		}
	}
	if p.none {
		return p, nil
	}
	if err := p.choose(equals, &rest); err != nil {
		return p, err
	}
	for _, e := range rest {
		condition, err := c.compile(e, maxLevels)
		if err != nil {
			return p, err
		}
		p.rest = append(p.rest, condition)
	}
	return p, nil
}

// conditions returns what must all hold, And within And resolved.
func conditions(e audit.Expr) []audit.Expr {
	switch e := e.(type) {
	case nil:
		return nil
	case audit.And:
		var all []audit.Expr
		for _, part := range e {
			all = append(all, conditions(part)...)
		}
		return all
	}
	return []audit.Expr{e}
}

// both returns the time that lies in both.
func both(a, b audit.Time) audit.Time {
	if a.From.IsZero() || b.From.After(a.From) {
		a.From = b.From
	}
	if a.To.IsZero() || !b.To.IsZero() && b.To.Before(a.To) {
		a.To = b.To
	}
	return a
}

// choose takes the index and what it answers from equals; the others join the rest.
func (p *plan) choose(equals []audit.Equals, rest *[]audit.Expr) error {
	scans := 1
	take := func(field audit.Field) bool {
		i := slices.IndexFunc(equals, func(e audit.Equals) bool { return e.Field == field && scans*len(e.Values) <= maxScans })
		if i < 0 {
			return false
		}
		scans *= len(equals[i].Values)
		p.equals = append(p.equals, bson.E{Key: string(field), Value: in(equals[i].Values)})
		equals = slices.Delete(slices.Clone(equals), i, i+1)
		return true
	}
	for _, candidate := range indexedFields {
		if take(candidate.field) {
			p.index = candidate.index
			break
		}
	}
	if p.index == indexAction {
		p.loose = !take(audit.FieldResourceType)
	}
	if p.index == indexTime && len(equals)+len(*rest) > 0 {
		return noIndex("a filter needs resource_id, user_id, action or severity, with up to %d values", maxScans)
	}
	for _, e := range equals {
		*rest = append(*rest, e)
	}
	return nil
}

// compiler turns conditions into MongoDB's query language.
type compiler struct{ count int }

// compile returns the condition of an expression over fields that MongoDB
// compares as Ocelot does, of up to so many levels.
func (c *compiler) compile(e audit.Expr, levels int) (bson.D, error) {
	if c.count++; c.count > maxConditions || levels == 0 {
		return nil, audit.Invalid("?q", "too_complex", "must have at most %d conditions, nested up to %d levels deep", maxConditions, maxLevels)
	}
	switch e := e.(type) {
	case audit.And:
		return c.list("$and", e, everything, levels)
	case audit.Or:
		return c.list("$or", e, nothing, levels)
	case audit.Not:
		inner, err := c.compile(e.Expr, levels-1)
		return bson.D{{Key: "$nor", Value: bson.A{inner}}}, err
	case audit.Time:
		return timeCondition(e), nil
	case audit.Equals:
		if _, ok := e.Field.MetadataPath(); ok {
			return nil, noIndex("metadata is compared by its spelling")
		}
		return bson.D{{Key: string(e.Field), Value: in(e.Values)}}, nil
	}
	return nil, noIndex("words of the message are the search index's")
}

func (c *compiler) list(operator string, parts []audit.Expr, empty func() bson.D, levels int) (bson.D, error) {
	if len(parts) == 0 {
		return empty(), nil
	}
	list := make(bson.A, len(parts))
	for i, part := range parts {
		condition, err := c.compile(part, levels-1)
		if err != nil {
			return nil, err
		}
		list[i] = condition
	}
	return bson.D{{Key: operator, Value: list}}, nil
}

// everything and nothing return the conditions that always and never hold.
func everything() bson.D { return bson.D{} }

func nothing() bson.D { return bson.D{{Key: fieldKey, Value: in(nil)}} }

func timeCondition(t audit.Time) bson.D {
	bounds := bson.D{}
	if !t.From.IsZero() {
		bounds = append(bounds, bson.E{Key: "$gte", Value: t.From})
	}
	if !t.To.IsZero() {
		bounds = append(bounds, bson.E{Key: "$lt", Value: t.To})
	}
	if len(bounds) == 0 {
		return everything()
	}
	return bson.D{{Key: fieldTimestamp, Value: bounds}}
}

// query returns the filter of a find over the tenant's entries; more are
// conditions on fields that the plan says nothing of.
func (p *plan) query(tenant audit.TenantID, more ...bson.E) bson.D {
	query := append(ofTenant(tenant), p.equals...)
	query = append(query, timeCondition(p.time)...)
	if len(p.rest) > 0 {
		query = append(query, bson.E{Key: "$and", Value: p.rest})
	}
	return append(query, more...)
}
