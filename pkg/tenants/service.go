package tenants

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/access"
	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/hold"
	"github.com/ocelot-audit/ocelot/pkg/jobs"
)

// Jobs starts jobs; see jobs.Service.
type Jobs interface {
	Start(ctx context.Context, job jobs.Job) (jobs.Job, error)
}

// Service administers tenants and keys. Its callers check permissions. Service
// checks only what a new key may do.
//
// Service records every change of an existing tenant in the tenant's own log, before
// it makes the change. So no change stands unrecorded, also if the process is killed.
// What cannot be recorded is not done: the error is an *audit.UnavailableError, and
// the caller may retry. The log may have a record of a change that was not made.
type Service struct {
	Tenants  Store // Cache.Fresh, where the process has a Cache, so that it sees these changes at once
	Keys     KeyStore
	Jobs     Jobs
	Holds    hold.Reader
	Recorder audit.Recorder
	// RetentionChanged has the entries of a tenant looked at after a delay, because the settings change by
	// which they leave the stores; see audit.Settings.SameRetention. It returns nil only if that happens
	// also if this process is killed. nil: nobody is told.
	RetentionChanged func(ctx context.Context, tenant audit.TenantID, delay time.Duration) error
	// Placing decides where the search index has the entries of a new tenant.
	Placing Placing
	// SettleTime is how long after a change another process can accept entries by the earlier record.
	SettleTime time.Duration
	Now        func() time.Time
	Random     func(b []byte)
	Log        *slog.Logger
}

// The actions and resource types of the service's own entries.
const (
	actionUpdate    = "tenant.update"
	actionDelete    = "tenant.delete"
	actionCreateKey = "key.create"
	actionDeleteKey = "key.delete"
	resourceTenant  = "tenant"
	resourceKey     = "api_key"
)

// maxAttempts is how often a change is tried if others change the record at the same time.
const maxAttempts = 8

// changeTime is longer than a request takes: a change is made by then, or its process is gone.
const changeTime = time.Minute

// Create adds an active tenant with Version 1. It returns audit.ErrConflict if the
// id is or ever was taken. It is not recorded: a new tenant's log is empty.
func (s *Service) Create(ctx context.Context, by access.Principal, tenant audit.Tenant) (audit.Tenant, error) {
	tenant.Status, tenant.Version = audit.TenantActive, 1
	tenant.CreatedAt = s.now()
	tenant.UpdatedAt = tenant.CreatedAt
	if err := complete(&tenant); err != nil {
		return audit.Tenant{}, err
	}
	placement, err := s.Placing.first(ctx, s.Tenants, &tenant)
	if err != nil {
		return audit.Tenant{}, fmt.Errorf("create tenant %s: %w", tenant.ID, err)
	}
	tenant.Placements = []audit.Placement{placement}
	if err := s.Tenants.Create(ctx, tenant); err != nil {
		return audit.Tenant{}, fmt.Errorf("create tenant %s by %s: %w", tenant.ID, by.Subject, err)
	}
	return tenant, nil
}

// complete validates a record and replaces absent lists by empty ones.
func complete(tenant *audit.Tenant) error {
	if tenant.Settings.Detect == nil {
		tenant.Settings.Detect = []audit.Detector{}
	}
	if tenant.Settings.SensitiveFields == nil {
		tenant.Settings.SensitiveFields = []audit.SensitiveField{}
	}
	if tenant.Settings.RetentionRules == nil {
		tenant.Settings.RetentionRules = []audit.RetentionRule{}
	}
	if faults := tenant.Validate(); len(faults) > 0 {
		return &audit.ValidationError{Fields: faults}
	}
	return nil
}

// Change has what Update writes.
type Change struct {
	Name     string
	Settings audit.Settings
	// Status is audit.TenantActive or audit.TenantSuspended; "": the status stays. Only
	// platform operators may set it.
	Status audit.TenantStatus
}

