// Package metrics writes metrics in CloudWatch's embedded metric format: one
// line of JSON each. CloudWatch Logs turns it into metrics and keeps it as a log event
// that can be searched. The package itself sends nothing. The format is that of
// https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html.
package metrics

import (
	"encoding/json"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/audit"
)

// Namespace is the namespace of the metrics in CloudWatch.
const Namespace = "Ocelot"

// The metrics that alarms watch over their percentiles, in seconds: how long after its receipt
// an entry was written to the search index, and was sent to the first live subscriber.
const (
	SearchableAfter = "SearchableAfter"
	DeliveredAfter  = "DeliveredAfter"
)

// Repaired counts entries that reconciliation found missing in the search index or in the arrival
// log, and put there again.
const Repaired = "Repaired"

// Kept counts entries that only the search index has, and that reconciliation keeps there: they are too many for
// late messages, so the database may have lost them.
const Kept = "Kept"

// Expired counts accepted entries that were not stored, because their end was long past by then.
const Expired = "Expired"

// IdentityConflicts counts entries that went to the quarantine because another entry has their
// identity.
const IdentityConflicts = "IdentityConflicts"

// UnreadableValues counts encrypted elements of entries that were altered, or come from another entry.
const UnreadableValues = "UnreadableValues"

// ServiceReveal is the service of UnreadableValues: get-log and search-logs count them together.
const ServiceReveal = "reveal"

// Unencrypted counts entries that were rejected with a 503 problem, because a key for their values
// could not be had. In a bulk the answer itself is no failure.
const Unencrypted = "Unencrypted"

// ServiceAccept is the service of Unencrypted: create-log and create-logs-bulk count them together.
const ServiceAccept = "accept"

// FailingJobs counts the slices of jobs that begin after many slices in a row have failed, and FailedDays the days of
// tenants that could not be checked or archived.
const (
	FailingJobs = "FailingJobs"
	FailedDays  = "FailedDays"
)

// ServiceJobs is the service of both: run-jobs and run-archives count them together.
const ServiceJobs = "jobs"

// AttemptsOutside counts requests that were refused and belong to no tenant of the caller: without a
// valid credential, for another tenant, or for the platform.
const AttemptsOutside = "AttemptsOutside"

// AttemptsNotRecorded counts refused attempts that are missing in the tenant's log, because a store or
// a queue was not available.
const AttemptsNotRecorded = "AttemptsNotRecorded"

// ServiceAccess is the service of both: the authorizer and every function with a route count them
// together.
const ServiceAccess = "access"

const (
	dimensionService = "service"
	// propertyTenant is a property and not a dimension. CloudWatch bills every
	// combination of dimension values as a metric of its own, and there can be 20,000
	// tenants.
	propertyTenant = "tenant"
)

// maxMetrics is the maximum number of metrics of one line; CloudWatch accepts no more.
const maxMetrics = 100

// Unit is the unit of a metric.
type Unit string

// The units of CloudWatch that are used here.
const (
	Count   Unit = "Count"
	Seconds Unit = "Seconds"
)

// MaxValues is the maximum number of values of a metric of one line; CloudWatch accepts no more.
const MaxValues = 100

// Metric is one value of a metric, or several.
type Metric struct {
	Name  string
	Unit  Unit
	Value float64
	// Values are up to MaxValues values. CloudWatch computes percentiles from them. They replace Value.
	Values []float64
}

// Writer writes metrics of one service. It is safe for concurrent use.
type Writer struct {
	service string
	now     func() time.Time

	mu  sync.Mutex
	out io.Writer
}

// New returns a writer of metrics with the dimension service. It writes each line with
// one call of out.Write, with the time of now.
func New(out io.Writer, service string, now func() time.Time) *Writer {
	return &Writer{service: service, now: now, out: out}
}

// directive lists the members of a line that are metrics.
type directive struct {
	Namespace  string
	Dimensions [][]string
	Metrics    []definition
}

type definition struct {
	Name string
	Unit Unit
}

// metadata is the member "_aws" of a line.
type metadata struct {
	Timestamp         int64 // Unix milliseconds
	CloudWatchMetrics []directive
}

// Write writes up to 100 metrics with the dimension service. The tenant, unless it is "", and
// the properties are members of the log event and are not metrics. It returns an error for
// a property with the name of another member, and for a value that is not a number.
func (w *Writer) Write(tenant audit.TenantID, metrics []Metric, properties map[string]any) error {
	line, err := w.line(tenant, metrics, properties)
	if err != nil {
		return fmt.Errorf("write metrics of %s: %w", tenant, err)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if _, err := w.out.Write(line); err != nil {
		return fmt.Errorf("write metrics of %s: %w", tenant, err)
	}
	return nil
}

func (w *Writer) line(tenant audit.TenantID, metrics []Metric, properties map[string]any) ([]byte, error) {
	if len(metrics) > maxMetrics {
		return nil, fmt.Errorf("%d metrics are more than the %d of a line", len(metrics), maxMetrics)
	}
	d := directive{Namespace: Namespace, Dimensions: [][]string{{dimensionService}}, Metrics: []definition{}}
	root := map[string]any{dimensionService: w.service}
	if tenant != "" {
		root[propertyTenant] = tenant
	}
	for _, m := range metrics {
		d.Metrics = append(d.Metrics, definition{Name: m.Name, Unit: m.Unit})
		if err := m.addTo(root); err != nil {
			return nil, err
		}
	}
	for name, value := range properties {
		if err := add(root, name, value); err != nil {
			return nil, err
		}
	}
	if err := add(root, "_aws", metadata{Timestamp: w.now().UnixMilli(), CloudWatchMetrics: []directive{d}}); err != nil {
		return nil, err
	}
	line, err := json.Marshal(root)
	return append(line, '\n'), err
}

func (m Metric) addTo(root map[string]any) error {
	switch {
	case len(m.Values) > MaxValues:
		return fmt.Errorf("%d values of %s are more than the %d of a line", len(m.Values), m.Name, MaxValues)
	case len(m.Values) > 0:
		return add(root, m.Name, m.Values)
	}
	return add(root, m.Name, m.Value)
}

// add adds a member to the line.
func add(root map[string]any, name string, value any) error {
	if _, taken := root[name]; taken || name == "" || name == propertyTenant {
		return fmt.Errorf("the name %q is taken or empty", name)
	}
	root[name] = value
	return nil
}
