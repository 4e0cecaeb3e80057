package sqlite_test

import (
	"errors"
	"math/rand/v2"
	"testing"

	"github.com/ocelot-audit/ocelot/pkg/audit"
)

// TestDeepFiltersNeverReachTheLimitOfFTS5: compile must refuse them before FTS5's
// parser does.
func TestDeepFiltersNeverReachTheLimitOfFTS5(t *testing.T) {
	db := open(t)
	rnd := rand.New(rand.NewPCG(1, 1))
	if _, err := db.Entries().Append(t.Context(), "acme", newCorpus().entries("acme", 1)); err != nil {
		t.Fatal(err)
	}
	leaf := func() audit.Expr { return audit.Equals{Field: audit.FieldUserID, Values: []string{"ann", "bob"}} }
	answered, refused := 0, 0
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
		_, err := db.Index().Find(t.Context(), "acme", audit.Filter{Where: where}, audit.PageRequest{Limit: 1})
		var invalid *audit.ValidationError
		switch {
		case err == nil:
			answered++
		case errors.As(err, &invalid) && invalid.Fields[0].Pointer == "?q":
			refused++
		default:
			t.Fatalf("got error %v, want none or a fault of ?q", err)
		}
	}
	if answered < 100 {
		t.Errorf("answered %d filters, want at least 100", answered)
	}
	if refused < 20 {
		t.Errorf("refused %d filters, want at least 20", refused)
	}
}
