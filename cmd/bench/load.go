package main

import (
	"context"
	"fmt"
	"net/url"
	"time"

	"golang.org/x/sync/errgroup"
)

const (
	loadPairs       = 3
	loadEntries     = 20_000 // and twice as many
	loadConnections = 4
)

// measureEmbedded compares the processor time of a load with that of one half as large.
func measureEmbedded(ctx context.Context, b *bench) ([]figure, error) {
	var ratios []float64
	for range loadPairs {
		once, err := b.load(ctx, loadEntries)
		if err != nil {
			return nil, err
		}
		twice, err := b.load(ctx, 2*loadEntries)
		if err != nil {
			return nil, err
		}
		ratios = append(ratios, twice.Seconds()/once.Seconds())
	}
	return []figure{
		atMost("processor time for twice the entries", "%.2f ×", median(ratios), 2.2,
			fmt.Sprintf("Of the whole process of `ocelot dev`, bulks of 100 of one tenant, %s against %s entries, each into a new folder. %d pairs in turn.", thousands(2*loadEntries), thousands(loadEntries), loadPairs)),
	}, nil
}

// load sends n entries to a fresh service until all are found. It returns the processor time of
// the service.
func (b *bench) load(ctx context.Context, n int) (cpu time.Duration, err error) {
	s, err := b.startFresh(ctx)
	if err != nil {
		return 0, err
	}
	defer func() { _ = s.abandon() }() // does nothing after end
	entries := newCorpus(uint64(n))
	bodies := make(chan []byte, n/bulkSize)
	for range n / bulkSize {
		bodies <- entries.bulk()
	}
	close(bodies)
	group, groupCtx := errgroup.WithContext(ctx)
	for range loadConnections {
		group.Go(func() error {
			for body := range bodies {
				if err := s.post(groupCtx, "/logs/bulk", body); err != nil {
					return err
				}
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return 0, err
	}
	if err := s.awaitCount(ctx, n); err != nil {
		return 0, err
	}
	return s.end()
}

// awaitCount returns once the service counts n entries.
func (s *caller) awaitCount(ctx context.Context, n int) error {
	for {
		stats, err := s.reader.Stats(ctx, nil)
		if err != nil {
			return err
		}
		if stats.Total >= int64(n) {
			return nil
		}
		time.Sleep(20 * time.Millisecond)
	}
}

const (
	latencyEntries = 300
	latencyPause   = 20 * time.Millisecond // between two entries
	latencyPoll    = time.Millisecond
)

func measureLatency(ctx context.Context, b *bench) ([]figure, error) {
	s, err := b.startFresh(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { _ = s.abandon() }() // does nothing after end
	entries := newCorpus(3)
	accepted, found := make([]time.Duration, latencyEntries), make([]time.Duration, latencyEntries)
	for i := range latencyEntries {
		begun := time.Now()
		request := fmt.Sprintf("latency-%d", i)
		if err := s.post(ctx, "/logs", entries.entryOf(request)); err != nil {
			return nil, err
		}
		accepted[i] = time.Since(begun)
		if err := s.awaitFound(ctx, request); err != nil {
			return nil, err
		}
		found[i] = time.Since(begun) - accepted[i]
		time.Sleep(latencyPause)
	}
	if _, err := s.end(); err != nil {
		return nil, err
	}
	how := fmt.Sprintf("%d single entries one after the other over HTTP, durable when accepted. Then GET /logs by the entry's request_id every millisecond until it is there.", latencyEntries)
	return []figure{
		noBound("request → accepted, single entry: p50, p99", how, "%.1f ms, %.1f ms", millis(median(accepted)), millis(quantile(accepted, 0.99))),
		noBound("accepted → found by a search: p50, p99", "", "%.1f ms, %.1f ms", millis(median(found)), millis(quantile(found, 0.99))),
	}, nil
}

// awaitFound returns once a search finds the entry with the request id.
func (s *caller) awaitFound(ctx context.Context, request string) error {
	for {
		page, err := s.reader.Search(ctx, url.Values{"request_id": {request}, "limit": {"1"}})
		if err != nil || len(page.Items) > 0 {
			return err
		}
		time.Sleep(latencyPoll)
	}
}
