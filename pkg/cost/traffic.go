package cost

import (
	"math"
	"slices"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/arrival"
	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/envelope"
	"github.com/ocelot-audit/ocelot/pkg/ingest"
	"github.com/ocelot-audit/ocelot/pkg/manifest"
	"github.com/ocelot-audit/ocelot/pkg/stream"
)

const maxEntriesPerRequest = audit.MaxBulkEntries

// What SQS and Lambda do.
const (
	// SQSChunk is what SQS bills as one request, in bytes.
	SQSChunk = 64 << 10
	// SQSReceive is the most messages that SQS returns or deletes at once.
	SQSReceive = 10
	// pollers are how many batches Lambda gathers at a time when traffic is low. With a maximum
	// concurrency it never goes below five.
	// https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-scaling.html
	pollers = 5
	// emptyReceive is how long a poller waits for a message.
	emptyReceive = 20 * time.Second
	// maxEventBytes is the largest event of a function.
	maxEventBytes = 6 << 20
	// vCPUMemoryMB is the memory that comes with one processor.
	// https://docs.aws.amazon.com/lambda/latest/dg/configuration-memory.html
	vCPUMemoryMB = 1769
)

// What a one-KB entry takes in a message with many others, what the message takes beside its
// entries, and what a one-KB entry takes in a message of up to RawBytes, which is not compressed.
// In bytes. TestPackedBytes of cmd/bench compares them with pkg/envelope.
const (
	PackedBytes  = 239
	MessageBytes = 1194
	SingleBytes  = 1650
	RawBytes     = envelope.MaxRawBytes * 4 / 3 // in base64
)

// What an id takes in a message of the queue arrival, and an ingest message beside its ids, in
// bytes. See envelope.PackArrivals.
const (
	arrivalIDBytes      = 22
	arrivalMessageBytes = 164
)

// What the functions need, on one processor.
const (
	acceptCPU  = 15 * time.Microsecond // docs/performance.md has 10 to 14
	persistCPU = 40 * time.Microsecond // an entry unpacked, made a document and packed
	indexCPU   = 40 * time.Microsecond // an entry unpacked and made a document
	orderCPU   = 2 * time.Microsecond  // an id unpacked and packed
	requestCPU = time.Millisecond      // an invocation without its entries
	// The time that a function waits for others.
	queueWait    = 10 * time.Millisecond // SQS takes messages
	databaseWait = 8 * time.Millisecond  // a majority has a write, or a read
	searchWait   = 80 * time.Millisecond // a bulk request
	// logBytes is what an invocation writes to the log, Lambda's own three lines included.
	logBytes = 600
	// What a consumer's lines have for each tenant of a batch, and for the trace of each message.
	tenantLogBytes = 230
	traceLogBytes  = 40
)

// The functions that an entry passes.
const (
	functionSingle     = "create-log"
	functionBulk       = "create-logs-bulk"
	functionAuthorizer = "authorize-request"
	functionPersist    = "persist-logs"
	functionIndex      = "index-logs"
	functionOrder      = "order-logs"
	functionStream     = "stream-logs"
	functionSearch     = "list-logs"
)

func memoryOf(name string) int { return manifest.FunctionOf(name).MemoryMB }

// Step is what one function does in a second.
type Step struct {
	Function    string
	MemoryMB    int
	Invocations float64
	Duration    time.Duration // of one
	// Concurrency is how many run at the same time.
	Concurrency    float64
	MaxConcurrency int // of the queue; 0: the account's
	SQSRequests    float64
	Batch          Batch // of a queue's consumer
}

// Batch is what an invocation of a queue's consumer handles, on average.
type Batch struct {
	Messages, Entries, Tenants float64
	MessageBytes               float64
}

// Traffic is what a rate of entries makes the functions do.
type Traffic struct {
	Requests                          float64 // to the API, a second
	Authorize, Accept, Persist, Index Step
	Order                             Step
	// Archive and Retain are what is done when entries leave the stores, as many as arrive on average.
	Archive, Retain Step
	Scheduled       []Step
}

// Steps returns the steps in the order of an entry's way, then the schedules.
func (t *Traffic) Steps() []Step {
	return append([]Step{t.Authorize, t.Accept, t.Persist, t.Index, t.Order, t.Archive, t.Retain}, t.Scheduled...)
}

