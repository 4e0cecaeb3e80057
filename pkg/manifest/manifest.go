// Package manifest is the one table of Ocelot's functions: what triggers each,
// which permission it asks for, which queue it serves, what it may touch and how
// large it is. The local runner, the authorizer, the OpenAPI document, the SAM
// template and the tests read it here. It holds data only.
package manifest

import (
	"time"

	"github.com/ocelot-audit/ocelot/pkg/access"
)

// BasePath is where the HTTP API begins.
const BasePath = "/api/v1"

// Function is one Lambda: the folder functions/<Name>.
type Function struct {
	Name    string // verb-noun
	Summary string // one sentence in the imperative, without a full stop
	Trigger Trigger
	// Grants are all that the function may touch.
	Grants   []Grant
	MemoryMB int
	Timeout  time.Duration
}

// Trigger is what invokes a function: exactly one of its fields is set.
type Trigger struct {
	Route      *Route
	Queues     []QueueTrigger
	Schedule   *Schedule
	Authorizer bool
	Socket     *Socket
}

// StreamPath is where clients connect to the WebSocket API, relative to BasePath
// where one server has both APIs.
const StreamPath = "/logs/stream"

// Socket is a route of the WebSocket API. Key is what the message's member
// "action" says, or one of the keys below.
type Socket struct{ Key string }

// The keys of routes that API Gateway chooses by itself.
const (
	SocketConnect    = "$connect"    // before the connection is made; a status other than 2xx refuses it
	SocketDisconnect = "$disconnect" // after its end, in most cases
	SocketDefault    = "$default"    // messages of which no other route is
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

// TenantSource is where a request names its tenant.
type TenantSource uint8

// The sources of a tenant's id.
const (
	TenantFromHeader TenantSource = iota // X-Tenant-ID is required
	TenantFromPath                       // the path parameter {id}; X-Tenant-ID may repeat it
	TenantNone                           // the route is of no single tenant
)

// QueueTrigger is a queue that invokes a function with batches.
type QueueTrigger struct {
	Queue     QueueName
	BatchSize int           // messages
	Window    time.Duration // how long a batch may wait to fill
}

// Schedule invokes a function again and again.
type Schedule struct {
	Every time.Duration // whole minutes, longer than the function's timeout
}

// QueueName is a queue. Its dead-letter queue has the same name with "-dlq".
type QueueName string

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
