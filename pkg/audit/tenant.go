package audit

import (
	"errors"
	"fmt"
	"slices"
	"strings"
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

// The statuses of a tenant. A suspended tenant refuses new entries, and only platform
// operators can read it. Of a deleting tenant, only its own record can be read.
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

// Detector names a kind of secret that is recognized by its form.
type Detector string

// The detectors.
const (
	DetectAWSKey     Detector = "aws_key"     // ids of AWS access keys, and secret access keys
	DetectJWT        Detector = "jwt"         // JSON web tokens
	DetectPAN        Detector = "pan"         // numbers of payment cards
	DetectPrivateKey Detector = "private_key" // private keys in PEM
)

// Detectors returns every detector, sorted.
func Detectors() []Detector {
	return []Detector{DetectAWSKey, DetectJWT, DetectPAN, DetectPrivateKey}
}

// detectorNames returns the detectors as a text.
func detectorNames() string {
	names := make([]string, 0, len(Detectors()))
	for _, d := range Detectors() {
		names = append(names, string(d))
	}
	return strings.Join(names, ", ")
}

// Limits of a tenant's record.
const (
	MaxTenantName     = 256    // bytes
	MaxRetentionDays  = 36_500 // a hundred years
	MaxRetentionRules = 16
)

// Tenant is a customer whose entries are kept apart from everyone else's.
type Tenant struct {
	ID        TenantID     `json:"id"`
	Name      string       `json:"name"`
	Status    TenantStatus `json:"status"`
	CreatedAt time.Time    `json:"created_at"`
	UpdatedAt time.Time    `json:"updated_at"`
	Settings  Settings     `json:"settings"`
	// Placements are where the search index has the tenant's entries, ordered by Since. They
	// only grow, so that an entry that is indexed again meets its own document.
	Placements []Placement `json:"placements,omitempty"`
	// Restored are the restores whose entries may not have left yet. Clients do not see them here.
	Restored []Restored `json:"restored,omitempty"`
	// KeepArchive says that the archive stays while everything else of the tenant is deleted. It is set with
	// TenantDeleting.
	KeepArchive bool `json:"keep_archive,omitempty"`
	// Version counts the changes of this record from 1; it is the ETag.
	Version int64 `json:"-"`
}

// Settings are a tenant's choices for its own log.
type Settings struct {
	// RetentionDays is how long an entry is kept after its timestamp; 0: for ever.
	RetentionDays int `json:"retention_days"`
	// RetentionRules replace RetentionDays for the entries that they match. The first
	// match counts.
	RetentionRules []RetentionRule `json:"retention_rules"`
	// SearchableDays is how long lists, searches and counts have an entry; 0: as long as it
	// is kept.
	SearchableDays int `json:"searchable_days"`
	// Archive says that entries are copied to files before they may be removed.
	Archive bool `json:"archive"`
	// LogLevels are the severities that are stored. Other entries get the status "filtered".
	LogLevels []Severity `json:"log_levels"`
	// RemoveSecrets replaces the strings and numbers under names such as password before an entry is
	// stored.
	RemoveSecrets bool `json:"remove_secrets"`
	// Detect are the kinds of secrets that are replaced within texts, under any name.
	Detect []Detector `json:"detect"`
	// SensitiveFields are the rules of what is encrypted before an entry is stored. If two match one
	// value, the first counts.
	SensitiveFields []SensitiveField `json:"sensitive_fields"`
	Tier            Tier             `json:"tier"`
	Isolation       Isolation        `json:"isolation"`
}

// DefaultSettings returns the settings of a tenant that is created without any.
func DefaultSettings() Settings {
	return Settings{
		RetentionDays: 365, RetentionRules: []RetentionRule{}, LogLevels: Severities(),
		RemoveSecrets: true, Detect: []Detector{}, SensitiveFields: []SensitiveField{}, Tier: TierStandard, Isolation: IsolationShared,
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
	faults = append(faults, t.Settings.retentionFaults()...)
	s := &t.Settings
	if len(s.LogLevels) == 0 {
		add("/settings/log_levels", "required", "must name at least one severity")
	}
	for _, d := range s.Detect {
		if !slices.Contains(Detectors(), d) {
			add("/settings/detect", "invalid_choice", "must have only %s", detectorNames())
			break
		}
	}
	faults = append(faults, s.sensitiveFaults()...)
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

// retentionFaults returns every fault of the settings about retention.
func (s *Settings) retentionFaults() []FieldError {
	var faults []FieldError
	add := func(pointer, code, format string, args ...any) {
		faults = append(faults, FieldError{Pointer: "/settings/" + pointer, Code: code, Detail: fmt.Sprintf(format, args...)})
	}
	days := func(pointer string, days int, zero string) {
		if days < 0 || days > MaxRetentionDays {
			add(pointer, "out_of_range", "must be from 0 (%s) to %d", zero, MaxRetentionDays)
		}
	}
	days("retention_days", s.RetentionDays, "kept for ever")
	days("searchable_days", s.SearchableDays, "as long as it is kept")
	if longest := s.LongestRetention(); longest > 0 && s.SearchableDays > longest && s.SearchableDays <= MaxRetentionDays {
		add("searchable_days", "out_of_range", "must be at most the longest retention, which is %d days", longest)
	}
	if len(s.RetentionRules) > MaxRetentionRules {
		add("retention_rules", "too_many", "must be at most %d rules", MaxRetentionRules)
		return faults
	}
	for i, r := range s.RetentionRules {
		rule := fmt.Sprintf("retention_rules/%d", i)
		field, value := r.condition()
		switch {
		case (r.Action == "") == (r.Severity == nil):
			add(rule, "invalid_rule", "must have either action or severity")
		case r.Severity == nil && !isAction(r.Action):
			add(rule+"/action", "invalid_action", "must match %s", ActionPattern)
		case slices.ContainsFunc(s.RetentionRules[:i], func(other RetentionRule) bool {
			otherField, otherValue := other.condition()
			return otherField == field && otherValue == value
		}):
			add(rule+"/"+string(field), "repeated", "must not be in two rules: the first one decides")
		}
		days(rule+"/days", r.Days, "kept for ever")
	}
	return faults
}

// LongestRetention returns the most days that an entry can be kept; 0: for ever.
func (s *Settings) LongestRetention() int {
	longest := s.RetentionDays
	for _, r := range s.RetentionRules {
		if longest == 0 || r.Days == 0 {
			return 0
		}
		longest = max(longest, r.Days)
	}
	return longest
}