// Update replaces name, settings and status. ifVersion is the version that the caller read; 0
// overwrites any ("If-Match: *"). Update returns the faults of the change first, and then
// audit.ErrPrecondition if the record has changed since. A tenant that is being deleted can be
// updated, but not its status: that is an audit.ErrConflict.
func (s *Service) Update(ctx context.Context, by access.Principal, id audit.TenantID, to Change, ifVersion int64) (audit.Tenant, error) {
	announced := announcement{Service: s, by: by}
	before, after, err := s.change(ctx, id, func(t *audit.Tenant) error {
		before := *t
		if to.Settings.Isolation != t.Settings.Isolation {
			return audit.Invalid("/settings/isolation", "immutable", "must stay %s: it decides where the tenant's entries lie", t.Settings.Isolation)
		}
		t.Name, t.Settings = to.Name, to.Settings
		if err := changeStatus(t, to.Status); err != nil {
			return err
		}
		if err := complete(t); err != nil {
			return err
		}
		if ifVersion != 0 && t.Version != ifVersion {
			return audit.ErrPrecondition
		}
		return announced.announce(ctx, &before, t)
	})
	if err != nil {
		return audit.Tenant{}, err
	}
	if s.changesRetention(&before, &after) {
		if err := s.RetentionChanged(ctx, id, 0); err != nil { // it looks after changeTime anyway
			s.Log.WarnContext(ctx, "retention could not be told at once of changed settings", "tenant", id, "error", err)
		}
	}
	return after, nil
}

// announcement is what a change needs before it is made: a record, and somebody who looks at the entries
// afterwards. It remembers what it has done, for a change that begins again.
type announcement struct {
	*Service
	by            access.Principal
	before, after audit.Object // as they were recorded
	told          bool
}

func (a *announcement) announce(ctx context.Context, before, after *audit.Tenant) error {
	if !a.told && a.changesRetention(before, after) {
		if err := a.RetentionChanged(ctx, before.ID, changeTime); err != nil {
			return &audit.UnavailableError{Err: err}
		}
		a.told = true
	}
	was, is := stateOf(*before), stateOf(*after)
	if bytes.Equal(was, a.before) && bytes.Equal(is, a.after) {
		return nil
	}
	err := audit.Record(ctx, a.Recorder, *before, audit.Entry{
		UserID: a.by.Subject, Action: actionUpdate, ResourceType: resourceTenant, ResourceID: string(before.ID), Before: was, After: is,
	})
	if err == nil {
		a.before, a.after = was, is
	}
	return err
}

// changesRetention reports whether somebody has to be told of a change.
func (s *Service) changesRetention(before, after *audit.Tenant) bool {
	return s.RetentionChanged != nil && !before.Settings.SameRetention(&after.Settings)
}

// InForceAt returns from when on every process protects new entries by the changed settings, which are
// stored. It returns the zero time if they protect entries as those before.
func (s *Service) InForceAt(before, changed *audit.Settings) time.Time {
	if before.SameProtection(changed) {
		return time.Time{}
	}
	return s.now().Add(s.SettleTime)
}

// changeStatus suspends a tenant or ends its suspension. "" changes nothing.
func changeStatus(t *audit.Tenant, to audit.TenantStatus) error {
	switch {
	case to == "" || to == t.Status:
	case to != audit.TenantActive && to != audit.TenantSuspended:
		return audit.Invalid("/status", "invalid_choice", "must be %s or %s", audit.TenantActive, audit.TenantSuspended)
	case t.Status == audit.TenantDeleting:
		return fmt.Errorf("the tenant is being deleted: %w", audit.ErrConflict)
	default:
		t.Status = to
	}
	return nil
}

// change applies edit to the tenant's record. It starts again if others changed
// the record meanwhile.
func (s *Service) change(ctx context.Context, id audit.TenantID, edit func(t *audit.Tenant) error) (before, after audit.Tenant, err error) {
	for range maxAttempts {
		if before, err = s.Tenants.Tenant(ctx, id); err != nil {
			return before, after, fmt.Errorf("change tenant %s: %w", id, err)
		}
		after = before
		if err := edit(&after); err != nil {
			return before, after, fmt.Errorf("change tenant %s: %w", id, err)
		}
		after.Version, after.UpdatedAt = before.Version+1, s.now()
		if err = s.Tenants.Update(ctx, after); err == nil {
			return before, after, nil
		}
		if !errors.Is(err, audit.ErrPrecondition) {
			break
		}
	}
	return before, after, fmt.Errorf("change tenant %s: %w", id, err)
}

