// Code generated from pkg/manifest by go generate ./pkg/wiring/mains. DO NOT EDIT.

package localcloud

import (
	"context"
	"net/http"

	"github.com/ocelot-audit/ocelot/pkg/edge/apidocs"
	"github.com/ocelot-audit/ocelot/pkg/edge/apispec"
	"github.com/ocelot-audit/ocelot/pkg/edge/httpapi"
	"github.com/ocelot-audit/ocelot/pkg/edge/lambdaedge"
	"github.com/ocelot-audit/ocelot/pkg/wiring"
)

// HTTPFunctions returns the handlers of routes by function name, as the mains start them.
func HTTPFunctions(s HTTPServices) map[string]http.Handler {
	return map[string]http.Handler{
		"cancel-erasure":       httpapi.CancelErasure(s.Gate(), s.Erasures()),
		"cancel-job":           httpapi.CancelJob(s.Gate(), s.Jobs()),
		"cancel-restore":       httpapi.CancelRestore(s.Gate(), s.Restores()),
		"cleanup-logs":         httpapi.CleanupLogs(s.Gate(), s.Cleanups()),
		"create-erasure":       httpapi.CreateErasure(s.Gate(), s.Erasures()),
		"create-export":        httpapi.CreateExport(s.Gate(), s.ExportJobs()),
		"create-key":           httpapi.CreateKey(s.Gate(), s.Tenants()),
		"create-legal-hold":    httpapi.CreateLegalHold(s.Gate(), s.LegalHolds()),
		"create-log":           httpapi.CreateLog(s.Gate(), s.Ingest(), s.Quotas()),
		"create-logs-bulk":     httpapi.CreateLogsBulk(s.Gate(), s.Ingest(), s.Quotas()),
		"create-restore":       httpapi.CreateRestore(s.Gate(), s.Restores()),
		"create-stream-ticket": httpapi.CreateStreamTicket(s.Gate(), s.Stream(), s.StreamURL()),
		"create-tenant":        httpapi.CreateTenant(s.Gate(), s.Tenants()),
		"delete-key":           httpapi.DeleteKey(s.Gate(), s.Tenants()),
		"delete-quarantine":    httpapi.DeleteQuarantine(s.Gate(), s.Quarantine()),
		"delete-tenant":        httpapi.DeleteTenant(s.Gate(), s.Tenants()),
		"export-logs":          httpapi.ExportLogs(s.Gate(), s.Exports(), s.ExportJobs()),
		"feed-logs":            httpapi.FeedLogs(s.Gate(), s.Feed()),
		"get-certificate":      httpapi.GetCertificate(s.Gate(), s.Certificates()),
		"get-certificate-keys": httpapi.GetCertificateKeys(s.Gate(), s.Certificates()),
		"get-docs":             apidocs.GetDocs(s.Gate()),
		"get-erasure":          httpapi.GetErasure(s.Gate(), s.Erasures()),
		"get-export":           httpapi.GetExport(s.Gate(), s.ExportJobs()),
		"get-health":           httpapi.GetHealth(s.Gate(), s.Version(), s.Dependencies()),
		"get-job":              httpapi.GetJob(s.Gate(), s.Jobs()),
		"get-legal-hold":       httpapi.GetLegalHold(s.Gate(), s.LegalHolds()),
		"get-log":              httpapi.GetLog(s.Gate(), s.Search(), s.Revealer()),
		"get-openapi":          apispec.GetOpenAPI(s.Gate()),
		"get-restore":          httpapi.GetRestore(s.Gate(), s.Restores()),
		"get-stats":            httpapi.GetStats(s.Gate(), s.Search()),
		"get-tenant":           httpapi.GetTenant(s.Gate(), s.Tenants()),
		"list-erasures":        httpapi.ListErasures(s.Gate(), s.Erasures(), s.Cursors()),
		"list-exports":         httpapi.ListExports(s.Gate(), s.ExportJobs(), s.Cursors()),
		"list-jobs":            httpapi.ListJobs(s.Gate(), s.Jobs(), s.Cursors()),
		"list-keys":            httpapi.ListKeys(s.Gate(), s.Tenants(), s.Cursors()),
		"list-legal-holds":     httpapi.ListLegalHolds(s.Gate(), s.LegalHolds(), s.Cursors()),
		"list-logs":            httpapi.ListLogs(s.Gate(), s.Search()),
		"list-quarantine":      httpapi.ListQuarantine(s.Gate(), s.Quarantine(), s.Cursors()),
		"list-restores":        httpapi.ListRestores(s.Gate(), s.Restores(), s.Cursors()),
		"list-tenants":         httpapi.ListTenants(s.Gate(), s.Tenants(), s.Cursors()),
		"patch-tenant":         httpapi.PatchTenant(s.Gate(), s.Tenants()),
		"release-legal-hold":   httpapi.ReleaseLegalHold(s.Gate(), s.LegalHolds()),
		"retry-quarantine":     httpapi.RetryQuarantine(s.Gate(), s.Quarantine()),
		"search-logs":          httpapi.SearchLogs(s.Gate(), s.Search(), s.Revealer(), s.Matcher()),
		"update-tenant":        httpapi.UpdateTenant(s.Gate(), s.Tenants()),
	}
}

