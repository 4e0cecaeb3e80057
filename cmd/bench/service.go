package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/ocelot-audit/ocelot/cmd/internal/devprocess"
	"github.com/ocelot-audit/ocelot/pkg/access"
	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/client"
	"github.com/ocelot-audit/ocelot/pkg/manifest"
)

// service is `ocelot dev --empty` in a process of its own.
type service struct {
	*devprocess.Process
	caller
	data string // the folder
	log  *os.File
}

// caller sends and reads entries of one tenant.
type caller struct {
	url, token string
	tenant     audit.TenantID
	reader     *client.Client
}

// program builds the command line once and returns its path.
func (b *bench) program(ctx context.Context) (string, error) {
	path := filepath.Join(b.folder, "ocelot")
	if _, err := os.Stat(path); err == nil {
		return path, nil
	}
	return devprocess.Build(ctx, b.folder)
}

// startService runs the service over the data folder until it is ready.
func (b *bench) startService(ctx context.Context, data string) (*service, error) {
	program, err := b.program(ctx)
	if err != nil {
		return nil, err
	}
	log, err := os.Create(filepath.Join(b.folder, "service.log"))
	if err != nil {
		return nil, fmt.Errorf("make the service's log: %w", err)
	}
	process, err := devprocess.Start(program, data, log, "--quiet")
	if err != nil {
		return nil, errors.Join(err, log.Close())
	}
	s := &service{Process: process, data: data, log: log}
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	if err := s.prepare(ctx); err != nil {
		return nil, errors.Join(err, s.abandon())
	}
	return s, nil
}

func (s *service) prepare(ctx context.Context) (err error) {
	if err := s.Ready(ctx); err != nil {
		return err
	}
	s.caller, err = s.callerOf(benchTenant)
	return err
}

// callerOf returns a caller of a tenant, which may not exist yet.
func (s *service) callerOf(tenant audit.TenantID) (caller, error) {
	token, err := devprocess.Token(s.data, tenant, access.RoleAdmin)
	if err != nil {
		return caller{}, err
	}
	reader, err := client.New(client.Config{URL: s.URL, Token: token, Tenant: string(tenant)})
	return caller{url: s.URL, token: token, tenant: tenant, reader: reader}, err
}

// startFresh runs the service over a new folder with the one tenant.
func (b *bench) startFresh(ctx context.Context) (*service, error) {
	data, err := os.MkdirTemp(b.folder, "data-")
	if err != nil {
		return nil, fmt.Errorf("make a data folder: %w", err)
	}
	s, err := b.startService(ctx, data)
	if err != nil {
		return nil, err
	}
	if err := s.CreateTenant(ctx, benchTenant); err != nil {
		return nil, errors.Join(err, s.abandon())
	}
	return s, nil
}

// abandon kills the service. Calling it after end does nothing.
func (s *service) abandon() error {
	if err := s.log.Close(); errors.Is(err, os.ErrClosed) {
		return nil
	}
	return s.Kill()
}

// end stops the service and returns the processor time that it has used.
func (s *service) end() (time.Duration, error) {
	cpu, err := s.Stop()
	return cpu, errors.Join(err, s.log.Close())
}

// httpClient keeps a connection for each of the benchmark's senders.
var httpClient = &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 64}}

// refusedError is an answer that asks to send the request again later.
type refusedError struct{ error }

// post sends a body, which has to be accepted whole.
func (s *caller) post(ctx context.Context, path string, body []byte) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, s.url+manifest.BasePath+path, bytes.NewReader(body))
	if err != nil {
		return err
	}
	request.Header = http.Header{
		"Content-Type": {"application/json"}, "Authorization": {"Bearer " + s.token}, "X-Tenant-Id": {string(s.tenant)},
	}
	response, err := httpClient.Do(request)
	if err != nil {
		return err
	}
	answer, err := io.ReadAll(response.Body)
	if err = errors.Join(err, response.Body.Close()); err != nil {
		return err
	}
	switch response.StatusCode {
	case http.StatusAccepted:
		return nil
	case http.StatusTooManyRequests, http.StatusServiceUnavailable:
		return refusedError{fmt.Errorf("POST %s: %s %s", path, response.Status, answer)}
	}
	return fmt.Errorf("POST %s: %s %s", path, response.Status, answer)
}

// refusedPause is how long a sender waits after a refusal.
const refusedPause = 50 * time.Millisecond

// postUntilAccepted is post, again and again while the service refuses the body.
func (s *caller) postUntilAccepted(ctx context.Context, path string, body []byte) error {
	for {
		err := s.post(ctx, path, body)
		if !errors.As(err, new(refusedError)) {
			return err
		}
		if err := pauseFor(ctx, refusedPause); err != nil {
			return err
		}
	}
}
