package audit_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ocelot-audit/ocelot/pkg/audit"
)

var noon = time.Date(2026, 6, 15, 12, 0, 0, 0, time.UTC)

const day = 24 * time.Hour

func bySeverity(severity audit.Severity, days int) audit.RetentionRule {
	return audit.RetentionRule{Severity: &severity, Days: days}
}

func TestExpiryOf(t *testing.T) {
	rules := []audit.RetentionRule{{Action: "VIEW", Days: 2}, bySeverity(audit.SeverityError, 0), {Action: "DELETE", Days: 3}}
	settings := audit.Settings{RetentionDays: 10, RetentionRules: rules}
	for name, test := range map[string]struct {
		entry audit.Entry
		days  int // 0: for ever
	}{
		"no rule":                   {audit.Entry{Action: "CREATE"}, 10},
		"action":                    {audit.Entry{Action: "VIEW"}, 2},
		"case matters":              {audit.Entry{Action: "view"}, 10},
		"severity":                  {audit.Entry{Action: "CREATE", Severity: audit.SeverityError}, 0},
		"action before severity":    {audit.Entry{Action: "VIEW", Severity: audit.SeverityError}, 2},
		"severity before action":    {audit.Entry{Action: "DELETE", Severity: audit.SeverityError}, 0},
		"the service's own":         {audit.Entry{Action: "VIEW", SubmittedBy: audit.SubmittedByService}, 10},
		"not quite the service":     {audit.Entry{Action: "VIEW", SubmittedBy: "sub:service"}, 2},
		"from before submitted_by":  {audit.Entry{Action: "DELETE"}, 3},
		"severity INFO is no match": {audit.Entry{Action: "UPDATE", Severity: audit.SeverityInfo}, 10},
	} {
		test.entry.Timestamp = noon
		want := noon.Add(time.Duration(test.days) * day)
		if test.days == 0 {
			want = time.Time{}
		}
		if got := settings.ExpiryOf(&test.entry); !got.Equal(want) {
			t.Errorf("%s: ends at %v, want %v", name, got, want)
		}
	}
	for _, days := range []int{1, audit.MaxRetentionDays} {
		longest := audit.Settings{RetentionDays: days}
		if got, want := longest.ExpiryOf(&audit.Entry{Timestamp: noon}), noon.AddDate(0, 0, days); !got.Equal(want) {
			t.Errorf("%d days end at %v, want %v", days, got, want)
		}
	}
}

func TestEndsAreExact(t *testing.T) {
	entry := audit.Entry{Timestamp: noon}
	settings := audit.Settings{RetentionDays: 10, SearchableDays: 5}
	for _, test := range []struct {
		age                 time.Duration
		expired, searchable bool
	}{
		{5 * day, false, true}, {5*day + 1, false, false}, {10*day - 1, false, false}, {10 * day, true, false},
	} {
		now := noon.Add(test.age)
		if got := settings.IsExpired(&entry, now); got != test.expired {
			t.Errorf("at %v: expired is %v, want %v", test.age, got, test.expired)
		}
		if got := settings.IsSearchable(&entry, now); got != test.searchable {
			t.Errorf("at %v: searchable is %v, want %v", test.age, got, test.searchable)
		}
		if got, want := settings.IsVisible(&entry, now), test.searchable && !test.expired; got != want {
			t.Errorf("at %v: visible is %v, want %v", test.age, got, want)
		}
	}
}

