// Package walk goes through the entries that a job reads for who started it: those that a filter
// selects, within the caller's scope, and that were received before the job was created.
package walk

import (
	"context"
	"encoding/json"
	"errors"
	"net/url"
	"slices"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/access"
	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/jobs"
	"github.com/ocelot-audit/ocelot/pkg/protect"
	"github.com/ocelot-audit/ocelot/pkg/search"
)

const (
	// settleTime is how long a walk waits after its job was created. What was accepted just before
	// is stored by then, unless there is a backlog.
	settleTime = 2 * time.Second
	// lagPause is the time between two looks at an index that lacks entries.
	lagPause = 5 * time.Second
	// copiesPause is longer than the interval at which copies of an index show what was written. The copy that
	// answers the first page can be later than the one that was compared.
	copiesPause = 2 * time.Second
)

// The reasons of jobs that fail, for callers.
const (
	reasonDeleted    = "the tenant is being deleted"
	reasonParameters = "this version of the service does not take its parameters: create it again"
)

// Pages reads the entries. Unlike a list it waits for the index; see search.Service.
type Pages interface {
	SelectAt(at time.Time, tenant audit.Tenant, scope access.Scope, query url.Values, others ...string) (search.Selection, error)
	SelectStored(tenant audit.Tenant, scope access.Scope, query url.Values, others ...string) (search.Selection, error)
	Page(ctx context.Context, selection search.Selection, from *audit.Position, limit int) (audit.Page, error)
}

// Lag tells whether the index has every entry that was received before a time; see search.Lag.
type Lag interface {
	Behind(ctx context.Context, tenant *audit.Tenant, received, from, to time.Time) (time.Time, error)
}

// Tenants finds tenants. It returns audit.ErrNotFound if none exists.
type Tenants interface {
	Tenant(ctx context.Context, id audit.TenantID) (audit.Tenant, error)
}

// Sealer encrypts a text that a record of a tenant keeps; see protect.Keyring.
type Sealer interface {
	SealText(ctx context.Context, tenant audit.TenantID, place string, text []byte) ([]byte, error)
}

// Opener decrypts what a Sealer has encrypted; see protect.Keyring. It returns protect.ErrDestroyed
// after the tenant's deletion.
type Opener interface {
	OpenText(ctx context.Context, tenant audit.TenantID, place string, sealed []byte) ([]byte, error)
}

// place names the record of a job to a Sealer.
func place(job *jobs.Job) string { return string(job.Kind) + " " + job.ID }

// MaxParameters is how large the names and values of a job's parameters may be together, in bytes. The
// record of the job keeps them.
const MaxParameters = 64 << 10

// CheckSize returns an *audit.ValidationError if the parameters of a job are too large.
func CheckSize(query url.Values) error {
	size := 0
	for name, values := range query {
		for _, value := range values {
			size += len(name) + len(value)
		}
	}
	if size > MaxParameters {
		return audit.Invalid("?", "too_large", "must have at most %d KiB of parameters, because a job keeps them", MaxParameters>>10)
	}
	return nil
}

// SealFilters returns the parameters of a selection as the job keeps them: encrypted, because their
// values can be those of encrypted fields.
func SealFilters(ctx context.Context, texts Sealer, job *jobs.Job, filters url.Values) ([]byte, error) {
	if len(filters) == 0 {
		return nil, nil
	}
	text, err := json.Marshal(filters)
	if err != nil {
		return nil, err
	}
	return texts.SealText(ctx, job.Tenant, place(job), text)
}

