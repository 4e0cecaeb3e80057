package protect_test

import (
	"strings"
	"testing"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/protect"
)

// FuzzDetect plants secrets between any two texts. Each has to go, and a second pass finds nothing.
func FuzzDetect(f *testing.F) {
	f.Add("order ", " paid")
	f.Add("4111-", "-----BEGIN PRIVATE KEY-----")
	f.Add("eyJ.", `\"`)
	settings := audit.Settings{Detect: audit.Detectors()}
	f.Fuzz(func(t *testing.T, before, after string) {
		for _, secret := range []string{jwt, "4111111111111111", "AKIAIOSFODNN7EXAMPLE"} {
			e := audit.Entry{Message: before + " x " + secret + " x " + after}
			if invalid := protect.RemoveSecrets(&settings, &e); invalid != nil {
				t.Fatalf("%q: got %v, want no fault", e.Message, invalid)
			}
			if kept := strings.ToValidUTF8(before+after, ""); strings.Contains(e.Message, secret) && !strings.Contains(kept, secret) {
				t.Errorf("got %q, want it without %q", e.Message, secret)
			}
			once := e.Message
			_ = protect.RemoveSecrets(&settings, &e)
			if e.Message != once {
				t.Errorf("the second pass makes %q of %q, want no change", e.Message, once)
			}
		}
	})
}
