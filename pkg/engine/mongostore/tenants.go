package mongostore

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo/readpref"

	"github.com/ocelot-audit/ocelot/pkg/audit"
)

// Tenants keeps the records of tenants. It implements tenants.Store.
type Tenants struct{ db *DB }

// Tenants returns the records of tenants.
func (db *DB) Tenants() *Tenants { return &Tenants{db} }

const (
	fieldCreatedAt = "created_at"
	fieldVersion   = "version"
	fieldIsolation = "settings.isolation"
	fieldTombstone = "tombstone" // set if only the id is left, which stays taken
)

type tenantDocument struct {
	ID        string           `bson:"_id"`
	Name      string           `bson:"name"`
	Status    string           `bson:"status"`
	CreatedAt time.Time        `bson:"created_at"`
	UpdatedAt time.Time        `bson:"updated_at"`
	Settings  settingsDocument `bson:"settings"`
	Version   int64            `bson:"version"`
	// Placements stay out of the settings: clients do not see them.
	Placements  []placementDocument `bson:"placements,omitempty"`
	Restored    []restoredDocument  `bson:"restored,omitempty"`
	KeepArchive bool                `bson:"keep_archive,omitempty"`
}

type placementDocument struct {
	Since  time.Time `bson:"since"`
	Family string    `bson:"family"`
}

type restoredDocument struct {
	From  time.Time `bson:"from"`
	To    time.Time `bson:"to"`
	Until time.Time `bson:"until"`
}

type settingsDocument struct {
	RetentionDays   int                 `bson:"retention_days"`
	RetentionRules  []ruleDocument      `bson:"retention_rules"`
	SearchableDays  int                 `bson:"searchable_days"`
	Archive         bool                `bson:"archive"`
	LogLevels       []string            `bson:"log_levels"`
	RemoveSecrets   bool                `bson:"remove_secrets"`
	Detect          []string            `bson:"detect"`
	SensitiveFields []sensitiveDocument `bson:"sensitive_fields"`
	Tier            string              `bson:"tier"`
	Isolation       string              `bson:"isolation"`
}

// ruleDocument is a retention rule. It has an action or a severity.
type ruleDocument struct {
	Action   string `bson:"action,omitempty"`
	Severity string `bson:"severity,omitempty"`
	Days     int    `bson:"days"`
}

// sensitiveDocument is the rule of a sensitive field.
type sensitiveDocument struct {
	Path       string `bson:"path"`
	Mask       string `bson:"mask"`
	Subject    string `bson:"subject,omitempty"`
	Searchable bool   `bson:"searchable"`
}

func newSensitiveDocuments(rules []audit.SensitiveField) []sensitiveDocument {
	docs := make([]sensitiveDocument, len(rules))
	for i, r := range rules {
		docs[i] = sensitiveDocument{Path: r.Path, Mask: string(r.Mask), Subject: r.Subject, Searchable: r.Searchable}
	}
	return docs
}

func readSensitiveFields(docs []sensitiveDocument) []audit.SensitiveField {
	rules := make([]audit.SensitiveField, len(docs))
	for i, doc := range docs {
		rules[i] = audit.SensitiveField{Path: doc.Path, Mask: audit.Mask(doc.Mask), Subject: doc.Subject, Searchable: doc.Searchable}
	}
	return rules
}

func newRuleDocuments(rules []audit.RetentionRule) []ruleDocument {
	docs := make([]ruleDocument, len(rules))
	for i, r := range rules {
		docs[i] = ruleDocument{Action: r.Action, Days: r.Days}
		if r.Severity != nil {
			docs[i].Severity = r.Severity.String()
		}
	}
	return docs
}

func readRules(docs []ruleDocument) ([]audit.RetentionRule, error) {
	rules := make([]audit.RetentionRule, len(docs))
	for i, doc := range docs {
		rules[i] = audit.RetentionRule{Action: doc.Action, Days: doc.Days}
		if doc.Severity == "" {
			continue
		}
		severity, err := audit.ParseSeverity(doc.Severity)
		if err != nil {
			return nil, fmt.Errorf("field retention_rules %w", errStored)
		}
		rules[i].Severity = &severity
	}
	return rules, nil
}

