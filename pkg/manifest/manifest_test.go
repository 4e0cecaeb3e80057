package manifest_test

import (
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ocelot-audit/ocelot/pkg/access"
	"github.com/ocelot-audit/ocelot/pkg/manifest"
)

// verbNoun matches names as create-log: lower-case words with hyphens between them.
var verbNoun = regexp.MustCompile(`^[a-z]+(-[a-z]+)+$`)

func TestFunctionsAreOrderedVerbNouns(t *testing.T) {
	var names []string
	for _, f := range manifest.Functions() {
		names = append(names, f.Name)
		if !verbNoun.MatchString(f.Name) {
			t.Errorf("got name %q, want it to match %s", f.Name, verbNoun)
		}
	}
	ordered := slices.Compact(slices.Sorted(slices.Values(names)))
	if diff := cmp.Diff(ordered, names); diff != "" {
		t.Errorf("the functions are not ordered or not unique (-want +got):\n%s", diff)
	}
}

func TestFunctionsHaveSizeTimeoutAndSummary(t *testing.T) {
	for _, f := range manifest.Functions() {
		if f.MemoryMB < 128 || f.MemoryMB > 10240 { // Lambda's limits
			t.Errorf("%s has %d MB, want 128 to 10,240", f.Name, f.MemoryMB)
		}
		if f.Timeout <= 0 || f.Timeout > 15*time.Minute { // Lambda's limit
			t.Errorf("%s has a timeout of %s, want at most 15m", f.Name, f.Timeout)
		}
		if f.Summary == "" {
			t.Errorf("%s: got an empty summary, want a value", f.Name)
		}
		if strings.HasSuffix(f.Summary, ".") {
			t.Errorf("%s: got summary %q, want it without a full stop", f.Name, f.Summary)
		}
	}
}

func TestFunctionsHaveOneTrigger(t *testing.T) {
	for _, f := range manifest.Functions() {
		triggers := 0
		for _, set := range []bool{
			f.Trigger.Route != nil, len(f.Trigger.Queues) > 0, f.Trigger.Schedule != nil, f.Trigger.Socket != nil, f.Trigger.Authorizer, f.Trigger.Rotation != nil,
		} {
			if set {
				triggers++
			}
		}
		if triggers != 1 {
			t.Errorf("%s has %d triggers, want 1", f.Name, triggers)
		}
	}
}

func TestRotationsAreAsSecretsManagerTakesThem(t *testing.T) {
	for _, f := range manifest.Functions() {
		r := f.Trigger.Rotation
		if r == nil {
			continue
		}
		if r.Every%(24*time.Hour) != 0 {
			t.Errorf("%s rotates every %s, want whole days", f.Name, r.Every)
		}
		if got := r.Days(); got < 1 || got > 1000 {
			t.Errorf("%s rotates every %d days, want 1 to 1,000", f.Name, got)
		}
		if !slices.ContainsFunc(f.Grants, func(g manifest.Grant) bool { return g.Resource == r.Secret && g.Write }) {
			t.Errorf("%s has no grant to write %s, want the one of the secret that it rotates", f.Name, r.Secret)
		}
	}
}

func TestScheduledRunsDoNotOverlap(t *testing.T) {
	for _, f := range manifest.Functions() {
		s := f.Trigger.Schedule
		if s == nil {
			continue
		}
		if s.Every <= f.Timeout {
			t.Errorf("%s runs every %s, want more than its timeout of %s", f.Name, s.Every, f.Timeout)
		}
		if s.Every%time.Minute != 0 {
			t.Errorf("%s runs every %s, want whole minutes", f.Name, s.Every)
		}
	}
}

func TestQueuesHaveAConsumerAndSixTimesItsTimeout(t *testing.T) {
	for _, q := range manifest.Queues() {
		if got := manifest.QueueOf(q.Name); got != q {
			t.Errorf("QueueOf(%s) = %+v, want %+v", q.Name, got, q)
		}
		consumers := 0
		for _, f := range manifest.Functions() {
			for _, trigger := range f.Trigger.Queues {
				if trigger.Queue != q.Name {
					continue
				}
				consumers++
				if want := 6 * f.Timeout; q.VisibilityTimeout < want {
					t.Errorf("queue %s has a visibility timeout of %s, want at least %s: six times the timeout of %s",
						q.Name, q.VisibilityTimeout, want, f.Name)
				}
			}
		}
		if consumers != 1 {
			t.Errorf("queue %s has %d consumers, want 1", q.Name, consumers)
		}
	}
}

