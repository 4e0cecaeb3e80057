package manifest

import (
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/access"
)

// The queues.
const (
	QueueIngest         QueueName = "ingest"
	QueueIngestPriority QueueName = "ingest-priority"
	QueueIndex          QueueName = "index"
	QueueArrival        QueueName = "arrival"
	QueueJobs           QueueName = "jobs"
	QueueArchive        QueueName = "archive" // jobs and tasks of the archive
	QueueStream         QueueName = "stream"
)

// The resources.
const (
	ResourceEntries    Resource = "entries"     // the system of record
	ResourceIndex      Resource = "search"      // the search index
	ResourceTenants    Resource = "tenants"     // tenant records
	ResourceKeys       Resource = "keys"        // API keys
	ResourceTenantKeys Resource = "tenant-keys" // the wrapped keys that encrypt values
	ResourceMasterKey  Resource = "master-key"  // the key that wraps them; read: unwrap, write: wrap
	ResourceJobs       Resource = "jobs"        // jobs
	ResourceHolds      Resource = "legal-holds" // legal holds
	ResourceExports    Resource = "exports"     // the files of exports; read: sign URLs for downloading them
	ResourceTombstones Resource = "tombstones"  // which keys were destroyed, apart from the database
	ResourceArchive    Resource = "archive"     // the files of the archive
	ResourceQuarantine Resource = "quarantine"  // entries in quarantine
	ResourceCursorKey  Resource = "cursor-key"  // the keys that sign cursors and tickets; write: replace them
	ResourceTokens     Resource = "tokens"      // the keys that verify bearer tokens
	ResourceTimeZones  Resource = "time-zones"  // the tz database
	ResourceArrival    Resource = "arrival"     // the arrival log: the order in which entries were stored
	ResourceQuotas     Resource = "quotas"      // how much of their quotas the tenants have used
	ResourceAttempts   Resource = "attempts"    // which refused attempts are recorded

	ResourceCertificates Resource = "certificates" // certificates, and the keys that sign them

	ResourceStream      Resource = "stream"      // who sends to the subscribers of a tenant, and how far they are
	ResourceConnections Resource = "connections" // the records of connected clients and their subscriptions
	ResourceSockets     Resource = "sockets"     // the connections themselves; write: send over them
)

const queueResourcePrefix = "queue/"

// QueueResource returns a queue as a resource.
func QueueResource(name QueueName) Resource { return queueResourcePrefix + Resource(name) }

// Queue returns the queue that the resource is. It returns false if the resource is none.
func (r Resource) Queue() (QueueName, bool) {
	name, is := strings.CutPrefix(string(r), queueResourcePrefix)
	return QueueName(name), is
}

// Queues returns every queue.
func Queues() []Queue {
	return slices.Clone(queues)
}

// deadLettering grants sending unreadable messages to the queues' dead-letter queues.
func deadLettering(queues ...QueueName) []Grant {
	grants := make([]Grant, len(queues))
	for i, name := range queues {
		grants[i] = Grant{Resource: QueueResource(name.DeadLetters()), Write: true}
	}
	return grants
}

// maxReceives is how often a message is received before it goes to the dead-letter
// queue. SQS allows at most 1,000. While an engine is down, a message fails and returns
// within two minutes. An outage of a day therefore sends no message to the dead-letter
// queue. Messages that can never be read go there at once (see lambdaedge.Queue).
const maxReceives = 1000

var queues = []Queue{
	{Name: QueueIngest, VisibilityTimeout: 3 * time.Minute, MaxReceives: maxReceives},
	{Name: QueueIngestPriority, VisibilityTimeout: 3 * time.Minute, MaxReceives: maxReceives},
	{Name: QueueIndex, VisibilityTimeout: 3 * time.Minute, MaxReceives: maxReceives},
	{Name: QueueArrival, VisibilityTimeout: 3 * time.Minute, MaxReceives: maxReceives},
	{Name: QueueJobs, VisibilityTimeout: 60 * time.Minute, MaxReceives: maxReceives},
	{Name: QueueArchive, VisibilityTimeout: 90 * time.Minute, MaxReceives: maxReceives},
	{Name: QueueStream, VisibilityTimeout: 3 * time.Minute, MaxReceives: maxReceives},
}

// prepareEvery is the interval between the starts of prepare-partitions, which works a
// month ahead.
const prepareEvery = 6 * time.Hour

// placeEvery is the interval between the starts of place-tenants, which looks at whole months.
const placeEvery = 12 * time.Hour

