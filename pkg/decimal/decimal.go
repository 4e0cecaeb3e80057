// Package decimal reads the numbers of JSON and compares them by value. It is exact: it never
// converts to binary floating point.
package decimal

import (
	"strconv"
	"strings"
)

// Limits of a number.
const (
	// MaxExponent bounds the decimal exponent of a number, in both directions.
	MaxExponent = 99
	// MaxDigits is the number of significant digits that count in a comparison.
	MaxDigits = 20
)

// Number is a decimal number. The zero value is 0.
type Number struct {
	negative bool
	digits   string // without zeros at either end; "" for 0
	exponent int    // the value is 0.digits × 10^exponent
}

// Parse reads a number of JSON (RFC 8259, section 6). ok is false for any other text, and for a
// number that is not 0 and whose exponent is over MaxExponent.
func Parse(text string) (n Number, ok bool) {
	mantissa, power, ok := splitExponent(text)
	if !ok {
		return Number{}, false
	}
	mantissa, n.negative = strings.CutPrefix(mantissa, "-")
	whole, fraction, hasFraction := strings.Cut(mantissa, ".")
	if !areDigits(whole) || len(whole) > 1 && whole[0] == '0' || hasFraction && !areDigits(fraction) {
		return Number{}, false
	}
	n.digits = strings.TrimLeft(whole+fraction, "0")
	leading := len(whole) + len(fraction) - len(n.digits)
	n.digits = strings.TrimRight(n.digits, "0")
	if n.digits == "" {
		return Number{}, true
	}
	n.exponent = len(whole) - leading + power
	return n, -MaxExponent <= n.exponent && n.exponent <= MaxExponent
}

// splitExponent splits a number before its exponent. An exponent with more than six digits is
// out of range, or it belongs to a zero.
func splitExponent(text string) (mantissa string, power int, ok bool) {
	at := strings.IndexAny(text, "eE")
	if at < 0 {
		return text, 0, true
	}
	digits := strings.TrimLeft(text[at+1:], "+-")
	if len(text)-at-1-len(digits) > 1 || !areDigits(digits) {
		return "", 0, false
	}
	significant := strings.TrimLeft(digits, "0")
	if len(significant) > 6 {
		significant = "999999"
	}
	power, _ = strconv.Atoi("0" + significant) // at most six digits
	if text[at+1] == '-' {
		power = -power
	}
	return text[:at], power, true
}

func areDigits(text string) bool {
	return text != "" && strings.Trim(text, "0123456789") == ""
}

// plainZeros bounds the zeros that String writes between the point and the digits.
const plainZeros = 6

// String returns the shortest usual spelling of the value: no zeros that do not count, and
// an exponent only if the number would otherwise begin or end with many zeros. It is a number
// of JSON. Equal numbers have equal spellings.
func (n Number) String() string {
	if n.digits == "" {
		return "0"
	}
	sign := ""
	if n.negative {
		sign = "-"
	}
	size := len(n.digits)
	switch {
	case n.exponent > 0 && n.exponent <= size:
		return sign + n.digits[:n.exponent] + fractionOf(n.digits[n.exponent:])
	case n.exponent > size && n.exponent <= MaxDigits:
		return sign + n.digits + strings.Repeat("0", n.exponent-size)
	case n.exponent <= 0 && n.exponent > -plainZeros:
		return sign + "0." + strings.Repeat("0", -n.exponent) + n.digits
	}
	return sign + n.digits[:1] + fractionOf(n.digits[1:]) + "e" + strconv.Itoa(n.exponent-1)
}

func fractionOf(digits string) string {
	if digits == "" {
		return ""
	}
	return "." + digits
}

// Canonical returns the spelling of String for a number that Parse reads, and any other text
// unchanged.
func Canonical(text string) string {
	if n, ok := Parse(text); ok {
		return n.String()
	}
	return text
}
