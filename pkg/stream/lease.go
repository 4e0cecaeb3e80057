package stream

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/ocelot-audit/ocelot/pkg/audit"
)

const (
	// leaseTime is how long a connection stays locked if the holder of its lease was
	// killed. Sending a few frames takes less time.
	leaseTime = 15 * time.Second
	// renewAfter is the time after which a working holder saves its progress and renews its lease.
	renewAfter = leaseTime / 3
	// acquireTimeout bounds the time that a client's message waits for the lease.
	acquireTimeout = 2 * deliveryTime
	acquirePoll    = 20 * time.Millisecond
	// maxClockSkew is more than the clocks of two workers differ. A resume message
	// must not reach a worker whose clock says that it is too early.
	maxClockSkew = 100 * time.Millisecond
)

// resumeMessage is the queue message that asks to resume the delivery to one
// connection. Its JSON Schema is events/schemas/delivery.json.
type resumeMessage struct {
	Version    int            `json:"v"`
	Tenant     audit.TenantID `json:"tenant"`
	Connection string         `json:"connection"`
}

const resumeVersion = 1

// resume sends a message that resumes the delivery to the connection after the delay.
func (s *Service) resume(ctx context.Context, c Connection, delay time.Duration) error {
	body, err := json.Marshal(resumeMessage{Version: resumeVersion, Tenant: c.Tenant, Connection: c.ID})
	if err == nil {
		err = s.Queue.SendAfter(ctx, c.Tenant, delay, string(body))
	}
	if err != nil {
		return fmt.Errorf("send a resume message: %w", err)
	}
	return nil
}

// newHolder returns a random name for the holder of a lease.
func (s *Service) newHolder() string {
	var b [8]byte
	s.Random(b[:])
	return hex.EncodeToString(b[:])
}

// acquire acquires the connection's lease for a client's message. It waits up to
// acquireTimeout for a delivery to release it. It returns audit.ErrNotFound if the
// connection has ended, the error of check, or an *audit.UnavailableError after the timeout.
func (s *Service) acquire(ctx context.Context, id string) (c Connection, holder string, err error) {
	holder = s.newHolder()
	ctx, cancel := context.WithTimeout(ctx, acquireTimeout)
	defer cancel()
	for {
		c, acquired, err := s.Connections.Acquire(ctx, id, holder, s.Now().Add(leaseTime))
		if err != nil {
			return Connection{}, "", fmt.Errorf("acquire the connection: %w", err)
		}
		if acquired {
			if err := s.check(ctx, c); err != nil {
				return Connection{}, "", errors.Join(err, s.releaseAndResume(ctx, c, holder))
			}
			return c, holder, nil
		}
		select {
		case <-ctx.Done():
			return Connection{}, "", &audit.UnavailableError{Err: errors.New("a delivery holds the connection")}
		case <-time.After(acquirePoll):
		}
	}
}

// releaseAndResume releases the lease. If another worker asked for it meanwhile,
// that worker had entries to deliver. A resume message follows. It is sent after
// the release, so that it cannot find the lease taken.
func (s *Service) releaseAndResume(ctx context.Context, c Connection, holder string) error {
	contended, err := s.release(ctx, c.ID, holder)
	if err != nil || !contended {
		return err
	}
	return s.resume(ctx, c, 0)
}

// release releases the lease even if another worker asked for it, and reports
// whether one did. The caller must see to it that the delivery resumes.
func (s *Service) release(ctx context.Context, id, holder string) (contended bool, err error) {
	for {
		released, err := s.Connections.Release(ctx, id, holder)
		if err != nil || released {
			return contended, err
		}
		contended = true
	}
}