func newTenantDocument(t *audit.Tenant, version int64) tenantDocument {
	s := &t.Settings
	levels := make([]string, len(s.LogLevels))
	for i, severity := range s.LogLevels {
		levels[i] = severity.String()
	}
	detect := make([]string, len(s.Detect))
	for i, d := range s.Detect {
		detect[i] = string(d)
	}
	placements := make([]placementDocument, len(t.Placements))
	for i, p := range t.Placements {
		placements[i] = placementDocument(p)
	}
	restored := make([]restoredDocument, len(t.Restored))
	for i, r := range t.Restored {
		restored[i] = restoredDocument(r)
	}
	return tenantDocument{
		ID: string(t.ID), Name: t.Name, Status: string(t.Status), CreatedAt: t.CreatedAt, UpdatedAt: t.UpdatedAt, Version: version, Placements: placements, Restored: restored, KeepArchive: t.KeepArchive,
		Settings: settingsDocument{
			RetentionDays: s.RetentionDays, RetentionRules: newRuleDocuments(s.RetentionRules), SearchableDays: s.SearchableDays, Archive: s.Archive,
			LogLevels: levels, RemoveSecrets: s.RemoveSecrets, Detect: detect, SensitiveFields: newSensitiveDocuments(s.SensitiveFields),
			Tier: string(s.Tier), Isolation: string(s.Isolation),
		},
	}
}

func readTenant(raw bson.Raw) (audit.Tenant, error) {
	doc := tenantDocument{Settings: settingsDocument{RemoveSecrets: true}} // older records lack it
	if err := bson.Unmarshal(raw, &doc); err != nil {
		return audit.Tenant{}, fmt.Errorf("the record %w", errStored)
	}
	s := &doc.Settings
	levels := make([]audit.Severity, len(s.LogLevels))
	for i, name := range s.LogLevels {
		var err error
		if levels[i], err = audit.ParseSeverity(name); err != nil {
			return audit.Tenant{}, fmt.Errorf("field log_levels %w", errStored)
		}
	}
	rules, err := readRules(s.RetentionRules)
	if err != nil {
		return audit.Tenant{}, err
	}
	detect := make([]audit.Detector, len(s.Detect))
	for i, name := range s.Detect {
		detect[i] = audit.Detector(name)
	}
	placements := make([]audit.Placement, len(doc.Placements))
	for i, p := range doc.Placements {
		placements[i] = audit.Placement{Since: p.Since.UTC(), Family: p.Family}
	}
	restored := make([]audit.Restored, len(doc.Restored))
	for i, r := range doc.Restored {
		restored[i] = audit.Restored{From: r.From.UTC(), To: r.To.UTC(), Until: r.Until.UTC()}
	}
	return audit.Tenant{
		ID: audit.TenantID(doc.ID), Name: doc.Name, Status: audit.TenantStatus(doc.Status),
		CreatedAt: doc.CreatedAt.UTC(), UpdatedAt: doc.UpdatedAt.UTC(), Version: doc.Version, Placements: placements, Restored: restored, KeepArchive: doc.KeepArchive,
		Settings: audit.Settings{
			RetentionDays: s.RetentionDays, RetentionRules: rules, SearchableDays: s.SearchableDays, Archive: s.Archive,
			LogLevels: levels, RemoveSecrets: s.RemoveSecrets, Detect: detect, SensitiveFields: readSensitiveFields(s.SensitiveFields),
			Tier: audit.Tier(s.Tier), Isolation: audit.Isolation(s.Isolation),
		},
	}, nil
}

