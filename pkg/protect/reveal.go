package protect

import (
	"context"
	"errors"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/entryjson"
)

const (
	// MaxReason is the length of the longest reason, in bytes.
	MaxReason = 1024
	// ActionReveal is the action of the record of a revealed read.
	ActionReveal = "log.reveal"
	// maxRecordedIDs is the most ids of entries in such a record.
	maxRecordedIDs = 100
)

// KeyOpener returns keys that decrypt; see Keyring.Opening.
type KeyOpener interface {
	Opening(ctx context.Context, tenant audit.TenantID, refs []KeyRef) (Opening, error)
}

// Revealer decrypts values for readers who may see them.
type Revealer struct {
	Keys     KeyOpener
	Recorder audit.Recorder
	// Unreadable gets the number of elements that were altered. nil: nothing counts them.
	Unreadable func(ctx context.Context, tenant audit.TenantID, elements int)
	// Failed gets the error if keys cannot be had, so that masks are answered. nil: nothing does.
	Failed func(ctx context.Context, tenant audit.TenantID, err error)
}

// Revealed is an entry whose values stand in their places again.
type Revealed struct {
	Entry  audit.Entry
	Places entryjson.Places
}

// CheckReason returns an error unless the reason for a reveal can be recorded. pointer is where it
// stands.
func CheckReason(pointer, reason string) *audit.ValidationError {
	switch {
	case strings.TrimSpace(reason) == "":
		return audit.Invalid(pointer, "required", "is required to reveal values: it is recorded in the tenant's log")
	case len(reason) > MaxReason:
		return audit.Invalid(pointer, "too_long", "must be at most %d bytes", MaxReason)
	}
	return nil
}

// Reveal returns the entries with their values. It returns only once the reveal is recorded in the
// tenant's log, with who asked and why. Values whose keys cannot be had now stay masked.
func (r *Revealer) Reveal(ctx context.Context, tenant audit.Tenant, by, reason string, entries []audit.Entry) ([]Revealed, error) {
	keys := r.keys(ctx, tenant.ID, entries)
	revealed := make([]Revealed, len(entries))
	var record Revelation
	for i := range entries {
		revealed[i] = r.open(ctx, tenant.ID, &entries[i], keys)
		record.Add(&revealed[i])
	}
	if err := audit.Record(ctx, r.Recorder, tenant, record.Record(by, reason)); err != nil {
		return nil, err
	}
	return revealed, nil
}

// Open returns the entries with their values. The caller records the reveal. It returns an error if keys
// cannot be had now, an *audit.UnavailableError if a retry can succeed.
func (r *Revealer) Open(ctx context.Context, tenant audit.TenantID, entries []audit.Entry) ([]Revealed, error) {
	keys := &Opening{}
	if refs := refsOf(entries); len(refs) > 0 {
		opening, err := r.Keys.Opening(ctx, tenant, refs)
		if err != nil && !errors.Is(err, audit.ErrNotFound) { // without a root, no key of the tenant exists
			return nil, err
		}
		keys = &opening
	}
	revealed := make([]Revealed, len(entries))
	for i := range entries {
		revealed[i] = r.open(ctx, tenant, &entries[i], keys)
	}
	return revealed, nil
}

// open returns an entry with its values. keys is nil if the keys cannot be had.
func (r *Revealer) open(ctx context.Context, tenant audit.TenantID, e *audit.Entry, keys *Opening) Revealed {
	revealed := Revealed{Entry: *e}
	o := opened{Revealed: &revealed, values: map[string][]byte{}}
	for i := range e.Encrypted {
		o.element(tenant, &e.Encrypted[i], keys)
	}
	if !o.put() {
		o.giveUp(*e)
	}
	if o.altered > 0 && r.Unreadable != nil {
		r.Unreadable(ctx, tenant, o.altered)
	}
	return revealed
}

// keys returns the keys of the entries. Without an answer it has none.
func (r *Revealer) keys(ctx context.Context, tenant audit.TenantID, entries []audit.Entry) *Opening {
	refs := refsOf(entries)
	if len(refs) == 0 {
		return &Opening{}
	}
	keys, err := r.Keys.Opening(ctx, tenant, refs)
	if err == nil {
		return &keys
	}
	if r.Failed != nil {
		r.Failed(ctx, tenant, err)
	}
	return nil
}

