// Package attempts records in a tenant's log what callers of the tenant tried and were refused.
package attempts

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/access"
	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/ttlcache"
)

// Action and ResourceType are those of the entry about refused attempts. Its ResourceID is the route.
const (
	Action       = "access.refused"
	ResourceType = "route"
)

// MaxAnHour is how many entries a caller of a tenant gets in an hour of the clock.
const MaxAnHour = 100

const (
	// timeout bounds how much later a caller gets the answer because its attempt is recorded.
	timeout = time.Second
	// pause is how long nothing of a tenant is recorded after a store or a queue was not available for it,
	// so that the answers do not all wait for that.
	pause = 5 * time.Second
	// maxCached bounds what a Recorder remembers, to some hundred KB.
	maxCached = 4096
)

// Attempt is what a caller was refused.
type Attempt struct {
	Principal access.Principal
	// Tenant is the one that the request names; "": the route belongs to no tenant.
	Tenant audit.TenantID
	// Route is the method and the path as the API describes it, such as "GET /logs/{id}".
	Route string
	// Missing is the permission that the caller does not have; "": something else was missing.
	Missing access.Permission
	// Reason is one sentence that has nothing of the request's content.
	Reason    string
	RequestID string
	IPAddress netip.Addr // the zero Addr: unknown
	UserAgent string
}

// inOwnTenant reports whether the attempt belongs into the log of the tenant that the request names.
func (a *Attempt) inOwnTenant() bool { return a.Tenant != "" && a.Principal.BelongsTo(a.Tenant) }

// Slot is the place of an entry: one caller, route and minute.
type Slot struct {
	Tenant audit.TenantID
	// Caller is a hash of the credential; see access.Principal.SubmittedBy.
	Caller [16]byte
	// Hour is the hours since 1970, and Place the route with the minute of the hour.
	Hour  int64
	Place string
}

func slotOf(a *Attempt, now time.Time) Slot {
	sum := sha256.Sum256([]byte(a.Principal.SubmittedBy()))
	return Slot{
		Tenant: a.Tenant, Caller: [16]byte(sum[:16]), Hour: now.Unix() / int64(time.Hour/time.Second),
		Place: fmt.Sprintf("%02d %s", now.UTC().Minute(), a.Route),
	}
}

// Claims decides for all processes together which entries are written. A claim is kept for an hour
// at least.
type Claims interface {
	// Claim takes the slot. It returns false if the slot was taken before, or if most slots of the
	// caller are taken in that hour. After an error the slot may be taken.
	Claim(ctx context.Context, slot Slot, most int) (bool, error)
}

// Tenants finds tenants. Tenant returns audit.ErrNotFound if none exists.
type Tenants interface {
	Tenant(ctx context.Context, id audit.TenantID) (audit.Tenant, error)
}

// Recorder records refused attempts: one entry for each caller, route and minute, and at most
// MaxAnHour in an hour for each caller of a tenant. It is safe for concurrent use and must not be
// copied. Make it with New.
type Recorder struct {
	Tenants Tenants
	Claims  Claims
	Log     audit.Recorder
	Now     func() time.Time
	// Random fills b with random bytes for ids; crypto/rand in production.
	Random func(b []byte)
	// Outside counts an attempt that belongs to no tenant of the caller.
	Outside func(ctx context.Context)
	// Failed gets why an attempt was not recorded, without anything that the caller sent.
	Failed func(ctx context.Context, tenant audit.TenantID, err error)

	// claimed has the slots that this process knows, each with the entry that is still to be written; nil:
	// none is.
	claimed *ttlcache.Cache[Slot, *audit.Entry]
	paused  *ttlcache.Cache[audit.TenantID, error]
}

// New returns the recorder with an empty memory.
func New(r Recorder) *Recorder {
	r.claimed = ttlcache.New[Slot, *audit.Entry](maxCached)
	r.paused = ttlcache.New[audit.TenantID, error](maxCached)
	return &r
}

// Record records the attempt, or counts it if it belongs to no tenant of the caller. It returns
// within about a second and goes on after the request's context has ended, so that a caller who
// hangs up suppresses nothing.
func (r *Recorder) Record(ctx context.Context, a Attempt) {
	if !a.inOwnTenant() {
		r.Outside(ctx)
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), timeout)
	defer cancel()
	err := r.record(ctx, &a)
	switch {
	case errors.Is(err, audit.ErrNotFound):
		r.Outside(ctx)
	case err != nil:
		r.Failed(ctx, a.Tenant, err)
	}
}

