// Package cleanup removes entries that a caller has selected before their end. Service previews and
// starts cleanups, which are jobs. Runner does them. A cleanup passes over what a legal hold covers, and
// over the service's own entries.
package cleanup

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/access"
	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/hold"
	"github.com/ocelot-audit/ocelot/pkg/jobs"
	"github.com/ocelot-audit/ocelot/pkg/search"
	"github.com/ocelot-audit/ocelot/pkg/walk"
)

// The names of a cleanup's own query parameters.
const (
	ParamBefore = "before"
	ParamDryRun = "dry_run" // read by the caller of Service
	// ParamArchive, read by the caller too, asks that the entries are removed from the archive as well.
	ParamArchive = "archive"
)

// The service's own entries about cleanups.
const (
	actionCreate    = "cleanup.create"
	actionFinish    = "cleanup.finish"
	resourceCleanup = "cleanup"
)

// Entries selects and counts entries; see search.Service.
type Entries interface {
	walk.Pages
	Count(ctx context.Context, selection search.Selection) (int64, error)
}

// Service previews and starts cleanups.
type Service struct {
	Jobs     *jobs.Service
	Entries  Entries
	Holds    hold.Reader
	Texts    walk.Sealer
	Recorder audit.Recorder
	Now      func() time.Time
	Random   func([]byte)
}

// MaxOpen is how many cleanups of a tenant may be unfinished. They wait for each other, and one that
// waits is not queued any more.
const MaxOpen = jobs.MaxQueued

// ErrTooManyOpen says that the tenant has MaxOpen unfinished cleanups.
var ErrTooManyOpen = errors.New("too many unfinished cleanups")

// Preview is what a cleanup would do now.
type Preview struct {
	Count          int64     // of the entries to remove
	Oldest, Newest time.Time // their timestamps; zero: there are none
	Held           int64     // further entries, which a legal hold keeps
}

// CheckValues returns an *audit.ValidationError if a parameter is there without a value that counts as
// left out without one. A script whose variable is empty would remove what it meant to keep.
func CheckValues(query url.Values) error {
	var faults []audit.FieldError
	for _, name := range []string{search.ParamQuery, search.ParamFrom, search.ParamTo, ParamDryRun, ParamArchive} {
		if query.Has(name) && strings.TrimSpace(query.Get(name)) == "" {
			faults = append(faults, audit.FieldError{Pointer: "?" + name, Code: "required", Detail: "must have a value, or be left out: a cleanup takes no empty one"})
		}
	}
	return audit.InvalidFields(faults)
}

// selects reads the parameters of a cleanup, as of a time. It selects what lists show. Faulty parameters are an
// *audit.ValidationError.
func selects(entries walk.Pages, at time.Time, tenant audit.Tenant, scope access.Scope, query url.Values) (search.Selection, error) {
	selection, err := entries.SelectAt(at, tenant, scope, query, ParamBefore, ParamDryRun)
	return narrow(selection, err, query)
}

// selectsStored is selects for a cleanup of the archive too. It also selects what no list shows any more, because
// it has expired or is older than the searchable days: the database would have that archived again.
func selectsStored(entries walk.Pages, tenant audit.Tenant, scope access.Scope, query url.Values) (search.Selection, error) {
	selection, err := entries.SelectStored(tenant, scope, query, ParamBefore, ParamDryRun)
	return narrow(selection, err, query)
}

// narrow restricts a selection to what a cleanup can remove.
func narrow(selection search.Selection, selectErr error, query url.Values) (search.Selection, error) {
	before, err := search.TimeParam(query, ParamBefore)
	if err == nil && before.IsZero() {
		err = audit.Invalid("?"+ParamBefore, "required", "must be given: entries with a timestamp before it are removed")
	}
	if err := audit.MergeInvalid(err, selectErr); err != nil {
		return search.Selection{}, err
	}
	own := audit.Equals{Field: audit.FieldSubmittedBy, Values: []string{audit.SubmittedByService}}
	return selection.Until(before).And(audit.Not{Expr: own}).Reversed(), nil // the oldest first
}