func TestEntriesLeaveTheStores(t *testing.T) {
	entry := audit.Entry{Timestamp: noon, Action: "A"}
	rules := []audit.RetentionRule{{Action: "A", Days: 4}}
	for name, test := range map[string]struct {
		settings audit.Settings
		want     time.Duration // the first age at which it leaves; zero: never
	}{
		"for ever":                     {audit.Settings{Archive: true}, 0},
		"a retention":                  {audit.Settings{RetentionDays: 10, Archive: true}, 10 * day},
		"not searchable":               {audit.Settings{RetentionDays: 10, SearchableDays: 3}, 10 * day},
		"not searchable, archived":     {audit.Settings{RetentionDays: 10, SearchableDays: 3, Archive: true}, 3*day + 1},
		"for ever, but not searchable": {audit.Settings{SearchableDays: 3, Archive: true}, 3*day + 1},
		"a rule before that":           {audit.Settings{SearchableDays: 5, Archive: true, RetentionRules: rules}, 4 * day},
		"a rule after that":            {audit.Settings{SearchableDays: 3, Archive: true, RetentionRules: rules}, 3*day + 1},
	} {
		for age := time.Duration(0); age < 12*day; age += day / 2 {
			for _, at := range []time.Duration{age, age + 1} {
				want := test.want > 0 && at >= test.want
				if got := test.settings.LeavesStores(&entry, noon.Add(at)); got != want {
					t.Errorf("%s: at %v: leaves is %v, want %v", name, at, got, want)
				}
			}
		}
		if days := int(test.want / day); days > 0 && !slices.Contains(test.settings.LeaveDays(), days) {
			t.Errorf("%s: leaves after %v days, want %d among them", name, test.settings.LeaveDays(), days)
		}
	}
}

func TestVisibleIsAPlainBoundWithoutRules(t *testing.T) {
	ms := time.Millisecond
	for name, test := range map[string]struct {
		settings audit.Settings
		from     time.Time // of the caller
		want     time.Time
		plain    bool
	}{
		"for ever":               {audit.Settings{}, time.Time{}, time.Time{}, true},
		"a retention":            {audit.Settings{RetentionDays: 10}, time.Time{}, noon.Add(-10*day + ms), true},
		"the caller asks later":  {audit.Settings{RetentionDays: 10}, noon, noon, true},
		"the caller asks before": {audit.Settings{RetentionDays: 10}, noon.Add(-20 * day), noon.Add(-10*day + ms), true},
		"a hundred years":        {audit.Settings{RetentionDays: audit.MaxRetentionDays}, time.Time{}, time.Time{}, true},
		"searchable_days":        {audit.Settings{RetentionDays: 10, SearchableDays: 3}, time.Time{}, noon.Add(-3 * day), true},
		"rules of the same length": {
			audit.Settings{RetentionDays: 10, RetentionRules: []audit.RetentionRule{{Action: "A", Days: 10}}}, time.Time{}, noon.Add(-10*day + ms), true,
		},
		"rules behind searchable_days": {
			audit.Settings{SearchableDays: 3, RetentionRules: []audit.RetentionRule{{Action: "A", Days: 10}}}, time.Time{}, noon.Add(-3 * day), true,
		},
		"a longer rule": {
			audit.Settings{RetentionDays: 10, RetentionRules: []audit.RetentionRule{{Action: "A", Days: 20}}}, time.Time{}, noon.Add(-20*day + ms), false,
		},
		"a rule for ever": {
			audit.Settings{RetentionDays: 10, RetentionRules: []audit.RetentionRule{{Action: "A"}}}, time.Time{}, time.Time{}, false,
		},
	} {
		got := test.settings.Visible(audit.Filter{From: test.from}, noon)
		if !got.From.Equal(test.want) {
			t.Errorf("%s: from %v, want %v", name, got.From, test.want)
		}
		if plain := got.Unexpired == nil; plain != test.plain {
			t.Errorf("%s: a plain bound: %v (%+v), want %v", name, plain, got.Unexpired, test.plain)
		}
	}
}

// TestUnexpiredIsSmall: indexes rely on the number of conditions.
func TestUnexpiredIsSmall(t *testing.T) {
	s := audit.Settings{RetentionDays: 1}
	for i, severity := range audit.Severities() {
		s.RetentionRules = append(s.RetentionRules, bySeverity(severity, 2+i))
	}
	for i := len(s.RetentionRules); i < audit.MaxRetentionRules; i++ {
		s.RetentionRules = append(s.RetentionRules, audit.RetentionRule{Action: "A" + strings.Repeat("x", i), Days: 10 + i})
	}
	s.RetentionRules[0].Days = 0
	const most = 80
	if n := audit.CountConditions(s.Visible(audit.Filter{}, noon).Unexpired); n > most {
		t.Errorf("%d conditions, want at most %d", n, most)
	}
}