// record returns audit.ErrNotFound if the tenant does not exist any more.
func (r *Recorder) record(ctx context.Context, a *Attempt) error {
	now := r.Now()
	slot := slotOf(a, now)
	known, found := r.claimed.Get(slot)
	if found && known.Value == nil {
		return nil
	}
	if failure, found := r.paused.Get(a.Tenant); found && failure.Fresh(now, pause) {
		return fmt.Errorf("after a failure of the last %v: %w", pause, failure.Value)
	}
	err := r.write(ctx, a, slot, known.Value)
	if err != nil && (audit.IsUnavailable(err) || ctx.Err() != nil) {
		r.paused.Put(a.Tenant, ttlcache.Entry[error]{Value: err, ReadAt: now})
	}
	return err
}

// write writes the entry of a slot unless another process does. pending is the entry if this process
// has the slot: then it is written as it is, so that writing it twice adds nothing.
func (r *Recorder) write(ctx context.Context, a *Attempt, slot Slot, pending *audit.Entry) error {
	tenant, err := r.Tenants.Tenant(ctx, slot.Tenant)
	if err != nil {
		return err
	}
	if tenant.Status == audit.TenantDeleting {
		return audit.ErrNotFound // its log takes no entries any more
	}
	if pending == nil {
		claimed, is, err := r.claim(ctx, a, slot, &tenant.Settings)
		if err != nil || !is {
			return err
		}
		pending = claimed
	}
	if err := audit.Record(ctx, r.Log, tenant, *pending); err != nil {
		return err
	}
	r.remember(slot, nil)
	return nil
}

// claim returns the entry of the slot, and false if it is another process's or one too many.
func (r *Recorder) claim(ctx context.Context, a *Attempt, slot Slot, s *audit.Settings) (*audit.Entry, bool, error) {
	entry, err := a.entry(s)
	if err != nil {
		return nil, false, err
	}
	free, err := r.Claims.Claim(ctx, slot, MaxAnHour)
	if err != nil {
		return nil, false, fmt.Errorf("claim the entry of a refused attempt in %s: %w", slot.Tenant, err)
	}
	if !free {
		r.claimed.Update(slot, func(known ttlcache.Entry[*audit.Entry], found bool) (ttlcache.Entry[*audit.Entry], bool) {
			return known, !found // another request of this process may have it
		})
		return nil, false, nil
	}
	entry.Timestamp = r.Now().UTC().Truncate(time.Millisecond)
	entry.ID = audit.RandomEntryID(entry.Timestamp, r.Random)
	r.remember(slot, &entry)
	return &entry, true, nil
}

func (r *Recorder) remember(slot Slot, pending *audit.Entry) {
	r.claimed.Put(slot, ttlcache.Entry[*audit.Entry]{Value: pending, ReadAt: r.Now()})
}

// entry returns the entry about the attempt. It has nothing of the request but its route, its id,
// and where it came from. The service's own entries have no encrypted values, so an address or an
// agent that the tenant wants encrypted is left out.
func (a *Attempt) entry(s *audit.Settings) (audit.Entry, error) {
	entry := audit.Entry{
		UserID: audit.Cut(a.Principal.Subject, audit.MaxUserID), RequestID: a.RequestID, Action: Action, ResourceType: ResourceType, ResourceID: a.Route,
		Severity: audit.SeverityWarning, Message: a.Reason,
	}
	if a.Missing != "" {
		metadata, err := json.Marshal(map[string]access.Permission{"permission": a.Missing})
		if err != nil {
			return entry, fmt.Errorf("metadata of a refused attempt: %w", err)
		}
		entry.Metadata = metadata
	}
	if !isSensitive(s, "ip_address") {
		entry.IPAddress = a.IPAddress
	}
	if !isSensitive(s, "user_agent") {
		entry.UserAgent = audit.Cut(strings.ToValidUTF8(a.UserAgent, "\uFFFD"), audit.MaxUserAgent)
	}
	return entry, nil
}

// isSensitive reports whether the tenant wants a top-level field encrypted.
func isSensitive(s *audit.Settings, field string) bool {
	return slices.ContainsFunc(s.SensitiveFields, func(f audit.SensitiveField) bool { return f.Path == field })
}
