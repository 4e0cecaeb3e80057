// Package devprocess runs `ocelot dev --empty` as a process of its own, for tests and
// measurements that look at the service from outside. They look at its death, its memory
// and its processor time.
package devprocess

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strings"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/access"
	"github.com/ocelot-audit/ocelot/pkg/access/bearer"
	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/local/localcloud"
	"github.com/ocelot-audit/ocelot/pkg/manifest"
)

// Build compiles the command line as `make build` does and returns the program's
// path in the folder. The working folder must be within the module.
func Build(ctx context.Context, folder string) (string, error) {
	return BuildProgram(ctx, folder, "cmd/ocelot")
}

// BuildProgram is Build for another program, in a folder of the module.
func BuildProgram(ctx context.Context, folder, source string) (string, error) {
	program := filepath.Join(folder, path.Base(source))
	build := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags", "-s -w", "-o", program, "github.com/ocelot-audit/ocelot/"+source)
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build %s: %w\n%s", source, err, out)
	}
	return program, nil
}

// Process is one run of the service.
type Process struct {
	// URL is the service's address without a path, once Ready has returned nil.
	URL string

	cmd    *exec.Cmd
	data   string
	urls   chan string   // gets the address once the process prints it
	exited chan struct{} // closed once err is set
	err    error
}

// Start runs the program over the data folder, with more arguments of `ocelot dev` if
// any are given. The program chooses a port of the loopback address. The service's log
// goes to log. It does not wait until requests are answered.
func Start(program, data string, log *os.File, more ...string) (*Process, error) {
	p, err := StartProgram(program, log, append([]string{"dev", "--empty", "--addr", "127.0.0.1:0", "--data", data}, more...)...)
	if err != nil {
		return nil, err
	}
	p.data = data
	return p, nil
}

// StartProgram runs a program that prints its address and answers at the path of the health
// endpoint, as `ocelot dev` does. Its standard error goes to log.
func StartProgram(program string, log *os.File, args ...string) (*Process, error) {
	p := &Process{urls: make(chan string, 1), exited: make(chan struct{}), cmd: exec.Command(program, args...)}
	p.cmd.Stderr = log
	output, err := p.cmd.StdoutPipe()
	if err != nil {
		return nil, fmt.Errorf("start the service: %w", err)
	}
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start the service: %w", err)
	}
	go func() {
		p.findURL(output)
		p.err = p.cmd.Wait()
		close(p.exited)
	}()
	return p, nil
}

// findURL sends the first address in the process's output, and reads the output to its end.
func (p *Process) findURL(output io.Reader) {
	lines := bufio.NewScanner(output)
	for sent := false; lines.Scan(); {
		_, rest, found := strings.Cut(lines.Text(), "http://")
		if !found || sent {
			continue
		}
		address, _, _ := strings.Cut(rest, "/")
		p.urls <- "http://" + address
		sent = true
	}
}

// Ready waits until the process prints its address and the health endpoint there answers 200.
func (p *Process) Ready(ctx context.Context) error {
	select {
	case p.URL = <-p.urls:
	case <-p.exited:
		return fmt.Errorf("the service ended before it was ready: %s", p.cmd.ProcessState)
	case <-ctx.Done():
		return fmt.Errorf("wait for the service: %w", context.Cause(ctx))
	}
	response, err := p.do(ctx, http.MethodGet, "/health", "", "")
	if err != nil {
		return fmt.Errorf("get the service's health: %w", err)
	}
	if err := response.Body.Close(); err != nil || response.StatusCode != http.StatusOK {
		return errors.Join(fmt.Errorf("the service's health is %s", response.Status), err)
	}
	return nil
}

// PID is the process's id.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Kill ends the process as kill -9 does and returns once it is gone.
func (p *Process) Kill() error {
	err := p.cmd.Process.Kill()
	<-p.exited
	if errors.Is(err, os.ErrProcessDone) {
		return nil
	}
	return err
}

// Stop ends the process as Ctrl-C does: it drains its queues. It returns the
// processor time, of user and system, that the process has used.
func (p *Process) Stop() (cpu time.Duration, err error) {
	if err := p.cmd.Process.Signal(os.Interrupt); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return 0, fmt.Errorf("interrupt the service: %w", err)
	}
	<-p.exited
	if p.err != nil {
		return 0, fmt.Errorf("the service ended badly: %w", p.err)
	}
	return p.cmd.ProcessState.UserTime() + p.cmd.ProcessState.SystemTime(), nil
}

// tokenTTL is how long a token is good: longer than any test or measurement.
const tokenTTL = 6 * time.Hour

// Token returns a JWT that the service over the data folder accepts.
func Token(data string, tenant audit.TenantID, role access.Role) (string, error) {
	secret, err := localcloud.DevSecret(data)
	if err != nil {
		return "", err
	}
	now := time.Now()
	return bearer.Mint(secret, bearer.Token{
		Claims:   access.Claims{Subject: "devprocess", Tenants: []string{string(tenant)}, Role: role},
		IssuedAt: now, ExpiresAt: now.Add(tokenTTL),
	})
}

// CreateTenant creates a tenant that keeps its entries for ever.
func (p *Process) CreateTenant(ctx context.Context, id audit.TenantID) error {
	token, err := Token(p.data, access.AnyTenant, access.RoleOperator)
	if err != nil {
		return err
	}
	body := fmt.Sprintf(`{"id":%q,"name":%q,"settings":{"retention_days":0}}`, id, id)
	response, err := p.do(ctx, http.MethodPost, "/tenants", token, body)
	if err != nil {
		return fmt.Errorf("create tenant %s: %w", id, err)
	}
	text, err := io.ReadAll(response.Body)
	if err = errors.Join(err, response.Body.Close()); err != nil {
		return fmt.Errorf("create tenant %s: %w", id, err)
	}
	if response.StatusCode != http.StatusCreated {
		return fmt.Errorf("create tenant %s: %s %s", id, response.Status, text)
	}
	return nil
}

// Invoke runs a scheduled function of the process now.
func (p *Process) Invoke(ctx context.Context, function string) error {
	return localcloud.Invoke(ctx, p.data, function)
}

// do sends a request to a path below the API's base path.
func (p *Process) do(ctx context.Context, method, path, token, body string) (*http.Response, error) {
	request, err := http.NewRequestWithContext(ctx, method, p.URL+manifest.BasePath+path, strings.NewReader(body))
	if err != nil {
		return nil, err
	}
	request.Header.Set("Content-Type", "application/json")
	if token != "" {
		request.Header.Set("Authorization", "Bearer "+token)
	}
	return http.DefaultClient.Do(request)
}
