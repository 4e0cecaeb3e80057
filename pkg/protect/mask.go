package protect

import (
	"net/netip"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/ocelot-audit/ocelot/pkg/audit"
)

// Masked stands in the place of a value of which nothing is shown.
const Masked = "[masked]"

// hidden stands for the part of a value that a mask hides, and hiddenName for the name of an email address.
const (
	hidden     = "••••"
	hiddenName = "•••"
)

const (
	// minShown is the shortest value of which a mask shows characters.
	minShown = 8
	// lastShown is the most characters that MaskLast4 shows.
	lastShown = 4
	ipv4Bits  = 24
	ipv6Bits  = 48
)

// MaskOf returns what stands in the place of a text: a string's content, or the JSON text of a
// number. A mask that does not fit the text is audit.MaskFull.
func MaskOf(m audit.Mask, text string) string {
	switch m {
	case audit.MaskEmail:
		return maskEmail(text)
	case audit.MaskIP:
		if address, err := netip.ParseAddr(text); err == nil {
			return MaskAddress(address).String()
		}
	case audit.MaskLast4:
		return maskLast(text)
	}
	return Masked
}

// IsStandIn reports whether a text can stand in the place of a value that is not shown: it is a mask, or has
// Removed in it. A client's own text can be equal to one.
func IsStandIn(text string) bool {
	if text == Masked || strings.HasPrefix(text, hiddenName) || strings.Contains(text, Removed) { // hidden begins with hiddenName
		return true
	}
	address, err := netip.ParseAddr(text)
	return err == nil && MaskAddress(address) == address
}

// MaskAddress returns the first address of the network that the address is in. The kind of address
// stays.
func MaskAddress(address netip.Addr) netip.Addr {
	address = address.WithZone("")
	bits := ipv6Bits
	switch {
	case address.Is4():
		bits = ipv4Bits
	case address.Is4In6():
		bits = 128 - 32 + ipv4Bits
	}
	network, err := address.Prefix(bits)
	if err != nil {
		return netip.Addr{}
	}
	return network.Masked().Addr()
}

// maskEmail keeps the domain of an address. The domain must look like one, so that no other text
// with an @ is shown.
func maskEmail(text string) string {
	at := strings.LastIndexByte(text, '@')
	if at < 1 || strings.IndexByte(text[:at], '@') >= 0 || !isDomain(text[at+1:]) {
		return Masked
	}
	return hiddenName + text[at:]
}

// The lengths of the longest name and the longest label of RFC 1035, in bytes.
const (
	maxDomain = 253
	maxLabel  = 63
)

// isDomain reports whether the text has at least two labels of letters, digits and hyphens. Letters
// of any script count.
func isDomain(text string) bool {
	if len(text) > maxDomain || !utf8.ValidString(text) {
		return false
	}
	labels := strings.Split(text, ".")
	for _, label := range labels {
		if label == "" || len(label) > maxLabel || strings.ContainsFunc(label, func(r rune) bool {
			return r != '-' && !unicode.IsLetter(r) && !unicode.IsDigit(r) && !unicode.IsMark(r)
		}) {
			return false
		}
	}
	return len(labels) > 1
}

// maskLast shows the last characters, at most a quarter of them.
func maskLast(text string) string {
	n := utf8.RuneCountInString(text)
	if n < minShown {
		return Masked
	}
	runes := []rune(text)
	return hidden + string(runes[n-min(lastShown, n/4):])
}
