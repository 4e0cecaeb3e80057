package access

import "slices"

// Permissions returns every permission, in the order of their declaration.
func Permissions() []Permission {
	return []Permission{
		LogsWrite, LogsWriteOwn, LogsRead, LogsReadOwn, LogsReadSensitive, LogsSearch, LogsStats, LogsExport, LogsStream, LogsCleanup,
		QuarantineRead, QuarantineManage,
		TenantsRead, TenantsUpdate, TenantsCreate, TenantsDelete,
		KeysRead, KeysManage, JobsRead,
	}
}

// Known reports whether p is one of Permissions.
func (p Permission) Known() bool { return slices.Contains(Permissions(), p) }

// Platform reports whether p is a platform operator's permission. It counts only
// if it was granted for AnyTenant. An API key cannot have it.
func (p Permission) Platform() bool { return p == TenantsCreate || p == TenantsDelete }

// Roles returns every role, the most powerful within a tenant first.
func Roles() []Role { return []Role{RoleAdmin, RoleAuditor, RoleUser, RoleOperator} }

// Permissions returns the role's permissions, none if the role is unknown.
func (r Role) Permissions() []Permission {
	switch r {
	case RoleAdmin:
		return slices.DeleteFunc(Permissions(), Permission.Platform)
	case RoleAuditor:
		return []Permission{LogsRead, LogsSearch, LogsStats, LogsExport, LogsStream, QuarantineRead, TenantsRead, JobsRead}
	case RoleUser:
		return []Permission{LogsWriteOwn, LogsReadOwn, TenantsRead}
	case RoleOperator:
		return slices.DeleteFunc(Permissions(), func(p Permission) bool { return p == LogsReadSensitive })
	}
	return nil
}
