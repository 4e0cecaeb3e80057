package export

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/ocelot-audit/ocelot/pkg/access"
	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/entryjson"
	"github.com/ocelot-audit/ocelot/pkg/hold"
	"github.com/ocelot-audit/ocelot/pkg/jobs"
	"github.com/ocelot-audit/ocelot/pkg/search"
	"github.com/ocelot-audit/ocelot/pkg/walk"
)

const (
	// FileAge is how long the file of an export can be downloaded after the export has succeeded.
	FileAge = 7 * 24 * time.Hour
	// URLAge is how long a URL of the file is valid.
	URLAge = 15 * time.Minute
)

// The service's own entries about exports that are jobs.
const (
	actionCreate   = "export.create"
	actionFinish   = "export.finish"
	resourceExport = "export"
)

// MaxOpen is how many exports of a tenant may be unfinished. One that has begun is not queued any more, and
// takes a worker in turn with those of others.
const MaxOpen = jobs.MaxQueued

// ErrTooManyOpen says that the tenant has MaxOpen unfinished exports. It is an audit.ErrConflict.
var ErrTooManyOpen = fmt.Errorf("the tenant has %d unfinished exports: %w", MaxOpen, audit.ErrConflict)

// Request is what a job exports. It is part of the job's checkpoint.
type Request struct {
	Options url.Values `json:"options,omitempty"` // the parameters of Params
	// Filters are the other parameters, sealed: their values can be those of encrypted fields.
	Filters []byte `json:"filters,omitempty"`
	// Reason is why encrypted values are revealed, as the tenant's log has it; "": the file has masks.
	Reason string `json:"reason,omitempty"`
}

// Export is an export that is a job, as callers see it.
type Export struct {
	jobs.Job
	// Bytes and SHA256 are those of the file, once it is complete. SHA256 is hexadecimal. Those of a file
	// with encrypted values have values only beside a URL: guesses of the values can be tested with them.
	Bytes  int64
	SHA256 string
	// FileExpiresAt is when the file is removed, zero while it is not complete. Expired says that
	// it was.
	FileExpiresAt time.Time
	Expired       bool
	// Reveals says that the file has encrypted values in plain, and Removed that an erasure removed it.
	Reveals, Removed bool
	// SearchableFrom is the earliest timestamp of the file because of the tenant's searchable_days; zero: it
	// has no such bound, or the job has not begun.
	SearchableFrom time.Time
	// URL downloads the file until URLExpiresAt. It is "" if there is no file, and in lists.
	URL          string
	URLExpiresAt time.Time
	// Lacking are the permissions that the caller lacks for a URL.
	Lacking []access.Permission

	options Options
	at      checkpoint
}

// Texts encrypts what the record of a job keeps, and decrypts it.
type Texts interface {
	walk.Sealer
	walk.Opener
}

// Jobs starts, shows and cancels exports that are jobs.
type Jobs struct {
	Jobs     *jobs.Service
	Entries  Selector
	Holds    HoldReader
	Files    Presigner
	Texts    Texts
	Recorder audit.Recorder
	Now      func() time.Time
	Random   func([]byte)
}

// Create starts the export that the parameters describe, within the caller's scope. It records it
// first, so the log can have one that was not started. It returns an *audit.ValidationError, ErrTooManyOpen, or
// jobs.ErrTooManyQueued. An export by a legal hold can also return an *access.DeniedError, audit.ErrForbidden
// for a credential that is restricted to resources, ErrNoHold, or hold.ErrReleased.
func (s *Jobs) Create(ctx context.Context, by access.Principal, tenant audit.Tenant, scope access.Scope, query url.Values) (Export, error) {
	return s.create(ctx, by, tenant, scope, query, "")
}