// stateOf returns the part of a tenant's record that the log shows.
func stateOf(tenant audit.Tenant) audit.Object {
	return object(struct {
		Name     string             `json:"name"`
		Status   audit.TenantStatus `json:"status"`
		Settings audit.Settings     `json:"settings"`
	}{tenant.Name, tenant.Status, tenant.Settings})
}

// object returns the JSON text of a struct. It panics if there is none.
func object(v any) audit.Object {
	text, err := json.Marshal(v)
	if err != nil {
		panic(fmt.Sprintf("tenants: %T as JSON: %v", v, err))
	}
	return text
}

func (s *Service) now() time.Time { return s.Now().UTC().Truncate(time.Millisecond) }

// Deletion says how a tenant is deleted.
type Deletion struct {
	// KeepArchive leaves the tenant's archive where it is.
	KeepArchive bool
}

// ErrOtherDeletion says that the tenant is being deleted by another Deletion. It is an audit.ErrConflict.
var ErrOtherDeletion = fmt.Errorf("the tenant is being deleted otherwise: %w", audit.ErrConflict)

// Delete marks the tenant as deleting and starts the job that purges it. Deleting again
// returns the same job, and starts it again if it failed. It returns ErrOtherDeletion if the first
// Deletion was another. While a legal hold stands, Delete returns a *hold.HeldError.
func (s *Service) Delete(ctx context.Context, by access.Principal, id audit.TenantID, d Deletion) (jobs.Job, error) {
	tenant, err := s.Tenants.Tenant(ctx, id)
	if err != nil {
		return jobs.Job{}, fmt.Errorf("delete tenant %s: %w", id, err)
	}
	if err := s.checkHolds(ctx, id); err != nil {
		return jobs.Job{}, fmt.Errorf("delete tenant %s: %w", id, err)
	}
	if tenant.Status != audit.TenantDeleting {
		entry := audit.Entry{UserID: by.Subject, Action: actionDelete, ResourceType: resourceTenant, ResourceID: string(id), Before: stateOf(tenant)}
		if d.KeepArchive {
			entry.Metadata = object(struct {
				KeepArchive bool `json:"keep_archive"`
			}{true})
		}
		if err := audit.Record(ctx, s.Recorder, tenant, entry); err != nil {
			return jobs.Job{}, err
		}
	}
	if tenant, err = s.close(ctx, tenant, d); err != nil {
		return jobs.Job{}, err
	}
	return s.startPurge(ctx, by, tenant)
}

// close marks the tenant as deleting, unless it is.
func (s *Service) close(ctx context.Context, tenant audit.Tenant, d Deletion) (audit.Tenant, error) {
	if tenant.Status != audit.TenantDeleting {
		var err error
		_, tenant, err = s.change(ctx, tenant.ID, func(t *audit.Tenant) error {
			if t.Status != audit.TenantDeleting { // another request can have been faster
				t.Status, t.KeepArchive = audit.TenantDeleting, d.KeepArchive
			}
			return s.checkHolds(ctx, t.ID) // a hold that is set now changes the record: see hold.Service
		})
		if err != nil {
			return audit.Tenant{}, err
		}
	}
	if tenant.KeepArchive != d.KeepArchive {
		return audit.Tenant{}, fmt.Errorf("delete tenant %s: %w", tenant.ID, ErrOtherDeletion)
	}
	return tenant, nil
}

func (s *Service) checkHolds(ctx context.Context, id audit.TenantID) error {
	standing, err := s.Holds.Standing(ctx, id)
	if err == nil && len(standing) > 0 {
		err = &hold.HeldError{Holds: standing}
	}
	return err
}

// startPurge makes sure that the tenant's only purge job exists and has not failed.
func (s *Service) startPurge(ctx context.Context, by access.Principal, tenant audit.Tenant) (jobs.Job, error) {
	job, err := s.Jobs.Start(ctx, jobs.Job{ID: purgeJobID(tenant), Kind: jobs.KindPurgeTenant, Tenant: tenant.ID, CreatedBy: by.Subject})
	if err != nil {
		return jobs.Job{}, fmt.Errorf("purge tenant %s: %w", tenant.ID, err)
	}
	return job, nil
}

