package main_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/ocelot-audit/ocelot/pkg/audit"
)

// TestPullSurvivesCrashes kills the service, and `ocelot pull`, with SIGKILL again and again
// while entries are sent and pulled. Their timestamps are old and say nothing about their
// arrival. Whatever was acknowledged has to be printed, and once after dropping what pull may
// repeat.
func TestPullSurvivesCrashes(t *testing.T) {
	entries, kills := 30_000, 5
	if testing.Short() {
		entries, kills = 6_000, 2
	}
	pullCrashes(t, entries, kills)
}

// TestPullSurvivesCrashesLambda is TestPullSurvivesCrashes with the functions as Lambda
// binaries, so that persist-logs, order-logs and feed-logs die each by itself.
func TestPullSurvivesCrashesLambda(t *testing.T) {
	pullCrashes(t, 10_000, 3, lambdaArguments(t)...)
}

// TestPullSurvivesKilledFunctions kills one function at a time with SIGKILL, while its consumer,
// the queues and the other functions go on: what accepts, what stores, what orders and what
// answers pull.
func TestPullSurvivesKilledFunctions(t *testing.T) {
	const entries, kills = 10_000, 24
	t.Setenv("OCELOT_LOG_LEVEL", "info") // killFunction reads the log
	s := startCrashing(t, lambdaArguments(t)...)
	pulled := newPulling(t, s)
	load := &crashLoad{service: s, entries: entries}
	sent := make(chan struct{})
	var reading errgroup.Group
	reading.Go(func() error { return pulled.untilSent(rand.New(rand.NewPCG(1, 1)), sent) })
	killed := map[string]int{}
	err := load.sendThrough(killPoints(rand.New(rand.NewPCG(1, 0)), entries, kills), func(i int) {
		name := []string{"order-logs", "persist-logs", "feed-logs", "create-logs-bulk"}[i%4]
		killed[name] += s.killFunction(name)
	})
	close(sent)
	if err := errors.Join(err, reading.Wait()); err != nil {
		t.Fatalf("%v; %d entries were acknowledged, want %d", err, load.acknowledged.Load(), entries)
	}
	pulled.check(entries)
	if len(killed) < 4 || slices.Min(slices.Collect(maps.Values(killed))) == 0 {
		t.Errorf("killed %v processes, want some of each of 4 functions for the test to prove something", killed)
	}
	t.Logf("%d lines pulled by %d runs, of which %d were killed; killed %v", pulled.lines, pulled.runs, pulled.killed, killed)
}

// environmentLine is what the service logs when it starts or loses a process of a function.
var environmentLine = regexp.MustCompile(`msg="environment (started|ended)" function=(\S+) pid=(\d+)`)

// killFunction kills the processes of a function, and returns how many it killed.
func (s *crashingService) killFunction(name string) (killed int) {
	s.t.Helper()
	text, err := os.ReadFile(s.log.Name())
	if err != nil {
		s.t.Fatal(err)
	}
	running := map[string]bool{}
	for _, line := range environmentLine.FindAllStringSubmatch(string(text), -1) {
		if line[2] == name {
			running[line[3]] = line[1] == "started"
		}
	}
	for text, runs := range running {
		pid, err := strconv.Atoi(text)
		if err != nil {
			s.t.Fatal(err)
		}
		process, err := os.FindProcess(pid)
		if runs && err == nil && process.Kill() == nil { // else it has just ended
			killed++
		}
	}
	return killed
}

func pullCrashes(t *testing.T, entries, kills int, arguments ...string) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("random seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	s := startCrashing(t, arguments...)
	s.keepAddress()
	pulled := newPulling(t, s)

	load := &crashLoad{service: s, entries: int64(entries)}
	sent := make(chan struct{})
	var reading errgroup.Group
	reading.Go(func() error { return pulled.untilSent(rand.New(rand.NewPCG(seed, 1)), sent) })
	err := load.sendThroughCrashes(random, kills)
	close(sent)
	if err := errors.Join(err, reading.Wait()); err != nil {
		t.Fatalf("%v; %d entries were acknowledged, want %d", err, load.acknowledged.Load(), entries)
	}
	pulled.check(entries)
	t.Logf("%d lines pulled by %d runs, of which %d were killed, over %d crashes", pulled.lines, pulled.runs, pulled.killed, s.deaths)
}

// pulling is `ocelot pull` as cron runs it, one process after the other with one file each for
// the cursor and the entries.
type pulling struct {
	t            *testing.T
	program      string
	environment  []string
	cursor, file string
	runs, killed int

	lines, torn int
	printed     map[audit.EntryID]int
}

