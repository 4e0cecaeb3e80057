package archive

import (
	"cmp"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/export"
)

const (
	// SchemaVersion is the version of manifests and of the columns of parts.
	SchemaVersion = 1
	// maxManifest is more than a manifest has, in bytes: more than 10,000 parts.
	maxManifest = 16 << 20
	// maxActions is the most actions that a File names.
	maxActions = 16
)

// Manifest lists the parts of a tenant's month. A part that it does not list is none: a worker was
// killed, or has not ended it.
type Manifest struct {
	Version int            `json:"version"`
	Tenant  audit.TenantID `json:"tenant_id"`
	Month   string         `json:"month"` // for example 2026-03
	// First and Last are the first timestamp of all parts and the last; zero if there is no part.
	First time.Time `json:"first,omitzero"`
	Last  time.Time `json:"last,omitzero"`
	Files []File    `json:"files"`
	// Days are the days whose entries were all archived, in their order.
	Days []Day `json:"days"`
	// Complete says that the whole month was archived after its end. Late entries can have come since.
	Complete bool `json:"complete"`
	// Removed are the parts that cleanups removed without putting another one in their place.
	Removed []RemovedPart `json:"removed,omitempty"`
	// Next is the least number of the next part. No part with a lower number is added any more.
	Next      int       `json:"next"`
	UpdatedAt time.Time `json:"updated_at"`

	etag string // of the stored manifest; "": there is none
}

// File is a part.
type File struct {
	Name   string    `json:"name"`
	Rows   int64     `json:"rows"`
	Bytes  int64     `json:"bytes"`
	SHA256 string    `json:"sha256"` // in hexadecimal digits
	First  time.Time `json:"first"`  // the first timestamp
	Last   time.Time `json:"last"`
	Days   []Rows    `json:"days"` // those of the timestamps, in their order
	// Severities and Actions are those of its entries. They tell which rules of retention apply. Actions
	// is empty if there are many.
	Severities []audit.Severity `json:"severities"`
	Actions    []string         `json:"actions,omitempty"`
	// LastReceived is the greatest ReceivedAt of its entries; zero: the part is older than this field.
	LastReceived time.Time `json:"last_received,omitzero"`
	// Content is the SHA-256 of the entries in the form in which queues have them, one after the other.
	Content   string    `json:"entries_sha256"`
	IDs       IDs       `json:"ids"`
	CreatedAt time.Time `json:"created_at"` // before its first entry was read
	Job       string    `json:"job"`        // the id of the job that wrote it
	// DeletableAt is from when on the part can be removed if its end has come then; zero: it is not to go.
	DeletableAt time.Time `json:"deletable_at,omitzero"`
}

// RemovedPart is a part that a cleanup removed as a whole. It tells which of several jobs did.
type RemovedPart struct {
	Name string `json:"name"`
	Job  string `json:"job"` // the id of the job that removed it
}

// IDs is the file with the ids of a part: 16 bytes for each, in rising order.
type IDs struct {
	Name   string `json:"name"`
	SHA256 string `json:"sha256"`
}

// Rows is how many entries of a part have timestamps on a day.
type Rows struct {
	Day  string `json:"day"` // for example 2026-03-01
	Rows int64  `json:"rows"`
}

// Day is a day whose entries were all archived.
type Day struct {
	Rows
	ArchivedAt time.Time `json:"archived_at"`
	// Place is a place of the arrival log: every entry of the day with a place up to it is archived,
	// unless it was removed before.
	Place int64 `json:"place"`
}

// receivedUpTo returns a time: an entry that was received later is another one than that of the part with its id. It
// goes by the clocks that accepted the entries. That of the worker, which CreatedAt is from, can be behind them.
func (f *File) receivedUpTo() time.Time { return cmp.Or(f.LastReceived, f.CreatedAt) }

// overlaps reports whether the part can have entries with from ≤ timestamp ≤ to.
func (f *File) overlaps(from, to time.Time) bool { return !f.Last.Before(from) && !f.First.After(to) }

// end returns when the part can be removed by these settings; zero: never.
func (f *File) end(s *audit.Settings) time.Time {
	longest := s.RetentionDays
	for i := range s.RetentionRules {
		rule := &s.RetentionRules[i]
		switch {
		case !f.mayMatch(rule):
		case longest == 0 || rule.Days == 0:
			return time.Time{}
		default:
			longest = max(longest, rule.Days)
		}
	}
	if longest == 0 {
		return time.Time{}
	}
	kept := f.Last.Add(time.Duration(longest) * oneDay)
	if kept.Before(f.CreatedAt) { // it was written after its end, so that its entries can be removed
		kept = f.CreatedAt
	}
	return kept.Add(PartGrace)
}

// mayMatch reports whether a rule can apply to an entry of the part.
func (f *File) mayMatch(rule *audit.RetentionRule) bool {
	if rule.Severity != nil {
		return slices.Contains(f.Severities, *rule.Severity)
	}
	return len(f.Actions) == 0 || slices.Contains(f.Actions, rule.Action)
}

// readManifest returns the manifest of a month. If there is none, it returns an empty one.
func readManifest(ctx context.Context, blobs Getter, tenant audit.TenantID, m month) (*Manifest, error) {
	none := &Manifest{Version: SchemaVersion, Tenant: tenant, Month: m.String(), Files: []File{}, Days: []Day{}, Next: 1}
	text, blob, err := readAll(ctx, blobs, tenant, m.folder()+manifestName, maxManifest)
	if errors.Is(err, audit.ErrNotFound) {
		return none, nil
	}
	if err != nil {
		return nil, err
	}
	read := &Manifest{}
	if err := json.Unmarshal(text, read); err != nil {
		return nil, fmt.Errorf("the manifest of %s is not its JSON form: %w", m, export.ErrContent)
	}
	read.etag = blob.ETag
	if err := read.check(tenant, m); err != nil {
		return nil, fmt.Errorf("the manifest of %s: %w", m, err)
	}
	return read, nil
}

