package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/ocelot-audit/ocelot/pkg/arrival"
	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/engine/sqlite"
	"github.com/ocelot-audit/ocelot/pkg/envelope"
	"github.com/ocelot-audit/ocelot/pkg/manifest"
)

const (
	orderBatches = 200 // of the batch size of order-logs
	orderRate    = 2000
	placeBytes   = 40

	// walkedEntries are stored before the walk begins, unless -entries says another number.
	walkedEntries = 100_000
	walkRate      = 1000                   // entries a second that arrive during the walk
	walkTime      = 10 * time.Second       // the least time for which entries arrive
	walkPause     = 200 * time.Millisecond // between two runs of the reader
	walkStall     = 30 * time.Second       // without a new entry, after which the rest is missing
)

// measureArrival measures the arrival log: how fast it grows, and that a walk through it prints
// every entry once while others arrive.
func measureArrival(ctx context.Context, b *bench) ([]figure, error) {
	ordered, err := measureOrder(ctx, b)
	if err != nil {
		return nil, err
	}
	walked, err := measureWalk(ctx, b)
	return append(ordered, walked...), err
}

// measureOrder places the entries of one tenant on the embedded engine.
func measureOrder(ctx context.Context, b *bench) ([]figure, error) {
	single, _, err := b.order(ctx, 1)
	if err != nil {
		return nil, err
	}
	full, size, err := b.order(ctx, bulkSize)
	if err != nil {
		return nil, err
	}
	batch := queueTrigger(manifest.QueueArrival).BatchSize
	return []figure{
		atLeast("arrival log: ingest messages/s that one order-logs places for one tenant", "%.0f", single, orderRate,
			fmt.Sprintf("On the embedded engine with fsync, in process, in batches of %d messages of one entry each.", batch)),
		noBound("… of bulks of 100: entries/s", "", "%.0f", full*bulkSize),
		atMost("… bytes on disk for a place, bulks of 100", "%.1f", size, placeBytes,
			"The growth of the database by full batches. The requests to SQS are beside the other figures of SQS."),
	}, nil
}

// order places messages of so many entries each. It returns the messages a second, and the bytes
// on disk for each entry.
func (b *bench) order(ctx context.Context, perMessage int) (rate, size float64, err error) {
	folder, err := os.MkdirTemp(b.folder, "order-")
	if err != nil {
		return 0, 0, fmt.Errorf("make a data folder: %w", err)
	}
	path := filepath.Join(folder, "ocelot.db")
	first, err := emptyBytes(ctx, path)
	if err != nil {
		return 0, 0, err
	}
	took, err := orderInto(ctx, path, perMessage)
	if err != nil {
		return 0, 0, err
	}
	last, err := folderBytes(folder)
	messages := float64(orderBatches * queueTrigger(manifest.QueueArrival).BatchSize)
	return messages / took.Seconds(), float64(last-first) / (messages * float64(perMessage)), err
}

// emptyBytes makes a database and returns its size.
func emptyBytes(ctx context.Context, path string) (int64, error) {
	db, err := sqlite.Open(ctx, path)
	if err != nil {
		return 0, err
	}
	if err := db.Close(); err != nil {
		return 0, err
	}
	return folderBytes(filepath.Dir(path))
}

// orderInto places orderBatches of messages and returns how long that took.
func orderInto(ctx context.Context, path string, perMessage int) (took time.Duration, err error) {
	db, err := sqlite.Open(ctx, path)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	o := &arrival.Orderer{Log: db.Arrivals(), Tenants: oneTenant{}, Now: time.Now}
	for n := range orderBatches {
		bodies, err := arrivalBatch(n, perMessage)
		if err != nil {
			return 0, err
		}
		begun := time.Now()
		if err := errors.Join(o.Order(ctx, bodies)...); err != nil {
			return 0, err
		}
		took += time.Since(begun)
	}
	return took, nil
}

// arrivalBatch returns the nth batch of order-logs, each message with so many new entries.
func arrivalBatch(n, perMessage int) ([]string, error) {
	bodies := make([]string, queueTrigger(manifest.QueueArrival).BatchSize)
	now := time.Now()
	for i := range bodies {
		number := n*len(bodies) + i
		a := envelope.Arrival{Received: now}
		var random [10]byte
		binary.BigEndian.PutUint64(random[2:], uint64(number)*0x9E3779B97F4A7C15) // in no order
		a.Message = audit.MessageID(audit.NewEntryID(now, random))
		for j := range perMessage {
			a.IDs = append(a.IDs, audit.DeriveEntryID(benchTenant, now, fmt.Sprint(number, j)))
		}
		packed, err := envelope.PackArrivals(benchTenant, []envelope.Arrival{a})
		if err != nil {
			return nil, err
		}
		bodies[i] = packed[0]
	}
	return bodies, nil
}

