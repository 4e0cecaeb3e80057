package protect

import (
	"bytes"
	"encoding/base64"
	"slices"
	"strings"

	"github.com/ocelot-audit/ocelot/pkg/audit"
)

// detector returns the places of secrets of one kind in a text, in rising order and without
// overlap. Its time is linear in the length of the text.
type detector func(text string) []span

// span is a part of a text.
type span struct{ start, end int }

func detectorsOf(kinds []audit.Detector) []detector {
	if len(kinds) == 0 {
		return nil
	}
	detectors := make([]detector, 0, len(kinds))
	for _, kind := range kinds {
		switch kind {
		case audit.DetectJWT:
			detectors = append(detectors, findJWTs)
		case audit.DetectAWSKey:
			detectors = append(detectors, findAWSKeys)
		case audit.DetectPrivateKey:
			detectors = append(detectors, findPrivateKeys)
		case audit.DetectPAN:
			detectors = append(detectors, findPANs)
		}
	}
	return detectors
}

// removeDetected returns the text with Removed in the place of what the detectors find.
func removeDetected(text string, detectors []detector) string {
	for _, find := range detectors {
		spans := find(text)
		if len(spans) == 0 {
			continue
		}
		var cleaned strings.Builder
		done := 0
		for _, s := range spans {
			cleaned.WriteString(text[done:s.start])
			cleaned.WriteString(Removed)
			done = s.end
		}
		cleaned.WriteString(text[done:])
		text = cleaned.String()
	}
	return text
}

func isDigit(c byte) bool { return '0' <= c && c <= '9' }

func isUpper(c byte) bool { return 'A' <= c && c <= 'Z' }

func isLower(c byte) bool { return 'a' <= c && c <= 'z' }

func isAlphanumeric(c byte) bool { return isDigit(c) || isUpper(c) || isLower(c) }

// endOfRun returns the index after the bytes from i on that are in the set.
func endOfRun(text string, i int, in func(c byte) bool) int {
	for i < len(text) && in(text[i]) {
		i++
	}
	return i
}

// findJWTs finds JSON web tokens in compact form, signed (RFC 7515) and encrypted (RFC 7516). The
// header of a token is a JSON object with the member "alg".
func findJWTs(text string) (spans []span) {
	if !strings.Contains(text, jwtBegin) {
		return nil
	}
	for i := 0; i < len(text); {
		end := endOfRun(text, i, isBase64URL)
		if start := startOfHeader(text[i:end]); start >= 0 && end < len(text) && text[end] == '.' {
			if tokenEnd, is := endOfJWT(text, i+start, end); is {
				spans, end = append(spans, span{i + start, tokenEnd}), tokenEnd
			}
		}
		i = end + 1
	}
	return spans
}

// jwtBegin is `{"` in base64url.
const jwtBegin = "eyJ"

func isBase64URL(c byte) bool { return isAlphanumeric(c) || c == '-' || c == '_' }

// startOfHeader returns where in a run of base64url a header can begin, or -1: at the beginning of
// the run or after "-" or "_", with which a name in front of the token can end.
func startOfHeader(run string) int {
	for i := 0; ; i++ {
		next := strings.Index(run[i:], jwtBegin)
		if next < 0 {
			return -1
		}
		if i += next; i == 0 || !isAlphanumeric(run[i-1]) {
			return i
		}
	}
}

// endOfJWT returns the end of the token whose header is text[start:headerEnd].
func endOfJWT(text string, start, headerEnd int) (end int, is bool) {
	header, err := base64.RawURLEncoding.DecodeString(text[start:headerEnd])
	if err != nil || !bytes.Contains(header, []byte(`"alg"`)) || header[len(header)-1] != '}' {
		return 0, false
	}
	parts := 2 // after the header: payload, signature
	if bytes.Contains(header, []byte(`"enc"`)) {
		parts = 4 // encrypted key, initialization vector, ciphertext, tag
	}
	end = headerEnd
	for part := range parts {
		if end >= len(text) || text[end] != '.' {
			return 0, false
		}
		from := end + 1
		if end = endOfRun(text, from, isBase64URL); parts == 2 && part == 0 && end == from {
			return 0, false // a signature and an encrypted key can be empty, a payload of claims cannot
		}
	}
	return end, true
}

// The form of AWS's keys: https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_identifiers.html.
const (
	accessKeyID     = 20
	secretAccessKey = 40
)

// findAWSKeys finds ids of access keys, and secret access keys in a text that has such an id or the
// word "secret". Without the context a secret access key looks like other base64.
func findAWSKeys(text string) (spans []span) {
	var secrets []span
	for i := 0; i < len(text); {
		end := endOfRun(text, i, isBase64)
		if isSecretAccessKey(text[i:end]) {
			secrets = append(secrets, span{i, end})
		} else {
			spans = appendAccessKeyIDs(spans, text, i, end)
		}
		i = end + 1
	}
	if len(secrets) == 0 || len(spans) == 0 && !strings.Contains(strings.ToLower(text), "secret") {
		return spans
	}
	spans = append(spans, secrets...)
	slices.SortFunc(spans, func(a, b span) int { return a.start - b.start })
	return spans
}

