package httpapi

import (
	"errors"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/access"
	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/cursor"
	"github.com/ocelot-audit/ocelot/pkg/manifest"
	"github.com/ocelot-audit/ocelot/pkg/tenants"
)

func adminBodies() *bodies {
	return &bodies{media: []string{MediaJSON}, wire: maxAdminBody, unpacked: maxAdminBody}
}

// ListTenants answers GET /tenants: one page of the tenants that the caller may see.
func ListTenants(gate *Gate, s *tenants.Service, cursors *cursor.Signer) http.Handler {
	return gate.endpoint("list-tenants", func(req *request) (*response, error) {
		only, err := visibleTenants(&req.principal)
		if err != nil {
			return nil, err
		}
		limit, err := req.limit()
		if err != nil {
			return nil, err
		}
		read := func(after string, limit int) ([]audit.Tenant, bool, error) {
			return s.Tenants.List(req.Context(), only, audit.TenantID(after), limit)
		}
		return pageOf(req, cursors, "tenants of "+req.principal.Subject, limit, read, func(w *writer, tenant *audit.Tenant) string {
			appendTenant(w, tenant)
			return string(tenant.ID)
		})
	})
}

// visibleTenants returns the ids that the principal may see, or nil for every tenant.
// It returns audit.ErrForbidden if the principal may see none.
func visibleTenants(p *access.Principal) ([]audit.TenantID, error) {
	ids, all := p.TenantIDs()
	if all {
		if _, err := p.Authorize(access.AnyTenant, access.TenantsRead); err == nil {
			return nil, nil
		}
	}
	visible := []audit.TenantID{}
	for _, id := range ids {
		if _, err := p.Authorize(id, access.TenantsRead); err == nil {
			visible = append(visible, id)
		}
	}
	if len(visible) == 0 {
		return nil, audit.ErrForbidden
	}
	return visible, nil
}

// CreateTenant answers POST /tenants.
func CreateTenant(gate *Gate, s *tenants.Service) http.Handler {
	in := adminBodies()
	return gate.endpoint("create-tenant", func(req *request) (*response, error) {
		if _, err := req.principal.Authorize(access.AnyTenant, access.TenantsCreate); err != nil {
			return nil, err
		}
		body, err := readDocument(in, req)
		if err != nil {
			return nil, err
		}
		tenant := audit.Tenant{Settings: audit.DefaultSettings()}
		var id string
		body.text("id", &id)
		body.text("name", &tenant.Name)
		readSettings(body, &tenant.Settings)
		body.close()
		if err := body.err(); err != nil {
			return nil, err
		}
		tenant.ID = audit.TenantID(id)
		created, err := s.Create(req.Context(), req.principal, tenant)
		if err != nil {
			return nil, explain(err, audit.ErrConflict, ProblemConflict, "A tenant has this id, or a deleted one had it.")
		}
		return tenantResponse(http.StatusCreated, &created, time.Time{}).
			set("Location", manifest.BasePath+"/tenants/"+string(created.ID)), nil
	})
}

// settingsField is the member of a tenant that has its settings.
const settingsField = "settings"

// readSettings changes the settings that the document names. The others keep their values.
func readSettings(body *document, to *audit.Settings) {
	if d := body.object(settingsField); d != nil {
		changeSettings(d, to)
	}
}

// changeSettings changes the settings that d, the object of settings, has.
func changeSettings(d *document, to *audit.Settings) {
	d.integer("retention_days", &to.RetentionDays)
	readRetentionRules(d, &to.RetentionRules)
	d.integer("searchable_days", &to.SearchableDays)
	d.boolean("archive", &to.Archive)
	readLogLevels(d, &to.LogLevels)
	d.boolean("remove_secrets", &to.RemoveSecrets)
	readDetectors(d, &to.Detect)
	readSensitiveFields(d, &to.SensitiveFields)
	tier, isolation := string(to.Tier), string(to.Isolation)
	d.text("tier", &tier)
	d.text("isolation", &isolation)
	to.Tier, to.Isolation = audit.Tier(tier), audit.Isolation(isolation)
	d.close()
}

