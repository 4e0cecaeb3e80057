package httpapi_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ocelot-audit/ocelot/pkg/protect"
)

// matchingWorld is a world whose tenant acme can be searched by encrypted values.
func matchingWorld(t *testing.T) *world {
	t.Helper()
	w := newWorld(t)
	w.call("operator", "PATCH", "/tenants/acme", `{"settings":{"sensitive_fields":[
		{"path":"metadata.email","mask":"email","subject":"user_id","searchable":true},{"path":"**.iban","mask":"last4","searchable":true},
		{"path":"ip_address","searchable":true},{"path":"metadata.note"}]}}`,
		map[string]string{"If-Match": "*", "Content-Type": "application/merge-patch+json"}).want(t, 200, "")
	w.processQueues()
	return w
}

// match returns the ids of the entries with the encrypted values.
func (w *world) match(values string) []string {
	w.t.Helper()
	var list struct{ Items []struct{ ID string } }
	w.call("admin", "POST", "/logs/search", `{"match_encrypted":`+values+`}`, nil).want(w.t, 200, "").decode(w.t, &list)
	var ids []string
	for _, item := range list.Items {
		ids = append(ids, item.ID)
	}
	return ids
}

func (w *world) wantMatch(values string, want ...string) {
	w.t.Helper()
	if diff := cmp.Diff(want, w.match(values)); diff != "" {
		w.t.Errorf("%s (-want +got):\n%s", values, diff)
	}
}

func TestEntriesAreFoundByEncryptedValues(t *testing.T) {
	w := matchingWorld(t)
	ann := w.wrote(`,"ip_address":"203.0.113.7","metadata":{"email":"ann@example.com","bank":{"iban":["DE89","FR76"]},"note":"x"}`)
	bob := w.wrote(`,"ip_address":"203.0.113.8","metadata":{"email":"bob@example.com","bank":{"iban":1.50},"note":"x"}`)
	w.wrote(`,"metadata":{"plain":"ann@example.com"}`)
	w.wantMatch(`{"metadata.email":"ann@example.com"}`, ann)
	w.wantMatch(`{"metadata.email":"ANN@example.com"}`)
	w.wantMatch(`{"metadata.email":"ann@example"}`)
	w.wantMatch(`{"metadata.email":"•••@example.com"}`)
	w.wantMatch(`{"metadata.bank.iban":"FR76"}`, ann)
	w.wantMatch(`{"metadata.bank.iban":1.5}`, bob)
	w.wantMatch(`{"metadata.bank.iban":"1.5"}`)
	w.wantMatch(`{"ip_address":"::ffff:203.0.113.8"}`, bob)
	w.wantMatch(`{"metadata.email":"ann@example.com","metadata.bank.iban":"DE89"}`, ann)
	w.wantMatch(`{"metadata.email":"ann@example.com","metadata.bank.iban":1.5}`)
}

func TestASearchByEncryptedValuesIsRecordedBeforeItsAnswer(t *testing.T) {
	w := matchingWorld(t)
	id := w.wrote(`,"metadata":{"email":"ann@example.com"}`)
	w.wantMatch(`{"metadata.email":"ann@example.com"}`, id)
	w.processQueues()
	var list struct {
		Items []struct {
			UserID   string `json:"user_id"`
			Metadata json.RawMessage
		}
	}
	w.call("admin", "GET", "/logs?action="+protect.ActionMatch, "", nil).want(t, 200, "").decode(t, &list)
	if got := len(list.Items); got != 1 {
		t.Fatalf("%d records, want 1", got)
	}
	if got, want := list.Items[0].UserID, "admin"; got != want {
		t.Errorf("it is of %q, want %q", got, want)
	}
	if got, want := string(list.Items[0].Metadata), `{"paths":["metadata.email"],"entries":1,"ids":["`+id+`"]}`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	w.faults.set("queue", errors.New("down"))
	response := w.call("admin", "POST", "/logs/search", `{"match_encrypted":{"metadata.email":"ann@example.com"}}`, nil).want(t, 503, "unavailable")
	if strings.Contains(response.body, id) {
		t.Error("a search that could not be recorded has the entry, want none")
	}
}

