package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/ocelot-audit/ocelot/pkg/access"
	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/cost"
	"github.com/ocelot-audit/ocelot/pkg/edge/httpapi"
	"github.com/ocelot-audit/ocelot/pkg/engine/localkeys"
	"github.com/ocelot-audit/ocelot/pkg/engine/sqlite"
	"github.com/ocelot-audit/ocelot/pkg/envelope"
	"github.com/ocelot-audit/ocelot/pkg/ingest"
	"github.com/ocelot-audit/ocelot/pkg/manifest"
	"github.com/ocelot-audit/ocelot/pkg/protect"
	"github.com/ocelot-audit/ocelot/pkg/quota"
	"github.com/ocelot-audit/ocelot/pkg/trace"
	"github.com/ocelot-audit/ocelot/pkg/wiring/embedded"
)

// benchTenant is the tenant of every entry.
const benchTenant audit.TenantID = "bench"

// oneTenant is the tenant of every request, with the rules of its sensitive fields.
type oneTenant []audit.SensitiveField

func (rules oneTenant) Tenant(context.Context, audit.TenantID) (audit.Tenant, error) {
	settings := audit.DefaultSettings()
	settings.RetentionDays, settings.SensitiveFields = 0, rules
	return audit.Tenant{ID: benchTenant, Name: "Bench", Status: audit.TenantActive, Settings: settings, Version: 1}, nil
}

// queue hands what is sent to it on.
type queue func(bodies []string)

// Send implements ingest.Queue.
func (q queue) Send(_ context.Context, _ audit.TenantID, bodies []string) error {
	q(bodies)
	return nil
}

// acceptInto is the use case behind the ingest handlers.
func acceptInto(q ingest.Queue) *ingest.Service {
	return &ingest.Service{Standard: q, Priority: q, Now: time.Now, Random: func(b []byte) { _, _ = rand.Read(b) }} // never fails, see crypto/rand
}

// gate is what production has around every handler, its log going nowhere. The
// caller is in the request's context, where the gateway's authorizer puts it, and so is a trace.
// rules are those of the tenant.
func gate(rules ...audit.SensitiveField) *httpapi.Gate {
	return &httpapi.Gate{
		Tenants: oneTenant(rules), Log: slog.New(slog.NewJSONHandler(io.Discard, nil)), Now: time.Now, NewRequestID: uuid.NewString,
	}
}

// unlimited returns quotas without a limit.
func unlimited() *quota.Limiter {
	return quota.NewLimiter(quota.Limits{}, nil, time.Now, slog.New(slog.DiscardHandler))
}

// sender calls a handler with one body after the other.
type sender struct {
	handler http.Handler
	request *http.Request
	header  http.Header
	status  int
}

func newSender(ctx context.Context, handler http.Handler, path string) (*sender, error) {
	caller, err := access.Claims{Subject: "bench", Tenants: []string{string(benchTenant)}, Role: access.RoleAdmin}.Principal()
	if err != nil {
		return nil, err
	}
	ctx = trace.With(ctx, trace.New(time.Now(), func(b []byte) { _, _ = rand.Read(b) })) // never fails, see crypto/rand
	request, err := http.NewRequestWithContext(access.WithPrincipal(ctx, caller), http.MethodPost, manifest.BasePath+path, nil)
	if err != nil {
		return nil, err
	}
	request.RemoteAddr = "203.0.113.9:5000"
	request.Header = http.Header{"Content-Type": {"application/json"}, "X-Tenant-Id": {string(benchTenant)}, "User-Agent": {"bench"}}
	return &sender{handler: handler, request: request, header: http.Header{}}, nil
}

// send calls the handler, which has to accept the body whole.
func (s *sender) send(body []byte) error {
	s.request.Body, s.request.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
	clear(s.header)
	s.handler.ServeHTTP(s, s.request)
	if s.status != http.StatusAccepted {
		return fmt.Errorf("%s answered %d", s.request.URL.Path, s.status)
	}
	return nil
}

// Header, Write and WriteHeader implement http.ResponseWriter.
func (s *sender) Header() http.Header         { return s.header }
func (s *sender) Write(p []byte) (int, error) { return len(p), nil }
func (s *sender) WriteHeader(status int)      { s.status = status }

