package protect

import (
	"unicode"
	"unicode/utf8"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/entryjson"
)

// Removed stands in the place of a secret.
const Removed = "[removed]"

// maxPlaces and maxPlaceBytes bound audit.Entry.Removed. If there are more places, it has only the
// top-level fields that they are in.
const (
	maxPlaces     = 1000
	maxPlaceBytes = 64 << 10
)

// RemoveSecrets puts Removed in the place of the entry's secrets, as the tenant's settings say. It
// names the places in e.Removed. It does not change the bytes of the entry's objects: an entry
// with secrets gets new ones. The error is about objects that have more than audit.MaxObjectBytes then, or
// that are no JSON objects.
func RemoveSecrets(s *audit.Settings, e *audit.Entry) *audit.ValidationError {
	byName := s.RemoveSecrets && (mayHaveSecret(e.Before) || mayHaveSecret(e.After) || mayHaveSecret(e.Metadata))
	if !byName && len(s.Detect) == 0 {
		return nil
	}
	return removeSecrets(s, e)
}

// RemoveFromAgent is RemoveSecrets for the caller's agent, which an entry without one of its own gets.
func RemoveFromAgent(s *audit.Settings, agent string) (cleaned string, places []string) {
	r := removal{detectors: detectorsOf(s.Detect)}
	r.text(pointerTo(entryjson.NameUserAgent), &agent)
	return agent, r.result()
}

// pointerTo returns the JSON pointer of a top-level field.
func pointerTo(field string) string { return "/" + field }

// mayHaveSecret reports whether a member of the object may have the name of a secret.
func mayHaveSecret(object audit.Object) bool {
	return len(object) > 0 && entryjson.MayHaveName(object, isSecretName)
}

func removeSecrets(s *audit.Settings, e *audit.Entry) *audit.ValidationError {
	r := removal{byName: s.RemoveSecrets, detectors: detectorsOf(s.Detect)}
	r.text(pointerTo(entryjson.NameSessionID), &e.SessionID)
	r.text(pointerTo(entryjson.NameUserAgent), &e.UserAgent)
	// One call for each: a loop over pointers to the fields would move every entry to the heap.
	err := r.object(pointerTo(entryjson.NameBefore), &e.Before)
	if err == nil {
		err = r.object(pointerTo(entryjson.NameAfter), &e.After)
	}
	if err == nil {
		err = r.object(pointerTo(entryjson.NameMetadata), &e.Metadata)
	}
	if err != nil {
		return err
	}
	r.text(pointerTo(entryjson.NameMessage), &e.Message)
	e.Removed = r.result()
	if len(e.Removed) > 0 && len(e.Before)+len(e.After)+len(e.Metadata) > audit.MaxObjectBytes {
		return audit.Invalid("", "too_large",
			"must have at most %d bytes in metadata, before_state and after_state once %q stands in the place of each secret", audit.MaxObjectBytes, Removed)
	}
	return nil
}

// removal removes the secrets of one entry.
type removal struct {
	byName    bool
	detectors []detector
	fields    []string // the top-level fields in which something was removed
	places    []string
	size      int
	tooMany   bool
}

// text removes what the detectors find in a top-level field.
func (r *removal) text(pointer string, text *string) {
	cleaned := removeDetected(*text, r.detectors)
	if cleaned == *text {
		return
	}
	*text = cleaned
	r.fields = append(r.fields, pointer)
	r.add([]byte(pointer))
}

func (r *removal) object(pointer string, object *audit.Object) *audit.ValidationError {
	removed := false
	cleaned, err := entryjson.ReplaceScalars(*object, pointer, func(s entryjson.Scalar) (string, bool) {
		content, isSecret := r.scalar(s)
		if isSecret {
			removed = true
			r.add(s.Pointer)
		}
		return content, isSecret
	})
	if err != nil {
		return audit.Invalid(pointer, "invalid_json", "must be a JSON object") // package entryjson lets none through
	}
	if *object = cleaned; removed {
		r.fields = append(r.fields, pointer)
	}
	return nil
}

