package access

import "slices"

// Permissions returns every permission, in the order of their declaration.
func Permissions() []Permission {
	return []Permission{
		LogsWrite, LogsRead, LogsReadOwn, LogsReadSensitive, LogsSearch, LogsStats, LogsExport, LogsStream, LogsCleanup,
		QuarantineRead, QuarantineManage,
		TenantsRead, TenantsUpdate, TenantsCreate, TenantsDelete,
		KeysRead, KeysManage,
	}
}

// Known reports whether p is one of Permissions.
func (p Permission) Known() bool { return slices.Contains(Permissions(), p) }

// Platform reports whether p is a platform operator's: it counts only where it
// was granted for AnyTenant and cannot be given to an API key.
func (p Permission) Platform() bool { return p == TenantsCreate || p == TenantsDelete }

// Roles returns every role, the most powerful within a tenant first.
func Roles() []Role { return []Role{RoleAdmin, RoleAuditor, RoleUser, RoleOperator} }

// Permissions returns what the role holds; nothing where the role is unknown.
func (r Role) Permissions() []Permission {
	switch r {
	case RoleAdmin:
		return slices.DeleteFunc(Permissions(), Permission.Platform)
	case RoleAuditor:
		return []Permission{LogsRead, LogsSearch, LogsStats, LogsExport, LogsStream, TenantsRead}
	case RoleUser:
		return []Permission{LogsWrite, LogsReadOwn, TenantsRead}
	case RoleOperator:
		return slices.DeleteFunc(Permissions(), func(p Permission) bool { return p == LogsReadSensitive })
	}
	return nil
}
