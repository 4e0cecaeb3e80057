package audit

import (
	"crypto/sha256"
	"fmt"
	"slices"
	"strings"
)

// The limits of the rules of sensitive fields.
const (
	MaxSensitiveFields = 256
	MaxSensitivePath   = 256 // bytes
	MaxSensitiveNames  = 16  // names in one path
	// MaxSensitiveSubjects is the most different subjects that rules name. Each can be a key more for
	// every entry of a bulk.
	MaxSensitiveSubjects = 16
)

// SensitiveField is a rule: the values at Path are encrypted, and a mask stands in their place.
type SensitiveField struct {
	// Path names the values by dotted names. It begins with metadata, before_state or after_state,
	// or with AnyDepth for all three. AnyName stands for one name. Or it is one of message, ip_address,
	// user_agent and session_id.
	Path string `json:"path"`
	// Mask is what stands in the place of a value.
	Mask Mask `json:"mask"`
	// Subject says whose key encrypts the values: the person that the entry's user_id or resource_id
	// names, or the string or number at a path. Its erasure makes them unreadable. "" and a path at which
	// the entry has nothing: the tenant's own key.
	Subject string `json:"subject,omitempty"`
	// Searchable says that entries can be found by the whole value.
	Searchable bool `json:"searchable"`
}

// The wildcards of a path.
const (
	AnyName  = "*"
	AnyDepth = "**"
)

// The subjects that are fields of an entry.
const (
	SubjectUser     = string(FieldUserID)
	SubjectResource = string(FieldResourceID)
)

// Mask names what stands in the place of an encrypted value.
type Mask string

// The masks.
const (
	MaskFull  Mask = "full"  // nothing of the value
	MaskEmail Mask = "email" // the domain of an address
	MaskIP    Mask = "ip"    // the network of an address: 24 bits of IPv4, 48 of IPv6
	MaskLast4 Mask = "last4" // the last four characters
)

// Masks returns every mask.
func Masks() []Mask { return []Mask{MaskFull, MaskEmail, MaskIP, MaskLast4} }

// The names of fields that rules of sensitive fields can name.
const (
	sensitiveMetadata  = "metadata"
	sensitiveBefore    = "before_state"
	sensitiveAfter     = "after_state"
	sensitiveMessage   = "message"
	sensitiveAddress   = string(FieldIPAddress)
	sensitiveAgent     = "user_agent"
	sensitiveSession   = string(FieldSessionID)
	sensitivePathsText = "metadata., before_state., after_state. or **. and names, or be message, ip_address, user_agent or session_id. After ** only one * may follow"
)

// WithDefaults returns the rule with the mask and the subject that it has if it names none. The
// address and the agent of a caller and its session belong to the user.
func (f SensitiveField) WithDefaults() SensitiveField {
	isOfUser := f.Path == sensitiveAddress || f.Path == sensitiveAgent || f.Path == sensitiveSession
	if f.Subject == "" && isOfUser {
		f.Subject = SubjectUser
	}
	switch {
	case f.Mask != "":
	case f.Path == sensitiveAddress:
		f.Mask = MaskIP
	default:
		f.Mask = MaskFull
	}
	return f
}

// sensitiveFaults returns every fault of the rules of sensitive fields.
func (s *Settings) sensitiveFaults() []FieldError {
	if len(s.SensitiveFields) > MaxSensitiveFields {
		return Invalid("/settings/sensitive_fields", "too_many", "must be at most %d rules", MaxSensitiveFields).Fields
	}
	var faults []FieldError
	seen, subjects := make(map[string]bool, len(s.SensitiveFields)), map[string]bool{}
	for i, f := range s.SensitiveFields {
		for _, fault := range f.faults() {
			fault.Pointer = fmt.Sprintf("/settings/sensitive_fields/%d%s", i, fault.Pointer)
			faults = append(faults, fault)
		}
		if seen[f.Path] {
			faults = append(faults, FieldError{
				Pointer: fmt.Sprintf("/settings/sensitive_fields/%d/path", i), Code: "repeated", Detail: "must not be in two rules: the first one decides",
			})
		}
		seen[f.Path] = true
		if f.Subject != "" {
			subjects[f.Subject] = true
		}
	}
	if len(subjects) > MaxSensitiveSubjects {
		faults = append(faults, FieldError{
			Pointer: "/settings/sensitive_fields", Code: "too_many", Detail: fmt.Sprintf("must name at most %d different subjects", MaxSensitiveSubjects),
		})
	}
	return faults
}