// readRetentionRules reads the rules. It replaces all of them.
func readRetentionRules(d *document, to *[]audit.RetentionRule) {
	objects, ok := d.objects("retention_rules")
	if !ok {
		return
	}
	rules := make([]audit.RetentionRule, len(objects))
	for i, o := range objects {
		o.text("action", &rules[i].Action)
		if _, given := o.members["days"]; !given {
			o.fault("days", "required", "is required")
		}
		o.integer("days", &rules[i].Days)
		var name string
		if o.text("severity", &name); name != "" {
			severity, err := audit.ParseSeverity(name)
			if err != nil {
				o.fault("severity", "invalid_choice", err.Error())
			}
			rules[i].Severity = &severity
		}
		o.close()
	}
	*to = rules
}

// readSensitiveFields reads the rules of what is encrypted, with their defaults.
func readSensitiveFields(d *document, to *[]audit.SensitiveField) {
	objects, ok := d.objects("sensitive_fields")
	if !ok {
		return
	}
	rules := make([]audit.SensitiveField, len(objects))
	for i, o := range objects {
		var rule audit.SensitiveField
		mask := ""
		o.text("path", &rule.Path)
		o.text("mask", &mask)
		o.text("subject", &rule.Subject)
		o.boolean("searchable", &rule.Searchable)
		rule.Mask = audit.Mask(mask)
		rules[i] = rule.WithDefaults()
		o.close()
	}
	*to = rules
}

// readLogLevels reads severities, sorts them and removes duplicates.
func readLogLevels(d *document, to *[]audit.Severity) {
	var names []string
	if d.texts("log_levels", &names); names == nil {
		return
	}
	levels := []audit.Severity{}
	for _, name := range names {
		severity, err := audit.ParseSeverity(name)
		if err != nil {
			d.fault("log_levels", "invalid_choice", "must have only severities, each "+err.Error())
			return
		}
		levels = append(levels, severity)
	}
	slices.Sort(levels)
	*to = slices.Compact(levels)
}

// readDetectors reads detectors, sorts them and removes duplicates. Validation refuses unknown ones.
func readDetectors(d *document, to *[]audit.Detector) {
	var names []string
	if d.texts("detect", &names); names == nil {
		return
	}
	slices.Sort(names)
	names = slices.Compact(names)
	detectors := make([]audit.Detector, len(names))
	for i, name := range names {
		detectors[i] = audit.Detector(name)
	}
	*to = detectors
}

// GetTenant answers GET /tenants/{id}, with the record's version as its ETag.
func GetTenant(gate *Gate, s *tenants.Service) http.Handler {
	return gate.endpoint("get-tenant", func(req *request) (*response, error) {
		tenant, err := s.Tenants.Tenant(req.Context(), req.tenant.ID) // the gate's copy may be some seconds old
		if err != nil {
			return nil, err
		}
		return tenantResponse(http.StatusOK, &tenant, time.Time{}), nil
	})
}

// UpdateTenant answers PUT /tenants/{id}: it replaces name and settings. Settings that the
// body leaves out take their defaults, except for the isolation, which can never change.
func UpdateTenant(gate *Gate, s *tenants.Service) http.Handler {
	return changeTenant(gate, "update-tenant", s, []string{MediaJSON}, func(body *document, to *tenants.Change) {
		isolation := to.Settings.Isolation
		*to = tenants.Change{Settings: audit.DefaultSettings()}
		to.Settings.Isolation = isolation
		body.text("name", &to.Name)
		readSettings(body, &to.Settings)
	})
}

// PatchTenant answers PATCH /tenants/{id}: it merges a JSON Merge Patch (RFC 7396) into name
// and settings. A platform operator may also set the status.
func PatchTenant(gate *Gate, s *tenants.Service) http.Handler {
	return changeTenant(gate, "patch-tenant", s, []string{MediaMergePatch, MediaJSON}, func(body *document, to *tenants.Change) {
		body.text("name", &to.Name)
		status := string(to.Status)
		body.text(statusField, &status)
		to.Status = audit.TenantStatus(status)
		mergeSettings(body, &to.Settings)
	})
}

// statusField is the member that only a platform operator may change.
const statusField = "status"

