package access

import "slices"

// Permissions returns every permission, in the order of their declaration.
func Permissions() []Permission {
	return []Permission{
		LogsWrite, LogsWriteOwn, LogsRead, LogsReadOwn, LogsSearch, LogsStats, LogsExport, LogsStream, LogsCleanup,
		LogsReveal, LogsMatchEncrypted, SubjectsErase, HoldsRead, HoldsManage, ArchiveRestore,
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

// aboutEncryptedValues reports whether p reads, finds or erases the values that tenants have
// encrypted. No role but the tenant's own admin has such a permission.
func (p Permission) aboutEncryptedValues() bool {
	return p == LogsReveal || p == LogsMatchEncrypted || p == SubjectsErase
}

// Roles returns every role, the most powerful within a tenant first.
func Roles() []Role { return []Role{RoleAdmin, RoleAuditor, RoleUser, RoleOperator} }

// Permissions returns the role's permissions, none if the role is unknown.
func (r Role) Permissions() []Permission {
	switch r {
	case RoleAdmin:
		return slices.DeleteFunc(Permissions(), Permission.Platform)
	case RoleAuditor:
		return []Permission{LogsRead, LogsSearch, LogsStats, LogsExport, LogsStream, HoldsRead, QuarantineRead, TenantsRead, JobsRead}
	case RoleUser:
		return []Permission{LogsWriteOwn, LogsReadOwn, TenantsRead}
	case RoleOperator:
		return slices.DeleteFunc(Permissions(), Permission.aboutEncryptedValues)
	}
	return nil
}