// faults returns every fault of the rule.
func (f SensitiveField) faults() []FieldError {
	var faults []FieldError
	add := func(pointer, code, format string, args ...any) {
		faults = append(faults, Invalid(pointer, code, format, args...).Fields...)
	}
	if !isSensitivePath(f.Path) {
		add("/path", "invalid_path", "must have at most %d bytes and %d names, and begin with %s", MaxSensitivePath, MaxSensitiveNames, sensitivePathsText)
	}
	if !slices.Contains(Masks(), f.Mask) {
		add("/mask", "invalid_choice", "must be one of full, email, ip, last4")
	} else if f.Path == sensitiveAddress && f.Mask != MaskIP {
		add("/mask", "invalid_choice", "must be ip for ip_address")
	}
	if !isSubject(f.Subject) {
		add("/subject", "invalid_subject",
			"must be user_id, resource_id, or a path without * that has at most %d bytes and begins with metadata., before_state. or after_state.", MaxSensitivePath)
	}
	return faults
}

func isSensitivePath(path string) bool {
	switch path {
	case sensitiveMessage, sensitiveAddress, sensitiveAgent, sensitiveSession:
		return true
	}
	first, names, ok := splitPath(path)
	if !ok {
		return false
	}
	switch first {
	case AnyDepth: // several wildcards would cost too much for each name of an entry
		return names[0] != AnyName && strings.Count(path, "."+AnyName) <= 1
	case sensitiveMetadata, sensitiveBefore, sensitiveAfter:
		return true
	}
	return false
}

func isSubject(subject string) bool {
	switch subject {
	case "", SubjectUser, SubjectResource:
		return true
	}
	first, names, ok := splitPath(subject)
	if !ok || slices.Contains(names, AnyName) {
		return false
	}
	return first == sensitiveMetadata || first == sensitiveBefore || first == sensitiveAfter
}

// splitPath returns the field that a path begins with, and the names that follow.
func splitPath(path string) (field string, names []string, ok bool) {
	if len(path) > MaxSensitivePath {
		return "", nil, false
	}
	field, rest, ok := strings.Cut(path, ".")
	if !ok {
		return "", nil, false
	}
	names = strings.Split(rest, ".")
	if len(names) > MaxSensitiveNames || slices.Contains(names, "") || slices.Contains(names, AnyDepth) {
		return "", nil, false
	}
	return field, names, true
}

// SameProtection reports whether both settings remove and encrypt the same in every entry.
func (s *Settings) SameProtection(other *Settings) bool {
	return s.RemoveSecrets == other.RemoveSecrets && slices.Equal(s.Detect, other.Detect) && slices.Equal(s.SensitiveFields, other.SensitiveFields)
}

// Encrypted has the values of an entry that one key encrypts; see package protect.
type Encrypted struct {
	Paths      []string // JSON pointers of the places that the values stood at
	Key        string   // names the key among those of the tenant
	Generation uint32   // of the key
	Data       []byte
	// Tokens let entries be found by whole values. They are sorted.
	Tokens []ValueToken
}

// ValueToken stands for a value at a path. Only who has a key of the tenant can compute it.
type ValueToken [16]byte

// KeyToken returns what stands for a key in a search index, by which an erasure finds the tokens beside
// what the key encrypted. Callers of the API cannot ask for it.
func KeyToken(key string, generation uint32) ValueToken {
	sum := sha256.Sum256(fmt.Appendf(nil, "key %s/%d", key, generation))
	return ValueToken(sum[:])
}

// IndexTokens returns what a search index has of the element: its tokens, and behind them that of its
// key. Without tokens there is none.
func (e *Encrypted) IndexTokens() []ValueToken {
	if len(e.Tokens) == 0 {
		return nil
	}
	return append(slices.Clip(e.Tokens), KeyToken(e.Key, e.Generation))
}
