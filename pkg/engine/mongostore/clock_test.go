package mongostore_test

import (
	"testing"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/engine/mongostore"
	"github.com/ocelot-audit/ocelot/pkg/stream"
	"github.com/ocelot-audit/ocelot/pkg/testkit/enginetest"
)

// serverSkew is how far the server's clock is ahead of that of a process.
type serverSkew time.Duration

var skews = []serverSkew{0, serverSkew(24 * time.Hour), serverSkew(-24 * time.Hour)}

func (s serverSkew) String() string {
	switch {
	case s > 0:
		return "OfASlowProcess"
	case s < 0:
		return "OfAFastProcess"
	}
	return ""
}

// clocks returns the options of a process whose clock is now.
func (s serverSkew) clocks(now func() time.Time) []mongostore.Option {
	return []mongostore.Option{
		mongostore.WithClock(now), mongostore.WithServerClock(func() time.Time { return now().Add(time.Duration(s)) }),
	}
}

// streamer is a process with a clock of its own at the streams of one server.
type streamer struct {
	*mongostore.Streams
	now func() time.Time
}

func newStreamer(t *testing.T, uri, name string, ahead time.Duration) streamer {
	t.Helper()
	now := func() time.Time { return time.Now().Add(ahead) }
	return streamer{open(t, uri, name, mongostore.WithClock(now)).Streams(), now}
}

func (s streamer) acquire(t *testing.T, tenant audit.TenantID, holder string, lease time.Duration) (stream.State, bool) {
	t.Helper()
	until := s.now().Add(lease)
	state, acquired, err := s.Acquire(t.Context(), tenant, holder, until, until)
	if err != nil {
		t.Fatal(err)
	}
	return state, acquired
}

func (s streamer) wantHeld(t *testing.T, tenant audit.TenantID, lease time.Duration) {
	t.Helper()
	state, acquired := s.acquire(t, tenant, "other", lease)
	if acquired {
		t.Fatal("a second process acquired the lease, want it taken")
	}
	if left := state.LeasedUntil.Sub(s.now()); left < lease-time.Second || left > lease+time.Second {
		t.Errorf("the lease ends in %s, want about %s", left, lease)
	}
	idle, err := s.Idle(t.Context(), []audit.TenantID{tenant})
	if err != nil {
		t.Fatal(err)
	}
	if len(idle) > 0 {
		t.Errorf("the idle streams are %v, want none", idle)
	}
}

// TestLeasesGoByTheServersClock: processes whose clocks are a day apart agree who holds a
// stream, and for how long. A holder that was killed blocks it until the end of its lease.
func TestLeasesGoByTheServersClock(t *testing.T) {
	const day, lease = 24 * time.Hour, 3 * time.Second
	uri := enginetest.Mongo(t)
	for name, ahead := range map[string]time.Duration{"ahead": day, "behind": -day} {
		t.Run(name, func(t *testing.T) {
			database := newDatabase(t, uri)
			wrong, right := newStreamer(t, uri, database, ahead), newStreamer(t, uri, database, 0)
			if err := wrong.Open(t.Context(), "acme", wrong.now().Add(time.Hour)); err != nil {
				t.Fatal(err)
			}
			if _, acquired := wrong.acquire(t, "acme", "killed", lease); !acquired {
				t.Fatal("the lease on a new stream was not acquired")
			}
			right.wantHeld(t, "acme", lease)
			time.Sleep(lease)
			if _, acquired := right.acquire(t, "acme", "next", lease); !acquired {
				t.Fatal("the lease was not acquired after its end")
			}
			wrong.wantHeld(t, "acme", lease)
		})
	}
}
