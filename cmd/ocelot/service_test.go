package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/ocelot-audit/ocelot/pkg/engine/sqlite"
	"github.com/ocelot-audit/ocelot/pkg/manifest"
	"github.com/ocelot-audit/ocelot/pkg/wiring/embedded"
)

// testService is `ocelot dev` with its demo data, as a process that a test started.
type testService struct {
	// settings are OCELOT_URL, OCELOT_TENANT and OCELOT_TOKEN as the service prints them.
	settings map[string]string

	cmd    *exec.Cmd
	log    *bytes.Buffer
	exited chan error
}

// startService starts a service over folder/.ocelot at a free port. The command
// ocelot must be on the PATH, see TestMain.
func startService(folder string) (*testService, error) {
	s := &testService{cmd: exec.Command("ocelot", "dev", "--addr", "127.0.0.1:0"), log: &bytes.Buffer{}, exited: make(chan error, 1)}
	s.cmd.Dir, s.cmd.Stderr = folder, s.log
	s.cmd.Env = append(os.Environ(), "MONGODB_URI=", "OPENSEARCH_URL=", "AWS_ENDPOINT_URL=", "AWS_ENDPOINT_URL_SQS=")
	greeting, err := s.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := s.cmd.Start(); err != nil {
		return nil, err
	}
	for lines := bufio.NewScanner(greeting); s.settings == nil && lines.Scan(); {
		s.settings = parseExport(lines.Text())
	}
	if s.settings == nil {
		_ = s.cmd.Process.Kill() // it may have ended already
		return nil, fmt.Errorf("ocelot dev printed no export line: %w\n%s", s.cmd.Wait(), s.log)
	}
	go func() { s.exited <- s.cmd.Wait() }()
	return s, nil
}

// parseExport returns the variables of a shell's export command, nil if the line is none.
func parseExport(line string) map[string]string {
	assignments, isExport := strings.CutPrefix(strings.TrimSpace(line), "export ")
	if !isExport {
		return nil
	}
	variables := map[string]string{}
	for _, assignment := range strings.Fields(assignments) {
		name, value, _ := strings.Cut(assignment, "=")
		variables[name] = value
	}
	return variables
}

// stop ends the service as Ctrl-C does. It returns an error if the service did
// not end with exit code 0.
func (s *testService) stop() error {
	if err := s.cmd.Process.Signal(os.Interrupt); err != nil {
		return fmt.Errorf("interrupt ocelot dev: %w", err)
	}
	if err := <-s.exited; err != nil {
		return fmt.Errorf("ocelot dev: %w\n%s", err, s.log)
	}
	return nil
}

// addDeadLetters puts n messages into a queue's dead-letter queue. The service of
// the data folder must be stopped.
func addDeadLetters(folder string, name manifest.QueueName, n int) error {
	ctx := context.Background()
	db, err := sqlite.Open(ctx, filepath.Join(folder, embedded.File))
	if err != nil {
		return err
	}
	messages := make([]string, n)
	for i := range messages {
		messages[i] = fmt.Sprintf("message %d", i)
	}
	return errors.Join(embedded.Stores(db).DeadLetters(name).Send(ctx, "acme", messages), db.Close())
}
