package audit_test

import (
	"testing"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/audit"
)

func TestParseTime(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		{"2026-11-20T08:00:00Z", "2026-11-20T08:00:00Z"},
		{"2026-11-20T08:00:00.123456789+05:30", "2026-11-20T02:30:00.123456789Z"},
		{"2026-11-20t08:00:00z", "2026-11-20T08:00:00Z"},
		{"2026-11-20t08:00:00.5+05:30", "2026-11-20T02:30:00.5Z"},
		{"2016-12-31t23:59:60z", "2016-12-31T23:59:59.999Z"},
		{"2026-11-20T08:00:00+23:59", "2026-11-19T08:01:00Z"},
		{"2024-02-29T08:00:00Z", "2024-02-29T08:00:00Z"},
		{"2016-12-31T23:59:60Z", "2016-12-31T23:59:59.999Z"},
		{"2016-12-31T23:59:60.75Z", "2016-12-31T23:59:59.999Z"},
		{"2017-01-01T05:29:60+05:30", "2016-12-31T23:59:59.999Z"},
		{"2015-06-30T23:59:60Z", "2015-06-30T23:59:59.999Z"},
	} {
		got, err := audit.ParseTime(c.text)
		if err != nil {
			t.Errorf("%s: %v", c.text, err)
			continue
		}
		if got.Location() != time.UTC {
			t.Errorf("%s: got a time in %s, want UTC", c.text, got.Location())
		}
		if got.Format(time.RFC3339Nano) != c.want {
			t.Errorf("%s: got %s, want %s", c.text, got.Format(time.RFC3339Nano), c.want)
		}
	}
}

func TestParseTimeRefuses(t *testing.T) {
	for _, text := range []string{
		"", "2026-11-20", "2026-11-20T8:00:00Z", "2026-11-20T08:00:00,5Z", "2026-11-20T08:00:00+24:00", "2026-11-20T08:00:00+05:60",
		"2026-11-20T08:00:00", "2026-11-20 08:00:00Z", "2026-11-20t08:00:00", "2026-11-20T08:00:00zz", "2026-02-30T08:00:00Z", "2026-11-20T24:00:00Z",
		"2026-11-20T08:00:61Z", "2026-11-20T08:00:60Z", "2026-11-20T23:59:60Z", "2016-12-31T23:58:60Z", "2016-12-31T23:59:60+01:00",
		"2016-12-31T23:59:60", "2016-12-31T23:59:60,5Z", "2016-12-31T23:59:60+24:00", "2016-12-31T23:59:6", "26-11-20T08:00:00Z", "2026-11-20T08:00Z",
		"2026-11-20T08:00:00.Z", " 2026-11-20T08:00:00Z", "2026-11-20T08:00:00Z ",
	} {
		if got, err := audit.ParseTime(text); err == nil {
			t.Errorf("%q: got %s, want an error", text, got)
		}
	}
}

func TestABoundInWholeMilliseconds(t *testing.T) {
	for text, want := range map[string]string{
		"2026-01-31T23:59:59.999Z":       "2026-01-31T23:59:59.999Z",
		"2026-01-31T23:59:59.999999Z":    "2026-02-01T00:00:00Z",
		"2026-02-01T01:00:00.0005+01:00": "2026-02-01T00:00:00.001Z",
		"2026-02-01T00:00:00.000000001Z": "2026-02-01T00:00:00.001Z",
		"9999-12-31T23:59:59.999999999Z": "9999-12-31T23:59:59.999Z",
		"1969-12-31T23:59:59.998000001Z": "1969-12-31T23:59:59.999Z",
	} {
		at, err := audit.ParseTime(text)
		if err != nil {
			t.Fatal(err)
		}
		if got := audit.WholeMillisecond(at).Format(time.RFC3339Nano); got != want {
			t.Errorf("%s: got %s, want %s", text, got, want)
		}
	}
	if got := audit.WholeMillisecond(time.Time{}); !got.IsZero() {
		t.Errorf("no time: got %s, want none", got)
	}
}