// decoded is what encoding/json decodes an entry into.
type decoded struct {
	UserID         string         `json:"user_id"`
	SessionID      string         `json:"session_id"`
	RequestID      string         `json:"request_id"`
	Action         string         `json:"action"`
	ResourceType   string         `json:"resource_type"`
	ResourceID     string         `json:"resource_id"`
	Timestamp      time.Time      `json:"timestamp"`
	IPAddress      string         `json:"ip_address"`
	UserAgent      string         `json:"user_agent"`
	Before         map[string]any `json:"before_state"`
	After          map[string]any `json:"after_state"`
	Metadata       map[string]any `json:"metadata"`
	Severity       string         `json:"severity"`
	Message        string         `json:"message"`
	IdempotencyKey string         `json:"idempotency_key"`
}

func measureIngest(ctx context.Context, _ *bench) ([]figure, error) {
	into := acceptInto(queue(func([]string) {}))
	bulk, err := ingestRatio(ctx, httpapi.CreateLogsBulk(gate(), into, unlimited()), "/logs/bulk", newCorpus(1).bulk(), func() any { return new([]decoded) })
	if err != nil {
		return nil, err
	}
	single, err := ingestRatio(ctx, httpapi.CreateLog(gate(), into, unlimited()), "/logs", newCorpus(1).entry(), func() any { return new(decoded) })
	if err != nil {
		return nil, err
	}
	how := fmt.Sprintf("Processor time (getrusage) of the whole handler, from the request to the queue. It is divided by the time that encoding/json takes to decode the same bytes. That decodes into a struct with maps for the objects. %d pairs in turn.", cpuPairs)
	return []figure{
		atMost("ingest handler, bulk of 100 one-KB entries ÷ decoding", "%.2f", bulk.ratio, 1.0, how),
		noBound("… one entry of it, decoding the same", "", "%.1f µs, %.1f µs", micros(bulk.a)/bulkSize, micros(bulk.b)/bulkSize),
		atMost("ingest handler, single entry ÷ decoding", "%.2f", single.ratio, 1.3, ""),
		noBound("… one entry, decoding the same", "", "%.1f µs, %.1f µs", micros(single.a), micros(single.b)),
	}, nil
}

// userRules cover three values of each entry, all of the user.
func userRules() []audit.SensitiveField { return rulesOf("ip_address", "session_id", "user_agent") }

// mixedRules cover three values of each entry: two of the user, and one of the tenant within a state.
func mixedRules() []audit.SensitiveField {
	return rulesOf("ip_address", "session_id", "after_state.customer.id")
}

func rulesOf(paths ...string) []audit.SensitiveField {
	rules := make([]audit.SensitiveField, len(paths))
	for i, path := range paths {
		rules[i] = audit.SensitiveField{Path: path}.WithDefaults()
	}
	return rules
}

// encryptInto is acceptInto with the keys of a new file.
func encryptInto(ctx context.Context, data string, q ingest.Queue) (*ingest.Service, io.Closer, error) {
	db, err := sqlite.Open(ctx, filepath.Join(data, embedded.File))
	if err != nil {
		return nil, nil, err
	}
	master, err := localkeys.Open(data)
	if err != nil {
		return nil, nil, errors.Join(err, db.Close())
	}
	into := acceptInto(q)
	into.Keys = protect.NewKeyring(db.TenantKeys(), master, time.Now, into.Random)
	return into, db, nil
}

// measureEncryption compares bulks whose entries each have three encrypted values with the same bulk
// without rules. The keys are in memory after the first request.
func measureEncryption(ctx context.Context, b *bench) (figures []figure, err error) {
	data, err := os.MkdirTemp(b.folder, "encryption-")
	if err != nil {
		return nil, fmt.Errorf("make a data folder: %w", err)
	}
	into, keys, err := encryptInto(ctx, data, queue(func([]string) {}))
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, keys.Close()) }()
	body := newCorpus(1).bulk()
	against := func(rules []audit.SensitiveField) (comparison, error) {
		plain, err := newSender(ctx, httpapi.CreateLogsBulk(gate(), into, unlimited()), "/logs/bulk")
		if err != nil {
			return comparison{}, err
		}
		encrypted, err := newSender(ctx, httpapi.CreateLogsBulk(gate(rules...), into, unlimited()), "/logs/bulk")
		if err != nil {
			return comparison{}, err
		}
		return compareCPU(func() error { return encrypted.send(body) }, func() error { return plain.send(body) })
	}
	ofUser, err := against(userRules())
	if err != nil {
		return nil, err
	}
	mixed, err := against(mixedRules())
	if err != nil {
		return nil, err
	}
	return []figure{
		atMost("ingest handler, bulk of 100 with three encrypted values each ÷ the same without", "%.2f", ofUser.ratio, 1.6,
			"Processor time of the whole handler, the keys being in memory. Address, session and agent under the key of the user."),
		noBound("… one entry, the same without", "", "%.1f µs, %.1f µs", micros(ofUser.a)/bulkSize, micros(ofUser.b)/bulkSize),
		atMost("… under two keys, one value within a state", "%.2f", mixed.ratio, 1.6, "Each key costs as much again: it is derived for each entry."),
	}, nil
}