// FilterNames returns the names of the parameters without the others. The values can be personal data,
// which no log is to have.
func FilterNames(query url.Values, others ...string) []string {
	var names []string
	for name := range query {
		if !slices.Contains(others, name) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// Reader reads for the jobs of one kind.
type Reader struct {
	Entries Pages
	Lag     Lag // nil: the index is never behind
	Tenants Tenants
	Texts   Opener
	Now     func() time.Time
}

// Place is how far a walk is. It is part of the checkpoint of its job.
type Place struct {
	// Indexed is up to which timestamp the index was seen to have everything.
	Indexed time.Time `json:"indexed,omitzero"`
	// Position is the last entry that is done, and Ended says that no more follow.
	Position *audit.Position `json:"position,omitempty"`
	Ended    bool            `json:"ended,omitempty"`
	// First and Last are the timestamps of the first entry and the last, for the progress.
	First time.Time `json:"first,omitzero"`
	Last  time.Time `json:"last,omitzero"`
}

// CheckTenant returns the tenant's record. It returns a *jobs.FailedError if the tenant is being deleted.
func (r *Reader) CheckTenant(ctx context.Context, id audit.TenantID) (audit.Tenant, error) {
	tenant, err := r.Tenants.Tenant(ctx, id)
	return jobs.LiveTenant(tenant, err, reasonDeleted)
}

// Filters returns the parameters that SealFilters was given. It returns a *jobs.FailedError if the
// tenant is being deleted.
func (r *Reader) Filters(ctx context.Context, job *jobs.Job, sealed []byte) (url.Values, error) {
	filters := url.Values{}
	if len(sealed) == 0 {
		return filters, nil
	}
	text, err := r.Texts.OpenText(ctx, job.Tenant, place(job), sealed)
	if errors.Is(err, protect.ErrDestroyed) {
		return nil, &jobs.FailedError{Reason: reasonDeleted}
	}
	if err == nil {
		err = json.Unmarshal(text, &filters)
	}
	return filters, err
}

// Unknown returns an error as a *jobs.FailedError if it is about parameters: a later release takes them
// no more.
func Unknown(err error) error {
	if invalid := (*audit.ValidationError)(nil); errors.As(err, &invalid) {
		return &jobs.FailedError{Reason: reasonParameters}
	}
	return err
}

// Settle returns how long to wait until what was accepted before the job was created is stored.
func (r *Reader) Settle(job *jobs.Job) time.Duration {
	return max(0, job.CreatedAt.Add(settleTime).Sub(r.Now()))
}

// Wait returns how long to wait until the index may have what was stored when the job was created.
// It saves how far the index was seen to be by save.
func (r *Reader) Wait(ctx context.Context, job *jobs.Job, tenant *audit.Tenant, selection search.Selection, at *Place, save func() error) (time.Duration, error) {
	if settle := r.Settle(job); settle > 0 {
		return settle, nil
	}
	from, to := selection.Range()
	if end := job.CreatedAt.Add(audit.MaxLead); to.IsZero() || to.After(end) {
		to = end
	}
	if from.After(at.Indexed) {
		at.Indexed = from
	}
	return AwaitIndex(ctx, r.Lag, tenant, job.CreatedAt, to, &at.Indexed, save)
}

// AwaitIndex returns how long to wait until the index may have every entry of the tenant that was received
// before a time and has a timestamp before another. indexed is up to which timestamp it was seen to have
// them; what is seen now is saved by save. The call after the one that sees them all returns 0. A nil lag
// says that entries are indexed as they are stored.
func AwaitIndex(ctx context.Context, lag Lag, tenant *audit.Tenant, received, to time.Time, indexed *time.Time, save func() error) (time.Duration, error) {
	if lag == nil || !indexed.Before(to) {
		return 0, nil
	}
	seen, err := lag.Behind(ctx, tenant, received, *indexed, to)
	if err != nil {
		return 0, err
	}
	*indexed = seen
	if err := save(); err != nil {
		return 0, err
	}
	if seen.Before(to) {
		return lagPause, nil
	}
	return copiesPause, nil
}

// Begin finds the first entry and the last.
func (r *Reader) Begin(ctx context.Context, selection search.Selection, at *Place) (err error) {
	at.First, at.Last, err = Ends(ctx, r.Entries, selection)
	return err
}

// Ends returns the timestamps of the first entry and the last, zero if there is none.
func Ends(ctx context.Context, entries Pages, selection search.Selection) (first, last time.Time, err error) {
	if first, err = firstTime(ctx, entries, selection); err == nil {
		last, err = firstTime(ctx, entries, selection.Reversed())
	}
	return first, last, err
}

func firstTime(ctx context.Context, entries Pages, selection search.Selection) (time.Time, error) {
	page, err := entries.Page(ctx, selection, nil, 1)
	if err != nil || len(page.Entries) == 0 {
		return time.Time{}, err
	}
	return page.Entries[0].Timestamp, nil
}

// Show sets the job's progress: how much of the time is done.
func (p *Place) Show(job *jobs.Job, at time.Time) {
	if whole := p.Last.Sub(p.First).Abs(); whole > 0 {
		job.Progress = max(job.Progress, min(0.99, float64(at.Sub(p.First).Abs())/float64(whole)))
	}
}
