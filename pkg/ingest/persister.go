package ingest

import (
	"context"
	"fmt"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/envelope"
)

// Persister stores what the ingest queues hold and passes it on to the index
// queue and, where somebody listens, to the stream queue.
type Persister struct {
	Store       Store
	Quarantine  Quarantine
	Tenants     Tenants
	Index       Queue
	Subscribers Subscribers
	Stream      Queue
	// DeadLetters takes lines that cannot even be read as an entry.
	DeadLetters Queue
}

// Persist handles one queue message body. After nil the message may be deleted:
// each of its entries is stored and on the queues of what follows, unless it was before,
// in quarantine with its reason, among the dead letters where it cannot be read, or gone because its
// tenant was deleted. After an error the message must be delivered again.
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
	if err := p.passOn(ctx, body, contents, appended); err != nil {
		return err
	}
	// At last, so that a message that comes again while an engine is down does not bury them each time.
	if err := BuryPoison(ctx, p.DeadLetters, contents); err != nil {
		return fmt.Errorf("persist %s: %w", contents.Tenant, err)
	}
	return nil
}

// passOn sends what was stored to the next steps, the very message where nothing
// was left out. What a client sent again was passed on as it is stored, by the
// message that brought it first.
func (p *Persister) passOn(ctx context.Context, body string, contents envelope.Contents, appended Appended) error {
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
	// Asked after the entries are stored: who listens from now on gets what is stored from now on.
	listening, err := p.Subscribers.HasSubscribers(ctx, contents.Tenant)
	if err != nil {
		return fmt.Errorf("ask who listens to %s: %w", contents.Tenant, err)
	}
	if !listening {
		return nil
	}
	if err := p.Stream.Send(ctx, messages); err != nil {
		return fmt.Errorf("enqueue entries of %s for the stream: %w", contents.Tenant, err)
	}
	return nil
}

// new returns the entries that were neither rejected nor repeated.
func (a Appended) new(entries []audit.Entry) []audit.Entry {
	out := make(map[int]bool, len(a.Rejections)+len(a.Repeated))
	for _, r := range a.Rejections {
		out[r.Index] = true
	}
	for _, i := range a.Repeated {
		out[i] = true
	}
	kept := make([]audit.Entry, 0, len(entries)-len(out))
	for i := range entries {
		if !out[i] {
			kept = append(kept, entries[i])
		}
	}
	return kept
}

// BuryPoison sends each unreadable line of a message on its own to the dead
// letters, with its reason.
func BuryPoison(ctx context.Context, deadLetters Queue, contents envelope.Contents) error {
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
		return fmt.Errorf("bury %d unreadable entries: %w", len(bodies), err)
	}
	return nil
}
