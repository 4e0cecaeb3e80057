package main

import (
	"fmt"
	"slices"
	"testing"
)

// A check says what is wrong with an environment's templates. Its mutations each take away
// what it asserts, so that it must find a fault.
type check struct {
	name      string
	faults    func(e environment) []string
	mutations []mutation
}

// environment is a configuration with its templates and the table that they are made of.
type environment struct {
	deployment
	stacks stacks
}

// mutation changes templates. It returns false if it found nothing to change.
type mutation struct {
	name  string
	apply func(s stacks) bool
}

func environmentOf(name string, s service, templates map[string]stacks) environment {
	all := Environments()
	i := slices.IndexFunc(all, func(e Environment) bool { return e.Name == name })
	return environment{deployment: deployment{Environment: all[i], service: s}, stacks: templates[name]}
}

func TestEveryPartIsInTheTemplates(t *testing.T) {
	for _, c := range checks() {
		t.Run(c.name, func(t *testing.T) {
			for _, e := range Environments() {
				for _, fault := range c.faults(environmentOf(e.Name, table(), synthesised)) {
					t.Errorf("%s: %s", e.Name, fault)
				}
			}
			if len(c.mutations) == 0 {
				t.Error("got a check without a mutation, want at least one: a check that cannot fail proves nothing")
			}
			for _, m := range c.mutations {
				e := environmentOf("prod", table(), synthesised)
				e.stacks = e.stacks.clone(t)
				if !m.apply(e.stacks) {
					t.Errorf("mutation %q found nothing to change, want something", m.name)
				} else if len(c.faults(e)) == 0 {
					t.Errorf("mutation %q: got no fault, want one", m.name)
				}
			}
		})
	}
}

func checks() []check {
	return slices.Concat(dataChecks(), networkChecks(), functionChecks(), roleChecks(), apiChecks(), operationChecks())
}

// faults gathers what is wrong.
type faults []string

func (f *faults) addf(format string, args ...any) { *f = append(*f, fmt.Sprintf(format, args...)) }

// want adds a fault unless the value at the path has this text.
func (f *faults) want(r found, path, want string) {
	if got := r.text(path); got != want {
		f.addf("%s/%s: got %s %q, want %q", r.stack, r.id, path, got, want)
	}
}

// present adds a fault unless there is a value at the path.
func (f *faults) present(r found, path string) {
	if r.get(path) == nil {
		f.addf("%s/%s: got no %s, want one", r.stack, r.id, path)
	}
}

// some adds a fault if there is no resource of the type.
func (f *faults) some(s stacks, kind string) []found {
	all := s.of(kind)
	if len(all) == 0 {
		f.addf("got no %s, want at least one", kind)
	}
	return all
}

// without takes a property away from the first resource of the type that has it.
func without(kind, path string) mutation {
	return mutation{kind + " without " + path, func(s stacks) bool {
		parent, key := split(path)
		for _, r := range s.of(kind) {
			if m, is := r.get(parent).(map[string]any); is && m[key] != nil {
				delete(m, key)
				return true
			}
		}
		return false
	}}
}

// with changes a property of the first resource of the type that has it.
func with(kind, path string, value any) mutation {
	return mutation{fmt.Sprintf("%s with %s %v", kind, path, value), func(s stacks) bool {
		parent, key := split(path)
		for _, r := range s.of(kind) {
			if m, is := r.get(parent).(map[string]any); is && m[key] != nil {
				m[key] = value
				return true
			}
		}
		return false
	}}
}

// alarmOn changes a property of the alarm on a metric.
func alarmOn(metric, path string, value any) mutation {
	return mutation{fmt.Sprintf("%s of the alarm on %s %v", path, metric, value), func(s stacks) bool {
		parent, last := split(path)
		for _, r := range s.of("AWS::CloudWatch::Alarm") {
			if m, found := r.get(parent).(map[string]any); found && r.text("MetricName") == metric {
				m[last] = value
				return true
			}
		}
		return false
	}}
}

// withoutAlarmOn removes the first alarm on a metric.
func withoutAlarmOn(metric string) mutation {
	return mutation{"no alarm on " + metric, func(s stacks) bool {
		alarm, is := s.named("AWS::CloudWatch::Alarm", "MetricName", metric)
		if is {
			delete(s[alarm.stack].Resources, alarm.id)
		}
		return is
	}}
}

// removed takes the first resource of the type away.
func removed(kind string) mutation {
	return mutation{"a " + kind + " removed", func(s stacks) bool {
		all := s.of(kind)
		if len(all) == 0 {
			return false
		}
		delete(s[all[0].stack].Resources, all[0].id)
		return true
	}}
}

func split(path string) (parent, key string) {
	for i := len(path) - 1; i >= 0; i-- {
		if path[i] == '.' {
			return path[:i], path[i+1:]
		}
	}
	return "", path
}