// TrafficOf returns what a rate of entries makes the functions do. It assumes that the tenants'
// requests are independent of each other, that all are of the standard tier, and that no tenant
// has subscribers.
func TrafficOf(w *Workload, entriesPerSecond float64) Traffic {
	requests := entriesPerSecond / float64(w.EntriesPerRequest)
	sent := messagesOf(w, float64(w.EntriesPerRequest))
	persisting := persist(w, requests*sent, float64(w.EntriesPerRequest)/sent)
	return Traffic{
		Requests: requests, Authorize: authorize(w, requests), Accept: accept(w, requests),
		Persist: persisting, Index: index(w, &persisting), Order: order(w, &persisting),
		Archive: archiving(w), Retain: retaining(w), Scheduled: schedules(),
	}
}

func persist(w *Workload, messagesPerSecond, entriesPerMessage float64) Step {
	s := consume(w, functionPersist, manifest.QueueIngest, messagesPerSecond, entriesPerMessage, bytesOf(w, entriesPerMessage))
	perTenant := databaseWait + queueWait // insert and send to two queues at once
	rounds := math.Ceil(s.Batch.Tenants / ingest.MaxTenantsAtOnce)
	s.take(requestCPU+times(persistCPU, s.Batch.Entries), times(perTenant, rounds))
	return s
}

// index returns what index-logs makes of the messages that persist-logs forwards.
func index(w *Workload, persisting *Step) Step {
	forwarded, entries := 0.0, 0.0
	if persisting.Batch.Messages > 0 {
		forwarded = repacked(w, &persisting.Batch)
		entries = persisting.Batch.Entries / forwarded
	}
	s := consume(w, functionIndex, manifest.QueueIndex, persisting.Invocations*forwarded, entries, bytesOf(w, entries))
	s.take(requestCPU+times(indexCPU, s.Batch.Entries), searchWait)
	return s
}

// order returns what order-logs makes of the messages that persist-logs sends: one for each tenant
// of a batch.
func order(w *Workload, persisting *Step) Step {
	b := &persisting.Batch
	tenants := max(b.Tenants, 1)
	entries := b.Entries / tenants
	bytes := arrivalMessageBytes*b.Messages/tenants + arrivalIDBytes*entries
	s := consume(w, functionOrder, manifest.QueueArrival, persisting.Invocations*b.Tenants, entries, bytes)
	rounds := math.Ceil(s.Batch.Tenants / arrival.MaxTenantsAtOnce)
	// Find the end, append, and look for streams that wait, once for all tenants.
	s.take(requestCPU+times(orderCPU, s.Batch.Entries), times(2*databaseWait, rounds)+databaseWait)
	return s
}

// take sets how long an invocation works and waits, and how many run at the same time.
func (s *Step) take(cpu, wait time.Duration) {
	s.Duration = spent(s.MemoryMB, cpu) + wait
	s.Concurrency = s.Invocations * s.Duration.Seconds()
}

func times(d time.Duration, n float64) time.Duration { return time.Duration(float64(d) * n) }

// spent returns how long a function of this size takes for what needs so much processor time.
func spent(memoryMB int, cpu time.Duration) time.Duration {
	return times(cpu, vCPUMemoryMB/float64(min(memoryMB, vCPUMemoryMB)))
}

// authorize returns the invocations of the authorizer: each tenant's credential is asked about
// again when the kept decision about the route that it writes by is too old.
func authorize(w *Workload, requests float64) Step {
	s := Step{Function: functionAuthorizer, MemoryMB: memoryOf(functionAuthorizer), Invocations: Reads(w.Shares, requests, 1, manifest.AuthorizerTTL)}
	s.take(requestCPU, databaseWait)
	return s
}

// Reads returns how often in a second the caches of so many processes together read the records
// of tenants that are asked for at a rate, in proportion to their shares.
func Reads(shares []float64, rate, processes float64, ttl time.Duration) (total float64) {
	processes = max(1, processes)
	for _, share := range shares {
		asked := rate * share / processes
		total += processes * asked / (1 + asked*ttl.Seconds())
	}
	return total
}

// Streams returns how many pumps of the live stream work at the same time if every tenant has a
// subscriber, and at most how many can. A pump serves a tenant while its entries come, and for
// stream.Linger. If more are needed, a tenant waits for the end of others' turns.
func Streams(w *Workload, entriesPerSecond float64) (pumps, most float64) {
	f := manifest.FunctionOf(functionStream)
	trigger := f.Trigger.Queues[0]
	for _, share := range w.Shares {
		requests := entriesPerSecond * share / float64(w.EntriesPerRequest)
		pumps += 1 - math.Exp(-requests*stream.Linger.Seconds())
	}
	return pumps, float64(trigger.MaxConcurrency * trigger.BatchSize)
}

