package httpapi_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ocelot-audit/ocelot/pkg/edge/httpapi"
	"github.com/ocelot-audit/ocelot/pkg/protect"
)

// protectedWorld is a world whose tenant acme has rules of sensitive fields.
func protectedWorld(t *testing.T) *world {
	t.Helper()
	w := newWorld(t)
	w.call("operator", "PATCH", "/tenants/acme", `{"settings":{"sensitive_fields":[
		{"path":"metadata.email","mask":"email","subject":"user_id"},{"path":"message"},{"path":"**.iban","mask":"last4"}]}}`,
		map[string]string{"If-Match": "*", "Content-Type": "application/merge-patch+json"}).want(t, 200, "")
	w.processQueues()
	return w
}

const sensitive = `,"message":"call Ann","metadata":{"email":"ann@example.com","n":1,"a":{"IBAN":"DE893704004405320007"}}`

// places are the members of an entry that name encrypted values, and what stands there.
type places struct {
	Message                              string
	Metadata                             json.RawMessage
	Masked, Revealed, Erased, Unreadable []string
}

func (w *world) read(as, path string, status int, code string) (p places) {
	w.t.Helper()
	r := w.call(as, "GET", path, "", nil).want(w.t, status, code)
	if status == 200 {
		r.decode(w.t, &p)
	}
	return p
}

var (
	all3   = []string{"/message", "/metadata/a/IBAN", "/metadata/email"}
	masked = places{
		Message: protect.Masked, Metadata: json.RawMessage(`{"email":"•••@example.com","n":1,"a":{"IBAN":"••••0007"}}`), Masked: all3,
	}
	revealed = places{
		Message: "call Ann", Metadata: json.RawMessage(`{"email":"ann@example.com","n":1,"a":{"IBAN":"DE893704004405320007"}}`), Revealed: all3,
	}
)

