package access

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/ocelot-audit/ocelot/pkg/audit"
)

// In the type, a colon and a percent sign are escaped, so that the first plain
// colon of the text always begins the id.
var (
	escapeType   = strings.NewReplacer("%", "%25", ":", "%3A")
	unescapeType = strings.NewReplacer("%25", "%", "%3A", ":", "%3a", ":")
)

var errEmptyPart = errors.New(`must be a resource type such as "order", or a type and an id such as "user:42"`)

// ParseResource reads the text form: "order" for every resource of a type,
// "user:42" for one of them. A type that itself contains a colon or a percent
// sign has them as %3A and %25 ("AWS%3A%3AS3%3A%3ABucket"); the id stands as it
// is. Type and id are bounded as those of an entry.
func ParseResource(text string) (Resource, error) {
	name, id, hasID := strings.Cut(text, ":")
	r := Resource{Type: unescapeType.Replace(name), ID: id}
	if strings.Count(name, "%") != strings.Count(name, "%25")+strings.Count(name, "%3A")+strings.Count(name, "%3a") {
		return Resource{}, errors.New("must have a percent sign in its type only as %25 or %3A")
	}
	if hasID && id == "" { // "user:" must not come to mean every user
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

// MarshalText returns the text form that ParseResource reads.
func (r Resource) MarshalText() ([]byte, error) {
	if err := r.check(); err != nil {
		return nil, fmt.Errorf("resource: %w", err)
	}
	return []byte(r.String()), nil
}

// UnmarshalText reads the text form.
func (r *Resource) UnmarshalText(text []byte) error {
	parsed, err := ParseResource(string(text))
	if err != nil {
		return fmt.Errorf("resource: %w", err)
	}
	*r = parsed
	return nil
}

// covers reports whether r stands for the resource, or for its whole type.
func (r Resource) covers(resourceType, id string) bool {
	return r.Type == resourceType && (r.ID == "" || r.ID == id)
}

// Expr returns the condition that every entry of the scope meets, nil where it
// narrows nothing.
func (s Scope) Expr() audit.Expr {
	var owner audit.Expr
	if s.Owner != "" {
		owner = audit.Equals{Field: audit.FieldUserID, Values: []string{s.Owner}}
	}
	return audit.All(owner, s.resourceExpr())
}

// resourceExpr gathers whole types into one condition and the ids of each other
// type into one, so that many resources stay a small expression.
func (s Scope) resourceExpr() audit.Expr {
	var whole, partial []string
	ids := map[string][]string{}
	for _, r := range s.Resources {
		switch {
		case r.ID == "" && !slices.Contains(whole, r.Type):
			whole = append(whole, r.Type)
		case r.ID != "":
			if _, seen := ids[r.Type]; !seen {
				partial = append(partial, r.Type)
			}
			ids[r.Type] = append(ids[r.Type], r.ID)
		}
	}
	var either audit.Or
	if len(whole) > 0 {
		either = append(either, audit.Equals{Field: audit.FieldResourceType, Values: whole})
	}
	for _, t := range partial {
		if slices.Contains(whole, t) {
			continue
		}
		either = append(either, audit.And{
			audit.Equals{Field: audit.FieldResourceType, Values: []string{t}},
			audit.Equals{Field: audit.FieldResourceID, Values: ids[t]},
		})
	}
	switch len(either) {
	case 0:
		return nil
	case 1:
		return either[0]
	}
	return either
}

// Allows reports whether the entry lies within the scope; it holds for exactly
// the entries that meet Expr.
func (s Scope) Allows(e *audit.Entry) bool {
	if s.Owner != "" && e.UserID != s.Owner {
		return false
	}
	return len(s.Resources) == 0 || slices.ContainsFunc(s.Resources, func(r Resource) bool {
		return r.covers(e.ResourceType, e.ResourceID)
	})
}