// check returns an error unless the manifest is one of the tenant's month that this version knows.
func (m *Manifest) check(tenant audit.TenantID, of month) error {
	switch {
	case m.Version != SchemaVersion:
		return fmt.Errorf("version %d, known is %d", m.Version, SchemaVersion)
	case m.Tenant != tenant || m.Month != of.String():
		return fmt.Errorf("it is that of %s %s: %w", m.Tenant, m.Month, export.ErrContent)
	}
	for i := range m.Files {
		f := &m.Files[i]
		n, is := numberOf(f.Name)
		if !is || n >= m.Next || f.Name != partName(n) || f.IDs.Name != idsName(n) {
			return fmt.Errorf("part %q with ids %q, next is %d: %w", f.Name, f.IDs.Name, m.Next, export.ErrContent)
		}
	}
	return nil
}

// readAll returns a whole file of up to a number of bytes.
func readAll(ctx context.Context, blobs Getter, tenant audit.TenantID, key string, most int64) ([]byte, export.Blob, error) {
	body, blob, err := blobs.Get(ctx, tenant, key)
	if err != nil {
		return nil, export.Blob{}, err
	}
	if blob.Size > most {
		err = fmt.Errorf("%s of %s has %d bytes, at most %d: %w", key, tenant, blob.Size, most, export.ErrContent)
		return nil, export.Blob{}, errors.Join(err, body.Close())
	}
	text, err := io.ReadAll(io.LimitReader(body, most))
	if err = errors.Join(err, body.Close()); err != nil {
		return nil, export.Blob{}, fmt.Errorf("read %s of %s: %w", key, tenant, err)
	}
	return text, blob, nil
}

// put stores the manifest in the place of the one that was read. It returns audit.ErrConflict if that
// has changed since.
func (m *Manifest) put(ctx context.Context, blobs Blobs, now time.Time) error {
	m.UpdatedAt = now.UTC().Truncate(time.Millisecond)
	m.First, m.Last = time.Time{}, time.Time{}
	for i := range m.Files {
		f := &m.Files[i]
		if i == 0 || f.First.Before(m.First) {
			m.First = f.First
		}
		if f.Last.After(m.Last) {
			m.Last = f.Last
		}
	}
	text, err := json.Marshal(m)
	if err != nil {
		return fmt.Errorf("encode the manifest: %w", err)
	}
	if len(text) > maxManifest { // nobody could read it again
		return fmt.Errorf("the manifest of %s would have %d bytes, at most %d: %w", m.Month, len(text), maxManifest, audit.ErrTooLarge)
	}
	of, err := parseMonth(m.Month)
	if err != nil {
		return err
	}
	content, key := export.ContentOf(text, "application/json"), of.folder()+manifestName
	if m.etag == "" {
		return blobs.Create(ctx, m.Tenant, key, content)
	}
	return blobs.Replace(ctx, m.Tenant, key, m.etag, content)
}

// file returns the part with a name; nil: there is none.
func (m *Manifest) file(name string) *File {
	if i := slices.IndexFunc(m.Files, func(f File) bool { return f.Name == name }); i >= 0 {
		return &m.Files[i]
	}
	return nil
}

// day returns the record of a day; nil: it was not archived.
func (m *Manifest) day(day time.Time) *Day {
	name := day.Format(time.DateOnly)
	if i := slices.IndexFunc(m.Days, func(d Day) bool { return d.Day == name }); i >= 0 {
		return &m.Days[i]
	}
	return nil
}

// rowsOn returns how many entries of a day the parts have.
func (m *Manifest) rowsOn(day string) (n int64) {
	for i := range m.Files {
		for _, d := range m.Files[i].Days {
			if d.Day == day {
				n += d.Rows
			}
		}
	}
	return n
}

// setDay records that a day was archived.
func (m *Manifest) setDay(d Day) {
	i, found := slices.BinarySearchFunc(m.Days, d.Day, func(e Day, name string) int { return strings.Compare(e.Day, name) })
	if found {
		m.Days[i] = d
		return
	}
	m.Days = slices.Insert(m.Days, i, d)
}

// update changes the manifest of a month, from its newest state until nobody else changes it meanwhile.
// It stores nothing if change returns false. It returns errLost if there is no manifest.
func update(ctx context.Context, blobs Blobs, tenant audit.TenantID, of month, now func() time.Time, change func(*Manifest) (bool, error)) (*Manifest, error) {
	for range maxAttempts {
		m, err := readManifest(ctx, blobs, tenant, of)
		if err == nil && m.etag == "" {
			err = errLost
		}
		if err != nil {
			return nil, err
		}
		changed, err := change(m)
		if err != nil || !changed {
			return m, err
		}
		err = m.put(ctx, blobs, now())
		if err == nil {
			return m, nil
		}
		if !errors.Is(err, audit.ErrConflict) {
			return nil, fmt.Errorf("store the manifest of %s: %w", of, err)
		}
	}
	return nil, &audit.UnavailableError{Err: fmt.Errorf("the manifest of %s of %s changes too often", of, tenant)}
}

// maxAttempts is how often update tries. Only workers of one tenant's month compete.
const maxAttempts = 8

// hexSum returns a SHA-256 in hexadecimal digits.
func hexSum(sum [32]byte) string { return hex.EncodeToString(sum[:]) }