// Create implements tenants.Store. Times are kept to the millisecond.
func (s *Tenants) Create(ctx context.Context, tenant audit.Tenant) error {
	err := s.db.ensureTenants(ctx) // an insert must not create the collection while an index does
	if err == nil {
		err = s.db.insertOne(ctx, collectionTenants, newTenantDocument(&tenant, 1))
	}
	if err != nil {
		return fmt.Errorf("create tenant %s: %w", tenant.ID, err)
	}
	return nil
}

// Tenant implements tenants.Store.
func (s *Tenants) Tenant(ctx context.Context, id audit.TenantID) (audit.Tenant, error) {
	var tenant audit.Tenant
	doc, err := s.read(ctx, id)
	if err == nil {
		tenant, err = readTenant(doc)
	}
	if err != nil {
		return audit.Tenant{}, fmt.Errorf("tenant %s: %w", id, err)
	}
	return tenant, nil
}

// read returns the document of a tenant. It returns audit.ErrNotFound for a tombstone.
func (s *Tenants) read(ctx context.Context, id audit.TenantID) (bson.Raw, error) {
	doc, err := s.db.read(ctx, collectionTenants, readpref.Primary(), string(id))
	if err != nil {
		return nil, err
	}
	if isTombstone(doc) {
		return nil, audit.ErrNotFound
	}
	return doc, nil
}

func isTombstone(doc bson.Raw) bool {
	tombstone, _ := doc.Lookup(fieldTombstone).BooleanOK()
	return tombstone
}

// List implements tenants.Store.
func (s *Tenants) List(ctx context.Context, only []audit.TenantID, after audit.TenantID, limit int) (tenants []audit.Tenant, more bool, err error) {
	id := bson.D{{Key: "$gt", Value: string(after)}}
	if only != nil {
		id = append(id, bson.E{Key: "$in", Value: only})
	}
	query := bson.D{{Key: fieldKey, Value: id}, notTombstone()}
	err = s.db.list(ctx, collectionTenants, indexID, ascending(fieldKey), limit+1, query, func(doc bson.Raw) (bool, error) {
		if more = len(tenants) == limit; more {
			return false, nil
		}
		tenant, err := readTenant(doc)
		tenants = append(tenants, tenant)
		return true, err
	})
	if err != nil {
		return nil, false, fmt.Errorf("list tenants: %w", err)
	}
	return tenants, more, nil
}

func notTombstone() bson.E {
	return bson.E{Key: fieldTombstone, Value: bson.D{{Key: "$ne", Value: true}}}
}

// Update implements tenants.Store.
func (s *Tenants) Update(ctx context.Context, tenant audit.Tenant) error {
	current := append(withKey(string(tenant.ID)), bson.E{Key: fieldVersion, Value: tenant.Version - 1}, notTombstone())
	err := s.db.replaceOne(ctx, collectionTenants, current, newTenantDocument(&tenant, tenant.Version))
	if errors.Is(err, audit.ErrNotFound) {
		if _, err = s.read(ctx, tenant.ID); err == nil {
			err = audit.ErrPrecondition
		}
	}
	if err != nil {
		return fmt.Errorf("update tenant %s: %w", tenant.ID, err)
	}
	return nil
}

// Tombstone implements tenants.Store.
func (s *Tenants) Tombstone(ctx context.Context, id audit.TenantID, version int64) error {
	if err := retry(ctx, func() error { return s.tombstone(ctx, id, version) }); err != nil {
		return fmt.Errorf("tombstone tenant %s: %w", id, err)
	}
	return nil
}

func (s *Tenants) tombstone(ctx context.Context, id audit.TenantID, version int64) error {
	current := append(withKey(string(id)), bson.E{Key: fieldVersion, Value: version}, notTombstone())
	err := s.db.replaceOne(ctx, collectionTenants, current, append(withKey(string(id)), bson.E{Key: fieldTombstone, Value: true}))
	if !errors.Is(err, audit.ErrNotFound) {
		return err
	}
	stored, err := s.db.read(ctx, collectionTenants, readpref.Primary(), string(id))
	if err != nil || isTombstone(stored) {
		return err
	}
	return audit.ErrPrecondition
}
