package localcloud

import (
	"context"
	"net/http"

	"github.com/aws/aws-lambda-go/events"

	"github.com/ocelot-audit/ocelot/pkg/arrival"
	"github.com/ocelot-audit/ocelot/pkg/certificate"
	"github.com/ocelot-audit/ocelot/pkg/cleanup"
	"github.com/ocelot-audit/ocelot/pkg/cursor"
	"github.com/ocelot-audit/ocelot/pkg/edge/httpapi"
	"github.com/ocelot-audit/ocelot/pkg/edge/lambdaedge"
	"github.com/ocelot-audit/ocelot/pkg/erasure"
	"github.com/ocelot-audit/ocelot/pkg/export"
	"github.com/ocelot-audit/ocelot/pkg/hold"
	"github.com/ocelot-audit/ocelot/pkg/ingest"
	"github.com/ocelot-audit/ocelot/pkg/jobs"
	"github.com/ocelot-audit/ocelot/pkg/manifest"
	"github.com/ocelot-audit/ocelot/pkg/protect"
	"github.com/ocelot-audit/ocelot/pkg/quarantine"
	"github.com/ocelot-audit/ocelot/pkg/quota"
	"github.com/ocelot-audit/ocelot/pkg/restore"
	"github.com/ocelot-audit/ocelot/pkg/search"
	"github.com/ocelot-audit/ocelot/pkg/stream"
	"github.com/ocelot-audit/ocelot/pkg/tenants"
	"github.com/ocelot-audit/ocelot/pkg/wiring"
)

// HTTPServices gives the functions with a route what their handlers need. It is the part of
// wiring.Services that they use.
type HTTPServices interface {
	Gate() *httpapi.Gate
	Certificates() certificate.Store
	Cleanups() *cleanup.Service
	Cursors() *cursor.Signer
	Dependencies() []httpapi.Dependency
	Erasures() *erasure.Service
	Restores() *restore.Service
	LegalHolds() *hold.Service
	Version() httpapi.Version
	Exports() *export.Service
	ExportJobs() *export.Jobs
	Feed() *arrival.Feed
	Ingest() *ingest.Service
	Jobs() *jobs.Service
	Quarantine() *quarantine.Service
	Quotas() *quota.Limiter
	Revealer() *protect.Revealer
	Matcher() *protect.Matcher
	Search() *search.Service
	Stream() *stream.Service
	StreamURL() httpapi.StreamURL
	Tenants() *tenants.Service
}

var _ HTTPServices = (*wiring.Services)(nil)

// queueFunction is a function that a queue invokes.
type queueFunction func(context.Context, events.SQSEvent) (events.SQSEventResponse, error)

// functions are the manifest's functions, run in this process or as Lambda binaries. A
// running function ends with its context or with close.
type functions interface {
	// handlers returns the handlers of routes by function name.
	handlers() map[string]http.Handler
	// ofQueue returns a function that a queue invokes.
	ofQueue(f manifest.Function) queueFunction
	// ofSchedule returns a function that a schedule invokes.
	ofSchedule(f manifest.Function) scheduleFunction
	// ofSocket returns the function of a route of the WebSocket API.
	ofSocket(f manifest.Function) socketFunction
	close()
}

// inProcess runs the functions in this process.
type inProcess struct{ services *wiring.Services }

func (p inProcess) handlers() map[string]http.Handler { return HTTPFunctions(p.services) }

func (p inProcess) ofQueue(f manifest.Function) queueFunction {
	return lambdaedge.Queue(QueueFunctions(p.services)[f.Name], p.services.Stores.Source)
}

func (p inProcess) close() {}

func (p inProcess) ofSocket(f manifest.Function) socketFunction {
	function := lambdaedge.Message(MessageFunctions(p.services)[f.Name])
	if f.Trigger.Socket.Key == manifest.SocketConnect {
		function = lambdaedge.Connect(ConnectFunctions(p.services)[f.Name])
	}
	return func(ctx context.Context, event events.APIGatewayWebsocketProxyRequest) (events.APIGatewayProxyResponse, error) {
		ctx, cancel := context.WithTimeout(ctx, f.Timeout)
		defer cancel()
		return function(ctx, event)
	}
}