// mergeSettings changes the settings that the merge patch names. null gives a setting its
// default. If all settings are null, the isolation stays, because it can never change.
func mergeSettings(body *document, to *audit.Settings) {
	defaults := audit.DefaultSettings()
	if body.popNull(settingsField) {
		defaults.Isolation = to.Isolation
		*to = defaults
		return
	}
	d := body.object(settingsField)
	if d == nil {
		return
	}
	var w writer
	appendSettings(&w, &defaults)
	for name, value := range membersOf(w.b) {
		if d.popNull(name) {
			d.members[name] = value
		}
	}
	changeSettings(d, to)
}

// maxOverwrites is the number of attempts of a change with If-Match: *. An attempt fails
// if the record changes between read and write.
const maxOverwrites = 5

// changeTenant returns the handler of a function that changes a tenant's record. It requires
// If-Match, so that a client cannot overwrite a change that it has not read. "*" overwrites
// any version. apply reads the members of the body.
func changeTenant(gate *Gate, function string, s *tenants.Service, media []string, apply func(body *document, to *tenants.Change)) http.Handler {
	in := &bodies{media: media, wire: maxAdminBody, unpacked: maxAdminBody}
	return gate.endpoint(function, func(req *request) (*response, error) {
		match, err := req.ifMatch()
		if err != nil {
			return nil, err
		}
		body, err := readDocument(in, req)
		if err != nil {
			return nil, err
		}
		for attempt := 1; ; attempt++ {
			updated, inForceAt, err := applyChange(req, s, match, body.copy(), apply)
			if match.any && errors.Is(err, audit.ErrPrecondition) {
				if attempt < maxOverwrites {
					continue
				}
				err = &audit.UnavailableError{Err: errors.New("others change the tenant's record all the time")}
			}
			if err != nil {
				return nil, explain(err, audit.ErrConflict, ProblemConflict, "The tenant is being deleted: its status cannot change.")
			}
			return tenantResponse(http.StatusOK, &updated, inForceAt), nil
		}
	})
}

// applyChange reads the record, applies the body and writes the result. It also returns when the
// change is in force; see tenants.Service.InForceAt. It returns audit.ErrPrecondition if match excludes
// the version, or if the record changed meanwhile. Faults of the body come first (RFC 9110, section
// 13.2.1).
func applyChange(req *request, s *tenants.Service, match precondition, body *document, apply func(body *document, to *tenants.Change)) (updated audit.Tenant, inForceAt time.Time, err error) {
	current, err := s.Tenants.Tenant(req.Context(), req.tenant.ID)
	if err != nil {
		return audit.Tenant{}, time.Time{}, err
	}
	to := tenants.Change{Name: current.Name, Settings: current.Settings}
	apply(body, &to)
	body.close()
	if err := body.err(); err != nil {
		return audit.Tenant{}, time.Time{}, err
	}
	if to.Status != "" && !req.principal.IsOperator() {
		return audit.Tenant{}, time.Time{}, forbiddenField("/"+statusField, "may be set by a platform operator only")
	}
	version := current.Version
	if !match.matches(version) {
		version = noVersion
	}
	if updated, err = s.Update(req.Context(), req.principal, current.ID, to, version); err != nil {
		return audit.Tenant{}, time.Time{}, err
	}
	return updated, s.InForceAt(&current.Settings, &updated.Settings), nil
}

// noVersion is the version of no record.
const noVersion = -1

// precondition is a parsed If-Match.
type precondition struct {
	any  bool
	tags []string
}

func (p precondition) matches(version int64) bool {
	return p.any || slices.Contains(p.tags, etag(version))
}

// IfMatchHeader has the entity tags of the versions that a change may replace (RFC 9110).
const IfMatchHeader = "If-Match"

