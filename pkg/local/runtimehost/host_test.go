package runtimehost_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/local/runtimehost"
)

// output collects what functions print.
type output struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}

// await waits until functions have printed the text.
func (o *output) await(t *testing.T, text string) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !strings.Contains(o.String(), text); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("got the output %s, want %q in it", o, text)
		}
	}
}

// newHost returns the host of this test binary in a mode, see TestMain.
func newHost(t *testing.T, mode string, change func(f *runtimehost.Function)) (*runtimehost.Host, *output) {
	t.Helper()
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	printed := &output{}
	f := runtimehost.Function{
		Name: "do-things", Bootstrap: program, Env: []string{modeVariable + "=" + mode}, MemoryMB: 256,
		Timeout: 30 * time.Second, Concurrency: 3, Output: printed, Log: slog.New(slog.DiscardHandler),
	}
	if change != nil {
		change(&f)
	}
	h, err := runtimehost.New(f)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(h.Close)
	return h, printed
}

func invoke(t *testing.T, h *runtimehost.Host, c command) (report, error) {
	t.Helper()
	event, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	answer, err := h.Invoke(t.Context(), event)
	if err != nil {
		return report{}, err
	}
	var r report
	if err := json.Unmarshal(answer, &r); err != nil {
		t.Fatalf("%s: %v", answer, err)
	}
	return r, nil
}

func TestInvokeTellsTheFunctionWhatLambdaTells(t *testing.T) {
	h, _ := newHost(t, "commands", nil)
	before := time.Now()
	r, err := invoke(t, h, command{Text: "hello ü \u0000"})
	if err != nil {
		t.Fatal(err)
	}
	if r.Text != "hello ü \u0000" {
		t.Errorf("got the event %q, want %q", r.Text, "hello ü \u0000")
	}
	if left := r.Deadline.Sub(before); left < 29*time.Second || left > 31*time.Second {
		t.Errorf("the deadline is in %s, want the function's 30 s", left)
	}
	if len(r.RequestID) != 36 {
		t.Errorf("got %d bytes of request ID, want 36", len(r.RequestID))
	}
	if r.ARN != "arn:aws:lambda:local:000000000000:function:do-things" {
		t.Errorf("got ARN %q, want %q", r.ARN, "arn:aws:lambda:local:000000000000:function:do-things")
	}
	if !strings.HasPrefix(r.Trace, "Root=1-") {
		t.Errorf("got trace %q, want it to begin with %q", r.Trace, "Root=1-")
	}
	for name, want := range map[string]string{
		"AWS_LAMBDA_FUNCTION_NAME": "do-things", "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "256", "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST", "HOME": "",
	} {
		if r.Environment[name] != want {
			t.Errorf("%s is %q, want %q", name, r.Environment[name], want)
		}
	}
}

func TestInvokeUsesAWarmEnvironmentAgain(t *testing.T) {
	h, _ := newHost(t, "commands", nil)
	ids, pids := map[string]bool{}, map[int]bool{}
	for range 20 {
		r, err := invoke(t, h, command{})
		if err != nil {
			t.Fatal(err)
		}
		ids[r.RequestID], pids[r.PID] = true, true
	}
	if len(pids) != 1 {
		t.Errorf("got %d processes, want 1", len(pids))
	}
	if len(ids) != 20 {
		t.Errorf("got %d request IDs, want 20", len(ids))
	}
}

func TestInvokeScalesOutToItsBound(t *testing.T) {
	h, _ := newHost(t, "commands", nil)
	var mu sync.Mutex
	pids := map[int]int{}
	var running sync.WaitGroup
	for range 12 {
		running.Go(func() {
			r, err := invoke(t, h, command{Sleep: 200 * time.Millisecond})
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				t.Error(err)
			} else if r.Concurrent != 1 {
				t.Errorf("%d invocations at once in one environment, want 1", r.Concurrent)
			}
			pids[r.PID]++
		})
	}
	running.Wait()
	if len(pids) != 3 {
		t.Errorf("got %d processes, want 3", len(pids))
	}
	if len(h.PIDs()) != 3 {
		t.Errorf("the host keeps %d processes, want 3", len(h.PIDs()))
	}
}

