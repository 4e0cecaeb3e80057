package main

import (
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/manifest"
)

// newSummary marks functions that a test adds. The OpenAPI document does not describe them.
const newSummary = "A function that a test adds"

// widened returns the table with a queue, and with functions that have a route, the queue
// and a schedule.
func widened() service {
	s := table()
	const queue manifest.QueueName = "fresh"
	s.queues = append(s.queues, manifest.Queue{Name: queue, VisibilityTimeout: 5 * time.Minute, MaxReceives: 7})
	base := manifest.Function{Summary: newSummary, MemoryMB: 384, Timeout: 40 * time.Second}
	route, worker, planner := base, base, base
	route.Name, route.Trigger = "fetch-fresh", manifest.Trigger{Route: &manifest.Route{
		Method: http.MethodGet, Path: "/fresh/{name}", Permission: "logs:read", TenantFrom: manifest.TenantFromHeader,
	}}
	route.Grants = []manifest.Grant{{Resource: manifest.ResourceTenants, Read: true}, {Resource: manifest.QueueResource(queue), Write: true}}
	worker.Name, worker.Trigger = "work-fresh", manifest.Trigger{Queues: []manifest.QueueTrigger{{Queue: queue, BatchSize: 3, MaxConcurrency: 9}}}
	worker.Grants = []manifest.Grant{{Resource: manifest.QueueResource(queue), Read: true}, {Resource: manifest.QueueResource(queue.DeadLetters()), Write: true}}
	planner.Name, planner.Trigger = "plan-fresh", manifest.Trigger{Schedule: &manifest.Schedule{Every: 7 * time.Minute}}
	planner.Grants = []manifest.Grant{{Resource: manifest.QueueResource(queue), Write: true}}
	s.functions = append(s.functions, route, worker, planner)
	return s
}

// TestTheManifestAloneDecides adds rows to the table and finds in the templates everything
// that they need: every check holds for the widened table.
func TestTheManifestAloneDecides(t *testing.T) {
	s := widened()
	all, err := synthesise("widened", Environments()[2:], s)
	if err != nil {
		t.Fatal(err)
	}
	e := environmentOf("prod", s, all)
	for _, c := range checks() {
		for _, fault := range c.faults(e) {
			t.Errorf("%s: %s", c.name, fault)
		}
	}
	if _, is := e.operationOf("/fresh/{name}", http.MethodGet); !is {
		t.Error("got no route of the new function, want one")
	}
}

// A stage shows the API as it was when its deployment was made. So a changed API needs another
// deployment, and an equal one must keep it.
func TestAChangedAPIHasAnotherDeployment(t *testing.T) {
	prod := Environments()[2]
	moved := prod
	moved.Origins = []string{"https://other.example.com"}
	for name, test := range map[string]struct {
		environment Environment
		service     service
		changed     bool
	}{
		"the same":            {prod, table(), false},
		"with a new route":    {prod, widened(), true},
		"with another origin": {moved, table(), true},
	} {
		all, err := synthesise("redeployed "+name, []Environment{test.environment}, test.service)
		if err != nil {
			t.Fatal(err)
		}
		before, after := deploymentOf(t, synthesised["prod"]), deploymentOf(t, all["prod"])
		if got := before != after; got != test.changed {
			t.Errorf("%s: got the deployment %s after %s, want another one %t", name, after, before, test.changed)
		}
	}
}

// deploymentOf returns the logical id of the deployment that the REST API's stage shows.
func deploymentOf(t *testing.T, s stacks) string {
	t.Helper()
	stages := s.of("AWS::ApiGateway::Stage")
	if len(stages) != 1 {
		t.Fatalf("got %d stages, want 1", len(stages))
	}
	return stages[0].text("DeploymentId")
}

// doubled returns twice the functions, routes and queues.
func doubled() service {
	s := table()
	for _, q := range s.queues {
		q.Name += "-twice"
		s.queues = append(s.queues, q)
	}
	for _, f := range s.functions {
		if f.Trigger.Authorizer {
			continue
		}
		s.functions = append(s.functions, twice(f))
	}
	return s
}

func twice(f manifest.Function) manifest.Function {
	f.Name += "-twice"
	if f.Trigger.Route != nil {
		route := *f.Trigger.Route
		route.Path += "/twice" // it is in the same stack
		f.Trigger.Route = &route
	}
	if f.Trigger.Socket != nil {
		f.Trigger.Socket = &manifest.Socket{Key: strings.TrimPrefix(f.Trigger.Socket.Key, "$") + "-twice"}
	}
	f.Trigger.Queues = slices.Clone(f.Trigger.Queues)
	for i := range f.Trigger.Queues {
		f.Trigger.Queues[i].Queue += "-twice"
	}
	return f
}

// The limits leave room below CloudFormation's 500 resources and 1 MB.
const (
	maxResources = 450
	maxBytes     = 900_000
)

func TestStacksHoldTwiceTheFunctions(t *testing.T) {
	s := doubled()
	// The document describes the new routes too, so that it is twice as long.
	var document map[string]any
	if err := json.Unmarshal(s.document, &document); err != nil {
		t.Fatal(err)
	}
	paths := document["paths"].(map[string]any)
	for path, operations := range paths {
		if !strings.HasSuffix(path, "/twice") {
			paths[path+"/twice"] = operations
		}
	}
	text, err := json.Marshal(document)
	if err != nil {
		t.Fatal(err)
	}
	s.document = text
	all, err := synthesise("doubled", Environments()[2:], s)
	if err != nil {
		t.Fatal(err)
	}
	for name, stack := range all["prod"] {
		if got := len(stack.Resources); got >= maxResources {
			t.Errorf("%s has %d resources, want fewer than %d", name, got, maxResources)
		}
		text, err := json.MarshalIndent(stack, "", " ")
		if err != nil {
			t.Fatal(err)
		}
		if got := len(text); got >= maxBytes {
			t.Errorf("%s has %d bytes, want fewer than %d", name, got, maxBytes)
		}
		t.Logf("%s: %d resources, %d bytes", name, len(stack.Resources), len(text))
	}
}
