package jobs_test

import (
	"errors"
	"testing"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/jobs"
)

func TestPurgeMessage(t *testing.T) {
	message := jobs.PurgeMessage{Tenant: "acme", Job: "j"}
	body, err := message.Encode()
	if err != nil {
		t.Fatal(err)
	}
	if want := `{"v":1,"tenant":"acme","job":"j"}`; body != want {
		t.Errorf("encoded as %s, want %s", body, want)
	}
	parsed, err := jobs.ParsePurgeMessage(body)
	if err != nil {
		t.Fatal(err)
	}
	if parsed != message {
		t.Errorf("parsed as %+v, want %+v", parsed, message)
	}
	if _, err := jobs.ParsePurgeMessage("purge acme"); !errors.Is(err, audit.ErrUnreadable) {
		t.Errorf("not JSON: %v, want ErrUnreadable", err)
	}
}