// Preview tells what a cleanup with these parameters would do, within the caller's scope. Faulty ones
// are an *audit.ValidationError.
func (s *Service) Preview(ctx context.Context, tenant audit.Tenant, scope access.Scope, query url.Values) (Preview, error) {
	selection, err := selects(s.Entries, s.Now(), tenant, scope, query)
	if err != nil {
		return Preview{}, err
	}
	standing, err := s.Holds.Standing(ctx, tenant.ID)
	if err != nil {
		return Preview{}, fmt.Errorf("preview a cleanup of %s: %w", tenant.ID, err)
	}
	var p Preview
	if len(standing) > 0 {
		held := standing.Expr()
		if p.Held, err = s.Entries.Count(ctx, selection.And(held)); err != nil {
			return Preview{}, err
		}
		selection = selection.And(audit.Not{Expr: held})
	}
	if p.Count, err = s.Entries.Count(ctx, selection); err != nil || p.Count == 0 {
		return p, err
	}
	p.Oldest, p.Newest, err = walk.Ends(ctx, s.Entries, selection)
	return p, err
}

// Create starts a cleanup with these parameters, within the caller's scope; inArchive says that it is one of the
// archive too. It records it first, so the log can have one that was not started. It returns an
// *audit.ValidationError, ErrTooManyOpen, or jobs.ErrTooManyQueued.
func (s *Service) Create(ctx context.Context, by access.Principal, tenant audit.Tenant, scope access.Scope, query url.Values, inArchive bool) (jobs.Job, error) {
	if _, err := selects(s.Entries, s.Now(), tenant, scope, query); err != nil {
		return jobs.Job{}, err
	}
	if err := walk.CheckSize(query); err != nil {
		return jobs.Job{}, err
	}
	if err := s.checkOpen(ctx, tenant.ID); err != nil {
		return jobs.Job{}, err
	}
	var random [16]byte
	s.Random(random[:])
	job := jobs.Job{ID: hex.EncodeToString(random[:]), Kind: jobs.KindCleanup, Tenant: tenant.ID, CreatedBy: by.Subject, Scope: &scope}
	if inArchive {
		job.ArchiveCount = new(int64)
	}
	filters, err := walk.SealFilters(ctx, s.Texts, &job, query)
	if err == nil {
		job.Checkpoint, err = json.Marshal(checkpoint{Filters: filters, InArchive: inArchive})
	}
	if err != nil {
		return jobs.Job{}, fmt.Errorf("clean up entries of %s: %w", tenant.ID, err)
	}
	if err := s.record(ctx, tenant, &job, query, inArchive); err != nil {
		return jobs.Job{}, err
	}
	return s.Jobs.Start(ctx, job)
}

func (s *Service) checkOpen(ctx context.Context, tenant audit.TenantID) error {
	full, err := s.Jobs.Full(ctx, tenant, jobs.KindCleanup, MaxOpen)
	if err != nil {
		return fmt.Errorf("count the cleanups of %s: %w", tenant, err)
	}
	if full {
		return ErrTooManyOpen
	}
	return nil
}

// record writes who cleans up. It names the parameters that narrow the cleanup, and not their values,
// which can be personal data.
func (s *Service) record(ctx context.Context, tenant audit.Tenant, job *jobs.Job, query url.Values, inArchive bool) error {
	about, err := json.Marshal(struct {
		Before  string   `json:"before"`
		Filters []string `json:"filters,omitempty"`
		Archive bool     `json:"archive,omitempty"`
	}{query.Get(ParamBefore), walk.FilterNames(query, ParamBefore), inArchive})
	if err != nil {
		return fmt.Errorf("record a cleanup of %s: %w", tenant.ID, err)
	}
	return audit.Record(ctx, s.Recorder, tenant, audit.Entry{
		UserID: job.CreatedBy, Action: actionCreate, ResourceType: resourceCleanup, ResourceID: job.ID, Metadata: about,
	})
}