// ConnectFunctions returns the handlers of $connect by function name, as the mains start them.
func ConnectFunctions(s *wiring.Services) map[string]http.Handler {
	return map[string]http.Handler{
		"connect-stream": httpapi.ConnectStream(s.Gate(), s.Stream()),
	}
}

// MessageFunctions returns the handlers of WebSocket messages by function name, as the mains start them.
func MessageFunctions(s *wiring.Services) map[string]httpapi.Message {
	return map[string]httpapi.Message{
		"disconnect-stream":  httpapi.DisconnectStream(s.Gate(), s.Stream()),
		"ping-stream":        httpapi.PingStream(s.Gate(), s.Stream()),
		"refuse-message":     httpapi.RefuseMessage(s.Gate(), s.Stream()),
		"subscribe-stream":   httpapi.SubscribeStream(s.Gate(), s.Stream()),
		"unsubscribe-stream": httpapi.UnsubscribeStream(s.Gate(), s.Stream()),
	}
}

// QueueFunctions returns the handlers of batches of messages by function name, as the mains start them.
func QueueFunctions(s *wiring.Services) map[string]lambdaedge.BatchHandler {
	return map[string]lambdaedge.BatchHandler{
		"index-logs":   s.IndexLogs(),
		"order-logs":   s.OrderLogs(),
		"persist-logs": s.PersistLogs(),
		"run-archives": s.RunArchives(),
		"run-jobs":     s.RunJobs(),
		"stream-logs":  s.StreamLogs(),
	}
}

// ScheduleFunctions returns the scheduled runs by function name, as the mains start them.
func ScheduleFunctions(s *wiring.Services) map[string]func(ctx context.Context) error {
	return map[string]func(ctx context.Context) error{
		"archive-logs":       s.ArchiveLogs(),
		"place-tenants":      s.PlaceTenants(),
		"plan-jobs":          s.PlanJobs(),
		"prepare-partitions": s.PreparePartitions(),
		"reconcile-index":    s.ReconcileIndex(),
		"replay-erasures":    s.ReplayErasures(),
		"retain-logs":        s.RetainLogs(),
	}
}

// AuthorizerFunctions returns the authorizers by function name, as the mains start them.
func AuthorizerFunctions(s *wiring.Services) map[string]lambdaedge.Callers {
	return map[string]lambdaedge.Callers{
		"authorize-request": s.AuthorizeRequest(),
	}
}

// RotationFunctions returns the functions that rotate secrets by function name, as the mains start
// them. The runner has no secrets that rotate.
func RotationFunctions(s *wiring.Services) map[string]lambdaedge.RotateFunc {
	return map[string]lambdaedge.RotateFunc{
		"rotate-cursor-key": s.RotateCursorKey(),
	}
}