func TestFunctionErrors(t *testing.T) {
	for _, test := range []struct {
		name          string
		command       command
		kind, message string
		interrupted   bool
		survives      bool
	}{
		{"error", command{Fail: "Unauthorized"}, "errorString", "Unauthorized", false, true},
		{"panic", command{Panic: "oh no"}, "string", "oh no", false, false},
		{"exit", command{Exit: true}, runtimehost.TypeExit, "exit status 3", true, false},
		{"kill", command{Kill: true}, runtimehost.TypeExit, "killed", true, false},
		{"timeout", command{Sleep: time.Hour}, runtimehost.TypeTimeout, "after 2.00 seconds", true, false},
		{"too large", command{Answer: runtimehost.MaxPayload}, runtimehost.TypeTooLarge, "6291456", false, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			h, _ := newHost(t, "commands", func(f *runtimehost.Function) {
				if test.kind == runtimehost.TypeTimeout {
					f.Timeout = 2 * time.Second
				}
			})
			before, err := invoke(t, h, command{})
			if err != nil {
				t.Fatal(err)
			}
			_, err = invoke(t, h, test.command)
			var failure *runtimehost.FunctionError
			if !errors.As(err, &failure) {
				t.Fatalf("got error %v, want one of type %T", err, failure)
			}
			if failure.Type != test.kind {
				t.Fatalf("got type %q, want %q", failure.Type, test.kind)
			}
			if !strings.Contains(failure.Message, test.message) {
				t.Fatalf("got message %q, want it to contain %q", failure.Message, test.message)
			}
			if failure.Interrupted() != test.interrupted {
				t.Fatalf("interrupted is %v, want %v", failure.Interrupted(), test.interrupted)
			}
			after, err := invoke(t, h, command{})
			if err != nil {
				t.Fatal(err)
			}
			if (after.PID == before.PID) != test.survives {
				t.Errorf("process %d after %d, want the same: %t", after.PID, before.PID, test.survives)
			}
		})
	}
}

func TestAnswersUpToTheLimitAreTaken(t *testing.T) {
	h, _ := newHost(t, "commands", nil)
	overhead := len(`""`)
	answer, err := h.Invoke(t.Context(), []byte(fmt.Sprintf(`{"Answer":%d}`, runtimehost.MaxPayload-overhead)))
	if err != nil {
		t.Fatal(err)
	}
	if len(answer) != runtimehost.MaxPayload {
		t.Fatalf("got %d bytes, want %d", len(answer), runtimehost.MaxPayload)
	}
	if _, err := h.Invoke(t.Context(), make([]byte, runtimehost.MaxPayload+1)); !errors.Is(err, runtimehost.ErrTooLarge) {
		t.Fatalf("a larger event: got error %v, want %v", err, runtimehost.ErrTooLarge)
	}
	event := `{"Else":"` + strings.Repeat("x", runtimehost.MaxPayload-len(`{"Else":""}`)) + `"}`
	if _, err := h.Invoke(t.Context(), []byte(event)); err != nil {
		t.Fatalf("the largest event: got error %v, want none", err)
	}
}

// An environment can die while it is idle. Its next invocation must get another one.
func TestDeadIdleEnvironmentsAreReplaced(t *testing.T) {
	h, _ := newHost(t, "commands", nil)
	for range 5 {
		r, err := invoke(t, h, command{})
		if err != nil {
			t.Fatal(err)
		}
		process, err := os.FindProcess(r.PID)
		if err != nil {
			t.Fatal(err)
		}
		if err := process.Kill(); err != nil {
			t.Fatal(err)
		}
		for slices.Contains(h.PIDs(), r.PID) {
			time.Sleep(time.Millisecond)
		}
	}
}

func TestStartFailures(t *testing.T) {
	for mode, test := range map[string]struct{ kind, message string }{
		"exits":       {runtimehost.TypeExit, "exit status 7"},
		"init-error":  {"Config.Missing", "no engine"},
		"never-polls": {runtimehost.TypeTimeout, "did not ask for work within 300ms"},
	} {
		t.Run(mode, func(t *testing.T) {
			h, printed := newHost(t, mode, func(f *runtimehost.Function) {
				if mode == "never-polls" {
					f.InitTime = 300 * time.Millisecond
				}
			})
			for range 2 {
				_, err := invoke(t, h, command{})
				var failure *runtimehost.FunctionError
				if !errors.As(err, &failure) {
					t.Fatalf("got error %v, want one of type %T; printed %s", err, failure, printed)
				}
				if failure.Type != test.kind {
					t.Fatalf("got type %q, want %q", failure.Type, test.kind)
				}
				if !strings.Contains(failure.Message, test.message) {
					t.Fatalf("got message %q, want it to contain %q", failure.Message, test.message)
				}
			}
			if pids := h.PIDs(); len(pids) != 0 {
				t.Errorf("the processes %v still run, want none", pids)
			}
		})
	}
	if h, err := runtimehost.New(runtimehost.Function{Name: "x", Bootstrap: filepath.Join(t.TempDir(), "bootstrap")}); err == nil {
		t.Errorf("got the host %v without a program, want an error", h)
	}
	noProgram := filepath.Join(t.TempDir(), "bootstrap")
	if err := os.WriteFile(noProgram, []byte("text"), 0o700); err != nil {
		t.Fatal(err)
	}
	h, _ := newHost(t, "", func(f *runtimehost.Function) { f.Bootstrap = noProgram })
	var failure *runtimehost.FunctionError
	if _, err := invoke(t, h, command{}); !errors.As(err, &failure) {
		t.Errorf("a file that is no program: got error %v, want one of type %T", err, failure)
	} else if failure.Type != runtimehost.TypeStart {
		t.Errorf("a file that is no program: got type %q, want %q", failure.Type, runtimehost.TypeStart)
	}
}

