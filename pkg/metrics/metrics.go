// Package metrics writes metrics in CloudWatch's embedded metric format: one
// line of JSON each, which CloudWatch Logs turns into metrics and keeps as a log
// event that can be searched. Nothing is sent from here.
package metrics

import (
	"encoding/json"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/audit"
)

// Namespace is where CloudWatch lists the metrics.
const Namespace = "Ocelot"

// The names of the dimensions.
const (
	dimensionService = "service"
	dimensionTenant  = "tenant"
)

// maxMetrics is how many metrics CloudWatch takes from one line.
const maxMetrics = 100

// Unit is what a metric counts.
type Unit string

// The units that Ocelot uses of those that CloudWatch knows.
const (
	Count   Unit = "Count"
	Seconds Unit = "Seconds"
)

// Metric is one value of a metric.
type Metric struct {
	Name  string
	Unit  Unit
	Value float64
}

// Writer writes metrics of one service. It is safe for concurrent use.
type Writer struct {
	service string
	now     func() time.Time

	mu  sync.Mutex
	out io.Writer
}

// New returns a writer of metrics with the dimension service. Each line is
// written to out in one call, at the time that now says.
func New(out io.Writer, service string, now func() time.Time) *Writer {
	return &Writer{service: service, now: now, out: out}
}

// directive says which members of a line are metrics.
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

// Write writes up to 100 metrics with the dimensions service and tenant.
// Properties stand beside them in the log event and are no metrics; one with the
// name of a metric or a dimension is an error, as is a value that is no number.
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
	d := directive{Namespace: Namespace, Dimensions: [][]string{{dimensionService, dimensionTenant}}, Metrics: []definition{}}
	root := map[string]any{dimensionService: w.service, dimensionTenant: tenant}
	for _, m := range metrics {
		d.Metrics = append(d.Metrics, definition{Name: m.Name, Unit: m.Unit})
		if err := add(root, m.Name, m.Value); err != nil {
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

// add gives the line another member.
func add(root map[string]any, name string, value any) error {
	if _, taken := root[name]; taken || name == "" {
		return fmt.Errorf("the name %q is taken or empty", name)
	}
	root[name] = value
	return nil
}
