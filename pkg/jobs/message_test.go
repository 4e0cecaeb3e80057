package jobs_test

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/jobs"
)

func TestMessage(t *testing.T) {
	message := jobs.Message{Tenant: "acme", Job: "j", Generation: 3}
	body, err := message.Encode()
	if err != nil {
		t.Fatal(err)
	}
	if want := `{"v":1,"tenant":"acme","job":"j","generation":3}`; body != want {
		t.Errorf("encoded as %s, want %s", body, want)
	}
	parsed, err := jobs.ParseMessage(body)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(message, parsed); diff != "" {
		t.Errorf("parsed (-want +got):\n%s", diff)
	}
}

func TestMessagesThatCannotBeRead(t *testing.T) {
	for _, body := range []string{"", "purge acme", "[]", `{"v":"1"}`} {
		if _, err := jobs.ParseMessage(body); !errors.Is(err, audit.ErrUnreadable) {
			t.Errorf("%q: %v, want ErrUnreadable", body, err)
		}
	}
	for _, body := range []string{`{"tenant":"acme","job":"j"}`, `{"v":2,"tenant":"acme","job":"j"}`} { // a later release wrote it
		if _, err := jobs.ParseMessage(body); err == nil {
			t.Errorf("%q: no error, want one", body)
		} else if errors.Is(err, audit.ErrUnreadable) {
			t.Errorf("%q: %v, want no ErrUnreadable: the message waits for its release", body, err)
		}
	}
}
