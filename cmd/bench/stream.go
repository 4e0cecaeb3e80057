package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/ocelot-audit/ocelot/pkg/client"
)

const (
	streamTicks       = 40
	streamTick        = 250 * time.Millisecond // one bulk and streamSingles singles
	streamSingles     = 25
	streamPerTick     = bulkSize + streamSingles
	streamEntries     = streamTicks * streamPerTick
	streamSubscribers = 20
	streamTimeout     = 30 * time.Second // from the last request until everything is delivered
)

// measureStream sends the same load to no subscriber, to one and to many.
func measureStream(ctx context.Context, b *bench) ([]figure, error) {
	nobody, err := b.streamTo(ctx, 0)
	if err != nil {
		return nil, err
	}
	one, err := b.streamTo(ctx, 1)
	if err != nil {
		return nil, err
	}
	many, err := b.streamTo(ctx, streamSubscribers)
	if err != nil {
		return nil, err
	}
	rate := float64(streamPerTick) / streamTick.Seconds()
	return []figure{
		atMost("accepted → delivered to a live subscriber: p99", "%.1f ms", millis(quantile(one.delays, 0.99)), 1000,
			fmt.Sprintf("`ocelot dev` as a process of its own, %s one-KB entries at %.0f a second, four fifths in bulks of %d and the rest single. From the 202 to the frame, for each entry. Sender and subscribers share the cores.",
				thousands(streamEntries), rate, bulkSize)),
		noBound("… p50, highest", "", "%.1f ms, %.1f ms", millis(median(one.delays)), millis(quantile(one.delays, 1))),
		atMost(fmt.Sprintf("… to %d subscribers who each get everything: p99", streamSubscribers), "%.1f ms", millis(quantile(many.delays, 0.99)), 1000, ""),
		noBound("… p50, highest", "", "%.1f ms, %.1f ms", millis(median(many.delays)), millis(quantile(many.delays, 1))),
		noBound(fmt.Sprintf("processor time of the service to deliver one entry: to one subscriber, to each of %d", streamSubscribers),
			"What the process used beyond the same load without a subscriber.", "%.0f µs, %.1f µs",
			micros((one.cpu-nobody.cpu)/streamEntries), micros(many.cpu-nobody.cpu)/(streamEntries*streamSubscribers)),
	}, nil
}

// streamed is one load with subscribers.
type streamed struct {
	delays []time.Duration // of each entry to each subscriber
	cpu    time.Duration   // of the service
}

// streamTo sends the load to a fresh service with a number of subscribers.
func (b *bench) streamTo(ctx context.Context, subscribers int) (result streamed, err error) {
	s, err := b.startFresh(ctx)
	if err != nil {
		return streamed{}, err
	}
	defer func() { _ = s.abandon() }() // does nothing after end
	ctx, cancel := context.WithTimeout(ctx, streamTicks*streamTick+streamTimeout)
	defer cancel()
	group, groupCtx := errgroup.WithContext(ctx)
	var listening sync.WaitGroup
	arrivals := make([]map[string]time.Time, subscribers)
	for i := range arrivals {
		listening.Add(1)
		group.Go(func() (err error) {
			arrivals[i], err = s.listen(groupCtx, listening.Done)
			return err
		})
	}
	accepted := map[string]time.Time{}
	group.Go(func() error {
		listening.Wait()
		return s.sendSteadily(groupCtx, accepted)
	})
	if err := group.Wait(); err != nil {
		return streamed{}, err
	}
	if err := s.awaitCount(ctx, streamEntries); err != nil {
		return streamed{}, err
	}
	if result.cpu, err = s.end(); err != nil {
		return streamed{}, err
	}
	for _, arrived := range arrivals {
		for request, at := range accepted {
			// An entry may be there before its acknowledgement.
			result.delays = append(result.delays, max(0, arrived[request].Sub(at)))
		}
	}
	return result, nil
}

// errAll ends a stream that has brought everything.
var errAll = errors.New("everything is there")

// listen returns when each entry came, by its request id. It calls listening once the
// stream runs, or has failed.
func (s *service) listen(ctx context.Context, listening func()) (map[string]time.Time, error) {
	begun := sync.OnceFunc(listening)
	defer begun()
	arrived := make(map[string]time.Time, streamEntries)
	err := s.reader.Stream(ctx, client.Subscription{}, func(e client.Event) error {
		now := time.Now()
		begun()
		if e.Kind == client.StreamCut {
			return fmt.Errorf("the stream was cut: %w", e.Err)
		}
		for _, text := range e.Entries {
			var entry struct {
				RequestID string `json:"request_id"`
			}
			if err := json.Unmarshal(text, &entry); err != nil {
				return err
			}
			arrived[entry.RequestID] = now
		}
		if len(arrived) == streamEntries {
			return errAll
		}
		return nil
	})
	if errors.Is(err, errAll) {
		return arrived, nil
	}
	return nil, fmt.Errorf("%d of %d entries were delivered: %w", len(arrived), streamEntries, err)
}

// sendSteadily sends the load and notes when each entry was accepted.
func (s *service) sendSteadily(ctx context.Context, accepted map[string]time.Time) error {
	entries := newCorpus(6)
	ticker := time.NewTicker(streamTick)
	defer ticker.Stop()
	for tick := range streamTicks {
		requests, texts := make([]string, streamPerTick), make([][]byte, streamPerTick)
		for i := range texts {
			requests[i] = fmt.Sprintf("stream-%d-%d", tick, i)
			texts[i] = entries.entryOf(requests[i])
		}
		bulk := slices.Concat([]byte{'['}, bytes.Join(texts[:bulkSize], []byte{','}), []byte{']'})
		if err := s.post(ctx, "/logs/bulk", bulk); err != nil {
			return err
		}
		now := time.Now()
		for _, request := range requests[:bulkSize] {
			accepted[request] = now
		}
		for i := bulkSize; i < streamPerTick; i++ {
			if err := s.post(ctx, "/logs", texts[i]); err != nil {
				return err
			}
			accepted[requests[i]] = time.Now()
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return nil
}
