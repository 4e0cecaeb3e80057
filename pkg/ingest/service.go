package ingest

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/entryjson"
	"github.com/ocelot-audit/ocelot/pkg/envelope"
	"github.com/ocelot-audit/ocelot/pkg/protect"
	"github.com/ocelot-audit/ocelot/pkg/trace"
)

// Service accepts entries: it reads, validates and completes them and sends them
// to the queue of the tenant's tier.
type Service struct {
	// Standard and Priority are the ingest queues of the two tiers.
	Standard, Priority Queue
	Now                func() time.Time
	// Random fills b with random bytes for ids; crypto/rand in production.
	Random func(b []byte)
	// CheckSpace returns an error if the queues must take no more entries of clients; nil: they
	// always may. The service's own records are queued nevertheless, so that changes such as a
	// deletion, which makes space, can be recorded.
	CheckSpace func(ctx context.Context) error
	// Keys encrypt sensitive fields. The service's own records have none.
	Keys Keys
	// Handoff remembers what was accepted for a Persister of the same process; nil: nothing does.
	Handoff *envelope.Handoff
	// Unencrypted gets the number of entries of a request that were rejected because a key could not
	// be had; nil: nobody counts them.
	Unencrypted func(ctx context.Context, tenant audit.TenantID, entries int)
}

// Submit accepts the JSON texts of entries, each independently: a faulty one is
// rejected alone. It returns one outcome for each text, in their order. The error
// is nil only once every accepted entry is durable in the queue. Submit keeps no
// reference to texts.
func (s *Service) Submit(ctx context.Context, tenant audit.Tenant, origin Origin, texts [][]byte) ([]Outcome, error) {
	b := s.batch(ctx, tenant, origin, texts...)
	for i, text := range texts {
		b.outcomes[i] = b.submit(i, text, "")
	}
	b.encrypt(ctx)
	return b.outcomes, s.accept(ctx, tenant, &b.packer)
}

// SubmitKeyed is Submit of one text with the idempotency key of the
// Idempotency-Key header. A key in the text must be the same.
func (s *Service) SubmitKeyed(ctx context.Context, tenant audit.Tenant, origin Origin, text []byte, key string) (Outcome, error) {
	b := s.batch(ctx, tenant, origin, text)
	b.outcomes[0] = b.submit(0, text, key)
	b.encrypt(ctx)
	return b.outcomes[0], s.accept(ctx, tenant, &b.packer)
}

// Record writes an entry about an action of the service into the tenant's log.
// The caller sets user, action, resource, states, metadata and message. Record
// sets the rest. The tenant's log_levels and retention_rules do not apply. An entry with an id keeps it
// and its timestamp, so that recording the same one again has no effect. One that is too large for
// queues and stores is an *audit.ValidationError.
func (s *Service) Record(ctx context.Context, tenant audit.Tenant, entry audit.Entry) error {
	now := s.now()
	entry.Tenant, entry.ReceivedAt = tenant.ID, now
	entry.SubmittedBy = audit.SubmittedByService
	if entry.ID == (audit.EntryID{}) {
		entry.Timestamp, entry.ID = now, audit.RandomEntryID(now, s.Random)
	}
	changed, err := entryjson.Changed(entry.Before, entry.After)
	if err != nil {
		return fmt.Errorf("record %s in %s: %w", entry.Action, tenant.ID, err)
	}
	entry.Changed = changed
	invalid := protect.RemoveSecrets(&tenant.Settings, &entry)
	if invalid == nil {
		invalid = protect.CheckStored(&entry)
	}
	if invalid != nil {
		return fmt.Errorf("record %s in %s: %w", entry.Action, tenant.ID, invalid)
	}
	submitted := entryjson.Submitted{Entry: entry}
	entry.Digest = submitted.DigestOf()
	packer := s.packer(ctx, tenant.ID)
	packer.Add(&entry)
	return s.send(ctx, tenant, &packer)
}

// packer returns a packer of ingest messages. They name the trace of the request.
func (s *Service) packer(ctx context.Context, tenant audit.TenantID) envelope.Packer {
	p := envelope.Packer{Tenant: tenant, Random: s.Random, Time: s.Now(), Handoff: s.Handoff}
	if t, has := trace.From(ctx); has {
		p.Traces = []trace.Trace{t}
	}
	return p
}

