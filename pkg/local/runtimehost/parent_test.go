package runtimehost_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/local/runtimehost"
)

// running reports whether there is such a process that is no zombie.
func running(t *testing.T, pid int) bool {
	t.Helper()
	if runtime.GOOS != "linux" {
		t.Skip("processes are looked up in /proc, which needs Linux")
	}
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return false
	}
	_, state, _ := strings.Cut(string(text), ") ")
	return !strings.HasPrefix(state, "Z")
}

// hostUntilKilled starts an environment, prints its process id and waits.
func hostUntilKilled() {
	program, err := os.Executable()
	if err != nil {
		panic(err)
	}
	h, err := runtimehost.New(runtimehost.Function{
		Name: "orphan", Bootstrap: program, Env: []string{modeVariable + "=commands"}, Timeout: time.Hour,
		Concurrency: 1, Output: io.Discard, Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		panic(err)
	}
	answer, err := h.Invoke(context.Background(), []byte(`{}`))
	if err != nil {
		panic(err)
	}
	var r report
	if err := json.Unmarshal(answer, &r); err != nil {
		panic(err)
	}
	fmt.Println(r.PID)
	_, _ = h.Invoke(context.Background(), []byte(`{"Sleep":3600000000000}`))
}

func TestEnvironmentsEndWithTheirParent(t *testing.T) {
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	parent := exec.Command(program)
	parent.Env = append(os.Environ(), modeVariable+"=host")
	stdout, err := parent.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := parent.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	child, err := strconv.Atoi(strings.TrimSpace(line))
	if err != nil {
		t.Fatal(err)
	}
	if !running(t, child) {
		t.Fatalf("process %d has ended, want it running", child)
	}
	if err := parent.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = parent.Wait() // it was killed
	for deadline := time.Now().Add(10 * time.Second); running(t, child); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("process %d outlives its parent, want it ended", child)
		}
	}
}
