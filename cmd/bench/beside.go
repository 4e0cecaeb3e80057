package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/ocelot-audit/ocelot/cmd/internal/devprocess"
	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/client"
)

// besideTenants is the number of tenants that send the entries in turn.
const besideTenants = 100

// besideKind is a way to send entries, to `ocelot dev` and to the floor.
type besideKind struct {
	name        string
	entries     int // in all
	bulk        int // entries of a request
	connections int
	least       float64 // of the floor's entries a second
}

func besideKinds(quick bool) []besideKind {
	kinds := []besideKind{
		{"bulks of 100", 40_000, 100, loadConnections, 0.45},
		{"bulks of 1,000", 100_000, 1000, loadConnections, 0.45},
		{"single entries", 40_000, 1, 16, 0.5},
	}
	for i := range kinds {
		if quick {
			kinds[i].entries /= 4
		}
	}
	return kinds
}

// besideResult is one load of one side.
type besideResult struct {
	accepted, found float64       // entries a second, from the first request on
	cpu             time.Duration // of the side's process for one entry, without its start
	bytes           float64       // on disk for one entry
}

// target is a side under load.
type target struct {
	process *devprocess.Process
	callers []*caller // of each tenant
	data    string
	log     *os.File
}

// measureBeside compares `ocelot dev` with cmd/bench/floor under the same loads.
func measureBeside(ctx context.Context, b *bench) ([]figure, error) {
	pairs := loadPairs
	if b.quick {
		pairs = 1
	}
	starts := [...]func(context.Context) (*target, error){b.startBesideService, b.startFloor}
	var idle [2]time.Duration
	for side, start := range starts {
		var err error
		if idle[side], err = idleTime(ctx, start); err != nil {
			return nil, fmt.Errorf("without entries: %w", err)
		}
	}
	var figures []figure
	for i, kind := range besideKinds(b.quick) {
		requests := kind.requests()
		var sides [2][]besideResult
		for range pairs {
			for side, start := range starts {
				result, err := b.loadTarget(ctx, kind, requests, start)
				if err != nil {
					return nil, fmt.Errorf("%s: %w", kind.name, err)
				}
				result.cpu -= idle[side] / time.Duration(kind.entries)
				sides[side] = append(sides[side], result)
			}
		}
		figures = append(figures, kind.figures(sides[0], sides[1], i == 0)...)
	}
	return figures, nil
}

// requests returns the bodies of all requests.
func (k *besideKind) requests() [][]byte {
	entries := newCorpus(uint64(k.bulk))
	bodies := make([][]byte, k.entries/k.bulk)
	for i := range bodies {
		if k.bulk == 1 {
			bodies[i] = entries.entry()
		} else {
			bodies[i] = entries.bulkOf(k.bulk)
		}
	}
	return bodies
}

func (k *besideKind) figures(service, floor []besideResult, first bool) []figure {
	ratio := func(value func(besideResult) float64) float64 {
		ratios := make([]float64, len(service))
		for i := range ratios {
			ratios[i] = value(service[i]) / value(floor[i])
		}
		return median(ratios)
	}
	of := func(side []besideResult, value func(besideResult) float64) float64 {
		values := make([]float64, len(side))
		for i := range values {
			values[i] = value(side[i])
		}
		return median(values)
	}
	found := func(r besideResult) float64 { return r.found }
	accepted := func(r besideResult) float64 { return r.accepted }
	cpu := func(r besideResult) float64 { return micros(r.cpu) }
	bytes := func(r besideResult) float64 { return r.bytes }
	keepsUp := func(r besideResult) float64 { return r.found / r.accepted }
	how := ""
	if first {
		how = fmt.Sprintf("`ocelot dev` against cmd/bench/floor: a server of its own over the same SQLite driver, with fsync and one index, without identities, queues and full text. "+
			"Accept → durable → counted by GET /logs/stats, for %d tenants. Median of the ratios of neighbours. The sender shares the cores. The processor time is that of the whole process, less what it takes to start with the tenants and to stop.", besideTenants)
	}
	name := fmt.Sprintf("embedded, %s over %d connections", k.name, k.connections)
	return []figure{
		atLeast(name+": entries/s found ÷ the floor's", "%.2f", ratio(found), k.least, how),
		noBound("… entries/s accepted, found, of the floor", "", "%.0f, %.0f, %.0f", of(service, accepted), of(service, found), of(floor, found)),
		atLeast("… found/s ÷ accepted/s", "%.2f", of(service, keepsUp), 0.9, ""),
		atMost("… processor time ÷ the floor's", "%.2f", ratio(cpu), 2.2, ""),
		noBound("… processor time of one entry, of the floor", "", "%.0f µs, %.0f µs", of(service, cpu), of(floor, cpu)),
		atMost("… bytes on disk for one entry, indexes included", "%.0f", of(service, bytes), 1000, ""),
		noBound("… of the floor", "", "%.0f", of(floor, bytes)),
	}
}

