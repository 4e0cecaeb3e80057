package erasure

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/export"
	"github.com/ocelot-audit/ocelot/pkg/jobs"
	"github.com/ocelot-audit/ocelot/pkg/protect"
)

// Blobs keeps tombstones apart from the database; see export.Blobs.
type Blobs interface {
	Create(ctx context.Context, tenant audit.TenantID, key string, c export.Content) error
	List(ctx context.Context, tenant audit.TenantID, prefix, after string, limit int) ([]export.Listed, error)
}

// Tombstones names destroyed keys in the blob store. A backup of the database does not have them, so
// that they outlive its restore. A tombstone has the id of the tenant, the HMAC of the subject's name
// and the generation of the key.
type Tombstones struct {
	Blobs Blobs
	// Clock tells the hour of a tombstone. Replay passes over hours that were replayed before the database was saved.
	Clock jobs.Clock
	Now   func() time.Time
}

// tombstones stands in the place of a tenant where tombstones and the replay's progress are kept. A
// tenant with this id does no harm: it cannot write there, and its deletion resets the progress.
const tombstones audit.TenantID = "ocelot-erasures"

// hourFormat spells the hour of a tombstone. Later hours come later in a list.
const hourFormat = "2006-01-02T15Z"

// hour counts hours since 1970. Tombstones are listed by the hour in which they were written.
type hour int64

func hourOf(t time.Time) hour { return hour(t.Unix() / int64(time.Hour/time.Second)) }

func (h hour) String() string {
	return time.Unix(int64(h)*int64(time.Hour/time.Second), 0).UTC().Format(hourFormat)
}

func parseHour(s string) (hour, error) {
	t, err := time.Parse(hourFormat, s)
	return hourOf(t), err
}

// tombstone names a destroyed key. Its blob's key is the hour, the tenant, the subject and the
// generation, so that a list has all of it.
type tombstone struct {
	hour   hour
	tenant audit.TenantID
	ref    protect.KeyRef
}

func (t *tombstone) key() string {
	return fmt.Sprintf("%s/%s/%s.%d", t.hour, t.tenant, t.ref.Subject, t.ref.Generation)
}

var errTombstone = errors.New("not the key of a tombstone")

func parseTombstone(key string) (t tombstone, err error) {
	parts := strings.Split(key, "/")
	if len(parts) != 3 {
		return t, errTombstone
	}
	subject, generation, _ := strings.Cut(parts[2], ".")
	n, err := strconv.ParseUint(generation, 10, 32)
	if err != nil {
		return t, errTombstone
	}
	t.ref.Generation = uint32(n)
	if t.hour, err = parseHour(parts[0]); err != nil {
		return t, errTombstone
	}
	if t.tenant, err = audit.ParseTenantID(parts[1]); err != nil {
		return t, errTombstone
	}
	if err := t.ref.Subject.UnmarshalText([]byte(subject)); err != nil || t.key() != key {
		return t, errTombstone
	}
	return t, nil
}

// Write writes the tombstone of a key before the key is destroyed. Writing it again is not an error.
func (t *Tombstones) Write(ctx context.Context, tenant audit.TenantID, ref protect.KeyRef) error {
	now, err := t.Clock.Now(ctx, t.Now)
	of := tombstone{hour: hourOf(now), tenant: tenant, ref: ref}
	var text []byte
	if err == nil {
		text, err = json.Marshal(struct {
			Tenant     audit.TenantID    `json:"tenant_id"`
			Subject    protect.SubjectID `json:"subject_hmac"`
			Generation uint32            `json:"key_generation"`
		}{tenant, ref.Subject, ref.Generation})
	}
	if err == nil {
		err = t.Blobs.Create(ctx, tombstones, of.key(), export.ContentOf(text, "application/json"))
	}
	if err != nil {
		return fmt.Errorf("write the tombstone of a key of %s: %w", tenant, err)
	}
	return nil
}

// KeyPurger is the jobs.Purger of a deleted tenant's keys. It writes the tombstone of the root before
// Keys destroys it. The tenant's other tombstones stay, and name nobody without the root.
type KeyPurger struct {
	Tombstones TombstoneWriter
	Keys       jobs.CountedPurger
}

// Purge implements jobs.Purger.
func (p *KeyPurger) Purge(ctx context.Context, tenant audit.TenantID, limit int) (int, error) {
	if err := p.Tombstones.Write(ctx, tenant, protect.RootRef); err != nil {
		return 0, err
	}
	return p.Keys.Purge(ctx, tenant, limit)
}

// CountRecords implements jobs.Counter.
func (p *KeyPurger) CountRecords(ctx context.Context, tenant audit.TenantID) (int64, error) {
	return p.Keys.CountRecords(ctx, tenant)
}

// after returns up to limit blobs of tombstones that follow the key after.
func (t *Tombstones) after(ctx context.Context, after string, limit int) ([]export.Listed, error) {
	listed, err := t.Blobs.List(ctx, tombstones, "", after, limit)
	if err != nil {
		return nil, fmt.Errorf("list tombstones: %w", err)
	}
	return listed, nil
}