// scalar returns what replaces a scalar, and false if it stays. A client's own Removed is no secret.
func (r *removal) scalar(s entryjson.Scalar) (string, bool) {
	if !s.IsString() {
		return Removed, r.byName && s.IsNumber() && isSecretName(s.Name)
	}
	isSecret := r.byName && isSecretName(s.Name)
	content, err := s.Content()
	if err != nil {
		return Removed, isSecret
	}
	if content == "" || content == Removed {
		return "", false
	}
	if isSecret {
		return Removed, true
	}
	cleaned := removeDetected(content, r.detectors)
	return cleaned, cleaned != content
}

// add adds the JSON pointer of a place.
func (r *removal) add(pointer []byte) {
	r.size += len(pointer)
	if r.tooMany = r.tooMany || len(r.places) >= maxPlaces || r.size > maxPlaceBytes; !r.tooMany {
		r.places = append(r.places, string(pointer))
	}
}

func (r *removal) result() []string {
	if r.tooMany {
		return r.fields
	}
	return r.places
}

// secretNames are the names that a secret stands under, in the form of normalName.
var secretNames = func() map[string]bool {
	names := map[string]bool{}
	for _, name := range SecretNames() {
		normal, _ := normalName(nil, []byte(name), maxName)
		names[string(normal)] = true
	}
	return names
}()

// SecretNames returns the names that a secret stands under.
func SecretNames() []string {
	return []string{
		"password", "passwd", "pwd", "passphrase", "old_password", "new_password", "current_password",
		"secret", "secret_key", "client_secret", "api_secret", "secret_access_key", "aws_secret_access_key",
		"token", "access_token", "refresh_token", "session_token", "id_token", "auth_token", "bearer_token", "api_token",
		"x_auth_token", "x_amz_security_token", "api_key", "x_api_key", "authorization", "proxy_authorization",
		"cookie", "set_cookie", "private_key", "cvv", "cvv2", "cvc", "cvc2",
	}
}

// lastLetters has the last two letters of each of secretNames. Few other names end with them.
var lastLetters = func() (pairs [1 << 10]bool) {
	for name := range secretNames {
		pairs[pairOf(name[len(name)-2], name[len(name)-1])] = true
	}
	return pairs
}()

// pairOf returns the place of two letters or digits in lastLetters, whatever their case.
func pairOf(a, b byte) int { return int(a&31)<<5 | int(b&31) }

// maxName is more than the length of the longest of secretNames, in bytes.
const maxName = 64

// isSecretName reports whether a secret stands under the name.
func isSecretName(name []byte) bool {
	if n := len(name); n < 2 || isAlphanumeric(name[n-1]) && isAlphanumeric(name[n-2]) && !lastLetters[pairOf(name[n-2], name[n-1])] {
		return false
	}
	var buffer [maxName]byte
	normal, fits := normalName(buffer[:0], name, maxName)
	return fits && secretNames[string(normal)]
}

// normalName appends the name in lower case, without "-" and "_". It stops and reports false for a
// name that needs about limit bytes or more.
func normalName(dst, name []byte, limit int) ([]byte, bool) {
	for i := 0; i < len(name); {
		c := name[i]
		switch {
		case c >= utf8.RuneSelf: // few fold to ASCII, such as the Kelvin sign
			r, size := utf8.DecodeRune(name[i:])
			dst = utf8.AppendRune(dst, unicode.ToLower(unicode.ToUpper(r)))
			i += size
		case c == '-' || c == '_':
			i++
		default:
			if 'A' <= c && c <= 'Z' {
				c |= 0x20
			}
			dst = append(dst, c)
			i++
		}
		if len(dst) > limit-utf8.UTFMax {
			return dst, false
		}
	}
	return dst, true
}
