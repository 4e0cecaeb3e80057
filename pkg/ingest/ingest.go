// Package ingest is the way of an entry from a client's request to the system
// of record: Service accepts and enqueues, Persister stores.
package ingest

import (
	"context"
	"net/netip"

	"github.com/ocelot-audit/ocelot/pkg/audit"
)

// Queue takes messages for one consumer. Send returns nil only once every
// body is durable in the queue; after an error some of them may be in it.
type Queue interface {
	Send(ctx context.Context, bodies []string) error
}

// Store is the system of record. Append returns once every entry that it does
// not reject is durable; after an error any of them may be stored, and the same
// call may be repeated. An entry whose id the tenant already has is not stored
// again: it is a success where the digests are equal and a rejection with
// audit.CodeIdentityConflict where they differ, also within one call.
type Store interface {
	Append(ctx context.Context, tenant audit.TenantID, entries []audit.Entry) (Appended, error)
}

// Appended is what became of entries, by their indexes, in rising order.
type Appended struct {
	Rejections []audit.Rejection
	// Repeated are the entries that are stored as they were received another time:
	// their client has sent them again. An entry of a message that is delivered
	// again is none of them.
	Repeated []int
}

// Quarantine keeps entries that a step could not take.
type Quarantine interface {
	// Add keeps the entries with their reasons. It returns nil only once they
	// are durable; holding the same entry for the same step again is not an error.
	Add(ctx context.Context, tenant audit.TenantID, step string, entries []audit.Entry, reasons []audit.Rejection) error
}

// Subscribers tells whether somebody listens to a tenant's live stream, so that what
// is stored has to be sent to them; see stream.HasSubscribers.
type Subscribers interface {
	HasSubscribers(ctx context.Context, tenant audit.TenantID) (bool, error)
}

// Tenants finds tenants; audit.ErrNotFound where there is none.
type Tenants interface {
	Tenant(ctx context.Context, id audit.TenantID) (audit.Tenant, error)
}

// Origin is where a request came from: the defaults of ip_address and user_agent.
type Origin struct {
	IPAddress netip.Addr
	UserAgent string
}

// Outcome is what became of one submitted entry.
type Outcome struct {
	ID     audit.EntryID // zero where the entry could not be read
	Status OutcomeStatus
	Err    *audit.ValidationError // set exactly where Status is Rejected
}

// OutcomeStatus is one word of a bulk answer.
type OutcomeStatus string

// The outcomes of a submitted entry.
const (
	Accepted  OutcomeStatus = "accepted"
	Duplicate OutcomeStatus = "duplicate" // the same identity twice in one request
	Filtered  OutcomeStatus = "filtered"  // its severity is outside the tenant's log_levels
	Expired   OutcomeStatus = "expired"   // older than the tenant's retention
	Rejected  OutcomeStatus = "rejected"
)
