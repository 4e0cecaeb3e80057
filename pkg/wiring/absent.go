package wiring

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/access"
	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/ingest"
	"github.com/ocelot-audit/ocelot/pkg/manifest"
	"github.com/ocelot-audit/ocelot/pkg/rotation"
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

// keyVersions returns what opens the versions of the secret with the keys of cursors, once.
func (s *Security) keyVersions() func() (rotation.Versions, error) {
	if s.KeyVersions == nil {
		return func() (rotation.Versions, error) {
			return nil, fmt.Errorf("versions of the cursor keys: %w", errNotGranted)
		}
	}
	return sync.OnceValues(s.KeyVersions)
}

// noTokens rejects every bearer token.
type noTokens struct{}

func (noTokens) Verify(context.Context, string) (access.Principal, error) {
	return access.Principal{}, audit.ErrUnauthenticated
}
