package ingest

import (
	"context"
	"errors"
	"slices"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/protect"
)

// masked is an entry with masks, whose values wait to be encrypted.
type masked struct {
	index   int // in the request
	entry   audit.Entry
	covered *protect.Covered // nil: no rule covers anything in it
}

// pack packs an accepted entry. Under rules, all entries wait for encrypt, so that they keep their
// order.
func (b *batch) pack(index int, entry *audit.Entry) *audit.ValidationError {
	if b.rules == nil {
		b.packer.Add(entry)
		return nil
	}
	if b.masked == nil {
		b.masked = make([]masked, 0, len(b.outcomes))
	}
	b.masked = append(b.masked, masked{index: index, entry: *entry}) // a copy: entry itself stays on the stack
	last := &b.masked[len(b.masked)-1]
	covered, invalid := b.rules.Mask(&last.entry)
	if invalid != nil {
		b.masked = b.masked[:len(b.masked)-1]
		return invalid
	}
	last.covered = covered
	return nil
}

// encrypt encrypts the values of all entries and packs them. It gets all keys at once. An entry
// whose key cannot be had is rejected alone.
func (b *batch) encrypt(ctx context.Context) {
	if len(b.masked) == 0 {
		return
	}
	var keys requestKeys
	if slices.ContainsFunc(b.masked, func(m masked) bool { return m.covered != nil }) {
		keys = b.keys(ctx)
	}
	unencrypted := 0
	for i := range b.masked {
		m := &b.masked[i]
		if m.covered != nil {
			if outcome := b.seal(m, &keys); outcome.Status == Rejected {
				b.reject(outcome)
				if outcome.Unavailable != nil {
					unencrypted++
				}
				continue
			}
		}
		b.packer.Add(&m.entry)
	}
	if unencrypted > 0 && b.service.Unencrypted != nil {
		b.service.Unencrypted(ctx, b.tenant.ID, unencrypted)
	}
}

// reject rejects an entry after all of the request were looked at, and with it its repetitions.
func (b *batch) reject(outcome Outcome) {
	for i := range b.outcomes {
		if o := &b.outcomes[i]; o.ID == outcome.ID && (o.Status == Accepted || o.Status == Duplicate) {
			*o = outcome
		}
	}
}

// requestKeys are the keys of one request.
type requestKeys struct {
	tenant      *protect.TenantKeys
	subjects    map[string]protect.Key
	unavailable error // why some are missing
}

func (b *batch) keys(ctx context.Context) requestKeys {
	var subjects []string
	known := map[string]bool{}
	for i := range b.masked {
		if b.masked[i].covered == nil {
			continue
		}
		for _, s := range b.masked[i].covered.Subjects() {
			if !known[s] {
				known[s] = true
				subjects = append(subjects, s)
			}
		}
	}
	var keys requestKeys
	if keys.tenant, keys.unavailable = b.service.Keys.Tenant(ctx, b.tenant.ID); keys.unavailable != nil || len(subjects) == 0 {
		return keys
	}
	keys.subjects, keys.unavailable = b.service.Keys.Current(ctx, b.tenant.ID, subjects)
	return keys
}

// seal encrypts the values of one entry. The outcome is Rejected if it cannot.
func (b *batch) seal(m *masked, keys *requestKeys) Outcome {
	err := keys.unavailable
	if keys.tenant != nil {
		if err = m.covered.Encrypt(keys.tenant, keys.subjects, &m.entry, b.service.Random); err != nil {
			err = errors.Join(keys.unavailable, err) // why a key is missing
		}
	}
	if err != nil {
		return Outcome{ID: m.entry.ID, Status: Rejected, Unavailable: unavailable(err, "encrypt values of %s", m.entry.ID)}
	}
	if invalid := protect.CheckStored(&m.entry); invalid != nil {
		return rejected(m.entry.ID, invalid)
	}
	return Outcome{ID: m.entry.ID, Status: Accepted}
}