func TestWhoMayNotSearchByEncryptedValues(t *testing.T) {
	w := matchingWorld(t)
	w.wrote(`,"metadata":{"email":"ann@example.com"}`)
	body := `{"match_encrypted":{"metadata.email":"ann@example.com"}}`
	for _, as := range []string{"auditor", "operator", "user"} {
		w.call(as, "POST", "/logs/search", body, nil).want(t, 403, "forbidden")
	}
	w.call("admin", "GET", "/logs?match_encrypted=x", "", nil).want(t, 422, "invalid")
}

func TestWhatCannotBeMatched(t *testing.T) {
	w := matchingWorld(t)
	many := make([]string, 17)
	for i := range many {
		many[i] = fmt.Sprintf(`"metadata.x%d.iban":"x"`, i)
	}
	for body, want := range map[string]string{
		`[]`:                                "/match_encrypted wrong_type",
		`{}`:                                "/match_encrypted out_of_range",
		`{` + strings.Join(many, ",") + `}`: "/match_encrypted out_of_range",
		`{"metadata.note":"x"}`:             "/match_encrypted/metadata.note not_searchable",
		`{"metadata.plan":"x"}`:             "/match_encrypted/metadata.plan not_searchable",
		`{"message":"x"}`:                   "/match_encrypted/message not_searchable",
		`{"email":"x"}`:                     "/match_encrypted/email not_searchable",
		`{"metadata.email":["x","y"]}`:      "/match_encrypted/metadata.email wrong_type",
		`{"metadata.email":{"x":1}}`:        "/match_encrypted/metadata.email wrong_type",
		`{"metadata.email":null}`:           "/match_encrypted/metadata.email wrong_type",
		`{"metadata.` + strings.Repeat("x", 1016) + `":"x"}`:     "/match_encrypted too_long",
		`{"metadata.email":"` + strings.Repeat("x", 4097) + `"}`: "/match_encrypted/metadata.email too_long",
	} {
		var answer struct {
			Errors []struct{ Pointer, Code string }
		}
		w.call("admin", "POST", "/logs/search", `{"match_encrypted":`+body+`}`, nil).want(t, 422, "invalid").decode(t, &answer)
		if len(answer.Errors) != 1 || answer.Errors[0].Pointer+" "+answer.Errors[0].Code != want {
			t.Errorf("%.60s: got %v, want %s", body, answer.Errors, want)
		}
	}
}

// TestSearchesByEncryptedValuesAreBounded: nobody tries out a list of guesses.
func TestSearchesByEncryptedValuesAreBounded(t *testing.T) {
	w := matchingWorld(t)
	for range 60 {
		w.match(`{"metadata.email":"guess"}`)
	}
	body := `{"match_encrypted":{"metadata.email":"guess"}}`
	refused := w.call("admin", "POST", "/logs/search", body, nil).want(t, 429, "too_many_requests")
	if got, want := refused.header.Get("Retry-After"), "1"; got != want {
		t.Errorf("Retry-After is %q, want %q", got, want)
	}
	w.call("admin", "POST", "/logs/search", `{}`, nil).want(t, 200, "")
	w.now = w.now.Add(time.Second)
	w.match(`{"metadata.email":"guess"}`)
}

// TestErasedValuesAreNotMatched: also while the index has their tokens.
func TestErasedValuesAreNotMatched(t *testing.T) {
	w := matchingWorld(t)
	id := w.wrote(`,"metadata":{"email":"ann@example.com","iban":"DE89"}`)
	w.wantMatch(`{"metadata.email":"ann@example.com"}`, id)
	keys := protect.NewKeyring(w.db.TenantKeys(), w.master, w.clock, w.fill)
	subject, err := keys.SubjectID(t.Context(), "acme", "ann")
	if err != nil {
		t.Fatal(err)
	}
	if err := keys.Destroy(t.Context(), "acme", protect.KeyRef{Subject: subject, Generation: 1}); err != nil {
		t.Fatal(err)
	}
	w.now = w.now.Add(protect.KeyTTL + time.Second)
	w.wantMatch(`{"metadata.email":"ann@example.com"}`)
	w.wantMatch(`{"metadata.iban":"DE89"}`, id)
	later := w.wrote(`,"metadata":{"email":"ann@example.com"}`)
	w.wantMatch(`{"metadata.email":"ann@example.com"}`, later)
}
