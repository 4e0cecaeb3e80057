package export

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/access"
	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/search"
	"github.com/ocelot-audit/ocelot/pkg/walk"
)

// Limits of an export that is answered at once.
const (
	MaxEntries = 5000
	MaxBytes   = audit.MaxPageBytes // before compression, which need not make a text smaller
)

// Selector checks the parameters of an export; see search.Service.
type Selector interface {
	Select(tenant audit.Tenant, scope access.Scope, query url.Values, others ...string) (search.Selection, error)
	SelectStored(tenant audit.Tenant, scope access.Scope, query url.Values, others ...string) (search.Selection, error)
}

// Entries selects and reads entries; see search.Service.
type Entries interface {
	Selector
	Each(ctx context.Context, selection search.Selection, use func(page []audit.Entry) (more bool, err error)) (degraded bool, err error)
}

// Service exports the entries of a tenant, whose record the caller has read for this request.
type Service struct {
	Entries  Entries
	Recorder audit.Recorder
	Now      func() time.Time
}

// File is an exported file.
type File struct {
	Name      string // of the download
	MediaType string
	Content   []byte
	Packed    bool // Content is compressed
	// Degraded says that entries come from the system of record, because the index is unavailable.
	Degraded bool
	// SearchableFrom is that of search.List.
	SearchableFrom time.Time
}

// The service's own entries about exports.
const (
	actionExport   = "logs.export"
	resourceTenant = "tenant"
)

// AtOnce answers GET /logs/export: the entries that the parameters select, within the caller's
// scope, as a file. It is recorded in the tenant's log first. More than MaxEntries or MaxBytes is a
// *TooLargeError, and so is an export by a legal hold: only a job can read the archive. Faulty parameters are
// an *audit.ValidationError.
func (s *Service) AtOnce(ctx context.Context, by access.Principal, tenant audit.Tenant, scope access.Scope, query url.Values) (File, error) {
	options, selection, err := parse(s.Entries, tenant, scope, query, nil)
	if err != nil {
		return File{}, err
	}
	if options.Hold != "" {
		return File{}, &TooLargeError{ByHold: true}
	}
	w, err := NewWriter(options, &tenant.Settings)
	if err != nil {
		return File{}, fmt.Errorf("export entries of %s: %w", tenant.ID, err)
	}
	content, degraded, err := s.write(ctx, w, selection)
	if err != nil {
		return File{}, err
	}
	if err := s.record(ctx, by, tenant, options, query, w.written); err != nil {
		return File{}, err
	}
	return File{
		Name: filename(tenant.ID, s.Now(), options), MediaType: options.MediaType(), Content: content, Packed: options.isPacked(),
		Degraded: degraded, SearchableFrom: selection.SearchableFrom(),
	}, nil
}

// parse reads all parameters of an export. Faulty ones are an *audit.ValidationError.
func parse(entries Selector, tenant audit.Tenant, scope access.Scope, query url.Values, further []string) (Options, search.Selection, error) {
	options, err := ParseOptions(query, further...)
	choose := entries.Select
	if options.Hold != "" {
		choose = entries.SelectStored
	}
	selection, selectErr := choose(tenant, scope, query, ownParams()...)
	return options, selection, audit.MergeInvalid(selectErr, err)
}

// write writes the whole file.
func (s *Service) write(ctx context.Context, w *Writer, selection search.Selection) (content []byte, degraded bool, err error) {
	if degraded, err = s.Entries.Each(ctx, selection, w.addPage); err != nil {
		return nil, degraded, err
	}
	content, err = w.End(nil)
	return content, degraded, err
}

// addPage adds entries to a file that is answered at once. It returns a *TooLargeError if the file cannot
// be.
func (w *Writer) addPage(page []audit.Entry) (more bool, err error) {
	for i := range page {
		if err := w.Add(&page[i]); err != nil {
			return false, err
		}
		if w.written > MaxEntries || w.Size() > MaxBytes {
			return false, &TooLargeError{}
		}
	}
	return true, nil
}

// TooLargeError says that an export is too large to be answered at once. Jobs can do it. It is an
// *audit.ValidationError.
type TooLargeError struct {
	ByHold bool // it is by a legal hold, whatever its size
}

func (*TooLargeError) Error() string { return "too large to be answered at once" }

func (e *TooLargeError) Unwrap() error {
	if e.ByHold {
		return audit.Invalid("?"+ParamHold, "too_large", "an export by a legal hold reads the archive, and is not answered at once")
	}
	return audit.Invalid("?", "too_large", "must select at most %d entries, and %d MiB of them before compression, to be answered at once", MaxEntries, MaxBytes>>20)
}

// record writes into the tenant's log who exported how many entries. It names the parameters that
// narrowed the export, and not their values, which can be personal data.
func (s *Service) record(ctx context.Context, by access.Principal, tenant audit.Tenant, o Options, query url.Values, count int64) error {
	about, err := describe(o, query, &count, "")
	if err != nil {
		return fmt.Errorf("record an export of %s: %w", tenant.ID, err)
	}
	return audit.Record(ctx, s.Recorder, tenant, audit.Entry{
		UserID: by.Subject, Action: actionExport, ResourceType: resourceTenant, ResourceID: string(tenant.ID), Metadata: about,
	})
}

// describe returns the metadata of an entry about an export. count is its number of entries, nil if that
// is not known yet. reason is why it reveals values; "": it does not.
func describe(o Options, query url.Values, count *int64, reason string) ([]byte, error) {
	return json.Marshal(struct {
		Format  Format   `json:"format"`
		Count   *int64   `json:"count,omitempty"`
		Filters []string `json:"filters,omitempty"`
		Hold    string   `json:"hold,omitempty"` // its id; of whom it is, and why, stands in the hold itself
		Reveal  bool     `json:"reveal,omitempty"`
		Reason  string   `json:"reason,omitempty"`
	}{o.Format, count, walk.FilterNames(query, ownParams()...), o.Hold, reason != "", reason})
}
