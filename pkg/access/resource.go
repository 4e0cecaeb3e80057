package access

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/ocelot-audit/ocelot/pkg/audit"
)

// A type escapes colons and percent signs, so that the first unescaped colon of the
// text separates type and id.
var (
	escapeType   = strings.NewReplacer("%", "%25", ":", "%3A")
	unescapeType = strings.NewReplacer("%25", "%", "%3A", ":", "%3a", ":")
)

var errEmptyPart = errors.New(`must be a resource type such as "order", or a type and an id such as "user:42"`)

// ParseResource parses the text form: "order" for every resource of a type, "user:42"
// for one resource. The type escapes a colon as %3A and a percent sign as %25
// ("AWS%3A%3AS3%3A%3ABucket"). The id has no escapes. ParseResource returns an error if
// the text is malformed, or if the type or id is longer than an entry's may be.
func ParseResource(text string) (Resource, error) {
	name, id, hasID := strings.Cut(text, ":")
	r := Resource{Type: unescapeType.Replace(name), ID: id}
	if strings.Count(name, "%") != strings.Count(name, "%25")+strings.Count(name, "%3A")+strings.Count(name, "%3a") {
		return Resource{}, errors.New("must have a percent sign in its type only as %25 or %3A")
	}
	if hasID && id == "" { // "user:" must not mean every user
		return Resource{}, errEmptyPart
	}
	return r, r.check()
}

func (r Resource) check() error {
	switch {
	case r.Type == "":
		return errEmptyPart
	case len(r.Type) > audit.MaxResourceType:
		return fmt.Errorf("must have a type of at most %d bytes", audit.MaxResourceType)
	case len(r.ID) > audit.MaxResourceID:
		return fmt.Errorf("must have an id of at most %d bytes", audit.MaxResourceID)
	case !utf8.ValidString(r.Type) || !utf8.ValidString(r.ID):
		return errors.New("must be valid UTF-8")
	}
	return nil
}

func (r Resource) String() string {
	text := escapeType.Replace(r.Type)
	if r.ID != "" {
		text += ":" + r.ID
	}
	return text
}

// MarshalText returns the text form of ParseResource.
func (r Resource) MarshalText() ([]byte, error) {
	if err := r.check(); err != nil {
		return nil, fmt.Errorf("resource: %w", err)
	}
	return []byte(r.String()), nil
}

// UnmarshalText parses the text form of ParseResource.
func (r *Resource) UnmarshalText(text []byte) error {
	parsed, err := ParseResource(string(text))
	if err != nil {
		return fmt.Errorf("resource: %w", err)
	}
	*r = parsed
	return nil
}

// covers reports whether r is the resource or its type.
func (r Resource) covers(resourceType, id string) bool {
	return r.Type == resourceType && (r.ID == "" || r.ID == id)
}

// Covers reports whether everything that the other scope allows is within s.
func (s Scope) Covers(other Scope) bool {
	if s.Owner != "" && s.Owner != other.Owner {
		return false
	}
	if len(s.Resources) == 0 {
		return true
	}
	outside := func(r Resource) bool {
		return !slices.ContainsFunc(s.Resources, func(own Resource) bool { return own.covers(r.Type, r.ID) })
	}
	return len(other.Resources) > 0 && !slices.ContainsFunc(other.Resources, outside)
}

// Expr returns the condition that exactly the entries of the scope meet. It returns nil
// if the scope restricts nothing.
func (s Scope) Expr() audit.Expr {
	var owner audit.Expr
	if s.Owner != "" {
		owner = audit.Equals{Field: audit.FieldUserID, Values: []string{s.Owner}}
	}
	return audit.All(owner, s.resourceExpr())
}

// resourceExpr uses one condition for all resources that are a type, and one for the ids
// of each other type. Many resources therefore result in a small expression.
func (s Scope) resourceExpr() audit.Expr {
	var types, typesWithIDs []string
	ids := map[string][]string{}
	for _, r := range s.Resources {
		switch {
		case r.ID == "" && !slices.Contains(types, r.Type):
			types = append(types, r.Type)
		case r.ID != "":
			if _, seen := ids[r.Type]; !seen {
				typesWithIDs = append(typesWithIDs, r.Type)
			}
			ids[r.Type] = append(ids[r.Type], r.ID)
		}
	}
	var alternatives audit.Or
	if len(types) > 0 {
		alternatives = append(alternatives, audit.Equals{Field: audit.FieldResourceType, Values: types})
	}
	for _, t := range typesWithIDs {
		if slices.Contains(types, t) {
			continue
		}
		alternatives = append(alternatives, audit.And{
			audit.Equals{Field: audit.FieldResourceType, Values: []string{t}},
			audit.Equals{Field: audit.FieldResourceID, Values: ids[t]},
		})
	}
	switch len(alternatives) {
	case 0:
		return nil
	case 1:
		return alternatives[0]
	}
	return alternatives
}

// Allows reports whether the entry is in the scope. It agrees with Expr.
func (s Scope) Allows(e *audit.Entry) bool {
	if s.Owner != "" && e.UserID != s.Owner {
		return false
	}
	return len(s.Resources) == 0 || slices.ContainsFunc(s.Resources, func(r Resource) bool {
		return r.covers(e.ResourceType, e.ResourceID)
	})
}