// ifMatch reads If-Match: "*" or a list of entity tags. Weak tags never match
// (RFC 9110, section 13.1.1).
func (req *request) ifMatch() (precondition, error) {
	value := strings.TrimSpace(strings.Join(req.Header[IfMatchHeader], ","))
	switch value {
	case "":
		return precondition{}, ProblemNoPrecondition.problem("Send the ETag of the tenant that you read as If-Match, or * to overwrite any version.")
	case "*":
		return precondition{any: true}, nil
	}
	var p precondition
	for tag := range strings.SplitSeq(value, ",") {
		tag = strings.TrimSpace(tag)
		opaque := strings.TrimPrefix(tag, "W/")
		if len(opaque) < 2 || opaque[0] != '"' || opaque[len(opaque)-1] != '"' {
			return precondition{}, badHeader(IfMatchHeader, "invalid_etag", `must be * or entity tags in double quotes, such as "3"`)
		}
		p.tags = append(p.tags, tag)
	}
	return p, nil
}

// paramKeepArchive leaves the archive of a deleted tenant where it is.
const paramKeepArchive = "keep_archive"

// DeleteTenant answers DELETE /tenants/{id} with the job that purges the tenant.
func DeleteTenant(gate *Gate, s *tenants.Service) http.Handler {
	return gate.endpoint("delete-tenant", func(req *request) (*response, error) {
		keep, err := req.takeFlag(paramKeepArchive)
		if err != nil {
			return nil, err
		}
		job, err := s.Delete(req.Context(), req.principal, req.tenant.ID, tenants.Deletion{KeepArchive: keep})
		if err != nil {
			err = explain(err, tenants.ErrOtherDeletion, ProblemConflict, "The tenant is being deleted, and what becomes of its archive is decided. Repeat the first request with the same keep_archive.")
			return nil, held(req, err, "A legal hold stands in the tenant.")
		}
		return jobStarted(&job), nil
	})
}

// tenantResponse is the answer with a tenant. inForceAt is zero if the tenant was not changed, or not
// in what protects entries.
func tenantResponse(status int, t *audit.Tenant, inForceAt time.Time) *response {
	w := writer{b: make([]byte, 0, 512)}
	w.open('{')
	appendTenantMembers(&w, t)
	w.optionalTime("in_force_at", inForceAt)
	w.close('}')
	return jsonResponse(status, &w).set("Etag", etag(t.Version))
}

func appendTenant(w *writer, t *audit.Tenant) {
	w.open('{')
	appendTenantMembers(w, t)
	w.close('}')
}

func appendTenantMembers(w *writer, t *audit.Tenant) {
	w.text("id", string(t.ID))
	w.text("name", t.Name)
	w.word(statusField, string(t.Status))
	w.time("created_at", t.CreatedAt)
	w.time("updated_at", t.UpdatedAt)
	if t.KeepArchive {
		w.boolean(paramKeepArchive, true)
	}
	w.name(settingsField)
	appendSettings(w, &t.Settings)
}

func appendSettings(w *writer, s *audit.Settings) {
	w.open('{')
	w.integer("retention_days", int64(s.RetentionDays))
	appendRetentionRules(w, s.RetentionRules)
	w.integer("searchable_days", int64(s.SearchableDays))
	w.boolean("archive", s.Archive)
	w.name("log_levels")
	w.open('[')
	for _, severity := range s.LogLevels {
		w.quoted(severity.String())
	}
	w.close(']')
	w.boolean("remove_secrets", s.RemoveSecrets)
	w.name("detect")
	w.open('[')
	for _, d := range s.Detect {
		w.quoted(string(d))
	}
	w.close(']')
	appendSensitiveFields(w, s.SensitiveFields)
	w.word("tier", string(s.Tier))
	w.word("isolation", string(s.Isolation))
	w.close('}')
}

func appendSensitiveFields(w *writer, rules []audit.SensitiveField) {
	w.name("sensitive_fields")
	w.open('[')
	for _, r := range rules {
		w.open('{')
		w.text("path", r.Path)
		w.word("mask", string(r.Mask))
		if r.Subject != "" {
			w.text("subject", r.Subject)
		}
		w.boolean("searchable", r.Searchable)
		w.close('}')
	}
	w.close(']')
}

func appendRetentionRules(w *writer, rules []audit.RetentionRule) {
	w.name("retention_rules")
	w.open('[')
	for _, r := range rules {
		w.open('{')
		if r.Severity != nil {
			w.word("severity", r.Severity.String())
		} else {
			w.text("action", r.Action)
		}
		w.integer("days", int64(r.Days))
		w.close('}')
	}
	w.close(']')
}
