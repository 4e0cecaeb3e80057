package envelope

import (
	"fmt"

	"github.com/ocelot-audit/ocelot/pkg/audit"
)

// maxBatch bounds the lines of a Batch, in bytes, unless a single message is larger.
// In memory, entries need many times the size of their lines.
const maxBatch = 8 << 20

// Message is one message of a batch.
type Message struct {
	Index    int    // in the batch
	Body     string // as it was received
	Contents Contents
}

// Batch has messages that are handled together.
type Batch struct {
	Messages []Message
}

// EachBatch unpacks messages and calls handle for batches of bounded size in memory.
// handle returns one error, or nil, for each message of its batch. EachBatch returns
// one error, or nil, for each body. An unreadable body is not passed to handle: its
// error is audit.ErrUnreadable or ErrVersion.
func EachBatch(bodies []string, handle func(Batch) []error) []error {
	outcomes := make([]error, len(bodies))
	var batch Batch
	var positions []int // of the batch's messages in bodies
	size := 0
	flush := func() {
		if len(batch.Messages) == 0 {
			return
		}
		errs := handle(batch)
		for i, position := range positions {
			if len(errs) != len(positions) {
				outcomes[position] = fmt.Errorf("the handler returned %d outcomes for %d messages", len(errs), len(positions))
				continue
			}
			outcomes[position] = errs[i]
		}
		batch, positions, size = Batch{}, nil, 0
	}
	for i, body := range bodies {
		contents, err := Unpack(body)
		if err != nil {
			outcomes[i] = fmt.Errorf("unpack: %w", err)
			continue
		}
		if size > 0 && size+contents.Size > maxBatch {
			flush()
		}
		batch.Messages = append(batch.Messages, Message{Index: len(batch.Messages), Body: body, Contents: contents})
		positions = append(positions, i)
		size += contents.Size
	}
	flush()
	return outcomes
}

// ByTenant returns the messages of each tenant, in their order. Tenants are in the order
// of their first messages.
func (b Batch) ByTenant() [][]Message {
	var groups [][]Message
	at := map[audit.TenantID]int{}
	for _, m := range b.Messages {
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