func (s *Service) now() time.Time { return s.Now().UTC().Truncate(time.Millisecond) }

func (s *Service) random() (b [10]byte) {
	s.Random(b[:])
	return b
}

// QueueOf returns the queue of a tenant's tier.
func QueueOf(tenant audit.Tenant, standard, priority Queue) Queue {
	if tenant.Settings.Tier == audit.TierPriority {
		return priority
	}
	return standard
}

// accept sends the entries of a client.
func (s *Service) accept(ctx context.Context, tenant audit.Tenant, packer *envelope.Packer) error {
	if s.CheckSpace != nil && packer.Len() > 0 {
		if err := s.CheckSpace(ctx); err != nil {
			return unavailable(err, "accept %d entries of %s", packer.Len(), tenant.ID)
		}
	}
	return s.send(ctx, tenant, packer)
}

func (s *Service) send(ctx context.Context, tenant audit.Tenant, packer *envelope.Packer) error {
	entries := packer.Len()
	if entries == 0 {
		return nil
	}
	messages, err := packer.Messages()
	packer.Release()
	if err != nil {
		return err
	}
	if err := QueueOf(tenant, s.Standard, s.Priority).Send(ctx, tenant.ID, messages); err != nil {
		return unavailable(err, "enqueue %d entries of %s", entries, tenant.ID)
	}
	return nil
}

// batch collects the entries of one request.
type batch struct {
	service *Service
	tenant  audit.Tenant
	origin  Origin
	// agentRemoved is Removed of an entry that has the origin's agent.
	agentRemoved []string
	now          time.Time
	outcomes     []Outcome
	seen         map[audit.EntryID]audit.Digest
	ids          audit.IDSequence // of the entries that bring no identity
	packer       envelope.Packer
	rules        *protect.Rules
	masked       []masked // the accepted entries, if there are rules
}

func (s *Service) batch(ctx context.Context, tenant audit.Tenant, origin Origin, texts ...[]byte) *batch {
	origin.UserAgent = cleanAgent(origin.UserAgent)
	agent, agentRemoved := protect.RemoveFromAgent(&tenant.Settings, origin.UserAgent)
	origin.UserAgent = agent
	var start [4]byte
	s.Random(start[:])
	b := &batch{
		ids: audit.NewIDSequence(start), service: s, tenant: tenant, origin: origin, agentRemoved: agentRemoved, now: s.now(),
		outcomes: make([]Outcome, len(texts)), seen: make(map[audit.EntryID]audit.Digest, len(texts)),
		packer: s.packer(ctx, tenant.ID), rules: protect.NewRules(tenant.Settings.SensitiveFields),
	}
	size := 0
	for _, text := range texts {
		size += len(text)
	}
	b.packer.Grow(len(texts), size)
	return b
}

// cleanAgent makes the User-Agent header valid UTF-8 of at most audit.MaxUserAgent bytes.
func cleanAgent(agent string) string {
	return audit.Cut(strings.ToValidUTF8(agent, "\uFFFD"), audit.MaxUserAgent)
}

// submit decides about one text and packs the entry if it is accepted. Under rules it only masks
// the entry; see encrypt.
func (b *batch) submit(index int, text []byte, key string) Outcome {
	submitted, invalid := entryjson.ParseSubmitted(text)
	if invalid != nil {
		return rejected(audit.EntryID{}, b.withValueFaults(&submitted, key, invalid))
	}
	entry := &submitted.Entry
	if faults := b.complete(&submitted, key); len(faults) > 0 {
		return rejected(entry.ID, &audit.ValidationError{Fields: faults})
	}
	if earlier, twice := b.seen[entry.ID]; twice {
		if earlier == entry.Digest {
			return Outcome{ID: entry.ID, Status: Duplicate}
		}
		return rejected(entry.ID, audit.Invalid("", audit.CodeIdentityConflict,
			"must not have the identity of an earlier entry of this request with other content"))
	}
	switch settings := &b.tenant.Settings; {
	case !settings.HasLogLevel(entry.Severity):
		return Outcome{ID: entry.ID, Status: Filtered}
	case !settings.IsVisible(entry, b.now):
		return Outcome{ID: entry.ID, Status: Expired}
	}
	if invalid := b.pack(index, entry); invalid != nil {
		return rejected(entry.ID, invalid)
	}
	b.seen[entry.ID] = entry.Digest
	return Outcome{ID: entry.ID, Status: Accepted}
}

