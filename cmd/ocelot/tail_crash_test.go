package main_test

import (
	"bufio"
	"encoding/json"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/audit"
)

// TestTailSurvivesCrashes kills the service with SIGKILL while entries are sent
// and tailed, and starts it again at the same address. Whatever was acknowledged
// has to be printed, once.
func TestTailSurvivesCrashes(t *testing.T) {
	entries, kills := 20_000, 5
	if testing.Short() {
		entries, kills = 4_000, 2
	}
	tailCrashes(t, entries, kills)
}

// TestTailSurvivesCrashesLambda is TestTailSurvivesCrashes with the functions as
// Lambda binaries.
func TestTailSurvivesCrashesLambda(t *testing.T) {
	tailCrashes(t, 20_000, 3, lambdaArguments(t)...)
}

func tailCrashes(t *testing.T, entries, kills int, arguments ...string) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("random seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	s := startCrashing(t, arguments...)
	s.keepAddress()
	tail := startTail(t, s)

	load := &crashLoad{service: s, entries: int64(entries)}
	if err := load.sendThroughCrashes(random, kills); err != nil {
		t.Fatalf("%v; %d entries were acknowledged, want %d", err, load.acknowledged.Load(), entries)
	}
	tail.await(entries)
	tail.end()
	tail.check(entries)
	t.Logf("%d entries tailed over %d crashes", tail.lines, s.deaths)
}

// tailing is `ocelot tail` in a process of its own.
type tailing struct {
	t       *testing.T
	cmd     *exec.Cmd
	running sync.WaitGroup

	mu      sync.Mutex
	printed map[audit.EntryID]int
	lines   int
	said    []string // on standard error
}

// startTail returns once the stream is followed.
func startTail(t *testing.T, s *crashingService) *tailing {
	t.Helper()
	tail := &tailing{t: t, printed: map[audit.EntryID]int{}, cmd: exec.Command(s.program, "tail", "--url", s.process.URL, "--tenant", string(crashTenant))}
	tail.cmd.Env = append(os.Environ(), "OCELOT_TOKEN="+s.token)
	out, err := tail.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	said, err := tail.cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := tail.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	following := make(chan struct{}, 1)
	tail.running.Go(func() { tail.read(out) })
	tail.running.Go(func() { tail.listen(said, following) })
	t.Cleanup(func() {
		_ = tail.cmd.Process.Kill() // it has ended where the test went well
		tail.running.Wait()
		if t.Failed() {
			t.Logf("tail said:\n%s", strings.Join(tail.said, "\n"))
		}
	})
	select {
	case <-following:
	case <-time.After(crashStall):
		t.Fatalf("tail does not follow the stream after %s, want it to", crashStall)
	}
	return tail
}

// read counts what is printed.
func (tail *tailing) read(out io.Reader) {
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		var entry struct{ ID audit.EntryID }
		if err := json.Unmarshal(lines.Bytes(), &entry); err != nil {
			tail.t.Errorf("printed %s: %v", lines.Text(), err)
		}
		tail.mu.Lock()
		tail.printed[entry.ID]++
		tail.lines++
		tail.mu.Unlock()
	}
}

// listen notes what is said, and tells once the stream is followed.
func (tail *tailing) listen(said io.Reader, following chan<- struct{}) {
	lines := bufio.NewScanner(said)
	for lines.Scan() {
		tail.mu.Lock()
		tail.said = append(tail.said, lines.Text())
		tail.mu.Unlock()
		if strings.HasPrefix(lines.Text(), "Following") {
			select {
			case following <- struct{}{}:
			default: // again, after a cut
			}
		}
	}
}

// await waits until so many lines are printed, or for long no more are.
func (tail *tailing) await(entries int) {
	count := func() int {
		tail.mu.Lock()
		defer tail.mu.Unlock()
		return tail.lines
	}
	for printed, since := count(), time.Now(); printed < entries && time.Since(since) < crashStall; {
		time.Sleep(20 * time.Millisecond)
		if now := count(); now > printed {
			printed, since = now, time.Now()
		}
	}
}

// end interrupts tail a while after its last line, and waits for it.
func (tail *tailing) end() {
	tail.t.Helper()
	time.Sleep(time.Second) // for what may come twice
	if err := tail.cmd.Process.Signal(os.Interrupt); err != nil {
		tail.t.Fatal(err)
	}
	tail.running.Wait()
	if err := tail.cmd.Wait(); err != nil {
		tail.t.Errorf("tail ended with %v", err)
	}
}

// check compares what was printed with what was acknowledged.
func (tail *tailing) check(entries int) {
	tail.t.Helper()
	missing, twice := 0, 0
	for n := range entries {
		switch tail.printed[crashID(int64(n))] {
		case 0:
			missing++
		case 1:
		default:
			twice++
		}
	}
	if missing > 0 {
		tail.t.Errorf("got %d missing entries, want none", missing)
	}
	if twice > 0 {
		tail.t.Errorf("got %d entries twice, want none", twice)
	}
	if tail.lines != entries {
		tail.t.Errorf("got %d lines, want %d", tail.lines, entries)
	}
	if last := tail.said[len(tail.said)-1]; !strings.Contains(last, "--after ") {
		tail.t.Errorf("got last message %q, want one with %q", last, "--after ")
	}
}