func (s *Jobs) create(ctx context.Context, by access.Principal, tenant audit.Tenant, scope access.Scope, query url.Values, reason string) (Export, error) {
	request := Request{Options: url.Values{}, Reason: reason}
	options, _, err := parse(s.Entries, tenant, scope, query, request.further())
	if err != nil {
		return Export{}, err
	}
	if err := walk.CheckSize(query); err != nil {
		return Export{}, err
	}
	if err := checkHold(ctx, s.Holds, by, tenant.ID, options); err != nil {
		return Export{}, fmt.Errorf("export entries of %s: %w", tenant.ID, err)
	}
	full, err := s.Jobs.Full(ctx, tenant.ID, jobs.KindExport, MaxOpen)
	if err == nil && full {
		err = ErrTooManyOpen
	}
	if err != nil {
		return Export{}, fmt.Errorf("export entries of %s: %w", tenant.ID, err)
	}
	var random [16]byte
	s.Random(random[:])
	job := jobs.Job{ID: hex.EncodeToString(random[:]), Kind: jobs.KindExport, Tenant: tenant.ID, CreatedBy: by.Subject, Scope: &scope}
	if job.Checkpoint, err = s.firstCheckpoint(ctx, &job, request, query); err != nil {
		return Export{}, fmt.Errorf("export entries of %s: %w", tenant.ID, err)
	}
	if err := s.record(ctx, tenant, &job, options, query, reason); err != nil {
		return Export{}, err
	}
	if job, err = s.Jobs.Start(ctx, job); err != nil {
		return Export{}, err
	}
	return s.ofJob(job)
}

// firstCheckpoint returns the request as the job keeps it.
func (s *Jobs) firstCheckpoint(ctx context.Context, job *jobs.Job, request Request, query url.Values) (text []byte, err error) {
	at := checkpoint{Request: request}
	filters := url.Values{}
	for name, values := range query {
		if slices.Contains(Params(), name) {
			at.Request.Options[name] = values
		} else {
			filters[name] = values
		}
	}
	if at.Request.Filters, err = walk.SealFilters(ctx, s.Texts, job, filters); err != nil {
		return nil, err
	}
	return json.Marshal(at)
}

// CreateBy is Create with the parameters as the members of a JSON object, to which the pointers of
// faults refer. bom may be true or false, and fields an array. reason is why the file is to have encrypted
// values in plain, which the caller must be allowed to see; "": it has masks. The caller reads the members
// with the other names.
func (s *Jobs) CreateBy(ctx context.Context, by access.Principal, tenant audit.Tenant, scope access.Scope, members map[string]jsontext.Value, reason string, others ...string) (Export, error) {
	if bom := members[ParamBOM]; bom.Kind() == jsontext.KindTrue || bom.Kind() == jsontext.KindFalse {
		members[ParamBOM] = entryjson.Quote(string(bom))
	}
	query, err := search.QueryOf(members, append(Params(), others...)...)
	if err != nil {
		return Export{}, search.InBody(err)
	}
	if fields := query[ParamFields]; len(fields) > 1 {
		query.Set(ParamFields, strings.Join(fields, ","))
	}
	export, err := s.create(ctx, by, tenant, scope, query, reason)
	return export, search.InBody(err)
}

// record writes who exports, and the names of the parameters that narrow the export.
func (s *Jobs) record(ctx context.Context, tenant audit.Tenant, job *jobs.Job, o Options, query url.Values, reason string) error {
	about, err := describe(o, query, nil, reason)
	if err != nil {
		return fmt.Errorf("record an export of %s: %w", tenant.ID, err)
	}
	e := audit.Entry{UserID: job.CreatedBy, Action: actionCreate, ResourceType: resourceExport, ResourceID: job.ID, Metadata: about}
	if reason != "" {
		e.Severity = audit.SeverityWarning
	}
	return audit.Record(ctx, s.Recorder, tenant, e)
}

// ofJob returns the export of a job, without its URL.
func (s *Jobs) ofJob(job jobs.Job) (Export, error) {
	var at checkpoint
	if err := json.Unmarshal(job.Checkpoint, &at); err != nil {
		return Export{}, fmt.Errorf("read export %s of %s: %w", job.ID, job.Tenant, err)
	}
	options, err := at.Request.read()
	if err != nil {
		return Export{}, fmt.Errorf("read the options of export %s of %s: %w", job.ID, job.Tenant, err)
	}
	export := Export{Job: job, options: options, at: at, SearchableFrom: at.SearchableFrom, Reveals: at.Request.reveals(), Removed: at.RemovedBy != ""}
	if job.State == jobs.StateSucceeded {
		if !export.Reveals {
			export.Bytes, export.SHA256 = at.Bytes, at.SHA256
		}
		export.FileExpiresAt = job.FinishedAt.Add(FileAge)
		export.Expired = !s.Now().Before(export.FileExpiresAt)
	}
	return export, nil
}