func accept(w *Workload, requests float64) Step {
	name := functionBulk
	if w.EntriesPerRequest == 1 {
		name = functionSingle
	}
	s := Step{Function: name, MemoryMB: memoryOf(name), Invocations: requests}
	s.take(requestCPU+times(acceptCPU, float64(w.EntriesPerRequest)), queueWait)
	return s
}

// bytesOf returns the size of a message with so many entries.
func bytesOf(w *Workload, entries float64) float64 {
	if raw := w.scaled(SingleBytes * entries); raw <= RawBytes {
		return raw
	}
	return w.scaled(PackedBytes*entries + MessageBytes)
}

// messagesOf returns how many messages so many entries of one tenant are packed to.
func messagesOf(w *Workload, entries float64) float64 {
	return min(entries, max(1, math.Ceil(bytesOf(w, entries)/envelope.TargetBytes)))
}

// repacked returns how many messages persist-logs makes of a batch: each tenant's entries
// together. The number of a tenant's messages in a batch has a binomial distribution.
func repacked(w *Workload, b *Batch) (messages float64) {
	perMessage := b.Entries / b.Messages
	draws := max(1, int(math.Round(b.Messages)))
	for _, share := range w.Shares {
		if share == 1 {
			return messagesOf(w, float64(draws)*perMessage)
		}
		probability := math.Pow(1-share, float64(draws))
		for n := 1; n <= draws; n++ {
			probability *= float64(draws-n+1) / float64(n) * share / (1 - share)
			messages += probability * messagesOf(w, float64(n)*perMessage)
			if probability < 1e-12 && float64(n) > share*float64(draws) {
				break
			}
		}
	}
	return messages
}

// triggerOf returns the trigger of a function by a queue.
func triggerOf(name string, queue manifest.QueueName) manifest.QueueTrigger {
	all := manifest.FunctionOf(name).Trigger.Queues
	i := slices.IndexFunc(all, func(t manifest.QueueTrigger) bool { return t.Queue == queue })
	if i < 0 {
		panic("cost: " + name + " does not serve the queue " + string(queue))
	}
	return all[i]
}

// ofQueue returns the step of a queue's consumer that has nothing to do.
func ofQueue(name string, queue manifest.QueueName) Step {
	return Step{Function: name, MemoryMB: memoryOf(name), MaxConcurrency: triggerOf(name, queue).MaxConcurrency}
}

// consume returns the invocations of a queue's consumer and what SQS bills, without how long it
// works. bytes is the size of a message.
func consume(w *Workload, name string, queue manifest.QueueName, messagesPerSecond, entriesPerMessage, bytes float64) Step {
	s, trigger := ofQueue(name, queue), triggerOf(name, queue)
	idle := pollers / emptyReceive.Seconds()
	if messagesPerSecond == 0 {
		s.SQSRequests = idle
		return s
	}
	fullest := max(1, min(float64(trigger.BatchSize), math.Floor(maxEventBytes/bytes)))
	inWindow := messagesPerSecond / pollers * max(trigger.Window, time.Millisecond).Seconds()
	batch := min(max(1, inWindow), fullest)
	s.Invocations = messagesPerSecond / batch
	s.Batch = Batch{Messages: batch, Entries: batch * entriesPerMessage, Tenants: distinct(w.Shares, batch), MessageBytes: bytes}
	chunks := math.Ceil(bytes / SQSChunk)
	// A poller receives what is there at the moment: at low rates each message alone.
	s.SQSRequests = max(idle, messagesPerSecond*(chunks+chunks)+s.Invocations*math.Ceil(batch/SQSReceive))
	return s
}

// schedules returns the scheduled functions. They look at what is due and mostly find little: a
// tenth of their timeout is assumed.
func schedules() (steps []Step) {
	for _, f := range manifest.Functions() {
		if f.Trigger.Schedule == nil {
			continue
		}
		s := Step{Function: f.Name, MemoryMB: f.MemoryMB, Invocations: 1 / f.Trigger.Schedule.Every.Seconds(), Duration: f.Timeout / 10}
		s.Concurrency = s.Invocations * s.Duration.Seconds()
		steps = append(steps, s)
	}
	return steps
}