// refsOf returns the keys that encrypt values of the entries, each once.
func refsOf(entries []audit.Entry) []KeyRef {
	refs := map[KeyRef]bool{}
	for i := range entries {
		for j := range entries[i].Encrypted {
			if ref, err := RefOf(&entries[i].Encrypted[j]); err == nil {
				refs[ref] = true
			}
		}
	}
	return slices.Collect(maps.Keys(refs))
}

// opened collects the values of one entry.
type opened struct {
	*Revealed

	values  map[string][]byte
	altered int
}

// element decrypts one element. keys is nil if the keys cannot be had.
func (o *opened) element(tenant audit.TenantID, e *audit.Encrypted, keys *Opening) {
	ref, err := RefOf(e)
	switch {
	case err != nil:
		o.unreadable(e)
		return
	case keys == nil:
		o.Places.Masked = append(o.Places.Masked, e.Paths...)
		return
	case keys.Destroyed[ref]:
		o.Places.Erased = append(o.Places.Erased, e.Paths...)
		return
	}
	key, has := keys.Keys[ref]
	if !has {
		o.unreadable(e)
		return
	}
	values, err := Open(&key, tenant, o.Entry.ID, e)
	if err != nil {
		o.unreadable(e)
		return
	}
	for i, path := range e.Paths {
		o.values[path] = values[i]
	}
	o.Places.Revealed = append(o.Places.Revealed, e.Paths...)
}

func (o *opened) unreadable(e *audit.Encrypted) {
	o.Places.Unreadable = append(o.Places.Unreadable, e.Paths...)
	o.altered++
}

// put puts the values into their places. It reports false unless every value has its place.
func (o *opened) put() bool {
	for _, places := range [][]string{o.Places.Masked, o.Places.Revealed, o.Places.Erased, o.Places.Unreadable} {
		slices.Sort(places)
	}
	e := &o.Entry
	for field, object := range map[string]*audit.Object{
		entryjson.NameBefore: &e.Before, entryjson.NameAfter: &e.After, entryjson.NameMetadata: &e.Metadata,
	} {
		put, err := entryjson.PutValues(*object, pointerTo(field), o.values)
		if err != nil {
			return false
		}
		*object = put
	}
	o.text(entryjson.NameMessage, &e.Message)
	o.text(entryjson.NameUserAgent, &e.UserAgent)
	o.text(entryjson.NameSessionID, &e.SessionID)
	address := ""
	if o.text(entryjson.NameIPAddress, &address); address != "" {
		parsed, err := netip.ParseAddr(address)
		if err != nil {
			return false
		}
		e.IPAddress = parsed
	}
	return len(o.values) == 0
}

// text sets to to the value of a top-level field, if that is a string, and takes it out of the values.
func (o *opened) text(field string, to *string) {
	pointer := pointerTo(field)
	content, err := jsontext.AppendUnquote(nil, o.values[pointer])
	if err != nil {
		return
	}
	*to = string(content)
	delete(o.values, pointer)
}

// giveUp leaves the entry as it is stored: what stands in the places was altered.
func (o *opened) giveUp(stored audit.Entry) {
	o.Entry = stored
	o.Places.Unreadable = append(o.Places.Unreadable, o.Places.Revealed...)
	o.Places.Revealed = nil
	slices.Sort(o.Places.Unreadable)
	o.altered++
}

// Revelation is what is recorded of one answer or file: how much was revealed, and some of the entries.
type Revelation struct {
	recordedEntries

	Values int `json:"values"`
}

// Add counts an entry, if one of its values was revealed.
func (r *Revelation) Add(revealed *Revealed) {
	if len(revealed.Places.Revealed) == 0 {
		return
	}
	r.add(revealed.Entry.ID)
	r.Values += len(revealed.Places.Revealed)
}

// Record returns the entry about the reveal in the tenant's log, with who asked and why.
func (r *Revelation) Record(by, reason string) audit.Entry {
	metadata := []byte(`{"reason":`)
	metadata = append(metadata, entryjson.Quote(reason)...)
	metadata = strconv.AppendInt(append(metadata, `,"values":`...), int64(r.Values), 10)
	metadata = append(r.appendTo(append(metadata, ',')), '}')
	return audit.Entry{UserID: by, Action: ActionReveal, ResourceType: "log", Severity: audit.SeverityWarning, Metadata: metadata}
}
