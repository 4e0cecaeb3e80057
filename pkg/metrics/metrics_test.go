package metrics_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ocelot-audit/ocelot/pkg/metrics"
)

func clock() time.Time { return time.UnixMilli(1772360430123) }

func TestWriteIsEmbeddedMetricFormat(t *testing.T) {
	var out bytes.Buffer
	w := metrics.New(&out, "reconcile-index", clock)
	values := []metrics.Metric{{Name: "Stored", Unit: metrics.Count, Value: 12_000_000}, {Name: "Lag", Unit: metrics.Seconds, Value: 0.5}}
	if err := w.Write("acme", values, map[string]any{"day": "2026-03-01"}); err != nil {
		t.Fatal(err)
	}
	const want = `{"_aws":{"Timestamp":1772360430123,"CloudWatchMetrics":[{"Namespace":"Ocelot","Dimensions":[["service"]],` +
		`"Metrics":[{"Name":"Stored","Unit":"Count"},{"Name":"Lag","Unit":"Seconds"}]}]},` +
		`"service":"reconcile-index","tenant":"acme","Stored":12000000,"Lag":0.5,"day":"2026-03-01"}`
	if strings.Count(out.String(), "\n") != 1 {
		t.Errorf("got %q, want one line", out.String())
	}
	if !strings.HasSuffix(out.String(), "\n") {
		t.Errorf("got %q, want it to end with %q", out.String(), "\n")
	}
	var got, wanted any
	if err := errors.Join(json.Unmarshal(out.Bytes(), &got), json.Unmarshal([]byte(want), &wanted)); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(wanted, got); diff != "" {
		t.Errorf("line (-want +got):\n%s", diff)
	}
}

func TestWriteTakesSeveralValues(t *testing.T) {
	var out bytes.Buffer
	w := metrics.New(&out, "index-logs", clock)
	if err := w.Write("", []metrics.Metric{{Name: "Delay", Unit: metrics.Seconds, Values: []float64{0.5, 2}}}, nil); err != nil {
		t.Fatal(err)
	}
	var line map[string]any
	if err := json.Unmarshal(out.Bytes(), &line); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]any{0.5, 2.0}, line["Delay"]); diff != "" {
		t.Errorf("values (-want +got):\n%s", diff)
	}
	if tenant, is := line["tenant"]; is {
		t.Errorf("got the tenant %v, want none", tenant)
	}
}

func TestWriteRefusesWhatCloudWatchWouldDrop(t *testing.T) {
	many := make([]metrics.Metric, 101)
	for i := range many {
		many[i].Name = fmt.Sprint(i)
	}
	one := []metrics.Metric{{Name: "Lag", Unit: metrics.Seconds}}
	for name, c := range map[string]struct {
		values     []metrics.Metric
		properties map[string]any
	}{
		"too many":                {many, nil},
		"twice":                   {append(one, one...), nil},
		"the tenant":              {[]metrics.Metric{{Name: "tenant"}}, nil},
		"no name":                 {[]metrics.Metric{{}}, nil},
		"property like a metric":  {one, map[string]any{"Lag": 1}},
		"property like the frame": {one, map[string]any{"_aws": 1}},
		"no number":               {[]metrics.Metric{{Name: "Lag", Value: math.NaN()}}, nil},
		"too many values":         {[]metrics.Metric{{Name: "Lag", Values: make([]float64, 101)}}, nil},
	} {
		var out bytes.Buffer
		if err := metrics.New(&out, "s", clock).Write("acme", c.values, c.properties); err == nil {
			t.Errorf("%s: got no error, want one", name)
		} else if out.Len() > 0 {
			t.Errorf("%s: wrote %q, want nothing", name, &out)
		}
	}
}

// halves takes every write apart, as a terminal may.
type halves struct{ bytes.Buffer }

func (h *halves) Write(p []byte) (int, error) {
	_, _ = h.Buffer.Write(p[:len(p)/2])
	time.Sleep(time.Microsecond)
	_, _ = h.Buffer.Write(p[len(p)/2:])
	return len(p), nil
}

func TestLinesOfSeveralStayWhole(t *testing.T) {
	var out halves
	w := metrics.New(&out, "s", clock)
	var writing sync.WaitGroup
	for range 8 {
		writing.Go(func() {
			for range 50 {
				if err := w.Write("acme", []metrics.Metric{{Name: "Lag", Unit: metrics.Seconds, Value: 1}}, nil); err != nil {
					t.Error(err)
				}
			}
		})
	}
	writing.Wait()
	lines := strings.Split(strings.TrimSuffix(out.String(), "\n"), "\n")
	for _, line := range lines {
		if !json.Valid([]byte(line)) {
			t.Fatalf("got line %q, want JSON", line)
		}
	}
	if len(lines) != 400 {
		t.Errorf("%d lines, want 400", len(lines))
	}
}

type broken struct{}

func (broken) Write([]byte) (int, error) { return 0, errors.New("closed") }

func TestWriteFails(t *testing.T) {
	if err := metrics.New(broken{}, "s", clock).Write("acme", nil, nil); err == nil || !strings.Contains(err.Error(), "closed") {
		t.Errorf("got error %v, want one with %q", err, "closed")
	}
}
