package events_test

import (
	"context"
	"encoding/json"
	"errors"
	"net/url"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/access"
	"github.com/ocelot-audit/ocelot/pkg/arrival"
	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/certificate"
	"github.com/ocelot-audit/ocelot/pkg/cursor"
	"github.com/ocelot-audit/ocelot/pkg/entryjson"
	"github.com/ocelot-audit/ocelot/pkg/hold"
	"github.com/ocelot-audit/ocelot/pkg/jobs"
	"github.com/ocelot-audit/ocelot/pkg/quarantine"
	"github.com/ocelot-audit/ocelot/pkg/search"
	"github.com/ocelot-audit/ocelot/pkg/stream"
	"github.com/ocelot-audit/ocelot/pkg/tenants"
	"github.com/ocelot-audit/ocelot/pkg/wiring"
)

// fixtures is what a service holds before each sample: the file fixtures.json.
type fixtures struct {
	Tenants    []audit.Tenant    `json:"tenants"`
	Entries    []json.RawMessage `json:"entries"` // as stores keep them
	Keys       []keyFixture      `json:"keys"`
	Quarantine []itemFixture     `json:"quarantine"`
	Jobs       []jobs.Job        `json:"jobs"`
	// Certificates are texts by id. The key of their signatures is not kept.
	Certificates map[certificate.ID]string `json:"certificates"`
	Holds        []hold.Hold               `json:"holds"`
	// Connections are those of clients of the live stream.
	Connections []connectionFixture `json:"connections"`
}

type connectionFixture struct {
	ID         string           `json:"id"`
	Tenant     audit.TenantID   `json:"tenant_id"`
	Principal  access.Principal `json:"principal"`
	Subscribed bool             `json:"subscribed"` // to everything from now on
}

type keyFixture struct {
	Tenant      audit.TenantID `json:"tenant_id"`
	ID          string         `json:"id"`
	Name        string         `json:"name"`
	Secret      string         `json:"secret"`
	Permissions []string       `json:"permissions"`
	CreatedAt   time.Time      `json:"created_at"`
}

type itemFixture struct {
	ID            string          `json:"id"`
	Step          string          `json:"step"`
	Code          string          `json:"code"`
	Reason        string          `json:"reason"`
	QuarantinedAt time.Time       `json:"quarantined_at"`
	Entry         json.RawMessage `json:"entry"` // as stores keep it
}

// The names that samples use.
const (
	acme              audit.TenantID = "acme"
	gone              audit.TenantID = "gone" // deleted, its purge is queued
	keyID                            = "00112233445566ff"
	keySecret                        = "ocelot_c2FtcGxlLWtleS1vZi10aGUtZXZlbnRzLWZvbGRlci0"
	itemID                           = "00112233445566778899aabbccddeeff"
	heldItemID                       = "ffeeddccbbaa99887766554433221100"
	purgeJob                         = "purge-gone"
	failedJob                        = "failed-acme"
	erasureJob                       = "erasure-acme"
	holdID                           = "hold-acme"
	restoreJob                       = "restore-acme"
	exportJob                        = "export-acme"
	archiveJob                       = "archive-gone"
	sampleCertificate                = "eyJhbGciOiJFZERTQSJ9.eyJraW5kIjoiZXJhc3VyZSJ9.c2lnbmF0dXJl"
	connected                        = "JaWwEeHxIAMCFZA="
	subscribed                       = "KbXxFfIyJBNDGAB="
	noEntryID                        = "0190163d-8694-739b-aea5-966c26f8ad90"
)

var sampleTime = time.Date(2026, 3, 1, 10, 20, 30, 0, time.UTC)

func certificateID() certificate.ID { return certificate.ID{15: 1} }

