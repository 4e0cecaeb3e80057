package client

import (
	"strings"
	"testing"

	"github.com/ocelot-audit/ocelot/pkg/access"
	"github.com/ocelot-audit/ocelot/pkg/stream"
)

// The client must not import the service, so that it repeats these.
func TestLimitsAreThoseOfTheService(t *testing.T) {
	if got, want := maxMessage, stream.MaxMessageSize; got != want {
		t.Errorf("a message may have %d bytes, want %d", got, want)
	}
	if got, limit := sentFrame, stream.MaxFrameBytes; got > limit {
		t.Errorf("a frame is sent with %d bytes, want at most %d", got, limit)
	}
	secret := access.NewSecret(func([]byte) {})
	if !strings.HasPrefix(secret, apiKeyPrefix) {
		t.Errorf("the API key %q does not begin with %q", secret, apiKeyPrefix)
	}
}
