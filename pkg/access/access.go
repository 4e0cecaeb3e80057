// Package access decides about access: principals, roles, permissions and
// resource scopes. Authenticator verifies API keys. Its subpackage bearer
// verifies JSON Web Tokens.
package access

import (
	"time"

	"github.com/ocelot-audit/ocelot/pkg/audit"
)

// Permission is the right to one kind of operation in a tenant.
type Permission string

// The permissions.
const (
	LogsWrite          Permission = "logs:write"     // entries of any user_id
	LogsWriteOwn       Permission = "logs:write_own" // only entries whose user_id is the principal's subject
	LogsRead           Permission = "logs:read"      // one entry by its id, and the feed
	LogsReadOwn        Permission = "logs:read_own"  // implies read, feed, search and stats of the principal's own entries
	LogsSearch         Permission = "logs:search"
	LogsStats          Permission = "logs:stats"
	LogsExport         Permission = "logs:export"
	LogsStream         Permission = "logs:stream"
	LogsCleanup        Permission = "logs:cleanup"
	LogsReveal         Permission = "logs:reveal"          // the values of encrypted fields instead of their masks
	LogsMatchEncrypted Permission = "logs:match_encrypted" // finding entries by the value of an encrypted field
	SubjectsErase      Permission = "subjects:erase"       // destroying the key of a subject's encrypted fields
	HoldsRead          Permission = "holds:read"           // legal holds
	HoldsManage        Permission = "holds:manage"         // setting and releasing legal holds
	ArchiveRestore     Permission = "archive:restore"      // bringing archived entries back
	QuarantineRead     Permission = "quarantine:read"
	QuarantineManage   Permission = "quarantine:manage"
	TenantsRead        Permission = "tenants:read"
	TenantsUpdate      Permission = "tenants:update"
	TenantsCreate      Permission = "tenants:create" // platform operators only
	TenantsDelete      Permission = "tenants:delete" // platform operators only
	KeysRead           Permission = "keys:read"
	KeysManage         Permission = "keys:manage"
	JobsRead           Permission = "jobs:read" // every job of the tenant; who may start a kind of job sees that kind without it
)

// Role is a named set of permissions.
type Role string

// The roles.
const (
	RoleAdmin    Role = "admin"    // everything within the tenant
	RoleAuditor  Role = "auditor"  // reads everything, masked; writes nothing
	RoleUser     Role = "user"     // writes and reads its own entries
	RoleOperator Role = "operator" // runs the platform: every tenant, masked; with tenants "*" only
)

// AnyTenant means every tenant in a principal's grants.
const AnyTenant audit.TenantID = "*"

// Principal is a verified caller.
type Principal struct {
	// Subject is the token's sub, or "key:<id>" for an API key.
	Subject string `json:"sub"`
	// KeyID is the id of the API key; "": the caller has a token.
	KeyID string `json:"key,omitempty"`
	// Creator is the subject of who created the API key; "": the caller has a token, or nobody knows.
	Creator string `json:"creator,omitempty"`
	// Grants are the permissions for each tenant, or for AnyTenant.
	Grants map[audit.TenantID][]Permission `json:"grants"`
	// Resources restrict every read to these; empty: no restriction.
	Resources []Resource `json:"resources,omitempty"`
	// ExpiresAt is when the credential expires, which ends a stream; zero: never.
	ExpiresAt time.Time `json:"expires_at,omitzero"`
}

// Resource is a resource type, or one resource of it if ID is set. Its text
// form is "order" or "user:42".
type Resource struct {
	Type string
	ID   string
}

// Scope restricts what a principal reads and writes. The zero Scope restricts nothing.
type Scope struct {
	Owner     string     `json:"owner,omitempty"`     // only entries with this user_id; "": any
	Resources []Resource `json:"resources,omitempty"` // only entries of these resources; empty: any
}
