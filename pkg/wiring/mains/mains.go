// Package mains writes the main of every function from the manifest. It also writes the
// table with which the local runner runs all of them in one process.
//
// A function's handler is found by its name: create-log is the constructor CreateLog in
// pkg/edge. Its parameters are found by their types among the results of the methods of
// wiring.Services. A worker without a constructor is the method of Services with its
// name: persist-logs is Services.PersistLogs. A main opens the dependencies of the
// function's grants and links no others.
package mains

import (
	"bytes"
	"fmt"
	"go/format"
	"path"
	"strings"
	"text/template"

	"github.com/ocelot-audit/ocelot/pkg/manifest"
)

//go:generate go run ./internal/generate ../../..

const module = "github.com/ocelot-audit/ocelot/"

// RunnerFile is the path of the local runner's table in the repository.
const RunnerFile = "pkg/local/localcloud/functions_generated.go"

// starters are the functions of lambdaedge that start each kind of trigger.
var starters = map[trigger]string{
	triggerRoute: "StartHTTP", triggerQueue: "StartQueue", triggerSchedule: "StartSchedule",
	triggerConnect: "StartConnect", triggerMessage: "StartMessage", triggerAuthorizer: "StartAuthorizer", triggerRotation: "StartRotation",
}

// dependencyPackages are the packages of pkg/wiring that open each dependency.
var dependencyPackages = map[manifest.Dependency]string{
	manifest.DependencyRecords: "records", manifest.DependencySearch: "searchindex", manifest.DependencyQueues: "queues",
	manifest.DependencySockets: "sockets", manifest.DependencyCursorKey: "cursorkey", manifest.DependencyMasterKey: "masterkey", manifest.DependencyExports: "exportfiles", manifest.DependencyTombstones: "tombstones", manifest.DependencyArchive: "archivefiles", manifest.DependencyTokens: "tokens",
	manifest.DependencyTimeZones: "timezones",
}

// trigger is what kind of event invokes a function.
type trigger string

const (
	triggerRoute      trigger = "route"
	triggerQueue      trigger = "queue"
	triggerSchedule   trigger = "schedule"
	triggerConnect    trigger = "connect"
	triggerMessage    trigger = "message"
	triggerAuthorizer trigger = "authorizer"
	triggerRotation   trigger = "rotation"
)

func triggerOf(f manifest.Function) trigger {
	t := f.Trigger
	switch {
	case t.Route != nil:
		return triggerRoute
	case len(t.Queues) > 0:
		return triggerQueue
	case t.Schedule != nil:
		return triggerSchedule
	case t.Socket != nil && t.Socket.Key == manifest.SocketConnect:
		return triggerConnect
	case t.Socket != nil:
		return triggerMessage
	case t.Rotation != nil:
		return triggerRotation
	}
	return triggerAuthorizer
}

// Files returns the generated files by their path in the repository whose root is the
// folder root. The error names a function without a handler, or a parameter of a
// handler that Services cannot give.
func Files(root string, functions []manifest.Function) (map[string][]byte, error) {
	source, err := readSource(root)
	if err != nil {
		return nil, err
	}
	files := map[string][]byte{}
	runner := newTable()
	for _, f := range functions {
		handler, err := source.handler(f)
		if err != nil {
			return nil, err
		}
		text, err := main(f, handler)
		if err != nil {
			return nil, err
		}
		files[path.Join("functions", f.Name, "main.go")] = text
		runner.add(f, handler)
	}
	files[RunnerFile], err = runner.render()
	return files, err
}

var mainTemplate = template.Must(template.New("main").Parse(`// Code generated from pkg/manifest by go generate ./pkg/wiring/mains. DO NOT EDIT.

// Command {{.Function.Name}} is the Lambda function with this task:
// {{.Function.Summary}}.
package main

import (
	"context"
	"log"

{{range .Imports}}	"{{.}}"
{{end}})

func main() {
	services, err := fromenv.Services(context.Background(){{range .Dependencies}}, {{.}}{{end}})
	if err != nil {
		log.Fatal(err)
	}
	lambdaedge.{{.Starter}}({{.Handler}}{{if .Source}}, services.Stores.Source{{end}})
}
`))

func main(f manifest.Function, h handler) ([]byte, error) {
	imports := append([]string{module + "pkg/edge/lambdaedge", module + "pkg/wiring/fromenv"}, h.imports...)
	var dependencies []string
	for _, d := range f.Dependencies() {
		opening := "FromEnv"
		if d == manifest.DependencyRecords && f.Connections > 0 {
			opening = fmt.Sprintf("WithConnections(%d)", f.Connections)
		}
		dependencies = append(dependencies, dependencyPackages[d]+"."+opening)
		imports = append(imports, module+"pkg/wiring/"+dependencyPackages[d])
	}
	kind := triggerOf(f)
	return render(mainTemplate, map[string]any{
		"Function": f, "Imports": sorted(imports), "Dependencies": dependencies,
		"Starter": starters[kind], "Handler": h.expression("services"), "Source": kind == triggerQueue,
	})
}

func render(t *template.Template, data any) ([]byte, error) {
	var out bytes.Buffer
	if err := t.Execute(&out, data); err != nil {
		return nil, fmt.Errorf("write %s: %w", t.Name(), err)
	}
	text, err := format.Source(out.Bytes())
	if err != nil {
		return nil, fmt.Errorf("format %s: %w\n%s", t.Name(), err, strings.TrimSpace(out.String()))
	}
	return text, nil
}