// TestEncryptedValuesAreRevealedOnRequest: by id and by search, never in lists.
func TestEncryptedValuesAreRevealedOnRequest(t *testing.T) {
	w := protectedWorld(t)
	id := w.wrote(sensitive)
	if diff := cmp.Diff(masked, w.read("admin", "/logs/"+id, 200, "")); diff != "" {
		t.Errorf("without reveal (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(masked, w.read("admin", "/logs/"+id+"?reveal=false", 200, "")); diff != "" {
		t.Errorf("reveal=false (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(revealed, w.read("admin", "/logs/"+id+"?reveal=true&reason=Case+17", 200, "")); diff != "" {
		t.Errorf("with reveal (-want +got):\n%s", diff)
	}
	var list struct{ Items []places }
	w.call("admin", "POST", "/logs/search", `{"action":"UPDATE","reveal":true,"reason":"Case 17"}`, nil).want(t, 200, "").decode(t, &list)
	if diff := cmp.Diff([]places{revealed}, list.Items); diff != "" {
		t.Errorf("a search with reveal (-want +got):\n%s", diff)
	}
	w.call("admin", "GET", "/logs?reveal=true&reason=x", "", nil).want(t, 422, "invalid")
}

// TestARevealIsRecordedBeforeItsAnswer: with who, why, how many and which.
func TestARevealIsRecordedBeforeItsAnswer(t *testing.T) {
	w := protectedWorld(t)
	id := w.wrote(sensitive)
	w.read("admin", "/logs/"+id+"?reveal=true&reason=Case+17", 200, "")
	w.processQueues()
	var list struct {
		Items []struct {
			UserID      string `json:"user_id"`
			SubmittedBy string `json:"submitted_by"`
			Metadata    json.RawMessage
		}
	}
	w.call("admin", "GET", "/logs?action="+protect.ActionReveal, "", nil).want(t, 200, "").decode(t, &list)
	if got := len(list.Items); got != 1 {
		t.Fatalf("%d records of a reveal, want 1", got)
	}
	if got, want := list.Items[0].UserID+" "+list.Items[0].SubmittedBy, "admin service"; got != want {
		t.Errorf("it is of %q, want %q", got, want)
	}
	if got, want := string(list.Items[0].Metadata), `{"reason":"Case 17","values":3,"entries":1,"ids":["`+id+`"]}`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	w.faults.set("queue", errors.New("down"))
	response := w.call("admin", "GET", "/logs/"+id+"?reveal=true&reason=x", "", nil).want(t, 503, "unavailable")
	if strings.Contains(response.body, "ann@example.com") {
		t.Error("a reveal that could not be recorded has the value, want none")
	}
}

func TestWhoMayNotReveal(t *testing.T) {
	w := protectedWorld(t)
	id := w.wrote(sensitive)
	for _, as := range []string{"auditor", "operator", "user"} {
		w.read(as, "/logs/"+id+"?reveal=true&reason=x", 403, "forbidden")
	}
	w.call("auditor", "POST", "/logs/search", `{"reveal":true,"reason":"x"}`, nil).want(t, 403, "forbidden")
	w.processQueues()
	if got := w.call("admin", "GET", "/logs?action="+protect.ActionReveal, "", nil).body; strings.Contains(got, protect.ActionReveal) {
		t.Errorf("a refused reveal is recorded as one: %s", got)
	}
}

func TestAReasonIsRequired(t *testing.T) {
	w := protectedWorld(t)
	id := w.wrote(sensitive)
	for _, query := range []string{"reveal=true", "reveal=true&reason=", "reveal=true&reason=+", "reveal=yes&reason=x", "reason=x", "reveal=false&reason=x", "reveal=true&reason=" + strings.Repeat("x", 1025)} {
		w.read("admin", "/logs/"+id+"?"+query, 422, "invalid")
	}
	for _, body := range []string{`{"reveal":true}`, `{"reveal":true,"reason":7}`, `{"reveal":"true","reason":"x"}`, `{"reason":"x"}`} {
		w.call("admin", "POST", "/logs/search", body, nil).want(t, 422, "invalid")
	}
}

// TestWithoutTheMasterKeyReadsShowMasks: and entries with sensitive fields are refused alone.
func TestWithoutTheMasterKeyReadsShowMasks(t *testing.T) {
	w := protectedWorld(t)
	id := w.wrote(sensitive)
	w.now = w.now.Add(protect.KeyTTL + time.Second)
	w.faults.set("master key", protect.ErrMasterKey)
	if diff := cmp.Diff(masked, w.read("admin", "/logs/"+id+"?reveal=true&reason=x", 200, "")); diff != "" {
		t.Errorf("without the key (-want +got):\n%s", diff)
	}
	w.call("admin", "POST", "/logs", entry(sensitive), nil).want(t, 503, "unavailable")
	w.call("admin", "POST", "/logs", entry(""), nil).want(t, 202, "")
	var bulk struct {
		Accepted, Rejected int
		Items              []struct {
			Status string
			Error  struct{ Status int }
		}
	}
	w.call("admin", "POST", "/logs/bulk", "["+entry("")+","+entry(sensitive)+","+entry("")+"]", nil).want(t, 207, "").decode(t, &bulk)
	if bulk.Accepted != 2 || bulk.Items[1].Error.Status != 503 {
		t.Errorf("got %+v, want the second entry alone rejected with 503", bulk)
	}
}

func TestErasedAndAlteredValues(t *testing.T) {
	w := protectedWorld(t)
	id := w.wrote(sensitive)
	keys := protect.NewKeyring(w.db.TenantKeys(), w.master, w.clock, w.fill)
	subject, err := keys.SubjectID(t.Context(), "acme", "ann")
	if err != nil {
		t.Fatal(err)
	}
	ref, err := keys.NewestRef(t.Context(), "acme", subject)
	if err != nil {
		t.Fatal(err)
	}
	if err := keys.Destroy(t.Context(), "acme", ref); err != nil {
		t.Fatal(err)
	}
	w.now = w.now.Add(protect.KeyTTL + time.Second)
	want := places{
		Message: "call Ann", Metadata: json.RawMessage(`{"email":"•••@example.com","n":1,"a":{"IBAN":"DE893704004405320007"}}`),
		Revealed: []string{"/message", "/metadata/a/IBAN"}, Erased: []string{"/metadata/email"},
	}
	if diff := cmp.Diff(want, w.read("admin", "/logs/"+id+"?reveal=true&reason=x", 200, "")); diff != "" {
		t.Errorf("after an erasure (-want +got):\n%s", diff)
	}
}

// Without their key, the entries of a bulk that need it are rejected, and the log says why.
func TestEntriesWithoutTheirKeyAreUnavailable(t *testing.T) {
	w := protectedWorld(t)
	w.faults.set("master key", fmt.Errorf("%w: disabled", protect.ErrMasterKey))
	w.call("admin", "POST", "/logs", entry(sensitive), nil).want(t, 503, "unavailable")
	w.logs.Reset()
	var answer struct {
		Accepted, Rejected int
		Items              []struct {
			Status string
			Error  struct{ Status int }
		}
	}
	body := "[" + entry(sensitive) + "," + entry("") + "," + entry(sensitive) + "]"
	w.call("admin", "POST", "/logs/bulk", body, nil).want(t, 207, "").decode(t, &answer)
	if answer.Accepted != 1 || answer.Rejected != 2 {
		t.Errorf("accepted %d and rejected %d, want 1 and 2", answer.Accepted, answer.Rejected)
	}
	if got := answer.Items[2].Error.Status; got != 503 {
		t.Errorf("the last entry got the problem %d, want 503", got)
	}
	for _, want := range []string{`"entries":2`, "the master key cannot be used: disabled"} {
		if !strings.Contains(w.logs.String(), want) {
			t.Errorf("the log says %s, want %q in it", w.logs, want)
		}
	}
	if strings.Contains(w.logs.String(), "ann@example.com") {
		t.Errorf("the log says %s, want no values in it", w.logs)
	}
}

// TestAnExportWithoutEntriesHasAType: its body is empty.
func TestAnExportWithoutEntriesHasAType(t *testing.T) {
	w := newWorld(t)
	r := w.call("admin", "GET", "/logs/export?user_id=nobody", "", nil).want(t, 200, "")
	if got, want := r.header.Get("Content-Type"), httpapi.MediaNDJSON; got != want {
		t.Errorf("got Content-Type %q, want %q", got, want)
	}
}