// measureWalk prints a log with `ocelot pull`, again and again as cron does, while entries arrive.
func measureWalk(ctx context.Context, b *bench) (figures []figure, err error) {
	s, err := b.startFresh(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { _ = s.abandon() }() // does nothing after end
	w := &walk{program: filepath.Join(b.folder, "ocelot"), cursor: filepath.Join(b.folder, "walk.cursor"), service: s, printed: map[string]int{}}
	if err := w.store(ctx, b.entries); err != nil {
		return nil, err
	}
	group, groupCtx := errgroup.WithContext(ctx)
	begun, sending := time.Now(), time.Duration(0)
	w.atEnd, w.allSent = make(chan struct{}), make(chan struct{})
	group.Go(func() (err error) {
		defer close(w.allSent)
		sending, err = w.arrive(groupCtx)
		return err
	})
	group.Go(func() error { return w.readAll(groupCtx) })
	if err := group.Wait(); err != nil {
		return nil, err
	}
	if _, err := s.end(); err != nil {
		return nil, err
	}
	return w.figures(b.entries, sending, w.reached.Sub(begun)), nil
}

// walk is one reader of the arrival log.
type walk struct {
	program, cursor string
	service         *service
	sent            atomic.Int64
	atEnd, allSent  chan struct{}  // closed once the reader has reached the end, and nothing more is sent
	printed         map[string]int // how often, by request id
	reached         time.Time      // when the reader reached the end for the first time
	walked          int            // printed until then
}

func requestOf(n int64) string { return fmt.Sprintf("walk-%d", n) }

// store sends the entries that are there before the walk.
func (w *walk) store(ctx context.Context, entries int) error {
	load := newCorpus(8)
	for range entries / bulkSize {
		if err := w.send(ctx, load); err != nil {
			return err
		}
	}
	return w.service.awaitCount(ctx, entries)
}

func (w *walk) send(ctx context.Context, load *corpus) error {
	texts := make([][]byte, bulkSize)
	for i := range texts {
		texts[i] = load.entryOf(requestOf(w.sent.Load() + int64(i)))
	}
	bulk := slices.Concat([]byte{'['}, bytes.Join(texts, []byte{','}), []byte{']'})
	if err := w.service.postUntilAccepted(ctx, "/logs/bulk", bulk); err != nil {
		return err
	}
	w.sent.Add(bulkSize)
	return nil
}

// arrive sends walkRate entries a second until the reader has reached the end of the log, and for
// walkTime at least. It returns for how long. The timestamps begin where those of store began, so
// all of them are older than what was stored last.
func (w *walk) arrive(ctx context.Context) (time.Duration, error) {
	load, begun := newCorpus(9), time.Now()
	ticker := time.NewTicker(time.Second * bulkSize / walkRate)
	defer ticker.Stop()
	for atEnd := w.atEnd; atEnd != nil || time.Since(begun) < walkTime; {
		if err := w.send(ctx, load); err != nil {
			return 0, err
		}
		select {
		case <-atEnd:
			atEnd = nil
		case <-ticker.C:
		case <-ctx.Done():
			return 0, context.Cause(ctx)
		}
	}
	return time.Since(begun), nil
}

// readAll runs `ocelot pull` until everything that was sent is printed, or nothing more comes.
func (w *walk) readAll(ctx context.Context) error {
	for last := time.Now(); ; {
		before := len(w.printed)
		if err := w.pull(ctx); err != nil {
			return err
		}
		if len(w.printed) > before {
			last = time.Now()
		}
		if w.reached.IsZero() {
			w.reached, w.walked = time.Now(), len(w.printed)
			close(w.atEnd)
		}
		select {
		case <-w.allSent:
			if len(w.printed) >= int(w.sent.Load()) || time.Since(last) > walkStall {
				return nil
			}
		default:
		}
		if err := pauseFor(ctx, walkPause); err != nil {
			return err
		}
	}
}

// pull runs `ocelot pull` up to the end of the log, and counts what it prints.
func (w *walk) pull(ctx context.Context) error {
	cmd := exec.CommandContext(ctx, w.program, "pull", "--cursor-file", w.cursor)
	cmd.Env = append(os.Environ(), "OCELOT_URL="+w.service.url, "OCELOT_TOKEN="+w.service.token, "OCELOT_TENANT="+string(w.service.tenant))
	cmd.Stderr = w.service.log
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		return fmt.Errorf("start pull: %w", err)
	}
	counted := w.count(out)
	if err := errors.Join(counted, cmd.Wait()); err != nil {
		return fmt.Errorf("pull: %w", err)
	}
	return nil
}

// count counts the lines of one run.
func (w *walk) count(out io.Reader) error {
	lines := bufio.NewScanner(out)
	lines.Buffer(nil, audit.MaxEntryBytes)
	for lines.Scan() {
		var entry struct {
			RequestID string `json:"request_id"`
		}
		if err := json.Unmarshal(lines.Bytes(), &entry); err != nil {
			return err
		}
		w.printed[entry.RequestID]++
	}
	return lines.Err()
}

func (w *walk) figures(stored int, sending, walking time.Duration) []figure {
	missing, repeated := 0, 0
	for n := range w.sent.Load() {
		switch printed := w.printed[requestOf(n)]; {
		case printed == 0:
			missing++
		case printed > 1:
			repeated++
		}
	}
	arrived := int(w.sent.Load()) - stored
	how := fmt.Sprintf("`ocelot pull --cursor-file`, run again at the end of the log as cron does, over `ocelot dev`. %s entries are stored before, and %s arrive meanwhile in bulks of %d. "+
		"Those are older by their timestamps than what was stored last. Sender and reader share the cores.", thousands(stored), thousands(arrived), bulkSize)
	return []figure{
		atMost("walk by `ocelot pull` while entries arrive: entries that are missing or printed twice", "%.0f", float64(missing+repeated), 0, how),
		atLeast("… entries/s printed until the end of the log is reached", "%.0f", float64(w.walked)/walking.Seconds(), walkRate,
			fmt.Sprintf("More than the %s/s that arrive, or a reader would never reach the end.", thousands(walkRate))),
		noBound("… entries/s that arrived meanwhile", "", "%.0f", float64(arrived)/sending.Seconds()),
	}
}
