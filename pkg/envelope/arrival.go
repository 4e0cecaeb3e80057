package envelope

import (
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/trace"
)

// ArrivalVersion is the version of the messages that PackArrivals writes.
const ArrivalVersion = 1

// Arrival has the ids of the entries that one ingest message brought to the system of
// record, in their order.
type Arrival struct {
	Message audit.MessageID
	// Received is when the service received the first of the entries, to the millisecond. It is
	// zero if that is unknown.
	Received time.Time
	Traces   []trace.Trace // of the request that brought the entries
	IDs      []audit.EntryID
}

// ArrivalsOf returns the ids that each ingest message of the entries brought, each id once. The
// QueueMessage of the entries is set.
func ArrivalsOf(entries []audit.Entry) []Arrival {
	var arrivals []Arrival
	seen := make(map[audit.EntryID]bool, len(entries))
	for i := range entries {
		e := &entries[i]
		if seen[e.ID] {
			continue
		}
		seen[e.ID] = true
		if last := len(arrivals) - 1; last < 0 || arrivals[last].Message != e.QueueMessage {
			arrivals = append(arrivals, Arrival{Message: e.QueueMessage, Received: e.ReceivedAt})
		}
		last := &arrivals[len(arrivals)-1]
		last.IDs = append(last.IDs, e.ID)
		if e.ReceivedAt.Before(last.Received) {
			last.Received = e.ReceivedAt
		}
	}
	return arrivals
}

// arrivalMessage is the JSON form of a message of the queue arrival. Its JSON Schema is
// events/schemas/arrival.json.
type arrivalMessage struct {
	Version  int             `json:"v"`
	Tenant   audit.TenantID  `json:"tenant"`
	Messages []packedArrival `json:"messages"`
}

// packedArrival has the bytes of an id, and of one id after the other. JSON has them in base64.
type packedArrival struct {
	ID       []byte `json:"id"`
	Received int64  `json:"received,omitempty"` // Unix milliseconds
	Traces   traces `json:"traces,omitempty"`
	Entries  []byte `json:"entries"`
}

// arrivalBytes is the size of an arrival in its message without the ids, with one trace, in bytes.
const arrivalBytes = 96 + 68

// PackArrivals returns messages with the arrivals of a tenant, in their order. Each has up to
// TargetBytes unless a single arrival is larger. Arrivals without ids are left out.
func PackArrivals(tenant audit.TenantID, arrivals []Arrival) ([]string, error) {
	var bodies []string
	m := arrivalMessage{Version: ArrivalVersion, Tenant: tenant}
	size := 0
	flush := func() error {
		if len(m.Messages) == 0 {
			return nil
		}
		body, err := json.Marshal(m)
		if err != nil {
			return fmt.Errorf("pack %d arrivals of %s: %w", len(m.Messages), tenant, err)
		}
		bodies, m.Messages, size = append(bodies, string(body)), nil, arrivalBytes
		return nil
	}
	for _, a := range arrivals {
		if len(a.IDs) == 0 {
			continue
		}
		added := arrivalBytes + len(a.IDs)*len(audit.EntryID{})*4/3 // base64
		if size+added > TargetBytes {
			if err := flush(); err != nil {
				return nil, err
			}
		}
		packed := packedArrival{ID: slices.Clone(a.Message[:]), Traces: a.Traces, Entries: PackIDs(a.IDs)}
		if !a.Received.IsZero() {
			packed.Received = a.Received.UnixMilli()
		}
		m.Messages = append(m.Messages, packed)
		size += added
	}
	return bodies, flush()
}

// UnpackArrivals reads a message of PackArrivals. It returns audit.ErrUnreadable or ErrVersion
// if it cannot.
func UnpackArrivals(body string) (audit.TenantID, []Arrival, error) {
	var m arrivalMessage
	if err := json.Unmarshal([]byte(body), &m); err != nil {
		return "", nil, fmt.Errorf("%w: not the JSON form of arrivals", audit.ErrUnreadable)
	}
	if err := checkHead(m.Version, ArrivalVersion, m.Tenant); err != nil {
		return "", nil, err
	}
	arrivals := make([]Arrival, len(m.Messages))
	for i, p := range m.Messages {
		ids, err := UnpackIDs(p.Entries)
		if err != nil || len(ids) == 0 || len(p.ID) != len(audit.MessageID{}) {
			return "", nil, fmt.Errorf("%w: arrival %d has no id or no entries", audit.ErrUnreadable, i)
		}
		arrivals[i] = Arrival{Message: audit.MessageID(p.ID), Traces: p.Traces, IDs: ids}
		if p.Received != 0 {
			arrivals[i].Received = time.UnixMilli(p.Received).UTC()
		}
	}
	return m.Tenant, arrivals, nil
}

// PackIDs returns the ids as bytes, one after the other.
func PackIDs(ids []audit.EntryID) []byte {
	packed := make([]byte, 0, len(ids)*len(audit.EntryID{}))
	for _, id := range ids {
		packed = append(packed, id[:]...)
	}
	return packed
}

// UnpackIDs returns the ids of PackIDs. It returns audit.ErrUnreadable for other bytes.
func UnpackIDs(packed []byte) ([]audit.EntryID, error) {
	const size = len(audit.EntryID{})
	if len(packed)%size != 0 {
		return nil, fmt.Errorf("%w: %d bytes are no ids", audit.ErrUnreadable, len(packed))
	}
	ids := make([]audit.EntryID, 0, len(packed)/size)
	for id := range slices.Chunk(packed, size) {
		ids = append(ids, audit.EntryID(id))
	}
	return ids, nil
}