func isBase64(c byte) bool { return isAlphanumeric(c) || c == '+' || c == '/' }

// appendAccessKeyIDs appends the ids between the "/" and "+" of a run of base64, for example in the
// scope of a signature.
func appendAccessKeyIDs(spans []span, text string, i, end int) []span {
	for i < end {
		partEnd := endOfRun(text[:end], i, isAlphanumeric)
		if isAccessKeyID(text[i:partEnd]) {
			spans = append(spans, span{i, partEnd})
		}
		i = partEnd + 1
	}
	return spans
}

func isAccessKeyID(word string) bool {
	if len(word) != accessKeyID {
		return false
	}
	switch word[:4] {
	case "AKIA", "ASIA", "ABIA", "ACCA":
		return endOfRun(word, 0, func(c byte) bool { return isUpper(c) || isDigit(c) }) == len(word)
	}
	return false
}

// isSecretAccessKey reports whether a run of base64 can be a secret access key. Such a key has
// letters of both cases. A hash in hexadecimal digits has one.
func isSecretAccessKey(run string) bool {
	return len(run) == secretAccessKey &&
		endOfRun(run, 0, func(c byte) bool { return !isUpper(c) }) < len(run) &&
		endOfRun(run, 0, func(c byte) bool { return !isLower(c) }) < len(run) &&
		endOfRun(run, 0, func(c byte) bool { return !isDigit(c) }) < len(run)
}

const (
	pemBegin   = "-----BEGIN "
	pemEnd     = "-----END "
	pemDashes  = "-----"
	maxPEMType = 64 // the longest type of key has 33 bytes
)

// findPrivateKeys finds private keys in PEM (RFC 7468), OpenSSH and OpenPGP armor. A key whose end
// is missing goes to the end of the text.
func findPrivateKeys(text string) (spans []span) {
	for i := 0; ; {
		begin := strings.Index(text[i:], pemBegin)
		if begin < 0 {
			return spans
		}
		begin += i
		i = begin + len(pemBegin)
		name, _, closed := strings.Cut(text[i:min(len(text), i+maxPEMType+len(pemDashes))], pemDashes)
		if !closed || !strings.HasSuffix(name, "PRIVATE KEY") && !strings.HasSuffix(name, "PRIVATE KEY BLOCK") {
			continue
		}
		last := pemEnd + name + pemDashes
		end := strings.Index(text[i:], last)
		if end < 0 {
			return append(spans, span{begin, len(text)})
		}
		i += end + len(last)
		spans = append(spans, span{begin, i})
	}
}

// The numbers of digits of a payment card's number (ISO/IEC 7812).
const (
	minPAN = 13
	maxPAN = 19
)

// findPANs finds numbers of payment cards: 13 to 19 digits from 2 to 6 on with the check digit of
// Luhn. The digits can be in groups of three or more, all with a space or all with a hyphen between
// them. Digits beside a letter or a decimal point, or behind a "+", are another number's.
func findPANs(text string) (spans []span) {
	for i := 0; i < len(text); {
		if !isDigit(text[i]) {
			i++
			continue
		}
		if end, is := endOfPAN(text, i); is {
			spans = append(spans, span{i, end})
			i = end
			continue
		}
		i = endOfRun(text, i, isDigit)
	}
	return spans
}

// endOfPAN returns the end of the longest card number that begins at start, the first digit of a run.
func endOfPAN(text string, start int) (end int, is bool) {
	if c := text[start]; c < '2' || c > '6' || start > 0 && adjoins(text, start-1, start-2) {
		return 0, false
	}
	var digits [maxPAN]byte
	n, group, separator := 0, 0, byte(0)
	for i := start; i < len(text); i++ {
		if !isDigit(text[i]) {
			if group < 3 || i+1 >= len(text) || !isDigit(text[i+1]) || text[i] != ' ' && text[i] != '-' || separator != 0 && text[i] != separator {
				break
			}
			separator, group = text[i], 0
			continue
		}
		if n == maxPAN {
			break
		}
		digits[n] = text[i]
		n, group = n+1, group+1
		after := i + 1
		if n >= minPAN && group >= 3 && (after == len(text) || !isDigit(text[after]) && !adjoins(text, after, after+1)) && isLuhn(digits[:n]) {
			end, is = after, true
		}
	}
	return end, is
}

// adjoins reports whether the byte at i continues a word or a number whose digits end beside it.
// next is the index of the byte on its other side.
func adjoins(text string, i, next int) bool {
	c := text[i]
	return isAlphanumeric(c) || c == '_' || c == '+' || c == '.' && next >= 0 && next < len(text) && isDigit(text[next])
}

// isLuhn reports whether the last digit is the check digit of the others (ISO/IEC 7812-1, annex B).
func isLuhn(digits []byte) bool {
	sum := 0
	for i, c := range digits {
		d := int(c - '0')
		if (len(digits)-i)%2 == 0 {
			if d *= 2; d > 9 {
				d -= 9
			}
		}
		sum += d
	}
	return sum%10 == 0
}
