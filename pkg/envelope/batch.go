package envelope

import (
	"crypto/sha256"
	"errors"
	"fmt"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/trace"
)

// maxBatch bounds the lines of a Batch, in bytes, unless a single message is larger.
// In memory, entries need many times the size of their lines.
const maxBatch = 8 << 20

// Message is a message that was unpacked.
type Message struct {
	Index    int    // among the bodies of EachBatch
	Body     string // as it was received
	Contents Contents
}

// ID returns the id of the message, which is the same at each delivery. For a message without
// one, for example of a dead-letter queue, that is the first half of the SHA-256 of its body.
func (m *Message) ID() audit.MessageID {
	if !m.Contents.ID.IsZero() {
		return m.Contents.ID
	}
	sum := sha256.Sum256([]byte(m.Body))
	return audit.MessageID(sum[:])
}

// Batch has messages that are handled together.
type Batch []Message

// errUnhandled is the outcome of a message until its handler sets another one.
var errUnhandled = errors.New("the handler set no outcome")

// EachBatch unpacks messages and calls handle for batches of bounded size in memory. It
// returns one error, or nil, for each body. handle sets the outcome at the Index of each
// message of its batch. An unreadable body is not passed to handle: its error is
// audit.ErrUnreadable or ErrVersion.
func EachBatch(bodies []string, handle func(batch Batch, outcomes []error)) []error {
	return (*Handoff)(nil).EachBatch(bodies, handle)
}

// EachBatch is the function EachBatch, which need not read the messages that h remembers.
func (h *Handoff) EachBatch(bodies []string, handle func(batch Batch, outcomes []error)) []error {
	outcomes := make([]error, len(bodies))
	var batch Batch
	size := 0
	for i, body := range bodies {
		contents, err := h.unpack(body)
		if err != nil {
			outcomes[i] = fmt.Errorf("unpack: %w", err)
			continue
		}
		if size > 0 && size+contents.Size > maxBatch {
			handle(batch, outcomes)
			batch, size = nil, 0
		}
		outcomes[i] = errUnhandled
		batch = append(batch, Message{Index: i, Body: body, Contents: contents})
		size += contents.Size
	}
	if len(batch) > 0 {
		handle(batch, outcomes)
	}
	return outcomes
}

// ByTenant returns the messages of each tenant, in their order. Tenants are in the order
// of their first messages.
func (b Batch) ByTenant() [][]Message {
	var groups [][]Message
	at := map[audit.TenantID]int{}
	for _, m := range b {
		i, known := at[m.Contents.Tenant]
		if !known {
			i = len(groups)
			at[m.Contents.Tenant] = i
			groups = append(groups, nil)
		}
		groups[i] = append(groups[i], m)
	}
	return groups
}

// TracesOf returns the traces of the messages, each once.
func TracesOf(messages []Message) []trace.Trace {
	lists := make([][]trace.Trace, len(messages))
	for i := range messages {
		lists[i] = messages[i].Contents.Traces
	}
	return trace.Merge(lists...)
}

// Entries returns the entries of the messages, in their order.
func Entries(messages []Message) []audit.Entry {
	if len(messages) == 1 {
		return messages[0].Contents.Entries
	}
	n := 0
	for _, m := range messages {
		n += len(m.Contents.Entries)
	}
	entries := make([]audit.Entry, 0, n)
	for _, m := range messages {
		entries = append(entries, m.Contents.Entries...)
	}
	return entries
}
