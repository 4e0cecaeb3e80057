package protect

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/audit"
)

// MasterPause is how long a process does not call a master key that failed. One call follows, and the
// others wait for its answer.
const MasterPause = 2 * time.Second

// pausingMaster is a master key that is not called while it is known to fail. The key is the same for
// all tenants, so its failure is too: throttling, no answer, a disabled key, no permission to use it.
type pausingMaster struct {
	KeyWrapper
	now func() time.Time

	mu     sync.Mutex
	failed error     // of the last call; nil: it succeeded
	since  time.Time // when that was known, or when a call began that is to show whether it still fails
}

// Wrap implements KeyWrapper.
func (m *pausingMaster) Wrap(ctx context.Context, tenant audit.TenantID, key []byte) ([]byte, error) {
	return m.call(func() ([]byte, error) { return m.KeyWrapper.Wrap(ctx, tenant, key) })
}

// Unwrap implements KeyWrapper.
func (m *pausingMaster) Unwrap(ctx context.Context, tenant audit.TenantID, wrapped []byte) ([]byte, error) {
	return m.call(func() ([]byte, error) { return m.KeyWrapper.Unwrap(ctx, tenant, wrapped) })
}

func (m *pausingMaster) call(do func() ([]byte, error)) ([]byte, error) {
	if err := m.begin(); err != nil {
		return nil, err
	}
	result, err := do()
	m.end(err)
	return result, err
}

// begin returns the error of the last call unless another call may be made.
func (m *pausingMaster) begin() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.failed == nil {
		return nil
	}
	now := m.now()
	if passed := now.Sub(m.since); passed >= 0 && passed < MasterPause {
		return &audit.UnavailableError{RetryAfter: MasterPause - passed, Err: fmt.Errorf("the master key failed a moment ago: %w", m.failed)}
	}
	m.since = now
	return nil
}

func (m *pausingMaster) end(err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case err == nil, errors.Is(err, ErrWrapped): // the key answered
		m.failed = nil
	case errors.Is(err, context.Canceled): // the caller has gone, which tells nothing about the key
	default:
		m.failed, m.since = err, m.now()
	}
}