// purgeJobID derives the job's id from the tenant's id and creation time, so that
// deleting twice starts one job.
func purgeJobID(tenant audit.Tenant) string {
	sum := sha256.Sum256(fmt.Appendf(nil, "%s %s %d", jobs.KindPurgeTenant, tenant.ID, tenant.CreatedAt.UnixMilli()))
	return hex.EncodeToString(sum[:16])
}

// Limits of API keys.
const (
	MaxKeyName      = 128 // bytes
	MaxKeyResources = 100
	MaxKeys         = 1000 // of one tenant
)

// CreateKey creates a key and returns it with its secret, which is not shown
// again. The caller sets Tenant, Name, Permissions, Resources and ExpiresAt.
// CreateKey returns audit.ErrForbidden if the key could do more than its creator,
// and audit.ErrConflict if the tenant has MaxKeys keys. An API key that expires
// creates none that expires later or never: that is an *audit.ValidationError.
func (s *Service) CreateKey(ctx context.Context, by access.Principal, key Key) (created Key, secret string, err error) {
	now := s.now()
	if faults := append(validateKey(&key, now), outlives(by, &key)...); len(faults) > 0 {
		return Key{}, "", &audit.ValidationError{Fields: faults}
	}
	converted, err := key.accessKey()
	if err != nil {
		return Key{}, "", err
	}
	if err := by.Delegate(key.Tenant, converted.Permissions, converted.Resources); err != nil {
		return Key{}, "", fmt.Errorf("create key: %w", err)
	}
	tenant, err := s.Tenants.Tenant(ctx, key.Tenant)
	if err != nil {
		return Key{}, "", fmt.Errorf("create key of %s: %w", key.Tenant, err)
	}
	existing, _, err := s.Keys.Keys(ctx, key.Tenant, nil, MaxKeys)
	if err != nil {
		return Key{}, "", fmt.Errorf("create key of %s: %w", key.Tenant, err)
	}
	if len(existing) >= MaxKeys {
		return Key{}, "", fmt.Errorf("create key of %s: it has %d keys: %w", key.Tenant, MaxKeys, audit.ErrConflict)
	}
	var id [8]byte
	s.Random(id[:])
	secret = access.NewSecret(s.Random)
	key.ID, key.Hash = hex.EncodeToString(id[:]), access.HashSecret(secret)
	key.CreatedAt, key.CreatedBy, key.LastUsedAt = now, by.Person(), time.Time{}
	entry := audit.Entry{UserID: by.Subject, Action: actionCreateKey, ResourceType: resourceKey, ResourceID: key.ID, After: key.state()}
	if err := audit.Record(ctx, s.Recorder, tenant, entry); err != nil {
		return Key{}, "", err
	}
	if err := s.Keys.CreateKey(ctx, key); err != nil {
		return Key{}, "", fmt.Errorf("create key of %s: %w", key.Tenant, err)
	}
	return key, secret, nil
}

// DeleteKey revokes a key. It returns audit.ErrNotFound if the tenant has none with this id.
func (s *Service) DeleteKey(ctx context.Context, by access.Principal, tenant audit.TenantID, id string) error {
	record, err := s.Tenants.Tenant(ctx, tenant)
	if err != nil {
		return fmt.Errorf("delete key %s of %s: %w", id, tenant, err)
	}
	key, err := s.Keys.Key(ctx, tenant, id)
	if err != nil {
		return fmt.Errorf("delete key of %s: %w", tenant, err)
	}
	entry := audit.Entry{UserID: by.Subject, Action: actionDeleteKey, ResourceType: resourceKey, ResourceID: id, Before: key.state()}
	if err := audit.Record(ctx, s.Recorder, record, entry); err != nil {
		return err
	}
	if err := s.Keys.DeleteKey(ctx, tenant, id); err != nil {
		return fmt.Errorf("delete key %s of %s: %w", id, tenant, err)
	}
	return nil
}
