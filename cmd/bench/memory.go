package main

import (
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"net/http"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/edge/httpapi"
	"github.com/ocelot-audit/ocelot/pkg/manifest"
)

const (
	hostileBodies = 40               // at once
	maxResidentMB = 500              // of the service at its highest
	memoryPause   = 90 * time.Second // after which an idle service has given memory back
)

// measureMemory sends bodies at once that each unpack to the limit.
func measureMemory(ctx context.Context, b *bench) ([]figure, error) {
	s, err := b.startFresh(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { _ = s.abandon() }() // does nothing after end
	body, err := fullBody()
	if err != nil {
		return nil, err
	}
	group, groupCtx := errgroup.WithContext(ctx)
	for range hostileBodies {
		group.Go(func() error { return s.postFull(groupCtx, body) })
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	if err := pauseFor(ctx, memoryPause); err != nil {
		return nil, err
	}
	now, highest, err := residentMB(s.PID())
	if err != nil {
		return nil, err
	}
	if _, err := s.end(); err != nil {
		return nil, err
	}
	how := fmt.Sprintf("VmHWM of `ocelot dev`. %d bulks at once, each %s bytes of gzip that unpack to %d MiB.", hostileBodies, thousands(len(body)), audit.MaxBulkUnpacked>>20)
	return []figure{
		atMost("memory, 40 bodies at once that unpack to the limit: MB", "%.0f", highest, maxResidentMB, how),
		noBound("… "+memoryPause.String()+" later", "", "%.0f MB", now),
	}, nil
}

func pauseFor(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}

// fullBody is a bulk of the largest number of entries that unpacks to about the limit.
func fullBody() ([]byte, error) {
	const perEntry = audit.MaxBulkUnpacked / audit.MaxBulkEntries
	var lines bytes.Buffer
	for i := range audit.MaxBulkEntries {
		line := fmt.Appendf(nil, `{"user_id":"u%d","action":"UPDATE","resource_type":"order","metadata":{"text":"`, i)
		line = append(line, bytes.Repeat([]byte("x"), perEntry-len(line)-len("\"}}\n"))...)
		lines.Write(append(line, "\"}}\n"...))
	}
	var packed bytes.Buffer
	w := gzip.NewWriter(&packed)
	if _, err := w.Write(lines.Bytes()); err != nil {
		return nil, err
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return packed.Bytes(), nil
}

// postFull sends a gzip body. The service may ask to send it again.
func (s *service) postFull(ctx context.Context, body []byte) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, s.URL+manifest.BasePath+"/logs/bulk", bytes.NewReader(body))
	if err != nil {
		return err
	}
	request.Header = http.Header{
		"Content-Type": {httpapi.MediaNDJSON}, "Content-Encoding": {"gzip"}, "Authorization": {"Bearer " + s.token}, "X-Tenant-Id": {string(benchTenant)},
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer func() { _ = response.Body.Close() }() // it is read to its end
	if _, err := io.Copy(io.Discard, response.Body); err != nil {
		return err
	}
	if response.StatusCode != http.StatusAccepted && response.StatusCode != http.StatusServiceUnavailable {
		return fmt.Errorf("a bulk that unpacks to the limit got %d", response.StatusCode)
	}
	return nil
}
