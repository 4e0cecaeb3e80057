package entryjson

import "slices"

// The names of members that exports and rules treat in their own way.
const (
	NameTenant     = nameTenant
	NameSessionID  = nameSessionID
	NameIPAddress  = nameIPAddress
	NameUserAgent  = nameUserAgent
	NameMessage    = nameMessage
	NameTimestamp  = nameTimestamp
	NameReceivedAt = nameReceivedAt
	NameExpiresAt  = nameExpiresAt
	// NameRestoredUntil is the member of restored entries.
	NameRestoredUntil = nameRestoredUntil
	NameBefore        = nameBefore
	NameAfter         = nameAfter
	NameMetadata      = nameMetadata
	NameChanged       = nameChanged
	NameRemoved       = nameRemoved
	NameMasked        = nameMasked
	NameRevealed      = nameRevealed
	NameErased        = nameErased
	NameUnreadable    = nameUnreadable
)

var publicFields = []string{
	nameID, nameTenant, nameUserID, nameSessionID, nameRequestID, nameAction, nameResourceType, nameResourceID, nameTimestamp, nameIPAddress,
	nameUserAgent, nameBefore, nameAfter, nameMetadata, nameSeverity, nameMessage, nameIdempotencyKey, nameReceivedAt, nameSubmittedBy,
	nameChanged, nameRemoved, nameRestoredUntil, nameMasked, nameExpiresAt,
}

// PublicFields returns the members that AppendPublic can write, in its order.
func PublicFields() []string { return slices.Clone(publicFields) }

var requiredFields = []string{nameID, nameTenant, nameUserID, nameAction, nameResourceType, nameTimestamp, nameSeverity, nameReceivedAt}

// RequiredFields returns the members that every stored entry has.
func RequiredFields() []string { return slices.Clone(requiredFields) }