func newPulling(t *testing.T, s *crashingService) *pulling {
	folder := t.TempDir()
	return &pulling{
		t: t, program: s.program, cursor: filepath.Join(folder, "cursor"), file: filepath.Join(folder, "entries.ndjson"), printed: map[audit.EntryID]int{},
		environment: append(os.Environ(), "OCELOT_URL="+s.process.URL, "OCELOT_TOKEN="+s.token, "OCELOT_TENANT="+string(crashTenant)),
	}
}

// untilSent pulls until all entries are sent. It kills every run after a short time.
func (p *pulling) untilSent(random *rand.Rand, sent <-chan struct{}) error {
	for {
		select {
		case <-sent:
			return nil
		case <-time.After(100 * time.Millisecond):
		}
		if err := p.run(time.Duration(20+random.Int64N(400)) * time.Millisecond); err != nil {
			return err
		}
	}
}

// run runs pull once and kills it after some time, if it still runs; 0: never. pull itself may
// fail.
func (p *pulling) run(kill time.Duration) (err error) {
	out, err := os.OpenFile(p.file, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	cmd := exec.Command(p.program, "pull", "--cursor-file", p.cursor)
	cmd.Env, cmd.Stdout = p.environment, out
	if err := cmd.Start(); err != nil {
		return err
	}
	p.runs++
	if kill > 0 {
		timer := time.AfterFunc(kill, func() { _ = cmd.Process.Kill() }) // it may have ended
		defer timer.Stop()
	}
	err = cmd.Wait()
	if exit := new(exec.ExitError); errors.As(err, &exit) {
		if exit.ExitCode() < 0 { // by a signal
			p.killed++
		}
		return nil
	}
	return err
}

// check pulls the rest and compares what was printed with what was acknowledged. A killed run
// may repeat a page and leave the beginning of a line.
func (p *pulling) check(entries int) {
	p.t.Helper()
	p.rest(entries)
	missing := 0
	for n := range entries {
		if p.printed[crashID(int64(n))] == 0 {
			missing++
		}
	}
	if missing > 0 {
		p.t.Errorf("%d of %d entries are missing, want none", missing, entries)
	}
	if len(p.printed) > entries {
		p.t.Errorf("%d different entries were printed, want %d", len(p.printed), entries)
	}
	if most := p.killed * audit.MaxPageLimit; p.lines-len(p.printed) > most {
		p.t.Errorf("%d lines are repetitions, want at most %d: a page for each run that was killed", p.lines-len(p.printed), most)
	}
	if p.torn > p.killed {
		p.t.Errorf("%d lines are no JSON, want at most %d: one for each run that was killed", p.torn, p.killed)
	}
}

// rest pulls until so many entries are printed, or for too long.
func (p *pulling) rest(entries int) {
	p.t.Helper()
	for deadline := time.Now().Add(crashStall); len(p.printed) < entries && time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		if err := p.run(0); err != nil {
			p.t.Fatal(err)
		}
		p.read()
	}
}

// read counts the lines of the file.
func (p *pulling) read() {
	p.t.Helper()
	text, err := os.ReadFile(p.file)
	if err != nil {
		p.t.Fatal(err)
	}
	p.lines, p.torn = 0, 0
	clear(p.printed)
	for line := range bytes.Lines(text) {
		var entry struct{ ID audit.EntryID }
		if err := json.Unmarshal(line, &entry); err != nil {
			p.torn++
			continue
		}
		p.lines++
		p.printed[entry.ID]++
	}
}

// TestPullBeginsANewLine: after a run that was killed in the middle of a line.
func TestPullBeginsANewLine(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("a program on this system cannot read the file of its standard output; run it on Linux")
	}
	s := startCrashing(t)
	load := &crashLoad{service: s, entries: 1}
	ctx, cancel := load.untilItStalls(t.Context())
	defer cancel()
	if err := load.client(ctx, 1); err != nil {
		t.Fatal(err)
	}
	p := newPulling(t, s)
	if err := os.WriteFile(p.file, []byte("{\"id"), 0o600); err != nil {
		t.Fatal(err)
	}
	p.rest(1)
	if p.torn != 1 {
		t.Errorf("%d lines are no JSON, want 1", p.torn)
	}
	if p.printed[crashID(0)] != 1 {
		t.Errorf("the entry is printed %d times, want once", p.printed[crashID(0)])
	}
}
