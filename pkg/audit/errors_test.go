package audit_test

import (
	"strings"
	"testing"

	"github.com/ocelot-audit/ocelot/pkg/audit"
)

func TestBoundedPointer(t *testing.T) {
	long := strings.Repeat("n", 100)
	short := long[:64] + "…"
	for pointer, want := range map[string]string{
		"":                               "",
		"/":                              "/",
		"/metadata/a~1b/0":               "/metadata/a~1b/0",
		"Header: Authorization":          "Header: Authorization",
		"?q":                             "?q",
		"?" + long:                       "?" + short,
		"/" + long + "/b":                "/" + short + "/b",
		"/" + strings.Repeat("é", 100):   "/" + strings.Repeat("é", 32) + "…",
		"/x" + strings.Repeat("~1", 100): "/x" + strings.Repeat("~1", 31) + "…",
		strings.Repeat("/0", 100_000):    strings.Repeat("/0", 128),
		"/metadata" + strings.Repeat("/"+long, 9): "/metadata" + strings.Repeat("/"+short, 3),
	} {
		if got := audit.BoundedPointer(pointer); got != want {
			t.Errorf("%.20s… of %d bytes: got %q, want %q", pointer, len(pointer), got, want)
		}
	}
}