func TestTriggersNameKnownQueuesAndGrantReadingThem(t *testing.T) {
	var known []manifest.QueueName
	for _, q := range manifest.Queues() {
		known = append(known, q.Name)
	}
	for _, f := range manifest.Functions() {
		for _, trigger := range f.Trigger.Queues {
			if !slices.Contains(known, trigger.Queue) {
				t.Errorf("%s is triggered by the queue %s, want one that exists", f.Name, trigger.Queue)
			}
			queue, deadLetters := manifest.QueueResource(trigger.Queue), manifest.QueueResource(trigger.Queue.DeadLetters())
			if !slices.Contains(f.Grants, manifest.Grant{Resource: queue, Read: true}) {
				t.Errorf("%s may not read %s, which triggers it, want a grant", f.Name, queue)
			}
			if !slices.Contains(f.Grants, manifest.Grant{Resource: deadLetters, Write: true}) {
				t.Errorf("%s may not write %s, want a grant", f.Name, deadLetters)
			}
		}
	}
}

// dependencyOf has every resource but the queues, with where it lives.
var dependencyOf = map[manifest.Resource]manifest.Dependency{
	manifest.ResourceEntries:    manifest.DependencyRecords,
	manifest.ResourceTenants:    manifest.DependencyRecords,
	manifest.ResourceKeys:       manifest.DependencyRecords,
	manifest.ResourceHolds:      manifest.DependencyRecords,
	manifest.ResourceAttempts:   manifest.DependencyRecords,
	manifest.ResourceJobs:       manifest.DependencyRecords,
	manifest.ResourceTenantKeys: manifest.DependencyRecords,
	manifest.ResourceMasterKey:  manifest.DependencyMasterKey,
	manifest.ResourceExports:    manifest.DependencyExports,
	manifest.ResourceTombstones: manifest.DependencyTombstones,
	manifest.ResourceArchive:    manifest.DependencyArchive,
	manifest.ResourceQuarantine: manifest.DependencyRecords,

	manifest.ResourceCertificates: manifest.DependencyRecords,

	manifest.ResourceStream:      manifest.DependencyRecords,
	manifest.ResourceConnections: manifest.DependencyRecords,
	manifest.ResourceIndex:       manifest.DependencySearch,
	manifest.ResourceArrival:     manifest.DependencyRecords,
	manifest.ResourceQuotas:      manifest.DependencyRecords,
	manifest.ResourceSockets:     manifest.DependencySockets,
	manifest.ResourceCursorKey:   manifest.DependencyCursorKey,
	manifest.ResourceTokens:      manifest.DependencyTokens,
	manifest.ResourceTimeZones:   manifest.DependencyTimeZones,
}

func TestGrantsNameKnownResources(t *testing.T) {
	known := map[manifest.Resource]bool{}
	for r := range dependencyOf {
		known[r] = true
	}
	for _, q := range manifest.Queues() {
		known[manifest.QueueResource(q.Name)], known[manifest.QueueResource(q.Name.DeadLetters())] = true, true
	}
	granted := map[manifest.Resource]bool{}
	for _, f := range manifest.Functions() {
		for _, g := range f.Grants {
			granted[g.Resource] = true
			if !known[g.Resource] {
				t.Errorf("%s is granted %s, want one that exists", f.Name, g.Resource)
			}
			if !g.Read && !g.Write {
				t.Errorf("%s is granted neither reading nor writing %s, want one", f.Name, g.Resource)
			}
		}
	}
	for r := range known {
		if !granted[r] {
			t.Errorf("no function is granted %s, want one", r)
		}
	}
}

func TestResourceDependency(t *testing.T) {
	for r, want := range dependencyOf {
		if got := r.Dependency(); got != want {
			t.Errorf("%s lives in %s, want %s", r, got, want)
		}
	}
	for _, q := range manifest.Queues() {
		for _, name := range []manifest.QueueName{q.Name, q.Name.DeadLetters()} {
			if got := manifest.QueueResource(name).Dependency(); got != manifest.DependencyQueues {
				t.Errorf("queue %s lives in %s, want %s", name, got, manifest.DependencyQueues)
			}
		}
	}
}

