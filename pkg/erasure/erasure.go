// Package erasure erases subjects: it destroys the key that encrypts the values of a person, so that
// nothing can read them. Service starts, shows and cancels erasures, which are jobs. Runner does them.
package erasure

import (
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/certificate"
	"github.com/ocelot-audit/ocelot/pkg/export"
	"github.com/ocelot-audit/ocelot/pkg/jobs"
	"github.com/ocelot-audit/ocelot/pkg/protect"
)

// Limits of a request.
const (
	MaxReason       = 1 << 10 // bytes
	MaxDelayHours   = 720     // 30 days
	DefaultDelay    = 24      // hours
	MaxOpen         = 500     // unfinished erasures of a tenant; each costs a slice every 15 minutes
	actionCreate    = "erasure.create"
	actionFinish    = "erasure.finish"
	resourceErasure = "erasure"
)

// ErrSelf says that callers want to erase themselves, or who created their API key if that is known.
// It is an audit.ErrForbidden.
var ErrSelf = fmt.Errorf("nobody erases themselves: %w", audit.ErrForbidden)

// ErrTooManyOpen says that the tenant has as many unfinished erasures as it can have. It is an
// audit.ErrConflict.
var ErrTooManyOpen = fmt.Errorf("the tenant has %d unfinished erasures: %w", MaxOpen, audit.ErrConflict)

// Request asks for an erasure.
type Request struct {
	Subject    string // as the entries have it
	Reason     string
	DelayHours int // until then the erasure can be canceled
}

func (r *Request) validate() error {
	faults := slices.Concat(audit.TextFaults("/subject", r.Subject, protect.MaxSubject), audit.TextFaults("/reason", r.Reason, MaxReason))
	if r.DelayHours < 0 || r.DelayHours > MaxDelayHours {
		faults = append(faults, audit.FieldError{
			Pointer: "/delay_hours", Code: "out_of_range", Detail: fmt.Sprintf("must be from 0 to %d", MaxDelayHours),
		})
	}
	return audit.InvalidFields(faults)
}

// Erasure is an erasure as callers see it. Nothing that is kept has the subject's name beside the
// name of its key, which is an HMAC: neither this nor the tenant's log.
type Erasure struct {
	jobs.Job
	// Subject is the HMAC of the subject's name.
	Subject protect.SubjectID
	// ErasesAt is when it begins. It can be canceled before.
	ErasesAt time.Time
	// ErasedAt is when the key was destroyed, zero before. A process that has read the key can use it
	// until the job succeeds.
	ErasedAt time.Time
	// ExportsRemoved is how many files of revealed exports were removed; nil: they are not removed yet.
	ExportsRemoved *int64
}

// checkpoint says how far an erasure is.
type checkpoint struct {
	Subject  protect.SubjectID `json:"subject"`
	ErasesAt time.Time         `json:"erases_at"`
	// Generation is the one to destroy, zero before the job is committed. It is that of the end of
	// the delay, so that the erasure covers what was accepted until then.
	Generation uint32    `json:"generation,omitempty"`
	ErasedAt   time.Time `json:"erased_at,omitzero"`
	// Exports is how many files of revealed exports were removed, nil before. Until then Removal says how far that is.
	Exports *int64         `json:"exports,omitempty"`
	Removal export.Removal `json:"removal,omitzero"`
	// Erasing is the last removal of the current step while it erases what is left of them in a file.
	Erasing int64 `json:"erasing,omitempty"`
	// Quarantined is the id of the last item in quarantine without tokens of the erased values.
	Quarantined string `json:"quarantined,omitempty"`
	// Indexed is up to which timestamp the index has what is stored.
	Indexed time.Time `json:"indexed,omitzero"`
	// EntryID is that of the entry about the end. It is random, so that no client can take it.
	EntryID audit.EntryID `json:"entry_id,omitzero"`
	// Certificate is the id of the certificate that is issued at the end.
	Certificate certificate.ID `json:"certificate,omitzero"`
	// Checked is up to which entry none of the legal holds covers one of the subject. Holds are their
	// ids.
	Checked audit.EntryID `json:"checked,omitzero"`
	Holds   []string      `json:"holds,omitempty"`
	// ArchiveChecked says that none of the holds covers an archived entry of the subject. Before, ArchivedUpTo is
	// up to which entry none does.
	ArchiveChecked bool          `json:"archive_checked,omitempty"`
	ArchivedUpTo   audit.EntryID `json:"archived_up_to,omitzero"`
}

// concerns reports whether an entry has a value of the subject.
func (c *checkpoint) concerns(e *audit.Entry) bool {
	return slices.ContainsFunc(e.Encrypted, func(value audit.Encrypted) bool {
		ref, err := protect.RefOf(&value)
		return err == nil && ref.Subject == c.Subject
	})
}

func (c *checkpoint) ref() protect.KeyRef {
	return protect.KeyRef{Subject: c.Subject, Generation: c.Generation}
}

func ofJob(job jobs.Job) (Erasure, error) {
	var at checkpoint
	if err := json.Unmarshal(job.Checkpoint, &at); err != nil {
		return Erasure{}, fmt.Errorf("read erasure %s of %s: %w", job.ID, job.Tenant, err)
	}
	return Erasure{Job: job, Subject: at.Subject, ErasesAt: at.ErasesAt, ErasedAt: at.ErasedAt, ExportsRemoved: at.Exports}, nil
}