// storedEntry is the n-th entry of the samples.
func storedEntry(n byte) audit.Entry {
	at := sampleTime.Add(time.Duration(n) * time.Minute)
	return audit.Entry{
		ID: audit.NewEntryID(at, [10]byte{9: n}), Tenant: acme, UserID: "ada", Action: audit.ActionUpdate,
		ResourceType: "order", ResourceID: "4711", Timestamp: at, Severity: audit.SeverityWarning,
		Before: audit.Object(`{"state":"open"}`), After: audit.Object(`{"state":"paid"}`), Changed: []string{"state"},
		Metadata: audit.Object(`{"channel":"web","total":19.90}`), Message: "The order was paid", ReceivedAt: at,
		Digest: audit.Digest{Sum: [32]byte{n}},
	}
}

func storedText(n byte) []byte { return textOf(storedEntry(n)) }

// textOf returns an entry as stores keep it.
func textOf(entry audit.Entry) []byte { return entryjson.AppendStored(nil, &entry) }

// unheldEntry is the n-th entry of the samples, but of a user whom no legal hold names.
func unheldEntry(n byte) audit.Entry {
	entry := storedEntry(n)
	entry.UserID = "bob"
	return entry
}

func theFixtures() fixtures {
	settings := audit.DefaultSettings()
	settings.RetentionDays = 0 // samples do not age
	tenant := func(id audit.TenantID, name string, status audit.TenantStatus) audit.Tenant {
		return audit.Tenant{ID: id, Name: name, Status: status, CreatedAt: sampleTime, UpdatedAt: sampleTime, Settings: settings}
	}
	return fixtures{
		Tenants: []audit.Tenant{tenant(acme, "Acme", audit.TenantActive), tenant(gone, "Gone", audit.TenantDeleting)},
		Entries: []json.RawMessage{storedText(1), storedText(2)},
		Keys: []keyFixture{{Tenant: acme, ID: keyID, Name: "samples", Secret: keySecret,
			Permissions: []string{string(access.LogsWrite), string(access.LogsStream)}, CreatedAt: sampleTime}},
		Quarantine: []itemFixture{
			{ID: itemID, Step: audit.StepIndex, Code: audit.CodeUnstorable, Reason: "the index refused it", QuarantinedAt: sampleTime, Entry: textOf(unheldEntry(3))},
			{ID: heldItemID, Step: audit.StepIndex, Code: audit.CodeUnstorable, Reason: "the index refused it", QuarantinedAt: sampleTime, Entry: storedText(4)},
		},
		Jobs: []jobs.Job{
			{ID: purgeJob, Kind: jobs.KindPurgeTenant, Tenant: gone, State: jobs.StateQueued, CreatedBy: "op", CreatedAt: sampleTime, ResumeAt: sampleTime},
			{ID: archiveJob, Kind: jobs.KindArchive, Tenant: gone, State: jobs.StateQueued, CreatedBy: audit.SubmittedByService, CreatedAt: sampleTime,
				ResumeAt: sampleTime, Checkpoint: json.RawMessage(`{"month":"2026-01"}`)},
			{ID: erasureJob, Kind: jobs.KindErasure, Tenant: acme, State: jobs.StateRunning, CreatedBy: "ada", CreatedAt: sampleTime, StartedAt: sampleTime,
				Generation: 1, Checkpoint: json.RawMessage(`{"subject":"000102030405060708090a0b0c0d0e0f","erases_at":"2026-01-03T00:00:00Z"}`), ResumeAt: sampleTime},
			{ID: restoreJob, Kind: jobs.KindRestore, Tenant: acme, State: jobs.StateQueued, CreatedBy: "ada", CreatedAt: sampleTime, ResumeAt: sampleTime,
				Checkpoint: json.RawMessage(`{"from":"2026-01-01T00:00:00Z","to":"2026-02-01T00:00:00Z","days":14,"until":"2026-03-15T10:20:30Z"}`)},
			{ID: exportJob, Kind: jobs.KindExport, Tenant: acme, State: jobs.StateRunning, Progress: 0.5, Count: 2, CreatedBy: "bob", CreatedAt: sampleTime,
				StartedAt: sampleTime, Generation: 1, ResumeAt: sampleTime, Scope: &access.Scope{}, Checkpoint: json.RawMessage(`{"request":{"options":{"format":["csv"]}}}`)},
			// Last: to add a job removes those that finished long ago.
			{ID: failedJob, Kind: jobs.KindPurgeTenant, Tenant: acme, State: jobs.StateFailed, Progress: 0.5, Count: 2, CreatedBy: "op", CreatedAt: sampleTime,
				StartedAt: sampleTime, FinishedAt: sampleTime, Error: "the tenant is not being deleted", Generation: 1},
		},
		Certificates: map[certificate.ID]string{certificateID(): sampleCertificate},
		Holds:        []hold.Hold{{ID: holdID, Tenant: acme, Matter: "Case 9", Reason: "letter", UserIDs: []string{"ada"}, CreatedBy: "ada", CreatedAt: sampleTime, InForceAt: sampleTime, Version: 2}},
		Connections: []connectionFixture{
			{ID: connected, Tenant: acme, Principal: auditor.Within(acme, access.LogsStream)},
			{ID: subscribed, Tenant: acme, Principal: auditor.Within(acme, access.LogsStream), Subscribed: true},
		},
	}
}