func TestSettingsAboutRetentionAreValidated(t *testing.T) {
	rule := func(rules ...audit.RetentionRule) audit.Settings {
		return audit.Settings{RetentionDays: 365, RetentionRules: rules}
	}
	many := make([]audit.RetentionRule, audit.MaxRetentionRules+1)
	both := bySeverity(audit.SeverityInfo, 1)
	both.Action = "VIEW"
	for name, test := range map[string]struct {
		settings audit.Settings
		want     string // pointer and code of each fault
	}{
		"none":                    {audit.Settings{}, ""},
		"negative":                {audit.Settings{RetentionDays: -1, SearchableDays: -1}, "retention_days out_of_range, searchable_days out_of_range"},
		"most":                    {audit.Settings{RetentionDays: 36_500, SearchableDays: 36_500}, ""},
		"too long":                {audit.Settings{RetentionDays: 36_501}, "retention_days out_of_range"},
		"searchable even longer":  {audit.Settings{RetentionDays: 30, SearchableDays: 36_501}, "searchable_days out_of_range"},
		"searchable for ever":     {audit.Settings{SearchableDays: 36_501}, "searchable_days out_of_range"},
		"searchable as long":      {audit.Settings{RetentionDays: 30, SearchableDays: 30}, ""},
		"searchable for longer":   {audit.Settings{RetentionDays: 30, SearchableDays: 31}, "searchable_days out_of_range"},
		"as long as a rule":       {audit.Settings{RetentionDays: 30, SearchableDays: 90, RetentionRules: []audit.RetentionRule{{Action: "A", Days: 90}}}, ""},
		"for longer than a rule":  {audit.Settings{RetentionDays: 30, SearchableDays: 91, RetentionRules: []audit.RetentionRule{{Action: "A", Days: 90}}}, "searchable_days out_of_range"},
		"a rule is for ever":      {audit.Settings{RetentionDays: 30, SearchableDays: 1000, RetentionRules: []audit.RetentionRule{{Action: "A"}}}, ""},
		"two rules":               {rule(audit.RetentionRule{Action: "VIEW", Days: 1}, bySeverity(audit.SeverityInfo, 1)), ""},
		"neither":                 {rule(audit.RetentionRule{Days: 1}), "retention_rules/0 invalid_rule"},
		"both":                    {rule(both), "retention_rules/0 invalid_rule"},
		"no action":               {rule(audit.RetentionRule{Action: "a b"}), "retention_rules/0/action invalid_action"},
		"days":                    {rule(audit.RetentionRule{Action: "A", Days: -1}, audit.RetentionRule{Action: "B", Days: 36_501}), "retention_rules/0/days out_of_range, retention_rules/1/days out_of_range"},
		"the same action":         {rule(audit.RetentionRule{Action: "A", Days: 1}, audit.RetentionRule{Action: "A", Days: 2}), "retention_rules/1/action repeated"},
		"the same severity":       {rule(bySeverity(1, 1), bySeverity(2, 1), bySeverity(1, 1)), "retention_rules/2/severity repeated"},
		"an action like severity": {rule(bySeverity(audit.SeverityInfo, 1), audit.RetentionRule{Action: "INFO"}), ""},
		"too many":                {rule(many...), "retention_rules too_many"},
	} {
		tenant := audit.Tenant{ID: "acme", Name: "Acme", Settings: test.settings}
		tenant.Settings.LogLevels, tenant.Settings.Tier, tenant.Settings.Isolation = audit.Severities(), audit.TierStandard, audit.IsolationShared
		var got []string
		for _, fault := range tenant.Validate() {
			got = append(got, strings.TrimPrefix(fault.Pointer, "/settings/")+" "+fault.Code)
		}
		if diff := cmp.Diff(test.want, strings.Join(got, ", ")); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}
