package main

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/ocelot-audit/ocelot/pkg/audit"
)

const (
	floodTime    = time.Minute
	floodBulk    = 1000 // entries of a request
	quietTenant  = audit.TenantID("quiet")
	quietPause   = 100 * time.Millisecond // between two entries
	floodRefused = 50 * time.Millisecond  // pause after a refused request
)

// measureFairness has one tenant send as fast as it can, while another sends single entries.
func measureFairness(ctx context.Context, b *bench) (figures []figure, err error) {
	s, err := b.startFresh(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { _ = s.abandon() }() // does nothing after end
	if err := s.CreateTenant(ctx, quietTenant); err != nil {
		return nil, err
	}
	quiet, err := s.callerOf(quietTenant)
	if err != nil {
		return nil, err
	}
	flooding, stop := context.WithTimeout(ctx, floodTime)
	defer stop()
	var flooded, refused atomic.Int64
	group, groupCtx := errgroup.WithContext(ctx)
	for n := range loadConnections {
		entries := newCorpus(uint64(100 + n))
		group.Go(func() error {
			for flooding.Err() == nil {
				body := entries.bulkOf(floodBulk)
				if s.post(groupCtx, "/logs/bulk", body) != nil { // a full backlog is refused
					refused.Add(1)
					time.Sleep(floodRefused)
					continue
				}
				flooded.Add(floodBulk)
			}
			return groupCtx.Err()
		})
	}
	var accepted, found []time.Duration
	group.Go(func() error {
		entries := newCorpus(99)
		for n := 0; flooding.Err() == nil; n++ {
			begun, request := time.Now(), fmt.Sprintf("quiet-%d", n)
			if err := quiet.post(groupCtx, "/logs", entries.entryOf(request)); err != nil {
				return fmt.Errorf("the quiet tenant: %w", err)
			}
			accepted = append(accepted, time.Since(begun))
			if err := quiet.awaitFound(groupCtx, request); err != nil {
				return fmt.Errorf("the quiet tenant: %w", err)
			}
			found = append(found, time.Since(begun))
			time.Sleep(quietPause)
		}
		return nil
	})
	if err := group.Wait(); err != nil {
		return nil, err
	}
	drained := time.Now()
	if err := s.awaitCount(ctx, int(flooded.Load())); err != nil {
		return nil, err
	}
	lag := time.Since(drained)
	if _, err := s.end(); err != nil {
		return nil, err
	}
	how := fmt.Sprintf("One tenant sends bulks of %s by %d connections for %s. Another sends a single entry every %s after the last was found. The senders share the cores.",
		thousands(floodBulk), loadConnections, floodTime, quietPause)
	return []figure{
		atMost("while another tenant floods: request → found, single entry: p99", "%.0f ms", millis(quantile(found, 0.99)), 500, how),
		noBound("… p50, highest", "", "%.0f ms, %.0f ms", millis(median(found)), millis(quantile(found, 1))),
		noBound("… request → accepted: p50, p99", "", "%.0f ms, %.0f ms", millis(median(accepted)), millis(quantile(accepted, 0.99))),
		noBound("… the flood: accepted/s, refused requests, found after its end", "", "%.0f, %d, %.1f s",
			float64(flooded.Load())/floodTime.Seconds(), refused.Load(), lag.Seconds()),
	}, nil
}