func rejected(id audit.EntryID, invalid *audit.ValidationError) Outcome {
	return Outcome{ID: id, Status: Rejected, Err: invalid}
}

// withValueFaults returns the faults of an entry's shape and those of the values of its other
// fields, so that a client sees all of them at once.
func (b *batch) withValueFaults(s *entryjson.Submitted, key string, shape *audit.ValidationError) *audit.ValidationError {
	if s.Unreadable {
		return shape
	}
	faults := shape.Fields
	for _, fault := range b.complete(s, key) {
		known := slices.ContainsFunc(shape.Fields, func(f audit.FieldError) bool { return f.Pointer == fault.Pointer })
		if !known && len(faults) < audit.MaxFaults {
			faults = append(faults, fault)
		}
	}
	return &audit.ValidationError{Fields: faults}
}

// complete sets the fields that the client left out, removes secrets, and sets the identity and the
// digest. It returns every fault.
func (b *batch) complete(s *entryjson.Submitted, key string) []audit.FieldError {
	var faults []audit.FieldError
	add := func(pointer, code, detail string) {
		faults = append(faults, audit.FieldError{Pointer: pointer, Code: code, Detail: detail})
	}
	if s.ClaimedTenant != "" && s.ClaimedTenant != string(b.tenant.ID) {
		add("/tenant_id", "tenant_mismatch", "must be the tenant of the request or be left out")
	}
	if owner := b.origin.Owner; owner != "" && s.UserID != "" && s.UserID != owner {
		add("/user_id", "not_own", "must be the subject of the credential, which may write only its own entries")
	}
	if key != "" && s.IdempotencyKey != "" && s.IdempotencyKey != key {
		add("/idempotency_key", "key_mismatch", "must agree with the Idempotency-Key header")
	}
	if key != "" {
		s.IdempotencyKey = key
	}
	if s.IdempotencyKey != "" && !s.HasTimestamp && s.ID.IsZero() {
		add("/timestamp", "required", "is required with an idempotency key: a retry must repeat both")
	}
	switch {
	case s.HasTimestamp:
	case !s.ID.IsZero():
		s.Timestamp = s.ID.Time()
	default:
		s.Timestamp = b.now
	}
	faults = append(faults, s.Validate(b.now)...)
	if len(faults) > 0 {
		return faults
	}
	if invalid := b.protect(s); invalid != nil {
		return invalid.Fields
	}
	s.Digest = s.DigestOf() // of what is left, so that nobody can test a guess of a secret against it
	if faults = b.identify(s); len(faults) > 0 {
		return faults
	}
	s.Tenant, s.ReceivedAt, s.SubmittedBy = b.tenant.ID, b.now, b.origin.SubmittedBy
	if !s.HasIPAddress {
		s.IPAddress = b.origin.IPAddress
	}
	if !s.HasUserAgent {
		s.UserAgent = b.origin.UserAgent
		s.Removed = append(s.Removed, b.agentRemoved...)
	}
	return nil
}

// protect removes secrets. What changed is found before, in what the client sent.
func (b *batch) protect(s *entryjson.Submitted) *audit.ValidationError {
	changed, err := s.ChangedPaths(protect.IsStandIn)
	if err != nil {
		return audit.Invalid("/after_state", "invalid_json", "must be a JSON object that can be compared with before_state")
	}
	s.Changed = changed
	return protect.RemoveSecrets(&b.tenant.Settings, &s.Entry)
}

// identify sets the entry's id: the client's own, the one derived from its idempotency key, or
// the next one of the request.
func (b *batch) identify(s *entryjson.Submitted) []audit.FieldError {
	switch {
	case !s.ID.IsZero() && !s.ID.Time().Equal(s.Timestamp):
		return audit.Invalid("/id", "id_mismatch", "must name the milliseconds of timestamp").Fields
	case !s.ID.IsZero():
	case s.IdempotencyKey != "":
		s.ID = audit.DeriveEntryID(b.tenant.ID, s.Timestamp, s.IdempotencyKey)
	default:
		s.ID = b.ids.NewEntryID(s.Timestamp, b.service.random())
	}
	return nil
}