// planEvery is the interval between the starts of plan-jobs. With jobs.Service.Plan it bounds
// how long a job stands still whose worker was killed.
const planEvery = 2 * time.Minute

// reconcileEvery is the interval between the starts of reconcile-index.
const reconcileEvery = 15 * time.Minute

// retainEvery is the interval between the starts of retain-logs. Reads hide what has expired at once.
const retainEvery = time.Hour

// archiveEvery is the interval between the starts of archive-logs. Days are due some hours after their end.
const archiveEvery = time.Hour

// replayEvery is the interval between the starts of replay-erasures, after which keys of a database that
// was restored are destroyed again.
const replayEvery = 15 * time.Minute

// rotateEvery is the interval between rotations of the key of cursors and tickets. A key verifies
// tickets for three intervals at most, and cursors for as long as it is one of cursor.MaxKeys.
const rotateEvery = 90 * 24 * time.Hour

func route(method, path string, permission access.Permission, from TenantSource, query ...string) Trigger {
	return Trigger{Route: &Route{Method: method, Path: path, Permission: permission, TenantFrom: from, Query: query}}
}

// filtered returns the trigger of a route that takes the filters of a list and its own query
// parameters.
func filtered(method, path string, permission access.Permission, query ...string) Trigger {
	t := route(method, path, permission, TenantFromHeader, query...)
	t.Route.Filters = true
	return t
}

// batchOf returns a trigger for up to 100 messages that arrive within a second. A
// write costs the stores about the same for one entry and for a hundred.
func batchOf(queue QueueName, maxConcurrency int) QueueTrigger {
	return QueueTrigger{Queue: queue, BatchSize: 100, Window: time.Second, MaxConcurrency: maxConcurrency}
}

func socket(key string) Trigger { return Trigger{Socket: &Socket{Key: key}} }

func read(resources ...Resource) []Grant {
	grants := make([]Grant, len(resources))
	for i, r := range resources {
		grants[i] = Grant{Resource: r, Read: true}
	}
	return grants
}

func write(resources ...Resource) []Grant {
	grants := make([]Grant, len(resources))
	for i, r := range resources {
		grants[i] = Grant{Resource: r, Write: true}
	}
	return grants
}

var (
	ingestQueues = []Resource{QueueResource(QueueIngest), QueueResource(QueueIngestPriority)}
	// recording adds the grants needed to write an audit entry about a change.
	recording = write(ingestQueues...)
	// encrypting adds the grants needed to encrypt values, with keys that are made at their first use.
	encrypting = slices.Concat(read(ResourceTenantKeys, ResourceMasterKey), write(ResourceTenantKeys, ResourceMasterKey))
	// accepting are the grants needed to accept entries.
	accepting = slices.Concat(read(ResourceTenants, ResourceQuotas), read(ingestQueues...), write(ResourceQuotas), write(ingestQueues...), encrypting)
	// certifying adds the grants needed to sign a certificate, with a key that is made at its first use.
	certifying = slices.Concat(read(ResourceCertificates, ResourceMasterKey), write(ResourceCertificates, ResourceMasterKey))
	// starting adds the grants needed to start a job that can be canceled.
	starting = slices.Concat(read(ResourceJobs), write(ResourceJobs, QueueResource(QueueJobs)))
	// restoring adds the grants needed to start or cancel a restore, which reads the archive.
	restoring = slices.Concat(read(ResourceJobs), write(ResourceJobs, QueueResource(QueueArchive)), recording)
	// walking adds the grants needed to start a job that reads entries and keeps their filters encrypted.
	walking = slices.Concat(starting, encrypting, recording)
	// revealing adds the grants needed to decrypt values, and to record who saw them.
	revealing = slices.Concat(read(ResourceTenantKeys, ResourceMasterKey), recording)
	// answering adds the grants needed to answer a client's message over a connection.
	answering = slices.Concat(read(ResourceConnections), write(ResourceConnections, ResourceSockets))
	// listing are the grants needed to answer one page of entries.
	listing = read(ResourceTenants, ResourceEntries, ResourceIndex, ResourceCursorKey)
	// checking adds the grants needed to find out whether a client may use its connection.
	checking = read(ResourceTenants, ResourceKeys)
	// refusing are the grants needed to record who was refused what; see withRefusals.
	refusing = slices.Concat(read(ResourceTenants), write(ResourceAttempts), recording)
	// nudging adds the grants needed to ask that a stream is looked at.
	nudging = write(QueueResource(QueueStream))
)

const (
	small  = 256 // MB; JSON in, one record out
	medium = 512
	large  = 1024 // MB; bulk bodies and pages of up to 16 MiB unpacked
)

