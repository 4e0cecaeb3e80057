package ingest

import (
	"context"
	"fmt"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/envelope"
)

// Persister stores the entries of the ingest queues. It forwards them to the
// index queue and, if the tenant has subscribers, to the stream queue.
type Persister struct {
	Store       Store
	Quarantine  Quarantine
	Tenants     Tenants
	Index       Queue
	Subscribers Subscribers
	Stream      Queue
	// DeadLetters gets the lines that cannot be read as an entry.
	DeadLetters Queue
}

// Persist handles one queue message body. After nil the message may be deleted.
// Each of its entries is then stored and on the queues of the next steps, or in
// quarantine with its reason. An unreadable line is a dead letter. If the tenant
// is deleted or being deleted, the entries are dropped. After an error the
// message must be delivered again.
func (p *Persister) Persist(ctx context.Context, body string) error {
	contents, err := envelope.Unpack(body)
	if err != nil {
		return fmt.Errorf("persist: %w", err)
	}
	gone, err := audit.Gone(p.Tenants.Tenant(ctx, contents.Tenant))
	if err != nil {
		return fmt.Errorf("persist %s: %w", contents.Tenant, err)
	}
	if gone {
		return nil
	}
	appended, err := p.Store.Append(ctx, contents.Tenant, contents.Entries)
	if err != nil {
		return fmt.Errorf("persist %d entries of %s: %w", len(contents.Entries), contents.Tenant, err)
	}
	if len(appended.Rejections) > 0 {
		if err := p.Quarantine.Add(ctx, contents.Tenant, audit.StepPersist, contents.Entries, appended.Rejections); err != nil {
			return fmt.Errorf("quarantine %d entries of %s: %w", len(appended.Rejections), contents.Tenant, err)
		}
	}
	if err := p.forward(ctx, body, contents, appended); err != nil {
		return err
	}
	// Last, so that a message that is delivered again during an outage does not send dead letters each time.
	if err := DeadLetterPoison(ctx, p.DeadLetters, contents); err != nil {
		return fmt.Errorf("persist %s: %w", contents.Tenant, err)
	}
	return nil
}

// forward sends the stored entries to the next steps: the message itself if all of
// its entries are new. The message that first brought a repeated entry forwarded it.
func (p *Persister) forward(ctx context.Context, body string, contents envelope.Contents, appended Appended) error {
	messages := []string{body}
	if len(appended.Rejections) > 0 || len(appended.Repeated) > 0 || len(contents.Poison) > 0 {
		var err error
		if messages, err = envelope.Pack(contents.Tenant, appended.new(contents.Entries)); err != nil {
			return err
		}
	}
	if len(messages) == 0 {
		return nil
	}
	if err := p.Index.Send(ctx, messages); err != nil {
		return fmt.Errorf("enqueue entries of %s for the index: %w", contents.Tenant, err)
	}
	// After the entries are stored: a later subscriber gets later entries only.
	subscribed, err := p.Subscribers.HasSubscribers(ctx, contents.Tenant)
	if err != nil {
		return fmt.Errorf("find the subscribers of %s: %w", contents.Tenant, err)
	}
	if !subscribed {
		return nil
	}
	if err := p.Stream.Send(ctx, messages); err != nil {
		return fmt.Errorf("enqueue entries of %s for the stream: %w", contents.Tenant, err)
	}
	return nil
}

// new returns the entries that were neither rejected nor repeated.
func (a Appended) new(entries []audit.Entry) []audit.Entry {
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

// DeadLetterPoison sends each unreadable line of a message to the dead-letter
// queue, as a message of its own with the reason.
func DeadLetterPoison(ctx context.Context, deadLetters Queue, contents envelope.Contents) error {
	if len(contents.Poison) == 0 {
		return nil
	}
	bodies := make([]string, len(contents.Poison))
	for i, poison := range contents.Poison {
		body, err := envelope.PackPoison(contents.Tenant, poison)
		if err != nil {
			return err
		}
		bodies[i] = body
	}
	if err := deadLetters.Send(ctx, bodies); err != nil {
		return fmt.Errorf("dead-letter %d unreadable entries: %w", len(bodies), err)
	}
	return nil
}
