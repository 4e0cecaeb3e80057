// Package ingest takes an entry from a client's request to the system of record:
// Service accepts and enqueues entries, Persister stores them.
package ingest

import (
	"context"
	"errors"
	"net/netip"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/activity"
	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/protect"
)

// Queue sends messages to one consumer. Send returns nil only once every body is
// durable in the queue. After an error some of them may be in it. The queue is fair: the
// messages of one tenant do not delay those of others. An empty tenant is one of its own.
type Queue interface {
	Send(ctx context.Context, tenant audit.TenantID, bodies []string) error
}

// Store is the system of record. Append returns once every entry that it does
// not reject is durable. After an error any of them may be stored, and the call
// may be repeated. An entry whose id the tenant already has is not stored again.
// It is a success if the digests are equal, and a rejection with
// audit.CodeIdentityConflict and the stored digest if they differ. That applies within one call too.
// A stored entry that has RestoredUntil loses it, and may not be removed any more, if the digests are equal and
// the new one has none: a client has sent it again.
// A store may take no entries of a past period for a while: the error is then ErrPeriodClosed.
type Store interface {
	Append(ctx context.Context, tenant audit.TenantID, entries []audit.Entry) (Appended, error)
}

// ErrPeriodClosed says that a store takes no entries of a past period for some minutes, though it may take
// others. Append returns it in an *audit.UnavailableError.
var ErrPeriodClosed = errors.New("the store takes no entries of this past period for a while")

// Appended is the result of Append, by the indexes of the entries in rising order.
type Appended struct {
	Rejections []audit.Rejection
	// Repeated are the entries that a client sent again: they are stored with another
	// ReceivedAt, or with the Tag of another QueueMessage. A Tag of 0 is unknown and does not
	// count. This does not include an entry whose message was delivered again.
	Repeated []int
}

// new returns the entries that were neither rejected nor repeated.
func (a Appended) new(entries []audit.Entry) []audit.Entry {
	if len(a.Rejections) == 0 && len(a.Repeated) == 0 {
		return entries
	}
	skip := make(map[int]bool, len(a.Rejections)+len(a.Repeated))
	for _, r := range a.Rejections {
		skip[r.Index] = true
	}
	for _, i := range a.Repeated {
		skip[i] = true
	}
	fresh := make([]audit.Entry, 0, len(entries)-len(skip))
	for i := range entries {
		if !skip[i] {
			fresh = append(fresh, entries[i])
		}
	}
	return fresh
}

// Committer takes entries the whole way: it stores them as Store does, makes the new ones
// findable, and gives them their places in the arrival log. A message's entries become durable
// in all three together or in none. An engine has a Committer if it keeps all three in one place.
type Committer interface {
	// Commit handles the entries of several tenants and returns one result for each load. The
	// QueueMessage of each entry is set, and those of one message follow each other. Doing all of
	// it again adds nothing.
	Commit(ctx context.Context, loads []Load) []Committed
}

// Load has entries of one tenant.
type Load struct {
	Tenant  audit.TenantID
	Entries []audit.Entry
}

// Committed is the result of a load. Err is nil only once everything is durable. After an error
// any message of the load may be.
type Committed struct {
	Appended
	// Unindexed are the stored entries that the index had to refuse, by their indexes.
	Unindexed []audit.Rejection
	Err       error
}

// Activity registers receipts of entries that are about to be stored; see activity.Register.
type Activity interface {
	Touch(ctx context.Context, tenant audit.TenantID, receipts []activity.Receipt, due time.Time) error
}

// Quarantine stores entries that a step rejected.
type Quarantine interface {
	// Add stores the entries that have a reason. It returns nil only once they are
	// durable. Adding the same entry for the same step again is not an error.
	Add(ctx context.Context, tenant audit.TenantID, step string, entries []audit.Entry, reasons []audit.Rejection) error
}

// Keys has the keys of tenants. It makes them when they are used first. An error is an
// *audit.UnavailableError if a retry can succeed.
type Keys interface {
	Tenant(ctx context.Context, tenant audit.TenantID) (*protect.TenantKeys, error)
	// Current returns the keys that encrypt the values of subjects. Beside an error it has those that
	// it could get.
	Current(ctx context.Context, tenant audit.TenantID, subjects []string) (map[string]protect.Key, error)
}

// ExistingKeys has the keys that tenants have. Existing returns audit.ErrNotFound if a tenant has none,
// protect.ErrDestroyed if they are gone, and an *audit.UnavailableError if a retry can succeed.
type ExistingKeys interface {
	protect.Destruction
	Existing(ctx context.Context, tenant audit.TenantID) (*protect.TenantKeys, error)
}

// Tenants finds tenants. Tenant returns audit.ErrNotFound if none exists.
type Tenants interface {
	Tenant(ctx context.Context, id audit.TenantID) (audit.Tenant, error)
}

// Origin is the source of a request.
type Origin struct {
	// SubmittedBy is the credential; see access.Principal.SubmittedBy.
	SubmittedBy string
	// Owner is the only user_id that the credential may write; "": any.
	Owner string
	// IPAddress and UserAgent are the defaults of an entry. They are zero if the caller is not
	// the user: the address of a backend or an importer says nothing.
	IPAddress netip.Addr
	UserAgent string
}

// Outcome is the result of one submitted entry.
type Outcome struct {
	ID     audit.EntryID // zero if the entry could not be read
	Status OutcomeStatus
	Err    *audit.ValidationError // what is wrong with a rejected entry
	// Unavailable is set instead of Err if a rejected entry can be accepted later: the key that is to
	// encrypt its values could not be had.
	Unavailable error
}

// OutcomeStatus is one word of a bulk answer.
type OutcomeStatus string

// The outcomes of a submitted entry.
const (
	Accepted  OutcomeStatus = "accepted"
	Duplicate OutcomeStatus = "duplicate" // the same identity twice in one request
	Filtered  OutcomeStatus = "filtered"  // its severity is outside the tenant's log_levels
	Expired   OutcomeStatus = "expired"   // past its end, or older than the tenant's searchable_days
	Rejected  OutcomeStatus = "rejected"
)