// TestRuntimeAPIIsStrict has a function that breaks the rules of the API.
func TestRuntimeAPIIsStrict(t *testing.T) {
	h, printed := newHost(t, "breaks-rules", nil)
	answer, err := h.Invoke(t.Context(), []byte(`{}`))
	if err != nil {
		t.Fatal(err)
	}
	if string(answer) != "done" {
		t.Fatalf("got %s, want done (printed %s)", answer, printed)
	}
	printed.await(t, "do-things wrong id 400, next again 403, answer 202, answer again 400, unknown path 404\n")
}

func TestOutputComesInLines(t *testing.T) {
	h, printed := newHost(t, "commands", nil)
	if _, err := invoke(t, h, command{Print: "one\ntwo\nthr"}); err != nil {
		t.Fatal(err)
	}
	if _, err := invoke(t, h, command{Print: "ee\n" + strings.Repeat("x", 70_000) + "\nlast"}); err != nil {
		t.Fatal(err)
	}
	h.Close()
	text := printed.String()
	for _, want := range []string{"do-things one\ndo-things two\ndo-things three\ndo-things xxx", "do-things last\n"} {
		if !strings.Contains(text, want) {
			t.Errorf("printed %.200q, want it to contain %q", text, want)
		}
	}
	if n := strings.Count(text, "x"); n != 70_000 {
		t.Errorf("got %d bytes of a long line, want 70,000", n)
	}
}

func TestCloseEndsEverything(t *testing.T) {
	h, printed := newHost(t, "commands", nil)
	if _, err := invoke(t, h, command{}); err != nil {
		t.Fatal(err)
	}
	pids, failed := h.PIDs(), make(chan error)
	go func() {
		_, err := invoke(t, h, command{Print: "begun\n", Sleep: time.Hour})
		failed <- err
	}()
	printed.await(t, "begun")
	h.Close()
	h.Close()
	if err := <-failed; err == nil {
		t.Error("an invocation outlived the host, want an error")
	}
	if _, err := invoke(t, h, command{}); !errors.Is(err, runtimehost.ErrClosed) {
		t.Errorf("after Close: got error %v, want %v", err, runtimehost.ErrClosed)
	}
	for _, pid := range pids {
		if running(t, pid) {
			t.Errorf("process %d still runs, want it ended", pid)
		}
	}
}

func TestWaitingForAnEnvironmentEndsWithTheContext(t *testing.T) {
	h, printed := newHost(t, "commands", func(f *runtimehost.Function) { f.Concurrency = 1 })
	var first sync.WaitGroup
	first.Go(func() {
		if _, err := invoke(t, h, command{Print: "begun\n", Sleep: 2 * time.Second}); err != nil {
			t.Error(err)
		}
	})
	printed.await(t, "begun") // until the only environment is busy
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := h.Invoke(ctx, []byte(`{}`)); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got error %v, want %v", err, context.DeadlineExceeded)
	}
	first.Wait()
}

func BenchmarkInvoke(b *testing.B) {
	program, err := os.Executable()
	if err != nil {
		b.Fatal(err)
	}
	h, err := runtimehost.New(runtimehost.Function{
		Name: "echo", Bootstrap: program, Env: []string{modeVariable + "=echo"}, Timeout: time.Minute,
		Concurrency: 1, Output: os.Stderr, Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		b.Fatal(err)
	}
	defer h.Close()
	begun := time.Now()
	if _, err := h.Invoke(b.Context(), []byte(`{}`)); err != nil {
		b.Fatal(err)
	}
	cold := time.Since(begun)
	event := []byte(`{"Text":"` + strings.Repeat("x", 1000) + `"}`)
	for b.Loop() {
		if _, err := h.Invoke(b.Context(), event); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(cold.Microseconds())/1000, "ms-cold")
}
