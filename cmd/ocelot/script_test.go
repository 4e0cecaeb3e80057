package main

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/ocelot-audit/ocelot/pkg/manifest"
)

// TestMain makes this test binary the programs that scripts and documents call.
func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"ocelot": main, "curl": curl, "make": checkMakeTargets})
}

// awaitTimeout is how long a script waits for an effect of what it sent.
const awaitTimeout = 30 * time.Second

// TestScripts runs testdata/script/*.txtar. They may use these commands, beside
// testscript's own, ocelot and curl:
//
//	service                      starts ocelot dev with demo data in $WORK/.ocelot and
//	                             sets OCELOT_URL, OCELOT_TOKEN and OCELOT_TENANT
//	service stop                 ends it as Ctrl-C does
//	await PATTERN PROGRAM ARG…   runs the program until its output matches the pattern
//	json FILE PATH WANT          checks a value of a JSON document, for example items.0.action
//	deadletter FOLDER QUEUE N    puts N messages into a queue's dead-letter queue
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                "testdata/script",
		RequireUniqueNames: true,
		Setup: func(env *testscript.Env) error {
			env.Setenv("XDG_CONFIG_HOME", filepath.Join(env.WorkDir, ".config"))
			running := new(*testService)
			env.Values[serviceKey{}] = running
			env.Defer(func() {
				if *running != nil {
					_ = (*running).stop() // the script has failed or is done
				}
			})
			return nil
		},
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){
			"service": scriptService, "await": scriptAwait, "json": scriptJSON, "deadletter": scriptDeadLetter,
		},
	})
}

func usage(ts *testscript.TestScript, correct bool, text string) {
	if !correct {
		ts.Fatalf("usage: %s", text)
	}
}

// serviceKey is where a script's values have a **testService, nil before it starts.
type serviceKey struct{}

func scriptService(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, !neg && (len(args) == 0 || len(args) == 1 && args[0] == "stop"), "service [stop]")
	running := ts.Value(serviceKey{}).(**testService)
	if len(args) == 1 {
		ts.Check((*running).stop())
		*running = nil
		return
	}
	service, err := startService(ts.Getenv("WORK"))
	ts.Check(err)
	*running = service
	for name, value := range service.settings {
		ts.Setenv(name, value)
	}
}

func scriptAwait(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, !neg && len(args) >= 2, "await PATTERN PROGRAM ARG…")
	pattern, err := regexp.Compile("(?m)" + args[0])
	ts.Check(err)
	for deadline := time.Now().Add(awaitTimeout); ; time.Sleep(50 * time.Millisecond) {
		err = ts.Exec(args[1], args[2:]...)
		out := ts.ReadFile("stdout")
		if err == nil && pattern.MatchString(out) {
			return
		}
		if time.Now().After(deadline) {
			ts.Fatalf("got %q, %v after %v, want a match of %s", out, err, awaitTimeout, args[0])
		}
	}
}

func scriptJSON(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, !neg && len(args) == 3, "json FILE PATH WANT")
	got, err := jsonValue(ts.ReadFile(args[0]), args[1])
	ts.Check(err)
	if got != args[2] {
		ts.Fatalf("%s is %s, want %s", args[1], got, args[2])
	}
}

// jsonValue returns the value at a path of member names and array indexes: a
// string as its text, anything else as JSON.
func jsonValue(document, path string) (string, error) {
	var value any
	if err := json.Unmarshal([]byte(document), &value); err != nil {
		return "", fmt.Errorf("%q is not JSON: %w", document, err)
	}
	for step := range strings.SplitSeq(path, ".") {
		var found bool
		switch v := value.(type) {
		case map[string]any:
			value, found = v[step]
		case []any:
			if i, err := strconv.Atoi(step); err == nil && i < len(v) {
				value, found = v[i], true
			}
		}
		if !found {
			return "", fmt.Errorf("%s has no %s (at %q)", document, path, step)
		}
	}
	if text, isText := value.(string); isText {
		return text, nil
	}
	text, err := json.Marshal(value)
	return string(text), err
}

func scriptDeadLetter(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, !neg && len(args) == 3, "deadletter FOLDER QUEUE N")
	n, err := strconv.Atoi(args[2])
	ts.Check(err)
	ts.Check(addDeadLetters(ts.MkAbs(args[0]), manifest.QueueName(args[1]), n))
}
