// Package manifest is the one table of Ocelot's functions. A row says what triggers a
// function, which permission it asks for and which query parameters it takes. It also
// says which queue it serves, what it may touch and how large it is. The functions'
// mains, the local runner, the authorizer, the OpenAPI document, the SAM template and
// the tests read it here. It holds data only.
package manifest

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/access"
)

// BasePath is where the HTTP API begins.
const BasePath = "/api/v1"

// The headers of the HTTP API.
const (
	TenantHeader    = "X-Tenant-ID"  // of a request: the tenant whose log it is
	RequestIDHeader = "X-Request-Id" // of a request and its answer, in the canonical form of net/http
)

// AuthorizerTTL is how long API Gateway caches the answers of the authorizer. A revoked key
// must stop working within a minute. The authorizer itself relies on a key that it read up to
// access.DefaultKeyTTL ago, and may run until its timeout.
const AuthorizerTTL = 50 * time.Second

// Function is one Lambda: the folder functions/<Name>.
type Function struct {
	Name    string // verb-noun
	Summary string // one sentence in the imperative, without a full stop
	Trigger Trigger
	// Grants are all that the function may touch.
	Grants   []Grant
	MemoryMB int
	Timeout  time.Duration
	// Connections is how many connections to a server of the records a process opens at most;
	// 0: as many as the engine does by itself.
	Connections int
}

// Trigger is what invokes a function: exactly one of its fields is set.
type Trigger struct {
	Route      *Route
	Queues     []QueueTrigger
	Schedule   *Schedule
	Authorizer bool
	Socket     *Socket
	Rotation   *Rotation
}

// StreamPath is where clients connect to the WebSocket API, relative to BasePath
// where one server has both APIs.
const StreamPath = "/logs/stream"

// Socket is a route of the WebSocket API. Key is the value of the message's member
// "action", or one of the keys below.
type Socket struct{ Key string }

// The route keys that API Gateway itself defines.
const (
	SocketConnect    = "$connect"    // before the connection is made; a status other than 2xx rejects it
	SocketDisconnect = "$disconnect" // after its end, in most cases
	SocketDefault    = "$default"    // messages that match no other route
)

// Route is an HTTP endpoint. Path is relative to BasePath and has its
// parameters in braces.
type Route struct {
	Method string
	Path   string
	// Permission is what the caller needs in the tenant; "" makes the route public.
	Permission access.Permission
	// TenantFrom says where the tenant's id stands.
	TenantFrom TenantSource
	// Query are the names of the query parameters that the route takes. Any other is an error.
	Query []string
	// Filters is set if the route also takes the filters of a list: the fields of
	// audit.FilterFields, metadata.<path>, from, to and q. The search service checks their names.
	Filters bool
}

// Methods returns the methods of requests that the route serves: a GET serves HEAD as well.
func (r Route) Methods() []string {
	if r.Method == http.MethodGet {
		return []string{http.MethodGet, http.MethodHead}
	}
	return []string{r.Method}
}

// Name returns the method and the path: GET /logs/{id}.
func (r Route) Name() string { return r.Method + " " + r.Path }

// TenantSource is where a request names its tenant.
type TenantSource uint8

// The sources of a tenant's id.
const (
	TenantFromHeader TenantSource = iota // X-Tenant-ID; a credential of one tenant needs none
	TenantFromPath                       // the path parameter {id}; X-Tenant-ID may repeat it
	TenantNone                           // the route belongs to no single tenant
)

// QueueTrigger is a queue that invokes a function with batches.
type QueueTrigger struct {
	Queue     QueueName
	BatchSize int           // messages
	Window    time.Duration // how long a batch may wait to fill
	// MaxConcurrency is how many invocations of the queue may run at the same time.
	// Without it, a full queue would open more connections than the stores can serve.
	// SQS allows 2 to 1,000.
	MaxConcurrency int
}

// Schedule invokes a function at a fixed interval.
type Schedule struct {
	Every time.Duration // whole minutes, longer than the function's timeout
}

// Rotation has Secrets Manager invoke a function to replace the value of a secret.
type Rotation struct {
	Secret Resource
	Every  time.Duration // whole days, at most 1,000
}

// Days returns the interval in days.
func (r Rotation) Days() int { return int(r.Every / (24 * time.Hour)) }

