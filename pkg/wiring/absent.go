package wiring

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/access"
	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/ingest"
	"github.com/ocelot-audit/ocelot/pkg/manifest"
)

// fill replaces the queues that were not opened by queues that fail. A function can then
// create a use case whose sending methods it never calls.
func (s *Stores) fill() {
	if s.Queue == nil {
		s.Queue = func(name manifest.QueueName) Queue { return absentQueue(name) }
	}
	if s.DeadLetters == nil {
		s.DeadLetters = func(name manifest.QueueName) ingest.Queue { return absentQueue(name.DeadLetters()) }
	}
}

// errNotGranted says that a function used what its row in the manifest does not grant.
var errNotGranted = errors.New("the function was not granted it")

// absentQueue is a queue that the function was not granted.
type absentQueue manifest.QueueName

func (q absentQueue) Send(context.Context, audit.TenantID, []string) error { return q.err() }

func (q absentQueue) SendAfter(context.Context, audit.TenantID, time.Duration, string) error {
	return q.err()
}

func (q absentQueue) err() error {
	return fmt.Errorf("send to the queue %s: %w", string(q), errNotGranted)
}

// noTokens rejects every bearer token.
type noTokens struct{}

func (noTokens) Verify(context.Context, string) (access.Principal, error) {
	return access.Principal{}, audit.ErrUnauthenticated
}
