package localcloud

import (
	"context"
	"net/http"

	"github.com/aws/aws-lambda-go/events"

	"github.com/ocelot-audit/ocelot/pkg/edge/httpapi"
	"github.com/ocelot-audit/ocelot/pkg/edge/lambdaedge"
	"github.com/ocelot-audit/ocelot/pkg/manifest"
	"github.com/ocelot-audit/ocelot/pkg/wiring"
)

// queueFunction is a queue's function as Lambda calls it.
type queueFunction func(context.Context, events.SQSEvent) (events.SQSEventResponse, error)

// functions are the manifest's functions, wherever they run.
type functions interface {
	// handlers are those of the routes, by function name.
	handlers() map[string]http.Handler
	// ofQueue is the function of a queue. What it is doing ends with its context,
	// or with close.
	ofQueue(f manifest.Function) queueFunction
	// ofSchedule is the function of a schedule, which ends likewise.
	ofSchedule(f manifest.Function) scheduleFunction
	// ofSocket is the function of a route of the WebSocket API, which ends likewise.
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

// HTTPFunctions are the handlers of the manifest's routes, by function name, as
// each function's main starts them.
func HTTPFunctions(s *wiring.Services) map[string]http.Handler {
	gate := s.Gate()
	return map[string]http.Handler{
		"create-key":           httpapi.CreateKey(gate, s.Tenants()),
		"create-log":           httpapi.CreateLog(gate, s.Ingest()),
		"create-logs-bulk":     httpapi.CreateLogsBulk(gate, s.Ingest()),
		"create-stream-ticket": httpapi.CreateStreamTicket(gate, s.Stream(), s.StreamURL),
		"create-tenant":        httpapi.CreateTenant(gate, s.Tenants()),
		"delete-key":           httpapi.DeleteKey(gate, s.Tenants()),
		"delete-quarantine":    httpapi.DeleteQuarantine(gate, s.Quarantine()),
		"delete-tenant":        httpapi.DeleteTenant(gate, s.Tenants()),
		"get-docs":             httpapi.GetDocs(gate),
		"get-health":           httpapi.GetHealth(gate, s.Stores.Dependencies),
		"get-log":              httpapi.GetLog(gate, s.Search()),
		"get-openapi":          httpapi.GetOpenAPI(gate),
		"get-stats":            httpapi.GetStats(gate, s.Search()),
		"get-tenant":           httpapi.GetTenant(gate, s.Tenants()),
		"list-keys":            httpapi.ListKeys(gate, s.Tenants()),
		"list-quarantine":      httpapi.ListQuarantine(gate, s.Quarantine(), s.Cursors()),
		"list-tenants":         httpapi.ListTenants(gate, s.Tenants(), s.Cursors()),
		"retry-quarantine":     httpapi.RetryQuarantine(gate, s.Quarantine()),
		"search-logs":          httpapi.SearchLogs(gate, s.Search()),
		"update-tenant":        httpapi.UpdateTenant(gate, s.Tenants()),
	}
}

// QueueFunctions are what handles one message of the manifest's queue
// functions, by function name, as each function's main starts them.
func QueueFunctions(s *wiring.Services) map[string]func(ctx context.Context, body string) error {
	return map[string]func(ctx context.Context, body string) error{
		"index-logs":   s.Indexer().IndexMessage,
		"persist-logs": s.Persister().Persist,
		"purge-tenant": s.Purger().Handle,
		"stream-logs":  s.Stream().Deliver,
	}
}

// ConnectFunctions are what decides on a connection of the WebSocket API, by
// function name, as each function's main starts them.
func ConnectFunctions(s *wiring.Services) map[string]http.Handler {
	return map[string]http.Handler{"connect-stream": httpapi.ConnectStream(s.Gate(), s.Stream())}
}

// MessageFunctions are what handles one message of the WebSocket API, or the end
// of a connection, by function name, as each function's main starts them.
func MessageFunctions(s *wiring.Services) map[string]httpapi.Message {
	gate, service := s.Gate(), s.Stream()
	return map[string]httpapi.Message{
		"disconnect-stream":  httpapi.DisconnectStream(gate, service),
		"ping-stream":        httpapi.PingStream(gate, service),
		"refuse-message":     httpapi.RefuseMessage(gate, service),
		"subscribe-stream":   httpapi.SubscribeStream(gate, service),
		"unsubscribe-stream": httpapi.UnsubscribeStream(gate, service),
	}
}

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
