package runtimehost_test

import (
	"testing"

	"github.com/ocelot-audit/ocelot/pkg/edge/lambdaedge"
	"github.com/ocelot-audit/ocelot/pkg/local/runtimehost"
)

// The host stands in for Lambda and knows no function, so that it repeats the limit.
func TestPayloadIsThatOfFunctions(t *testing.T) {
	if got, want := runtimehost.MaxPayload, lambdaedge.MaxPayload; got != want {
		t.Errorf("the host carries %d bytes, want %d", got, want)
	}
}