func TestFunctionDependencies(t *testing.T) {
	for _, c := range []struct {
		name   string
		grants []manifest.Grant
		want   []manifest.Dependency
	}{
		{"no grant", nil, nil},
		{"one dependency for two resources", []manifest.Grant{
			{Resource: manifest.ResourceTenants, Read: true}, {Resource: manifest.ResourceEntries, Write: true},
		}, []manifest.Dependency{manifest.DependencyRecords}},
		{"in the order of Dependencies", []manifest.Grant{
			{Resource: manifest.ResourceTokens, Read: true}, {Resource: manifest.QueueResource(manifest.QueueIndex), Write: true},
			{Resource: manifest.ResourceIndex, Read: true},
		}, []manifest.Dependency{manifest.DependencySearch, manifest.DependencyQueues, manifest.DependencyTokens}},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := manifest.Function{Grants: c.grants}
			if got := f.Dependencies(); !slices.Equal(got, c.want) {
				t.Errorf("Dependencies() = %v, want %v", got, c.want)
			}
			for _, d := range manifest.Dependencies() {
				if got, want := f.DependsOn(d), slices.Contains(c.want, d); got != want {
					t.Errorf("DependsOn(%s) = %t, want %t", d, got, want)
				}
			}
		})
	}
}

func TestCamelCase(t *testing.T) {
	for name, want := range map[string]string{"create-log": "CreateLog", "index": "Index", "create-logs-bulk": "CreateLogsBulk"} {
		if got := manifest.CamelCase(name); got != want {
			t.Errorf("CamelCase(%q) = %q, want %q", name, got, want)
		}
	}
}

func TestTablesAreCopies(t *testing.T) {
	manifest.Functions()[0].Name = "changed"
	manifest.Queues()[0].Name = "changed"
	if got := manifest.Functions()[0].Name; got == "changed" {
		t.Errorf("got name %q after a change of the result of Functions, want the table unchanged", got)
	}
	if got := manifest.Queues()[0].Name; got == "changed" {
		t.Errorf("got name %q after a change of the result of Queues, want the table unchanged", got)
	}
}

// Each process opens up to ten connections to each MongoDB server, if the table does not say
// less. A full queue must not use up the connections that the functions of routes need.
func TestConsumersHaveBoundedConnections(t *testing.T) {
	total := 0
	for _, f := range manifest.Functions() {
		for _, trigger := range f.Trigger.Queues {
			if got := trigger.MaxConcurrency; got < 2 || got > 1000 {
				t.Errorf("%s runs %d times at once for queue %s, want 2 to 1,000", f.Name, got, trigger.Queue)
			}
			connections := f.Connections
			if connections == 0 {
				connections = 10
			}
			total += trigger.MaxConcurrency * connections
		}
	}
	if limit := 2000; total > limit {
		t.Errorf("consumers have %d connections, want at most %d", total, limit)
	}
}

func TestMaxConsumerTimeIsThatOfTheTable(t *testing.T) {
	var longest time.Duration
	for _, f := range manifest.Functions() {
		for _, trigger := range f.Trigger.Queues {
			if trigger.Queue != manifest.QueueJobs && trigger.Queue != manifest.QueueArchive {
				longest = max(longest, f.Timeout)
			}
		}
	}
	if longest != manifest.MaxConsumerTime {
		t.Errorf("the longest timeout of a consumer is %s, want MaxConsumerTime, %s", longest, manifest.MaxConsumerTime)
	}
}

func TestARevokedKeyStopsWorkingWithinAMinute(t *testing.T) {
	i := slices.IndexFunc(manifest.Functions(), func(f manifest.Function) bool { return f.Trigger.Authorizer })
	if i < 0 {
		t.Fatal("got no authorizer, want one")
	}
	if got := manifest.AuthorizerTTL + access.DefaultKeyTTL + manifest.Functions()[i].Timeout; got > time.Minute {
		t.Errorf("a revoked key can work for %v, want at most a minute", got)
	}
}