// List returns up to limit exports of the tenant that the caller may see, the newest first, and
// whether more follow. It leaves out those of entries outside the caller's scope.
func (s *Jobs) List(ctx context.Context, by access.Principal, tenant audit.TenantID, after *jobs.Position, limit int) ([]Export, bool, error) {
	list, more, err := s.Jobs.List(ctx, by, tenant, jobs.Filter{Kinds: []jobs.Kind{jobs.KindExport}}, after, limit)
	if err != nil {
		return nil, false, err
	}
	exports, err := jobs.WithCheckpoints(ctx, s.Jobs.Store, list, func(job jobs.Job) (Export, error) {
		export, err := s.ofJob(job)
		export.at, export.Checkpoint = checkpoint{}, nil // a list of large ones would not fit into a process
		return export, err
	})
	return exports, more, err
}

// Export returns an export of the tenant, with a new URL if there is a file and the caller could have made
// the export. It returns audit.ErrNotFound if none exists, or if it has entries outside the caller's scope.
// Each URL of a revealed export is recorded in the tenant's log first.
func (s *Jobs) Export(ctx context.Context, by access.Principal, tenant audit.Tenant, id string) (Export, error) {
	job, err := s.Jobs.Job(ctx, by, tenant.ID, id)
	if err == nil && job.Kind != jobs.KindExport {
		err = audit.ErrNotFound
	}
	if err != nil {
		return Export{}, fmt.Errorf("export %s of %s: %w", id, tenant.ID, err)
	}
	export, err := s.ofJob(job)
	if err != nil {
		return Export{}, err
	}
	if export.FileExpiresAt.IsZero() || export.Expired || export.Removed {
		return export, nil
	}
	if export.Lacking = export.lacking(by); len(export.Lacking) > 0 {
		return export, nil
	}
	if export.Reveals {
		if err := s.reveal(ctx, by, tenant, &export); err != nil {
			return Export{}, err
		}
	}
	return export, s.presign(ctx, &export)
}

// reveal shows the digests of a file with encrypted values in plain to a caller who gets a URL of it, which
// it records first.
func (s *Jobs) reveal(ctx context.Context, by access.Principal, tenant audit.Tenant, e *Export) error {
	if err := e.at.openDigests(ctx, s.Texts, &e.Job); err != nil {
		return fmt.Errorf("export %s of %s: %w", e.ID, tenant.ID, err)
	}
	if err := s.recordURL(ctx, by, tenant, e); err != nil {
		return err
	}
	e.Bytes, e.SHA256 = e.at.Bytes, e.at.SHA256
	return nil
}

// recordURL writes who gets a URL of a file with encrypted values in plain.
func (s *Jobs) recordURL(ctx context.Context, by access.Principal, tenant audit.Tenant, e *Export) error {
	record := e.at.Revealed.Record(by.Subject, e.at.Request.Reason)
	record.ResourceType, record.ResourceID = resourceExport, e.ID
	return audit.Record(ctx, s.Recorder, tenant, record)
}

// lacking returns the permissions that a caller lacks to make the same export, beside access.LogsExport. A
// credential that is restricted to resources cannot use access.HoldsRead.
func (e *Export) lacking(by access.Principal) (lacking []access.Permission) {
	if e.options.Hold != "" && !hold.MayRead(by, e.Tenant) {
		lacking = append(lacking, access.HoldsRead)
	}
	if e.Reveals && !by.Has(e.Tenant, access.LogsReveal) {
		lacking = append(lacking, access.LogsReveal)
	}
	return lacking
}

// presign makes a URL of the file, which ends before the file does.
func (s *Jobs) presign(ctx context.Context, export *Export) error {
	now := s.Now().UTC().Truncate(time.Second)
	age := min(URLAge, export.FileExpiresAt.Sub(now).Truncate(time.Second))
	if age < time.Second {
		return nil
	}
	name := filename(export.Tenant, export.CreatedAt, export.options)
	var err error
	if export.URL, err = s.Files.Presign(ctx, export.Tenant, fileKey(&export.Job, &export.at.Request), name, age); err != nil {
		return fmt.Errorf("sign a URL of export %s of %s: %w", export.ID, export.Tenant, err)
	}
	export.URLExpiresAt = now.Add(age)
	return nil
}

// filename returns the name of a download: ASCII letters, digits, dots and hyphens.
func filename(tenant audit.TenantID, at time.Time, o Options) string {
	return string(tenant) + "-" + at.UTC().Format("20060102T150405Z") + o.Extension()
}