// Expression returns the interval as EventBridge Scheduler spells it.
func (s Schedule) Expression() string {
	if s.Every == time.Minute {
		return "rate(1 minute)"
	}
	return fmt.Sprintf("rate(%d minutes)", s.Every/time.Minute)
}

// QueueName is a queue. Its dead-letter queue has the same name with "-dlq".
type QueueName string

// MaxConsumerTime is the longest time that a function works on messages with entries. The functions
// that run jobs are none of these.
const MaxConsumerTime = 30 * time.Second

// DeadLetters returns the name of the queue's dead-letter queue.
func (n QueueName) DeadLetters() QueueName { return n + "-dlq" }

// Queue describes a queue.
type Queue struct {
	Name              QueueName
	VisibilityTimeout time.Duration // at least six times its consumer's timeout, as SQS asks for
	MaxReceives       int           // then the message goes to the dead-letter queue
}

// Grant is the right to one resource. Read and Write are independent.
type Grant struct {
	Resource    Resource
	Read, Write bool
}

// Resource is something that functions touch.
type Resource string

// Dependency is what a function opens at its start for the resources that it was granted.
type Dependency string

// The dependencies.
const (
	DependencyRecords    Dependency = "records"    // the database: entries and every other record
	DependencySearch     Dependency = "search"     // the search index
	DependencyQueues     Dependency = "queues"     // the queues
	DependencySockets    Dependency = "sockets"    // the WebSocket API's connections
	DependencyCursorKey  Dependency = "cursor-key" // the key that signs cursors and tickets
	DependencyMasterKey  Dependency = "master-key" // the key that wraps the tenants' keys
	DependencyExports    Dependency = "exports"    // the files of exports
	DependencyTombstones Dependency = "tombstones" // what outlives a restore of the database
	DependencyArchive    Dependency = "archive"    // the files of the archive
	DependencyTokens     Dependency = "tokens"     // the keys that verify bearer tokens
	DependencyTimeZones  Dependency = "time-zones" // the tz database, which is part of the binary
)

// Dependencies returns every dependency.
func Dependencies() []Dependency {
	return []Dependency{
		DependencyRecords, DependencySearch, DependencyQueues, DependencySockets, DependencyCursorKey, DependencyMasterKey, DependencyExports, DependencyTombstones, DependencyArchive, DependencyTokens, DependencyTimeZones,
	}
}

// Dependency returns where the resource lives.
func (r Resource) Dependency() Dependency {
	switch {
	case r == ResourceIndex:
		return DependencySearch
	case r == ResourceSockets:
		return DependencySockets
	case r == ResourceCursorKey:
		return DependencyCursorKey
	case r == ResourceMasterKey:
		return DependencyMasterKey
	case r == ResourceExports:
		return DependencyExports
	case r == ResourceTombstones:
		return DependencyTombstones
	case r == ResourceArchive:
		return DependencyArchive
	case r == ResourceTokens:
		return DependencyTokens
	case r == ResourceTimeZones:
		return DependencyTimeZones
	case strings.HasPrefix(string(r), queueResourcePrefix):
		return DependencyQueues
	}
	return DependencyRecords
}

// Dependencies returns what the function opens, in the order of Dependencies.
func (f Function) Dependencies() []Dependency {
	return slices.DeleteFunc(Dependencies(), func(d Dependency) bool { return !f.DependsOn(d) })
}

// DependsOn reports whether a grant of the function needs the dependency.
func (f Function) DependsOn(d Dependency) bool {
	return slices.ContainsFunc(f.Grants, func(g Grant) bool { return g.Resource.Dependency() == d })
}

// CamelCase returns the name of a function or a queue as an identifier: create-log is CreateLog.
func CamelCase(name string) string {
	var id strings.Builder
	for word := range strings.SplitSeq(name, "-") {
		id.WriteString(strings.ToUpper(word[:1]) + word[1:])
	}
	return id.String()
}

// UploadDays is the age in days at which buckets remove the parts of an unfinished upload. A file that takes longer to
// write has to begin again: a large export works in turns with all others. The service aborts what it gives up.
const UploadDays = 7

// ExportBucketDays is the age in days at which the bucket of exports removes a file that the service
// could not remove. The service removes files 7 days after they are complete. S3 counts from the
// beginning of an upload, and removes what is too old at the next midnight.
const ExportBucketDays = 7 + UploadDays + 1