// idleTime returns the processor time of a target that gets no entries.
func idleTime(ctx context.Context, start func(context.Context) (*target, error)) (cpu time.Duration, err error) {
	t, err := start(ctx)
	if err != nil {
		return 0, err
	}
	cpu, err = t.process.Stop()
	return cpu, errors.Join(err, t.end())
}

// loadTarget sends the requests to a fresh target, until it counts all entries.
func (b *bench) loadTarget(ctx context.Context, kind besideKind, requests [][]byte, start func(context.Context) (*target, error)) (result besideResult, err error) {
	t, err := start(ctx)
	if err != nil {
		return result, err
	}
	defer func() { err = errors.Join(err, t.end()) }()
	next := make(chan int, len(requests))
	for i := range requests {
		next <- i
	}
	close(next)
	begun := time.Now()
	group, groupCtx := errgroup.WithContext(ctx)
	for range kind.connections {
		group.Go(func() error {
			for i := range next {
				path := "/logs/bulk"
				if kind.bulk == 1 {
					path = "/logs"
				}
				if err := t.callers[i%besideTenants].postUntilAccepted(groupCtx, path, requests[i]); err != nil {
					return err
				}
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return result, err
	}
	accepted := time.Since(begun)
	for i, c := range t.callers {
		requestsOf := (len(requests) - i + besideTenants - 1) / besideTenants
		if err := c.awaitCount(ctx, requestsOf*kind.bulk); err != nil {
			return result, err
		}
	}
	found := time.Since(begun)
	cpu, err := t.process.Stop()
	if err != nil {
		return result, err
	}
	bytes, err := folderBytes(t.data)
	n := float64(kind.entries)
	return besideResult{
		accepted: n / accepted.Seconds(), found: n / found.Seconds(), cpu: cpu / time.Duration(kind.entries), bytes: float64(bytes) / n,
	}, err
}

// end ends the process, if it runs, and removes its data.
func (t *target) end() error {
	return errors.Join(t.process.Kill(), t.log.Close(), os.RemoveAll(t.data))
}

// startBesideService starts `ocelot dev` with all tenants.
func (b *bench) startBesideService(ctx context.Context) (*target, error) {
	s, err := b.startFresh(ctx)
	if err != nil {
		return nil, err
	}
	t := &target{process: s.Process, data: s.data, log: s.log}
	for i := range besideTenants {
		tenant := besideTenant(i)
		if err := s.CreateTenant(ctx, tenant); err != nil {
			return nil, errors.Join(err, t.end())
		}
		c, err := s.callerOf(tenant)
		if err != nil {
			return nil, errors.Join(err, t.end())
		}
		t.callers = append(t.callers, &c)
	}
	return t, nil
}

// startFloor starts the floor, which needs no credentials.
func (b *bench) startFloor(ctx context.Context) (*target, error) {
	program := filepath.Join(b.folder, "floor")
	if _, err := os.Stat(program); err != nil {
		if _, err := devprocess.BuildProgram(ctx, b.folder, "cmd/bench/floor"); err != nil {
			return nil, err
		}
	}
	data, err := os.MkdirTemp(b.folder, "floor-data-")
	if err != nil {
		return nil, fmt.Errorf("make a data folder: %w", err)
	}
	log, err := os.Create(filepath.Join(b.folder, "floor.log"))
	if err != nil {
		return nil, fmt.Errorf("make the floor's log: %w", err)
	}
	process, err := devprocess.StartProgram(program, log, data)
	if err != nil {
		return nil, errors.Join(err, log.Close())
	}
	t := &target{process: process, data: data, log: log}
	if err := process.Ready(ctx); err != nil {
		return nil, errors.Join(err, t.end())
	}
	for i := range besideTenants {
		tenant := besideTenant(i)
		reader, err := client.New(client.Config{URL: process.URL, Token: "none", Tenant: string(tenant)})
		if err != nil {
			return nil, errors.Join(err, t.end())
		}
		t.callers = append(t.callers, &caller{url: process.URL, token: "none", tenant: tenant, reader: reader})
	}
	return t, nil
}

func besideTenant(i int) audit.TenantID { return audit.TenantID(fmt.Sprintf("tenant-%d", i)) }
