// Package restore brings entries back from the archive for a number of days. Service starts, shows and
// cancels restores, which are jobs. Runner does them. What a restore brings back is searchable, has no new
// place in the arrival log, and leaves again by itself.
package restore

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/jobs"
)

// Limits of a request.
const (
	MaxDays     = 365
	DefaultDays = 14
	// MaxOpen is how many restores of a tenant may be unfinished. They wait for each other, and one that
	// waits is not queued any more.
	MaxOpen = jobs.MaxQueued
)

// The service's own entries about restores.
const (
	actionCreate    = "restore.create"
	actionFinish    = "restore.finish"
	resourceRestore = "restore"
)

// ErrTooManyOpen says that the tenant has MaxOpen unfinished restores. It is an audit.ErrConflict.
var ErrTooManyOpen = fmt.Errorf("the tenant has %d unfinished restores: %w", MaxOpen, audit.ErrConflict)

// Request asks for a restore.
type Request struct {
	// From and To restrict it to From ≤ timestamp < To. They have whole milliseconds.
	From time.Time
	To   time.Time
	Days int // the entries leave again that many days after the request
	// IncludeCleaned says that what cleanups removed comes back too.
	IncludeCleaned bool
}

func (r *Request) validate() error {
	var faults []audit.FieldError
	add := func(pointer, code, format string, args ...any) {
		faults = append(faults, audit.FieldError{Pointer: pointer, Code: code, Detail: fmt.Sprintf(format, args...)})
	}
	if r.From.IsZero() {
		add("/from", "required", "is required")
	}
	switch {
	case r.To.IsZero():
		add("/to", "required", "is required")
	case !r.From.Before(r.To):
		add("/to", "out_of_range", "must be later than from")
	}
	if r.Days < 1 || r.Days > MaxDays {
		add("/days", "out_of_range", "must be from 1 to %d", MaxDays)
	}
	return audit.InvalidFields(faults)
}

// Restore is a restore as callers see it. Count of its job counts the entries that came back.
type Restore struct {
	jobs.Job
	Request
	// Until is when the entries leave again.
	Until time.Time
	// Expired and Cleaned count the archived entries that did not come back, because they have expired or
	// because a cleanup had removed them.
	Expired int64
	Cleaned int64
}

// checkpoint says how far a restore is.
type checkpoint struct {
	From           time.Time `json:"from"`
	To             time.Time `json:"to"`
	Days           int       `json:"days"`
	IncludeCleaned bool      `json:"include_cleaned,omitempty"`
	Until          time.Time `json:"until"`
	// Checked says that every part was compared with the manifest, and that the tenant's record has the
	// restore. Rows are the entries of the parts.
	Checked bool  `json:"checked,omitempty"`
	Rows    int64 `json:"rows,omitempty"`
	// Month is a time of the month that is being read; zero: none yet. The parts up to the number Part are
	// done, and After is the last id that is done of the next part.
	Month time.Time     `json:"month,omitzero"`
	Part  int           `json:"part,omitempty"`
	After audit.EntryID `json:"after,omitzero"`
	// Read are the entries that were read, each once, since Checked.
	Read    int64 `json:"read,omitempty"`
	Count   int64 `json:"count,omitempty"`
	Expired int64 `json:"expired,omitempty"`
	Cleaned int64 `json:"cleaned,omitempty"`
	// EntryID is that of the entry about the end. It is random, so that no client can take it.
	EntryID audit.EntryID `json:"entry_id,omitzero"`
}

func ofJob(job jobs.Job) (Restore, error) {
	var at checkpoint
	if err := json.Unmarshal(job.Checkpoint, &at); err != nil {
		return Restore{}, fmt.Errorf("read restore %s of %s: %w", job.ID, job.Tenant, err)
	}
	return Restore{
		Job: job, Request: Request{From: at.From, To: at.To, Days: at.Days, IncludeCleaned: at.IncludeCleaned},
		Until: at.Until, Expired: at.Expired, Cleaned: at.Cleaned,
	}, nil
}
