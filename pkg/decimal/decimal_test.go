package decimal_test

import (
	"math/big"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/ocelot-audit/ocelot/pkg/decimal"
)

func TestCanonical(t *testing.T) {
	for text, want := range map[string]string{
		"0": "0", "-0": "0", "0.00": "0", "0e999999999999": "0",
		"1": "1", "1.0": "1", "10": "10", "1e1": "10", "1E+01": "10", "100e-1": "10", "-1.50": "-1.5",
		"0.10": "0.1", "0.000001": "0.000001", "0.0000001": "1e-7", "12e-9": "1.2e-8",
		"9007199254740993": "9007199254740993", "9007199254740993.0": "9007199254740993",
		"18446744073709551615": "18446744073709551615", "1e20": "1e20", "1e19": "10000000000000000000", "12e30": "1.2e31",
		// Not numbers, or out of range.
		"": "", "-": "-", "+1": "+1", "01": "01", "1.": "1.", ".5": ".5", "1e": "1e", "1e+-2": "1e+-2", "0x10": "0x10", "1_0": "1_0",
		" 1": " 1", "1e100": "1e100", "1e-999999999999": "1e-999999999999", "Infinity": "Infinity", "NaN": "NaN", "١": "١",
	} {
		if got := decimal.Canonical(text); got != want {
			t.Errorf("canonical form of %q: got %q, want %q", text, got, want)
		}
	}
}

// numbers draws numbers of JSON. Many of them are equal to another one.
func numbers() *rapid.Generator[string] {
	return rapid.Custom(func(t *rapid.T) string {
		text := rapid.SampledFrom([]string{"", "-"}).Draw(t, "sign")
		text += rapid.SampledFrom([]string{"0", "1", "9", "10", "100", "123", "9007199254740993"}).Draw(t, "whole")
		text += rapid.SampledFrom([]string{"", ".0", ".5", ".50", ".05", ".001"}).Draw(t, "fraction")
		return text + rapid.SampledFrom([]string{"", "e0", "E1", "e-1", "e+2", "e-03", "e30", "e-30"}).Draw(t, "exponent")
	})
}

func rational(t *rapid.T, text string) *big.Rat {
	r, ok := new(big.Rat).SetString(text)
	if !ok {
		t.Fatalf("math/big does not read %q", text)
	}
	return r
}

func TestCanonicalKeepsTheValue(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b := numbers().Draw(t, "a"), numbers().Draw(t, "b")
		canonical := decimal.Canonical(a)
		if rational(t, a).Cmp(rational(t, canonical)) != 0 {
			t.Fatalf("canonical form of %s is %s, want the same value", a, canonical)
		}
		equal := rational(t, a).Cmp(rational(t, b)) == 0
		if got := canonical == decimal.Canonical(b); got != equal {
			t.Fatalf("%s and %s have equal forms: %v, want %v", a, b, got, equal)
		}
		if again := decimal.Canonical(canonical); again != canonical {
			t.Fatalf("canonical form of %s: got %s, want itself", canonical, again)
		}
	})
}

func TestCanonicalOfLongText(t *testing.T) {
	text := "1" + strings.Repeat("0", 90)
	if got, want := decimal.Canonical(text), "1e90"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	long := "1." + strings.Repeat("3", 10_000)
	if got := decimal.Canonical(long); got != long {
		t.Errorf("got %d bytes, want %d", len(got), len(long))
	}
}