// Functions returns every function, ordered by name.
func Functions() []Function {
	return slices.Clone(functions())
}

// made has the table once it was asked for. Most functions never ask, and their programs then do not
// have it.
var made struct {
	once      sync.Once
	functions []Function
}

func functions() []Function {
	made.once.Do(func() { made.functions = withRefusals(table()) })
	return made.functions
}

// withRefusals adds the grants needed to record refused attempts to every function that decides whether
// a caller may do something in a tenant.
func withRefusals(table []Function) []Function {
	for i := range table {
		f := &table[i]
		r, s := f.Trigger.Route, f.Trigger.Socket
		if f.Trigger.Authorizer || r != nil && r.Permission != "" && r.TenantFrom != TenantNone || s != nil && s.Key == SocketConnect {
			f.Grants = union(f.Grants, refusing)
		}
	}
	return table
}

// union returns the grants of both, each once.
func union(a, b []Grant) []Grant {
	all := slices.Clone(a)
	for _, g := range b {
		if !slices.Contains(all, g) {
			all = append(all, g)
		}
	}
	return all
}

func table() []Function {
	return []Function{
		{
			Name: "archive-logs", Summary: "Share out the days whose entries are to be archived",
			Trigger: Trigger{Schedule: &Schedule{Every: archiveEvery}},
			Grants: slices.Concat(
				read(ResourceEntries), write(ResourceEntries, QueueResource(QueueArchive))), MemoryMB: small, Timeout: 5 * time.Minute,
		},
		{
			Name: "authorize-request", Summary: "Check whether a request's credential may access its tenant",
			Trigger: Trigger{Authorizer: true},
			Grants:  slices.Concat(read(ResourceTenants, ResourceKeys, ResourceTokens), write(ResourceKeys)), MemoryMB: small, Timeout: 5 * time.Second,
		},
		{
			Name: "cancel-erasure", Summary: "Cancel the erasure of a subject",
			Trigger: route(http.MethodDelete, "/tenants/{id}/erasures/{erasure}", access.SubjectsErase, TenantFromPath),
			Grants:  slices.Concat(read(ResourceTenants, ResourceJobs), write(ResourceJobs), recording), MemoryMB: small, Timeout: 10 * time.Second,
		},
		{
			Name: "cancel-job", Summary: "Cancel a job",
			Trigger: route(http.MethodDelete, "/jobs/{id}", access.JobsRead, TenantFromHeader),
			Grants:  slices.Concat(read(ResourceTenants), starting, restoring), MemoryMB: small, Timeout: 10 * time.Second,
		},
		{
			Name: "cancel-restore", Summary: "Cancel a restore of archived entries",
			Trigger: route(http.MethodDelete, "/tenants/{id}/restores/{restore}", access.ArchiveRestore, TenantFromPath),
			Grants:  slices.Concat(read(ResourceTenants), restoring), MemoryMB: small, Timeout: 10 * time.Second,
		},
		{
			Name: "cleanup-logs", Summary: "Start the removal of entries before their end, or preview it",
			Trigger: filtered(http.MethodDelete, "/logs/cleanup", access.LogsCleanup, "archive", "before", "dry_run"),
			Grants:  slices.Concat(read(ResourceTenants, ResourceIndex, ResourceHolds), walking), MemoryMB: medium, Timeout: 25 * time.Second,
		},
		{
			Name: "connect-stream", Summary: "Open a client's connection to the live stream",
			Trigger: socket(SocketConnect),
			Grants:  slices.Concat(read(ResourceTenants, ResourceKeys, ResourceTokens, ResourceCursorKey), write(ResourceKeys, ResourceConnections)), MemoryMB: small, Timeout: 10 * time.Second,
		},
		{
			Name: "create-erasure", Summary: "Erase what is encrypted about a subject",
			Trigger: route(http.MethodPost, "/tenants/{id}/erasures", access.SubjectsErase, TenantFromPath),
			Grants: slices.Concat(
				read(ResourceTenants, ResourceHolds), starting, encrypting, recording),
			MemoryMB: small, Timeout: 10 * time.Second,
		},
		{
			Name: "create-export", Summary: "Start an export that is written to a file",
			Trigger: route(http.MethodPost, "/logs/exports", access.LogsExport, TenantFromHeader),
			Grants:  slices.Concat(read(ResourceTenants, ResourceHolds), walking), MemoryMB: small, Timeout: 10 * time.Second,
		},
		{
			Name: "create-key", Summary: "Create an API key",
			Trigger: route(http.MethodPost, "/tenants/{id}/api-keys", access.KeysManage, TenantFromPath),
			Grants:  slices.Concat(read(ResourceTenants, ResourceKeys), write(ResourceKeys), recording), MemoryMB: small, Timeout: 10 * time.Second,
		},
		{
			Name: "create-legal-hold", Summary: "Keep entries from being removed",
			Trigger: route(http.MethodPost, "/tenants/{id}/legal-holds", access.HoldsManage, TenantFromPath),
			Grants: slices.Concat(
				read(ResourceTenants, ResourceJobs, ResourceHolds), write(ResourceTenants, ResourceJobs, ResourceHolds, QueueResource(QueueJobs)), recording),
			MemoryMB: small, Timeout: 10 * time.Second,
		},
		{
			Name: "create-log", Summary: "Accept one entry",
			Trigger: route(http.MethodPost, "/logs", access.LogsWrite, TenantFromHeader),
			Grants:  accepting, MemoryMB: medium, Timeout: 10 * time.Second,
		},
		{
			Name: "create-logs-bulk", Summary: "Accept up to 1,000 entries",
			Trigger: route(http.MethodPost, "/logs/bulk", access.LogsWrite, TenantFromHeader),
			Grants:  accepting, MemoryMB: large, Timeout: 20 * time.Second,
		},
		{
			Name: "create-restore", Summary: "Bring archived entries back for some days",
			Trigger: route(http.MethodPost, "/tenants/{id}/restores", access.ArchiveRestore, TenantFromPath),
			Grants:  slices.Concat(read(ResourceTenants), restoring), MemoryMB: small, Timeout: 10 * time.Second,
		},
		{
			Name: "create-stream-ticket", Summary: "Create a ticket that lets a browser connect to the live stream",
			Trigger: route(http.MethodPost, StreamPath+"/tickets", access.LogsStream, TenantFromHeader),
			Grants:  read(ResourceTenants, ResourceCursorKey), MemoryMB: small, Timeout: 5 * time.Second,
		},
		{
			Name: "create-tenant", Summary: "Create a tenant",
			Trigger: route(http.MethodPost, "/tenants", access.TenantsCreate, TenantNone),
			Grants:  slices.Concat(read(ResourceTenants), write(ResourceTenants)), MemoryMB: small, Timeout: 10 * time.Second,
		},
		{
			Name: "delete-key", Summary: "Revoke an API key",
			Trigger: route(http.MethodDelete, "/tenants/{id}/api-keys/{key}", access.KeysManage, TenantFromPath),
			Grants:  slices.Concat(read(ResourceTenants, ResourceKeys), write(ResourceKeys), recording), MemoryMB: small, Timeout: 10 * time.Second,
		},
		{
			Name: "delete-quarantine", Summary: "Discard a quarantined entry",
			Trigger: route(http.MethodDelete, "/logs/quarantine/{id}", access.QuarantineManage, TenantFromHeader),
			Grants:  slices.Concat(read(ResourceTenants, ResourceQuarantine, ResourceHolds), write(ResourceQuarantine), recording), MemoryMB: small, Timeout: 10 * time.Second,
		},
		{
			Name: "delete-tenant", Summary: "Delete a tenant and everything it has",
			Trigger: route(http.MethodDelete, "/tenants/{id}", access.TenantsDelete, TenantFromPath, "keep_archive"),
			Grants: slices.Concat(
				read(ResourceTenants, ResourceJobs, ResourceHolds), write(ResourceTenants, ResourceJobs, QueueResource(QueueJobs)), recording),
			MemoryMB: small, Timeout: 10 * time.Second,
		},
		{
			Name: "disconnect-stream", Summary: "Remove a connection that has ended",
			Trigger: socket(SocketDisconnect),
			Grants:  write(ResourceConnections), MemoryMB: small, Timeout: 10 * time.Second,
		},
		{
			Name: "export-logs", Summary: "Export entries as a file, or start a job that does",
			Trigger: filtered(http.MethodGet, "/logs/export", access.LogsExport, "sort", "format", "fields", "time_format", "compress", "bom", "hold", "async"),
			Grants:  slices.Concat(read(ResourceTenants, ResourceEntries, ResourceIndex, ResourceHolds), walking), MemoryMB: large, Timeout: 25 * time.Second,
		},
		{
			Name: "feed-logs", Summary: "List entries in the order of their arrival",
			Trigger: filtered(http.MethodGet, "/logs/feed", access.LogsRead, "limit", "cursor"),
			Grants:  read(ResourceTenants, ResourceEntries, ResourceArrival, ResourceCursorKey), MemoryMB: large, Timeout: 25 * time.Second,
		},
		{
			Name: "get-certificate", Summary: "Return a certificate of what was destroyed",
			Trigger: route(http.MethodGet, "/certificates/{id}", "", TenantNone),
			Grants:  read(ResourceCertificates), MemoryMB: small, Timeout: 10 * time.Second,
		},
		{
			Name: "get-certificate-keys", Summary: "Return the public keys of certificates",
			Trigger: route(http.MethodGet, "/certificates/keys", "", TenantNone),
			Grants:  read(ResourceCertificates), MemoryMB: small, Timeout: 10 * time.Second,
		},
		{
			Name: "get-docs", Summary: "Return the documentation page",
			Trigger:  route(http.MethodGet, "/docs", "", TenantNone),
			MemoryMB: small, Timeout: 5 * time.Second,
		},
		{
			Name: "get-erasure", Summary: "Return the state of an erasure",
			Trigger: route(http.MethodGet, "/tenants/{id}/erasures/{erasure}", access.JobsRead, TenantFromPath),
			Grants:  read(ResourceTenants, ResourceJobs), MemoryMB: small, Timeout: 10 * time.Second,
		},
		{
			Name: "get-export", Summary: "Return the state of an export, with a URL of its file",
			Trigger: route(http.MethodGet, "/logs/exports/{id}", access.LogsExport, TenantFromHeader),
			Grants:  slices.Concat(read(ResourceTenants, ResourceJobs, ResourceExports), revealing), MemoryMB: small, Timeout: 10 * time.Second,
		},
		{
			Name: "get-health", Summary: "Report the state of each dependency",
			Trigger: route(http.MethodGet, "/health", "", TenantNone),
			Grants:  read(ResourceEntries, ResourceIndex, QueueResource(QueueIngest)), MemoryMB: small, Timeout: 10 * time.Second,
		},
		{
			Name: "get-job", Summary: "Return the state of a job",
			Trigger: route(http.MethodGet, "/jobs/{id}", access.JobsRead, TenantFromHeader),
			Grants:  read(ResourceTenants, ResourceJobs), MemoryMB: small, Timeout: 10 * time.Second,
		},
		{
			Name: "get-legal-hold", Summary: "Return a legal hold",
			Trigger: route(http.MethodGet, "/tenants/{id}/legal-holds/{hold}", access.HoldsRead, TenantFromPath),
			Grants:  read(ResourceTenants, ResourceHolds), MemoryMB: small, Timeout: 10 * time.Second,
		},
		{
			Name: "get-log", Summary: "Return one entry with its status",
			Trigger: route(http.MethodGet, "/logs/{id}", access.LogsRead, TenantFromHeader, "reveal", "reason"),
			Grants:  slices.Concat(read(ResourceTenants, ResourceEntries, ResourceIndex), revealing), MemoryMB: small, Timeout: 10 * time.Second,
		},
		{
			Name: "get-openapi", Summary: "Return the OpenAPI document",
			Trigger:  route(http.MethodGet, "/openapi.json", "", TenantNone),
			MemoryMB: small, Timeout: 5 * time.Second,
		},
		{
			Name: "get-restore", Summary: "Return the state of a restore",
			Trigger: route(http.MethodGet, "/tenants/{id}/restores/{restore}", access.JobsRead, TenantFromPath),
			Grants:  read(ResourceTenants, ResourceJobs), MemoryMB: small, Timeout: 10 * time.Second,
		},
		{
			Name: "get-stats", Summary: "Count entries by field and over time",
			Trigger: filtered(http.MethodGet, "/logs/stats", access.LogsStats, "group_by", "interval", "time_zone", "top"),
			Grants:  read(ResourceTenants, ResourceIndex, ResourceTimeZones), MemoryMB: medium, Timeout: 25 * time.Second,
		},
		{
			Name: "get-tenant", Summary: "Return one tenant",
			Trigger: route(http.MethodGet, "/tenants/{id}", access.TenantsRead, TenantFromPath),
			Grants:  read(ResourceTenants), MemoryMB: small, Timeout: 10 * time.Second,
		},
		{
			Name: "index-logs", Summary: "Add stored entries to the search index",
			Trigger: Trigger{Queues: []QueueTrigger{batchOf(QueueIndex, 20)}},
			Grants:  slices.Concat(read(ResourceTenants, ResourceTenantKeys, QueueResource(QueueIndex)), write(ResourceIndex, ResourceQuarantine), deadLettering(QueueIndex)), MemoryMB: large, Timeout: 30 * time.Second,
		},
		{
			Name: "list-erasures", Summary: "List a tenant's erasures",
			Trigger: route(http.MethodGet, "/tenants/{id}/erasures", access.JobsRead, TenantFromPath, "limit", "cursor"),
			Grants:  read(ResourceTenants, ResourceJobs, ResourceCursorKey), MemoryMB: small, Timeout: 10 * time.Second,
		},
		{
			Name: "list-exports", Summary: "List the exports that were started",
			Trigger: route(http.MethodGet, "/logs/exports", access.LogsExport, TenantFromHeader, "limit", "cursor"),
			Grants:  read(ResourceTenants, ResourceJobs, ResourceCursorKey), MemoryMB: small, Timeout: 10 * time.Second,
		},
		{
			Name: "list-jobs", Summary: "List the jobs that the caller may see",
			Trigger: route(http.MethodGet, "/jobs", access.JobsRead, TenantFromHeader, "kind", "state", "limit", "cursor"),
			Grants:  read(ResourceTenants, ResourceJobs, ResourceCursorKey), MemoryMB: small, Timeout: 10 * time.Second,
		},
		{
			Name: "list-keys", Summary: "List a tenant's API keys",
			Trigger: route(http.MethodGet, "/tenants/{id}/api-keys", access.KeysRead, TenantFromPath, "limit", "cursor"),
			Grants:  read(ResourceTenants, ResourceKeys, ResourceCursorKey), MemoryMB: small, Timeout: 10 * time.Second,
		},
		{
			Name: "list-legal-holds", Summary: "List a tenant's legal holds",
			Trigger: route(http.MethodGet, "/tenants/{id}/legal-holds", access.HoldsRead, TenantFromPath, "limit", "cursor"),
			Grants:  read(ResourceTenants, ResourceHolds, ResourceCursorKey), MemoryMB: small, Timeout: 10 * time.Second,
		},
		{
			Name: "list-logs", Summary: "List entries by filter and full text",
			Trigger: filtered(http.MethodGet, "/logs", access.LogsSearch, "sort", "limit", "cursor"),
			Grants:  listing, MemoryMB: large, Timeout: 25 * time.Second,
		},
		{
			Name: "list-quarantine", Summary: "List quarantined entries",
			Trigger: route(http.MethodGet, "/logs/quarantine", access.QuarantineRead, TenantFromHeader, "limit", "cursor"),
			Grants:  read(ResourceTenants, ResourceQuarantine, ResourceCursorKey), MemoryMB: medium, Timeout: 10 * time.Second,
		},
		{
			Name: "list-restores", Summary: "List a tenant's restores",
			Trigger: route(http.MethodGet, "/tenants/{id}/restores", access.JobsRead, TenantFromPath, "limit", "cursor"),
			Grants:  read(ResourceTenants, ResourceJobs, ResourceCursorKey), MemoryMB: small, Timeout: 10 * time.Second,
		},
		{
			Name: "list-tenants", Summary: "List the tenants that the caller may access",
			Trigger: route(http.MethodGet, "/tenants", access.TenantsRead, TenantNone, "limit", "cursor"),
			Grants:  read(ResourceTenants, ResourceCursorKey), MemoryMB: small, Timeout: 10 * time.Second,
		},
		{
			Name: "order-logs", Summary: "Give stored entries their places in the arrival log",
			Trigger: Trigger{Queues: []QueueTrigger{batchOf(QueueArrival, 20)}},
			Grants: slices.Concat(
				read(ResourceTenants, ResourceArrival, ResourceStream, QueueResource(QueueArrival)), write(ResourceArrival), nudging, deadLettering(QueueArrival)), MemoryMB: medium, Timeout: 30 * time.Second,
		},
		{
			Name: "patch-tenant", Summary: "Merge a change into a tenant's name and settings, or suspend a tenant",
			Trigger: route(http.MethodPatch, "/tenants/{id}", access.TenantsUpdate, TenantFromPath),
			Grants:  slices.Concat(read(ResourceTenants), write(ResourceTenants, QueueResource(QueueJobs)), recording), MemoryMB: small, Timeout: 10 * time.Second,
		},
		{
			Name: "persist-logs", Summary: "Store accepted entries in the system of record",
			Trigger: Trigger{Queues: []QueueTrigger{batchOf(QueueIngest, 50), batchOf(QueueIngestPriority, 50)}},
			Grants: slices.Concat(
				read(ResourceTenants, ResourceTenantKeys, ResourceMasterKey, QueueResource(QueueIngest), QueueResource(QueueIngestPriority)),
				write(ResourceEntries, ResourceQuarantine, QueueResource(QueueIndex), QueueResource(QueueArrival)), deadLettering(QueueIngest, QueueIngestPriority)), MemoryMB: large, Timeout: 30 * time.Second,
		},
		{
			Name: "ping-stream", Summary: "Answer a client's ping",
			Trigger: socket("ping"),
			Grants:  slices.Concat(answering, checking, read(ResourceStream, ResourceArrival, ResourceCursorKey), nudging), MemoryMB: small, Timeout: 10 * time.Second,
		},
		{
			Name: "place-tenants", Summary: "Give large tenants search indexes of their own and prepare those of the next month",
			Trigger: Trigger{Schedule: &Schedule{Every: placeEvery}},
			Grants:  slices.Concat(read(ResourceTenants, ResourceIndex), write(ResourceTenants, ResourceIndex)), MemoryMB: small, Timeout: 5 * time.Minute,
		},
		{
			Name: "plan-jobs", Summary: "Send again the messages of jobs that stand still",
			Trigger: Trigger{Schedule: &Schedule{Every: planEvery}},
			Grants:  slices.Concat(read(ResourceJobs), write(ResourceJobs, QueueResource(QueueJobs), QueueResource(QueueArchive))), MemoryMB: small, Timeout: 50 * time.Second,
		},
		{
			Name: "prepare-partitions", Summary: "Create the collections of the next month with their indexes",
			Trigger: Trigger{Schedule: &Schedule{Every: prepareEvery}},
			Grants: slices.Concat(
				read(ResourceTenants), write(ResourceTenants, ResourceEntries, ResourceQuarantine, ResourceKeys, ResourceArrival, ResourceStream, ResourceConnections, ResourceQuotas, ResourceAttempts)),
			MemoryMB: small, Timeout: 10 * time.Minute,
		},
		{
			Name: "reconcile-index", Summary: "Share out the days on which the search index and the arrival log are to be compared with the system of record",
			Trigger: Trigger{Schedule: &Schedule{Every: reconcileEvery}},
			Grants: slices.Concat(
				read(ResourceEntries), write(ResourceEntries, QueueResource(QueueJobs))), MemoryMB: small, Timeout: 5 * time.Minute,
		},
		{
			Name: "refuse-message", Summary: "Report what is wrong with a client's message",
			Trigger: socket(SocketDefault),
			Grants:  answering, MemoryMB: small, Timeout: 10 * time.Second,
		},
		{
			Name: "release-legal-hold", Summary: "End a legal hold",
			Trigger: route(http.MethodDelete, "/tenants/{id}/legal-holds/{hold}", access.HoldsManage, TenantFromPath, "reason"),
			Grants: slices.Concat(
				read(ResourceTenants, ResourceHolds), write(ResourceHolds, QueueResource(QueueJobs)), recording), MemoryMB: small, Timeout: 10 * time.Second,
		},
		{
			Name: "replay-erasures", Summary: "Destroy again the erased keys that a restore of the database brought back",
			Trigger: Trigger{Schedule: &Schedule{Every: replayEvery}},
			Grants:  slices.Concat(read(ResourceTombstones, ResourceTenantKeys), write(ResourceTenantKeys)), MemoryMB: small, Timeout: 5 * time.Minute,
		},
		{
			Name: "retain-logs", Summary: "Share out the days on which entries have expired and are to be removed",
			Trigger: Trigger{Schedule: &Schedule{Every: retainEvery}},
			Grants: slices.Concat(
				read(ResourceEntries), write(ResourceEntries, QueueResource(QueueJobs))), MemoryMB: small, Timeout: 5 * time.Minute,
		},
		{
			Name: "retry-quarantine", Summary: "Send a quarantined entry through its step again",
			Trigger: route(http.MethodPost, "/logs/quarantine/{id}/retry", access.QuarantineManage, TenantFromHeader),
			Grants: slices.Concat(
				read(ResourceTenants, ResourceQuarantine), write(ResourceQuarantine, QueueResource(QueueIndex)), recording),
			MemoryMB: small, Timeout: 10 * time.Second,
		},
		{
			Name: "rotate-cursor-key", Summary: "Add a key of cursors and tickets, and have the one before sign",
			Trigger: Trigger{Rotation: &Rotation{Secret: ResourceCursorKey, Every: rotateEvery}},
			Grants:  slices.Concat(read(ResourceCursorKey), write(ResourceCursorKey)), MemoryMB: small, Timeout: 30 * time.Second,
		},
		{
			Name: "run-archives", Summary: "Do a slice of a job that reads or writes the archive, or find the days that are to be archived",
			Trigger: Trigger{Queues: []QueueTrigger{{Queue: QueueArchive, BatchSize: 1, MaxConcurrency: 5}}},
			Grants: slices.Concat(
				read(ResourceTenants, ResourceEntries, ResourceArrival, ResourceJobs, ResourceHolds, ResourceArchive, QueueResource(QueueArchive)),
				write(ResourceEntries, ResourceTenants, ResourceJobs, ResourceArchive, ResourceExports, QueueResource(QueueArchive), QueueResource(QueueJobs), QueueResource(QueueIndex)), encrypting, recording, deadLettering(QueueArchive)),
			MemoryMB: large, Timeout: 15 * time.Minute,
			Connections: 2, // one slice does one thing after the other
		},
		{
			Name: "run-jobs", Summary: "Do a slice of a job, such as the deletion of a tenant, or a task, such as comparing the index",
			Trigger: Trigger{Queues: []QueueTrigger{{Queue: QueueJobs, BatchSize: 1, MaxConcurrency: 9}}},
			Grants: slices.Concat(
				read(ResourceTenants, ResourceEntries, ResourceIndex, ResourceArrival, ResourceStream, ResourceQuarantine, ResourceJobs, ResourceHolds, ResourceTenantKeys, ResourceArchive, QueueResource(QueueJobs)),
				write(ResourceExports, ResourceTombstones, ResourceArchive, ResourceTenants, ResourceEntries, ResourceIndex, ResourceQuarantine, ResourceKeys, ResourceTenantKeys, ResourceArrival, ResourceStream, ResourceConnections, ResourceQuotas, ResourceAttempts, ResourceJobs, ResourceHolds,
					QueueResource(QueueJobs), QueueResource(QueueArchive), QueueResource(QueueIndex)), recording, nudging, certifying, deadLettering(QueueJobs)),
			MemoryMB: medium, Timeout: 10 * time.Minute,
		},
		{
			Name: "search-logs", Summary: "List entries by a long filter",
			Trigger: route(http.MethodPost, "/logs/search", access.LogsSearch, TenantFromHeader),
			Grants:  slices.Concat(listing, revealing), MemoryMB: large, Timeout: 25 * time.Second,
		},
		{
			Name: "stream-logs", Summary: "Send the entries of a tenant to its live subscribers",
			Trigger: Trigger{Queues: []QueueTrigger{{Queue: QueueStream, BatchSize: 10, MaxConcurrency: 250}}},
			Grants: slices.Concat(
				read(ResourceEntries, ResourceArrival, ResourceStream, ResourceCursorKey, QueueResource(QueueStream)), answering, checking,
				write(ResourceStream), nudging, deadLettering(QueueStream)), MemoryMB: large, Timeout: 30 * time.Second,
			Connections: 2, // its tenants wait for entries most of the time
		},
		{
			Name: "subscribe-stream", Summary: "Start a client's subscription",
			Trigger: socket("subscribe"),
			Grants:  slices.Concat(answering, checking, read(ResourceArrival, ResourceCursorKey), write(ResourceStream), nudging), MemoryMB: small, Timeout: 10 * time.Second,
		},
		{
			Name: "unsubscribe-stream", Summary: "End a client's subscription",
			Trigger: socket("unsubscribe"),
			Grants:  slices.Concat(answering, checking, write(ResourceStream), nudging), MemoryMB: small, Timeout: 10 * time.Second,
		},
		{
			Name: "update-tenant", Summary: "Change a tenant's name and settings",
			Trigger: route(http.MethodPut, "/tenants/{id}", access.TenantsUpdate, TenantFromPath),
			Grants:  slices.Concat(read(ResourceTenants), write(ResourceTenants, QueueResource(QueueJobs)), recording), MemoryMB: small, Timeout: 10 * time.Second,
		},
	}
}

// FunctionOf returns a function by its name. It panics if the table has none.
func FunctionOf(name string) Function {
	all := functions()
	i := slices.IndexFunc(all, func(f Function) bool { return f.Name == name })
	if i < 0 {
		panic("manifest: no function " + name)
	}
	return all[i]
}

// QueueOf returns a queue by its name. It panics if the table has none.
func QueueOf(name QueueName) Queue {
	i := slices.IndexFunc(queues, func(q Queue) bool { return q.Name == name })
	if i < 0 {
		panic("manifest: no queue " + string(name))
	}
	return queues[i]
}
