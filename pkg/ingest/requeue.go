package ingest

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/entryjson"
	"github.com/ocelot-audit/ocelot/pkg/envelope"
)

// Requeuer sends entries to the ingest queue that were saved from the search index, because the system of record has
// lost them. Persister stores them as they were. It leaves those that are stored as they are.
type Requeuer struct {
	Queue Queue
	// Random fills b with random bytes, for the ids of messages.
	Random func(b []byte)
	Now    func() time.Time
	// Unreadable gets the number of each line that is no stored entry, and what is wrong with it.
	Unreadable func(line int, err error)
}

// Requeued counts the lines of a Requeuer.
type Requeued struct {
	Sent int `json:"sent"`
	// Restored are passed over: the archive has brought them back, and still has them.
	Restored   int `json:"restored"`
	Unreadable int `json:"unreadable"`
}

const (
	// maxRequeuedLine bounds a line. An entry has up to audit.MaxObjectBytes, and twice as many as text in JSON,
	// where a backslash stands before each quote and each backslash.
	maxRequeuedLine = 3 * audit.MaxObjectBytes
	// maxRequeuedText bounds the text of the entries that are read and not sent yet.
	maxRequeuedText = 8 << 20
)

// Send sends the entries of all lines, which are documents of the search index with their tenant_id and entry. After
// an error any of them may be in the queue, and the call can be repeated.
func (r *Requeuer) Send(ctx context.Context, in io.Reader) (Requeued, error) {
	run := &requeuing{Requeuer: r, waiting: map[audit.TenantID]*envelope.Packer{}}
	lines, number := bufio.NewScanner(in), 0
	lines.Buffer(nil, maxRequeuedLine)
	for lines.Scan() {
		number++
		if err := run.add(lines.Bytes()); err != nil {
			run.found.Unreadable++
			r.Unreadable(number, err)
		}
		if run.size < maxRequeuedText {
			continue
		}
		if err := run.flush(ctx); err != nil {
			return run.found, fmt.Errorf("the lines up to %d: %w", number, err)
		}
	}
	if err := run.flush(ctx); err != nil {
		return run.found, fmt.Errorf("the lines up to %d: %w", number, err)
	}
	if err := lines.Err(); err != nil {
		return run.found, fmt.Errorf("read the lines after %d: %w", number, err)
	}
	return run.found, nil
}

// requeuing is one call of Send.
type requeuing struct {
	*Requeuer
	found   Requeued
	waiting map[audit.TenantID]*envelope.Packer
	size    int // of the text of what waits, in bytes
}

// The faults of lines.
var (
	errNoDocument = errors.New("is not a JSON object with the texts tenant_id and entry")
	errNoStored   = errors.New("has not the tenant, id, timestamp and digest of a stored entry")
)

// add adds the entry of a line to what waits.
func (r *requeuing) add(line []byte) error {
	var document struct {
		Tenant audit.TenantID `json:"tenant_id"`
		Entry  string         `json:"entry"`
	}
	if err := json.Unmarshal(line, &document); err != nil {
		return errNoDocument
	}
	tenant, err := audit.ParseTenantID(string(document.Tenant))
	if err != nil {
		return errNoDocument
	}
	e, err := entryjson.ParseStored([]byte(document.Entry))
	switch {
	case err != nil:
		return err
	case !envelope.IsEntryOf(&e, tenant) || e.Digest == audit.Digest{}:
		return errNoStored
	case !e.RestoredUntil.IsZero():
		r.found.Restored++
		return nil
	}
	p := r.waiting[tenant]
	if p == nil {
		p = &envelope.Packer{Tenant: tenant, Random: r.Random, Time: r.Now()}
		r.waiting[tenant] = p
	}
	p.Add(&e)
	r.size += len(document.Entry)
	return nil
}

// flush sends what waits.
func (r *requeuing) flush(ctx context.Context) error {
	for tenant, p := range r.waiting {
		bodies, err := p.Messages()
		if err == nil {
			err = r.Queue.Send(ctx, tenant, bodies)
		}
		if err != nil {
			return fmt.Errorf("send %d entries of %s: %w", p.Len(), tenant, err)
		}
		r.found.Sent += p.Len()
		delete(r.waiting, tenant)
	}
	r.size = 0
	return nil
}