// put writes the fixtures into empty stores.
func (f fixtures) put(ctx context.Context, stores wiring.Stores) error {
	for _, t := range f.Tenants {
		if err := stores.Tenants.Create(ctx, t); err != nil {
			return err
		}
	}
	for i, text := range f.Entries {
		entry, err := entryjson.ParseStored(text)
		if err != nil {
			return err
		}
		_, storeErr := stores.Entries.Append(ctx, entry.Tenant, []audit.Entry{entry})
		_, indexErr := search.PutEntries(ctx, stores.Index, entry.Tenant, []audit.Entry{entry})
		arrivalErr := stores.Arrivals.Append(ctx, entry.Tenant, arrival.Segment{
			First: int64(i) + 1, IDs: []audit.EntryID{entry.ID}, Messages: []audit.MessageID{{byte(i) + 1}}, WrittenAt: sampleTime,
		})
		if err := errors.Join(storeErr, indexErr, arrivalErr); err != nil {
			return err
		}
	}
	for _, k := range f.Keys {
		key := tenants.Key{ID: k.ID, Tenant: k.Tenant, Name: k.Name, Hash: access.HashSecret(k.Secret), Permissions: k.Permissions, CreatedAt: k.CreatedAt}
		if err := stores.Keys.CreateKey(ctx, key); err != nil {
			return err
		}
	}
	for _, i := range f.Quarantine {
		entry, err := entryjson.ParseStored(i.Entry)
		if err != nil {
			return err
		}
		item := quarantine.Item{ID: i.ID, Step: i.Step, Code: i.Code, Reason: i.Reason, QuarantinedAt: i.QuarantinedAt, Entry: entry}
		if err := stores.Quarantine.Put(ctx, entry.Tenant, []quarantine.Item{item}); err != nil {
			return err
		}
	}
	for _, job := range f.Jobs {
		if err := stores.Jobs.CreateJob(ctx, job); err != nil {
			return err
		}
	}
	for id, text := range f.Certificates {
		if err := stores.Certificates.AddCertificate(ctx, id, text); err != nil {
			return err
		}
	}
	for _, h := range f.Holds {
		if err := stores.Holds.CreateHold(ctx, h); err != nil {
			return err
		}
	}
	for _, c := range f.Connections {
		if err := c.put(ctx, stores); err != nil {
			return err
		}
	}
	return nil
}

func (c connectionFixture) put(ctx context.Context, stores wiring.Stores) error {
	made := stream.Connection{ID: c.ID, Tenant: c.Tenant, Principal: c.Principal, ConnectedAt: time.Now(), ExpiresAt: time.Now().Add(stream.MaxConnection)}
	if c.Subscribed {
		const id = "3f1c09d2a4b87e65"
		filter, err := stream.SealFilter(cursor.NewSigner(cursorKey), c.Tenant, id, url.Values{})
		if err != nil {
			return err
		}
		made.Subscription = &stream.Subscription{ID: id, SealedFilter: filter} // nothing was sent yet
		if err := stores.Streams.Open(ctx, c.Tenant, made.ExpiresAt); err != nil {
			return err
		}
	}
	return stores.Connections.Create(ctx, made)
}
