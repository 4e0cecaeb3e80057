package decimal_test

import (
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/ocelot-audit/ocelot/pkg/decimal"
)

func TestKeysHaveTheOrderOfValues(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b := numbers().Draw(t, "a"), numbers().Draw(t, "b")
		want := rational(t, a).Cmp(rational(t, b))
		if got := strings.Compare(decimal.KeyOf(a), decimal.KeyOf(b)); got != want {
			t.Fatalf("keys of %s and %s compare as %d, want %d", a, b, got, want)
		}
	})
}

func TestKeyOfOtherText(t *testing.T) {
	for _, text := range []string{"", "x", "1e100", "-1e-200", "01"} {
		if got := decimal.KeyOf(text); got != "" {
			t.Errorf("key of %q: got %q, want none", text, got)
		}
	}
}

// ranges draws ranges with numbers as bounds, with and without the bound itself, some of them open.
func ranges() *rapid.Generator[decimal.Range] {
	return rapid.Custom(func(t *rapid.T) decimal.Range {
		bound := func(name string) string {
			key := decimal.KeyOf(numbers().Draw(t, name))
			switch rapid.IntRange(0, 3).Draw(t, "kind of "+name) {
			case 0:
				return ""
			case 1:
				return decimal.After(key)
			}
			return key
		}
		return decimal.Range{From: bound("from"), To: bound("to")}
	})
}

func TestCover(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		levels := rapid.SampledFrom([]decimal.Levels{{4, 6}, {3, 4, 5, 6}, {10}}).Draw(t, "levels")
		r := ranges().Draw(t, "range")
		key := decimal.KeyOf(numbers().Draw(t, "number"))
		whole, parts := levels.Cover(r)
		found := 0
		for _, w := range whole {
			if strings.HasPrefix(levels.Buckets(key)[w.Level].Start, w.Start) {
				found++
			}
		}
		for _, part := range parts {
			if part.Contains(key) {
				found++
			}
			if got, want := prefixed(part, key), part.Contains(key); got != want {
				t.Fatalf("prefixes of %+v have %s: %v, want %v", part, key, got, want)
			}
		}
		want := 0
		if r.Contains(key) {
			want = 1
		}
		if found != want {
			t.Fatalf("%s is %d times in the buckets %v and parts %v of %+v, want %d", key, found, whole, parts, r, want)
		}
		if len(whole) > 150 {
			t.Fatalf("%+v has %d whole buckets, want up to 150", r, len(whole))
		}
	})
}

func prefixed(part decimal.Range, key string) bool {
	for _, p := range part.Prefixes() {
		if key == p.Text || !p.Exact && strings.HasPrefix(key, p.Text) {
			return true
		}
	}
	return false
}
