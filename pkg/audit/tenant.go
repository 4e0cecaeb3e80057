package audit

import (
	"errors"
	"fmt"
	"slices"
	"time"
)

// TenantID names a tenant. It matches TenantIDPattern.
type TenantID string

// TenantIDPattern is the form of a tenant id: lower-case letters, digits and inner
// hyphens. The names of collections and indexes may contain these characters.
const TenantIDPattern = `^[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?$`

// maxTenantID is the longest id that TenantIDPattern matches, in bytes.
const maxTenantID = 63

// isTenantID reports whether s matches TenantIDPattern.
func isTenantID(s string) bool {
	for i := range len(s) {
		switch inner := 0 < i && i < len(s)-1; {
		case 'a' <= s[i] && s[i] <= 'z', isDigit(s[i]), inner && s[i] == '-':
		default:
			return false
		}
	}
	return s != "" && len(s) <= maxTenantID
}

// ParseTenantID returns s as a tenant id. It returns a *ValidationError if s does not
// match TenantIDPattern.
func ParseTenantID(s string) (TenantID, error) {
	if !isTenantID(s) {
		return "", Invalid("/id", "invalid_tenant_id", "must match %s", TenantIDPattern)
	}
	return TenantID(s), nil
}

// TenantStatus says whether a tenant accepts and returns entries.
type TenantStatus string

// The statuses of a tenant. A suspended tenant can be read and refuses new entries. Of
// a deleting tenant, only its own record can be read.
const (
	TenantActive    TenantStatus = "active"
	TenantSuspended TenantStatus = "suspended"
	TenantDeleting  TenantStatus = "deleting"
)

// IsDeleted interprets the result of reading a tenant's record. It reports whether
// the tenant is deleted or being deleted, in which case a step drops the entries that
// it received for the tenant. It returns every error except ErrNotFound.
func IsDeleted(t Tenant, err error) (bool, error) {
	if errors.Is(err, ErrNotFound) {
		return true, nil
	}
	return t.Status == TenantDeleting, err
}

// Tier chooses the ingest queue of a tenant.
type Tier string

// The tiers.
const (
	TierStandard Tier = "standard"
	TierPriority Tier = "priority"
)

// Isolation chooses whether a tenant has its own storage in the system of record.
type Isolation string

// The isolations.
const (
	IsolationShared    Isolation = "shared"
	IsolationDedicated Isolation = "dedicated"
)

// Limits of a tenant's record.
const (
	MaxTenantName      = 256    // bytes
	MaxRetentionDays   = 36_500 // a hundred years
	MaxSensitiveFields = 256
	MaxSensitivePath   = 256 // bytes
)

// Tenant is a customer whose entries are kept apart from everyone else's.
type Tenant struct {
	ID        TenantID     `json:"id"`
	Name      string       `json:"name"`
	Status    TenantStatus `json:"status"`
	CreatedAt time.Time    `json:"created_at"`
	UpdatedAt time.Time    `json:"updated_at"`
	Settings  Settings     `json:"settings"`
	// Version counts the changes of this record from 1; it is the ETag.
	Version int64 `json:"-"`
}

// Settings are a tenant's choices for its own log.
type Settings struct {
	// RetentionDays is how long an entry is stored after its timestamp; 0: for ever.
	RetentionDays int `json:"retention_days"`
	// LogLevels are the severities that are stored. Other entries get the status "filtered".
	LogLevels []Severity `json:"log_levels"`
	// SensitiveFields are dotted paths, in addition to the default list. "**." means any depth.
	SensitiveFields []string `json:"sensitive_fields"`
	// Masking hides sensitive fields from readers without logs:read_sensitive.
	Masking bool `json:"masking"`
	// LegalHold prevents every deletion.
	LegalHold bool      `json:"legal_hold"`
	Tier      Tier      `json:"tier"`
	Isolation Isolation `json:"isolation"`
	// Archive requires that each day is archived before its entries may be deleted.
	Archive bool `json:"archive"`
}

// DefaultSettings returns the settings of a tenant that is created without any.
func DefaultSettings() Settings {
	return Settings{
		RetentionDays: 365, LogLevels: Severities(), SensitiveFields: []string{}, Masking: true,
		Tier: TierStandard, Isolation: IsolationShared,
	}
}

// Validate returns every fault of the record, or nil if there is none.
func (t *Tenant) Validate() []FieldError {
	var faults []FieldError
	add := func(pointer, code, format string, args ...any) {
		faults = append(faults, FieldError{Pointer: pointer, Code: code, Detail: fmt.Sprintf(format, args...)})
	}
	if !isTenantID(string(t.ID)) {
		add("/id", "invalid_tenant_id", "must match %s", TenantIDPattern)
	}
	switch {
	case t.Name == "":
		add("/name", "required", "is required")
	case len(t.Name) > MaxTenantName:
		add("/name", "too_long", "must be at most %d bytes", MaxTenantName)
	}
	s := &t.Settings
	if s.RetentionDays < 0 || s.RetentionDays > MaxRetentionDays {
		add("/settings/retention_days", "out_of_range", "must be from 0 (kept for ever) to %d", MaxRetentionDays)
	}
	if len(s.LogLevels) == 0 {
		add("/settings/log_levels", "required", "must name at least one severity")
	}
	if len(s.SensitiveFields) > MaxSensitiveFields {
		add("/settings/sensitive_fields", "too_many", "must be at most %d paths", MaxSensitiveFields)
	}
	for i, path := range s.SensitiveFields {
		if path == "" || len(path) > MaxSensitivePath {
			add(fmt.Sprintf("/settings/sensitive_fields/%d", i), "invalid_path", "must be from 1 to %d bytes", MaxSensitivePath)
		}
	}
	if s.Tier != TierStandard && s.Tier != TierPriority {
		add("/settings/tier", "invalid_choice", "must be one of standard, priority")
	}
	if s.Isolation != IsolationShared && s.Isolation != IsolationDedicated {
		add("/settings/isolation", "invalid_choice", "must be one of shared, dedicated")
	}
	return faults
}

// HasLogLevel reports whether entries of this severity are stored.
func (s *Settings) HasLogLevel(severity Severity) bool { return slices.Contains(s.LogLevels, severity) }

// ExpiryOf returns when an entry of time t expires; the zero time means never.
func (s *Settings) ExpiryOf(t time.Time) time.Time {
	if s.RetentionDays == 0 {
		return time.Time{}
	}
	return t.Add(time.Duration(s.RetentionDays) * 24 * time.Hour)
}