func micros(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1000 }

// ingestRatio compares a handler with decoding the same body into what target makes.
func ingestRatio(ctx context.Context, handler http.Handler, path string, body []byte, target func() any) (comparison, error) {
	s, err := newSender(ctx, handler, path)
	if err != nil {
		return comparison{}, err
	}
	return compareCPU(
		func() error { return s.send(body) },
		func() error { return json.Unmarshal(body, target()) })
}

// sqsBulks is how many different bulks the billing is counted over.
const sqsBulks = 200

func measureSQS(ctx context.Context, _ *bench) ([]figure, error) {
	var sent []string
	into := acceptInto(queue(func(bodies []string) { sent = append(sent, bodies...) }))
	s, err := newSender(ctx, httpapi.CreateLogsBulk(gate(), into, unlimited()), "/logs/bulk")
	if err != nil {
		return nil, err
	}
	entries := newCorpus(2)
	for range sqsBulks {
		if err := s.send(entries.bulk()); err != nil {
			return nil, err
		}
	}
	sizes := sizesOf(sent)
	billed, total := 0, 0
	for _, size := range sizes {
		billed += chunks(size)
		total += size
	}
	arrivals, err := arrivalsOf(sent)
	if err != nil {
		return nil, err
	}
	perEntry := func(requests float64) float64 { return requests / (sqsBulks * bulkSize) }
	return []figure{
		atMost("SQS: 64 KB chunks billed for sending one entry, bulks of 100", "%.3f", perEntry(float64(billed)), 0.05,
			fmt.Sprintf("%d different bulks through the handler. A message has %d bytes on average.", sqsBulks, total/len(sizes))),
		atMost("SQS: all billed requests for one entry, until it is indexed", "%.3f", perEntry(wholeWay(sizes)), 0.05,
			"Sending, receiving and deleting on the ingest and the index queue, in full batches of the manifest's sizes. If every batch had one message only, it would be six for each bulk."),
		atMost("SQS: billed requests of the arrival log for one entry", "%.4f", perEntry(billedOn(manifest.QueueArrival, sizesOf(arrivals))), 0.01,
			"Sending, receiving and deleting on the queue arrival, in full batches of the manifest's sizes."),
	}, nil
}

func sizesOf(bodies []string) []int {
	sizes := make([]int, len(bodies))
	for i, body := range bodies {
		sizes[i] = len(body)
	}
	return sizes
}

// arrivalsOf returns the messages about the arrival of what ingest messages bring, from full
// batches of persist-logs.
func arrivalsOf(ingested []string) ([]string, error) {
	var bodies []string
	for batch := range slices.Chunk(ingested, queueTrigger(manifest.QueueIngest).BatchSize) {
		var arrivals []envelope.Arrival
		for _, body := range batch {
			contents, err := envelope.Unpack(body)
			if err != nil {
				return nil, err
			}
			a := envelope.Arrival{Message: contents.ID}
			for i := range contents.Entries {
				a.IDs = append(a.IDs, contents.Entries[i].ID)
			}
			arrivals = append(arrivals, a)
		}
		packed, err := envelope.PackArrivals(benchTenant, arrivals)
		if err != nil {
			return nil, err
		}
		bodies = append(bodies, packed...)
	}
	return bodies, nil
}

func chunks(size int) int { return (size + cost.SQSChunk - 1) / cost.SQSChunk }

// wholeWay counts the billed requests of messages until they are indexed.
func wholeWay(sizes []int) float64 {
	return billedOn(manifest.QueueIngest, sizes) + billedOn(manifest.QueueIndex, sizes)
}

// billedOn counts the billed requests of messages on a queue: each is sent alone, and received and
// deleted in full batches.
func billedOn(queue manifest.QueueName, sizes []int) float64 {
	billed := 0.0
	for batch := range slices.Chunk(sizes, min(queueTrigger(queue).BatchSize, cost.SQSReceive)) {
		received := 0
		for _, size := range batch {
			billed += float64(chunks(size)) // sending
			received += size
		}
		billed += float64(chunks(received)) + 1 // receiving and deleting
	}
	return billed
}

func queueTrigger(name manifest.QueueName) manifest.QueueTrigger {
	for _, f := range manifest.Functions() {
		for _, t := range f.Trigger.Queues {
			if t.Queue == name {
				return t
			}
		}
	}
	panic("bench: no function serves the queue " + string(name))
}
