package sqlite_test

import (
	"math/rand/v2"
	"testing"

	"github.com/ocelot-audit/ocelot/pkg/audit"
)

// TestDeepFiltersAreAnswered: they are much deeper than what search.ParseQuery accepts.
func TestDeepFiltersAreAnswered(t *testing.T) {
	db := open(t)
	rnd := rand.New(rand.NewPCG(1, 1))
	if _, err := db.Entries().Append(t.Context(), "acme", newCorpus().entries("acme", 1)); err != nil {
		t.Fatal(err)
	}
	leaf := func() audit.Expr { return audit.Equals{Field: audit.FieldUserID, Values: []string{"ann", "bob"}} }
	for range 400 {
		where := leaf()
		for range rnd.IntN(150) {
			switch rnd.IntN(4) {
			case 0:
				where = audit.And{leaf(), audit.Not{Expr: where}}
			case 1:
				where = audit.And{leaf(), where, audit.Not{Expr: leaf()}}
			case 2:
				where = audit.Not{Expr: audit.Or{leaf(), where}}
			default:
				where = audit.Or{audit.Text{Words: []string{"a", "b"}, Prefix: true}, where}
			}
		}
		if _, err := db.Index().Find(t.Context(), "acme", audit.Filter{Where: where}, audit.PageRequest{Limit: 1}); err != nil {
			t.Fatal(err)
		}
	}
}
