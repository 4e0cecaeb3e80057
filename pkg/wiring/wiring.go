// Package wiring puts adapters under the use cases. It is the only place that knows
// which engine implements which port. The mains of functions and the local runner get
// their handlers' parameters here: each by the type that a method of Services returns.
package wiring

import (
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/ocelot-audit/ocelot/pkg/access"
	"github.com/ocelot-audit/ocelot/pkg/activity"
	"github.com/ocelot-audit/ocelot/pkg/archive"
	"github.com/ocelot-audit/ocelot/pkg/arrival"
	"github.com/ocelot-audit/ocelot/pkg/attempts"
	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/backoff"
	"github.com/ocelot-audit/ocelot/pkg/certificate"
	"github.com/ocelot-audit/ocelot/pkg/cleanup"
	"github.com/ocelot-audit/ocelot/pkg/config"
	"github.com/ocelot-audit/ocelot/pkg/cursor"
	"github.com/ocelot-audit/ocelot/pkg/edge/httpapi"
	"github.com/ocelot-audit/ocelot/pkg/edge/lambdaedge"
	"github.com/ocelot-audit/ocelot/pkg/envelope"
	"github.com/ocelot-audit/ocelot/pkg/erasure"
	"github.com/ocelot-audit/ocelot/pkg/export"
	"github.com/ocelot-audit/ocelot/pkg/hold"
	"github.com/ocelot-audit/ocelot/pkg/ingest"
	"github.com/ocelot-audit/ocelot/pkg/jobs"
	"github.com/ocelot-audit/ocelot/pkg/manifest"
	"github.com/ocelot-audit/ocelot/pkg/metrics"
	"github.com/ocelot-audit/ocelot/pkg/protect"
	"github.com/ocelot-audit/ocelot/pkg/quarantine"
	"github.com/ocelot-audit/ocelot/pkg/quota"
	"github.com/ocelot-audit/ocelot/pkg/restore"
	"github.com/ocelot-audit/ocelot/pkg/retention"
	"github.com/ocelot-audit/ocelot/pkg/rotation"
	"github.com/ocelot-audit/ocelot/pkg/search"
	"github.com/ocelot-audit/ocelot/pkg/stream"
	"github.com/ocelot-audit/ocelot/pkg/tenants"
	"github.com/ocelot-audit/ocelot/pkg/version"
)

// Entries is the system of record.
type Entries interface {
	ingest.Store
	search.Reader
	search.IDLister
	arrival.Reader
	retention.Store
	cleanup.Marker
	restore.Keeper
	erasure.Entries
	jobs.CountedPurger
}

// Lists reads lists from the system of record. It can be behind where that does no harm.
type Lists interface {
	search.Finder
	arrival.Reader
}

// Index is the search index.
type Index interface {
	search.Index
	search.IndexWriter
	search.IDLister
	retention.Index
	jobs.CountedPurger
}

// Quarantine keeps entries that a step had to refuse.
type Quarantine interface {
	quarantine.Store
	jobs.CountedPurger
}

// Keys keeps API keys.
type Keys interface {
	tenants.KeyStore
	jobs.CountedPurger
}

// TenantKeys keeps the wrapped keys of tenants.
type TenantKeys interface {
	protect.KeyStore
	jobs.CountedPurger
}

// ExportFiles are the files of exports.
type ExportFiles interface {
	export.Files
	export.RevealedFiles
	export.Presigner
	jobs.CountedPurger
}

// ArchiveFiles are the files of the archive.
type ArchiveFiles interface {
	archive.Blobs
	jobs.CountedPurger
}

// DefaultGrace is longer than indexing takes on a busy day.
const DefaultGrace = time.Hour

// Streams are the states of the live streams.
type Streams interface {
	stream.Streams
	jobs.CountedPurger
}

// Arrivals are the arrival logs.
type Arrivals interface {
	arrival.Log
	jobs.CountedPurger
}

// Quotas has the accounts of the tenants' quotas.
type Quotas interface {
	quota.Leases
	jobs.CountedPurger
}

// Attempts says which refused attempts are recorded.
type Attempts interface {
	attempts.Claims
	jobs.CountedPurger
}

// Activity is the register of active days.
type Activity interface {
	activity.Register
	cleanup.DayRegister
	jobs.CountedPurger
}

// Connections are the records of the live streams' connections.
type Connections interface {
	stream.Connections
	jobs.CountedPurger
}

// Partitions are the collections with entries of a month or a year.
type Partitions interface {
	// PreparePartitions creates those of the next month, so that the first writes of a month need
	// not. It reports whether more remain for the next call.
	PreparePartitions(ctx context.Context) (more bool, err error)
	// ClosePartitions drops the empty ones of past months, in steps of several calls.
	ClosePartitions(ctx context.Context) (retention.Closings, error)
}

// EmptyIndexes are the indexes of past months in which no entries are left.
type EmptyIndexes interface {
	// RemoveEmptyIndexes removes some of them and returns their names.
	RemoveEmptyIndexes(ctx context.Context) (removed []string, err error)
}

// Queue is the sending side of a queue.
type Queue interface {
	ingest.Queue
	stream.Queue
}

// Holds are the legal holds.
type Holds interface {
	hold.Store
	jobs.CountedPurger
}

// Stores are the adapters of one process.
type Stores struct {
	Entries Entries
	Index   Index
	// PlaceIndex returns Index with each tenant's entries where its placements say; nil: the
	// engine has one place for all.
	PlaceIndex func(placements func(ctx context.Context, tenant audit.TenantID) ([]audit.Placement, error)) Index
	// PlaceEntries returns Entries and Lists with each tenant's entries where its isolation
	// says; nil: the engine has one place for all.
	PlaceEntries func(isolation func(ctx context.Context, tenant audit.TenantID) (audit.Isolation, error)) (Entries, Lists)
	// Lists answers lists while Index is unavailable, and reads what has places. If it is nil, such lists fail, and
	// Entries reads.
	Lists Lists
	// Sizes measures the index; nil if it has one place for all tenants.
	Sizes tenants.IndexSizes
	// Placing decides where Index has the entries of tenants.
	Placing tenants.Placing
	// EmptyIndexes is nil if the index has one place for all months.
	EmptyIndexes EmptyIndexes
	// Partitions is nil if the system of record has none.
	Partitions Partitions
	// Committer stores, indexes and orders entries at once; nil: the functions of the queues do.
	Committer ingest.Committer
	// Handoff passes accepted entries on within a process that runs all functions; nil: none does.
	Handoff    *envelope.Handoff
	Quarantine Quarantine
	Activity   Activity
	Quotas     Quotas
	Attempts   Attempts
	// Limits are the quotas of entries.
	Limits quota.Limits
	// LocalMessages are the messages in a file, but for those of jobs; nil if the queues are
	// elsewhere.
	LocalMessages jobs.CountedPurger
	// FreeSpace erases what removed records left in a file; nil if the engines have none.
	FreeSpace jobs.Space
	Tenants   tenants.Store
	Keys      Keys
	// TenantKeys are the wrapped keys that encrypt values. MasterKey wraps them. A function without
	// both can neither encrypt nor decrypt.
	TenantKeys TenantKeys
	MasterKey  protect.KeyWrapper
	// Certificates are the certificates of erasures, and the keys that sign them.
	Certificates certificate.Store
	// KeyBackupTime is how long backups of TenantKeys are kept.
	KeyBackupTime time.Duration
	Jobs          jobs.Store
	Holds         Holds
	Exports       ExportFiles
	Archive       ArchiveFiles
	// Tombstones says which keys were destroyed, apart from the database.
	Tombstones erasure.Blobs
	Arrivals   Arrivals
	Streams    Streams
	// Connections are the records of connections, Sockets the connections themselves.
	Connections Connections
	Sockets     stream.Sender
	// Queue returns the sending side of a queue.
	Queue func(name manifest.QueueName) Queue
	// CheckSpace returns an error if the queues must take no more entries; nil: they always may.
	CheckSpace func(ctx context.Context) error
	// Backlog returns about how many messages wait in the ingest queues, at most limit. MaxBacklog
	// is how many may. Without one of them there is no bound.
	Backlog    func(ctx context.Context, limit int64) (int64, error)
	MaxBacklog int64
	// UsageKeys are the API keys of API Gateway's usage plans.
	UsageKeys config.UsageKeys
	// DeadLetters returns the sending side of a queue's dead-letter queue.
	DeadLetters func(name manifest.QueueName) ingest.Queue
	// Source delays and dead-letters the messages of a function's queues.
	Source lambdaedge.Source
	// ConsumerTenantTTL is the maximum age of a tenant record for a consumer of a queue; zero:
	// TenantTTL.
	ConsumerTenantTTL time.Duration
	// MessageTime is how long queues keep messages, zero if LocalMessages removes those of a tenant.
	MessageTime time.Duration
	// DrainPeriod is how long a consumer may still write for a deleted tenant; see jobs.TenantPurge.
	DrainPeriod time.Duration
	// Grace is how long indexing a stored entry may take; see search.Reconciler.
	Grace time.Duration
	// Clock returns the time by the clock of the system of record; nil: it has the clock of this process.
	Clock jobs.Clock
	// Dependencies are checked by the health endpoint.
	Dependencies []httpapi.Dependency
	// StreamURL is the public address of the WebSocket API.
	StreamURL httpapi.StreamURL
	// TimeZone returns a zone of the tz database; nil: there is none. See search.Service.
	TimeZone func(name string) (*time.Location, error)
	// Origins are the pages to which browsers may show answers; see httpapi.Gate.
	Origins []string
}

// Security has the secrets of one process.
type Security struct {
	Tokens access.TokenVerifier // nil: no bearer token is valid
	// CursorKeys returns the keys of cursors; see cursor.NewRotatingSigner. nil: the function signs
	// and verifies no cursors.
	CursorKeys func() [][]byte
	// KeyVersions opens the versions of the secret with the keys of cursors. nil: the function was
	// not granted them, or the secret does not rotate here.
	KeyVersions func() (rotation.Versions, error)
}

// Services makes the use cases over one set of adapters. Its methods return the
// same instance each time and are safe for concurrent use.
type Services struct {
	Stores Stores
	Log    *slog.Logger
	// Now is the clock of this process. New sets it to time.Now. It is changed, if at all, before anything else is used.
	Now func() time.Time
	// Metrics receives metrics as lines; see package metrics. New discards them.
	Metrics io.Writer

	gate       func() *httpapi.Gate
	tenants    func() *tenants.Cache
	accept     func() *ingest.Service
	cursors    func() *cursor.Signer
	authorizer func() *access.Authenticator
	limiter    func() *quota.Limiter
	keyring    func() *protect.Keyring
	versions   func() (rotation.Versions, error)
	attempts   func() *attempts.Recorder
}

// TenantTTL is the maximum age of a cached tenant record. A process sees its own
// changes at once.
const TenantTTL = 5 * time.Second

// maxRequestTime is more than a request is worked on. API Gateway waits 29 seconds for an answer.
const maxRequestTime = 30 * time.Second

// maxClockSkew is more than the clocks of two processes differ.
const maxClockSkew = 10 * time.Second

// DrainPeriodOf returns how long a consumer may still write for a tenant after its deletion, if
// it uses records of the tenant of up to an age: it reads an old record, and then works on a
// batch for as long as its function may.
func DrainPeriodOf(age time.Duration) time.Duration {
	return age + manifest.MaxConsumerTime + maxClockSkew
}

// consumerTenants finds tenants for consumers of queues. They may see a record of up to
// Stores.ConsumerTenantTTL.
func (s *Services) consumerTenants() tenants.Aged {
	return s.tenants().WithMaxAge(max(TenantTTL, s.Stores.ConsumerTenantTTL))
}

// New returns the use cases over the stores. A function that was not granted a
// resource may leave out its store: what needs the store then fails.
func New(stores Stores, security Security, log *slog.Logger) *Services {
	stores.fill()
	if security.Tokens == nil {
		security.Tokens = noTokens{}
	}
	s := &Services{Stores: stores, Log: log, Now: time.Now, Metrics: io.Discard}
	s.tenants = sync.OnceValue(func() *tenants.Cache { return tenants.NewCache(stores.Tenants, TenantTTL, s.Now) })
	if stores.PlaceEntries != nil {
		s.Stores.Entries, s.Stores.Lists = stores.PlaceEntries(s.isolation)
	}
	if stores.PlaceIndex != nil {
		s.Stores.Index = stores.PlaceIndex(s.placements)
	}
	s.cursors = sync.OnceValue(func() *cursor.Signer {
		if security.CursorKeys == nil {
			return nil // the function was not granted the key
		}
		return cursor.NewRotatingSigner(security.CursorKeys)
	})
	s.authorizer = sync.OnceValue(func() *access.Authenticator {
		return &access.Authenticator{Tokens: security.Tokens, Keys: tenants.KeyFinder{Store: stores.Keys}, Now: s.Now, Log: log}
	})
	s.keyring = sync.OnceValue(func() *protect.Keyring {
		return protect.NewKeyring(stores.TenantKeys, stores.MasterKey, s.Now, random)
	})
	s.accept = sync.OnceValue(func() *ingest.Service {
		counts := metrics.New(s.Metrics, metrics.ServiceAccept, s.Now)
		return &ingest.Service{
			Standard: stores.Queue(manifest.QueueIngest), Priority: stores.Queue(manifest.QueueIngestPriority),
			Now: s.Now, Random: random, CheckSpace: stores.CheckSpace, Keys: s.keyring(), Handoff: stores.Handoff,
			Unencrypted: s.countEntries(counts, metrics.Unencrypted, "entries were rejected because a key for their values could not be had"),
		}
	})
	s.versions = security.keyVersions()
	s.limiter = sync.OnceValue(func() *quota.Limiter {
		limiter := quota.NewLimiter(stores.Limits, stores.Quotas, s.Now, log)
		if backlog := stores.backlog(); backlog != nil {
			limiter = limiter.WithBacklog(backlog)
		}
		return limiter
	})
	s.attempts = sync.OnceValue(s.newAttempts)
	s.gate = sync.OnceValue(func() *httpapi.Gate {
		return &httpapi.Gate{Authenticator: s.authorizer(), Tenants: s.tenants().StaleIfError(), Log: log, Now: s.Now, NewRequestID: uuid.NewString, Origins: stores.Origins, Attempts: s.attempts()}
	})
	return s
}

// newAttempts returns what records refused attempts.
func (s *Services) newAttempts() *attempts.Recorder {
	counts := metrics.New(s.Metrics, metrics.ServiceAccess, s.Now)
	count := func(ctx context.Context, tenant audit.TenantID, metric string) {
		if err := counts.Write(tenant, []metrics.Metric{{Name: metric, Unit: metrics.Count, Value: 1}}, nil); err != nil {
			s.Log.ErrorContext(ctx, "a metric was not written", "error", err)
		}
	}
	return attempts.New(attempts.Recorder{
		Tenants: s.tenants().StaleIfError(), Claims: s.Stores.Attempts, Log: s.acceptBeside(), Now: s.Now, Random: random,
		Outside: func(ctx context.Context) { count(ctx, "", metrics.AttemptsOutside) },
		Failed: func(ctx context.Context, tenant audit.TenantID, err error) {
			s.Log.WarnContext(ctx, "a refused attempt was not recorded", "tenant", string(tenant), "error", err)
			count(ctx, tenant, metrics.AttemptsNotRecorded)
		},
	})
}

// acceptBeside returns a recorder whose entries do not wait behind those of the tenant's clients: they go
// to the queue of the other tier. So a caller cannot suppress them by filling its queue.
func (s *Services) acceptBeside() audit.Recorder {
	accept := s.accept()
	return &ingest.Service{Standard: accept.Priority, Priority: accept.Standard, Now: accept.Now, Random: accept.Random}
}

// backlog returns the bound of what waits to be stored; nil: there is none.
func (s *Stores) backlog() *ingest.Backlog {
	if s.Backlog == nil || s.MaxBacklog == 0 {
		return nil
	}
	return &ingest.Backlog{
		Count: func(ctx context.Context) (int64, error) { return s.Backlog(ctx, s.MaxBacklog) }, Max: s.MaxBacklog, Now: time.Now,
	}
}

func random(b []byte) { _, _ = rand.Read(b) } // never fails, see crypto/rand

// placements returns where the search index has a tenant's entries. A record of up to 15
// minutes may answer, because a placement begins later than that after it was made.
func (s *Services) placements(ctx context.Context, tenant audit.TenantID) ([]audit.Placement, error) {
	record, err := s.consumerTenants().StaleIfError().Tenant(ctx, tenant)
	return record.Placements, err
}

// isolationAge is the maximum age of a record that tells a tenant's isolation, which never
// changes.
const isolationAge = time.Hour

// isolation returns whether a tenant's entries lie apart.
func (s *Services) isolation(ctx context.Context, tenant audit.TenantID) (audit.Isolation, error) {
	record, err := s.tenants().WithMaxAge(isolationAge).Tenant(ctx, tenant)
	if err != nil {
		return "", fmt.Errorf("isolation of %s: %w", tenant, err)
	}
	return record.Settings.Isolation, nil
}

// Dependencies are checked by the health endpoint.
func (s *Services) Dependencies() []httpapi.Dependency { return s.Stores.Dependencies }

// Version is the version of this program.
func (*Services) Version() httpapi.Version { return httpapi.Version(version.Build()) }

// StreamURL is the public address of the WebSocket API.
func (s *Services) StreamURL() httpapi.StreamURL { return s.Stores.StreamURL }

// Gate admits and answers the requests of every HTTP function.
func (s *Services) Gate() *httpapi.Gate { return s.gate() }

// Cursors signs and verifies the cursors of lists.
func (s *Services) Cursors() *cursor.Signer { return s.cursors() }

// Ingest accepts entries.
func (s *Services) Ingest() *ingest.Service { return s.accept() }

// Quotas limits how many entries are accepted.
func (s *Services) Quotas() *quota.Limiter { return s.limiter() }

// Search answers the read side.
func (s *Services) Search() *search.Service {
	return &search.Service{Index: s.Stores.Index, Degraded: s.Stores.Lists, Reader: s.Stores.Entries, Cursors: s.cursors(), TimeZone: s.Stores.TimeZone, Now: s.Now}
}

// Exports exports entries as files.
func (s *Services) Exports() *export.Service {
	return &export.Service{Entries: s.Search(), Recorder: s.accept(), Now: s.Now}
}

// ExportJobs starts and shows exports that are jobs.
func (s *Services) ExportJobs() *export.Jobs {
	return &export.Jobs{
		Jobs: s.Jobs(), Entries: s.Search(), Holds: s.Stores.Holds, Files: s.Stores.Exports, Texts: s.keyring(), Recorder: s.accept(), Now: s.Now, Random: random,
	}
}

// Cleanups previews and starts removals of entries before their end. They read the index alone.
func (s *Services) Cleanups() *cleanup.Service {
	return &cleanup.Service{
		Jobs: s.Jobs(), Entries: s.indexed(), Holds: s.Stores.Holds, Texts: s.keyring(), Recorder: s.accept(), Now: s.Now, Random: random,
	}
}

// indexed reads what the index has. Unlike Search it fails while that is unavailable.
func (s *Services) indexed() *search.Service {
	return &search.Service{Index: s.Stores.Index, Now: s.Now, Log: s.Log}
}

// Revealer decrypts values for readers who may see them.
func (s *Services) Revealer() *protect.Revealer {
	counts := metrics.New(s.Metrics, metrics.ServiceReveal, s.Now)
	return &protect.Revealer{
		Keys: s.keyring(), Recorder: s.accept(),
		Unreadable: s.countEntries(counts, metrics.UnreadableValues, "encrypted values were altered or come from another entry"),
		Failed: func(ctx context.Context, tenant audit.TenantID, err error) {
			s.Log.WarnContext(ctx, "keys could not be had, so values stay masked", "tenant", string(tenant), "error", err)
		},
	}
}

// Matcher finds entries by encrypted values for callers who may do so.
func (s *Services) Matcher() *protect.Matcher {
	return &protect.Matcher{Keys: s.keyring(), Recorder: s.accept()}
}

// placedReader reads the entries of the arrival log.
func (s *Services) placedReader() arrival.Reader {
	if s.Stores.Lists != nil {
		return s.Stores.Lists
	}
	return s.Stores.Entries
}

// Feed reads the arrival log.
func (s *Services) Feed() *arrival.Feed {
	return &arrival.Feed{Log: s.Stores.Arrivals, Reader: s.placedReader(), Cursors: s.cursors(), Now: s.Now}
}

// Stream answers clients of the live stream and delivers to them.
func (s *Services) Stream() *stream.Service {
	return &stream.Service{
		Arrivals: s.Stores.Arrivals, Streams: s.Stores.Streams, Connections: s.Stores.Connections, Reader: s.placedReader(), Sender: s.Stores.Sockets,
		Queue: s.Stores.Queue(manifest.QueueStream), Tenants: s.tenants(), Keys: tenants.KeyFinder{Store: s.Stores.Keys},
		Cursors: s.cursors(), Problem: httpapi.StreamProblem(uuid.NewString), Now: s.Now, Pause: backoff.Sleep, Random: random, Log: s.Log,
	}
}

// RotateCursorKey returns the steps that replace the key of cursors and tickets.
func (s *Services) RotateCursorKey() lambdaedge.RotateFunc {
	return func(ctx context.Context, r rotation.Request) error {
		versions, err := s.versions()
		if err != nil {
			return err
		}
		return (&rotation.Keys{Versions: versions, Random: random}).Rotate(ctx, r)
	}
}

// Quarantine adds, lists, retries and deletes entries that a step had to refuse.
func (s *Services) Quarantine() *quarantine.Service {
	return &quarantine.Service{
		Store: s.Stores.Quarantine, Standard: s.Stores.Queue(manifest.QueueIngest), Priority: s.Stores.Queue(manifest.QueueIngestPriority),
		Index: s.Stores.Queue(manifest.QueueIndex), Holds: s.Stores.Holds, Recorder: s.accept(), Now: s.Now,
	}
}

// Jobs starts, shows and cancels jobs.
func (s *Services) Jobs() *jobs.Service {
	return &jobs.Service{
		Store: s.Stores.Jobs, Queues: s.jobQueues(), Recorder: s.accept(), Now: s.Now,
	}
}

// jobQueues are the queues of the workers of jobs.
func (s *Services) jobQueues() jobs.Queues {
	return jobs.Queues{Jobs: s.Stores.Queue(manifest.QueueJobs), Archive: s.Stores.Queue(manifest.QueueArchive)}
}

// Erasures starts, shows and cancels erasures of subjects.
func (s *Services) Erasures() *erasure.Service {
	return &erasure.Service{Jobs: s.Jobs(), Subjects: s.keyring(), Holds: s.Stores.Holds, Recorder: s.accept(), Clock: s.Stores.Clock, Now: s.Now, Random: random}
}

// Restores starts, shows and cancels restores of archived entries.
func (s *Services) Restores() *restore.Service {
	return &restore.Service{Jobs: s.Jobs(), Recorder: s.accept(), Clock: s.Stores.Clock, Now: s.Now, Random: random}
}

// LegalHolds sets, shows and releases legal holds.
func (s *Services) LegalHolds() *hold.Service {
	return &hold.Service{
		Store: s.Stores.Holds, Tenants: s.tenants().Fresh(), Jobs: s.Jobs(), Recorder: s.accept(), Released: s.retainAgain, Now: s.Now, Random: random,
	}
}

// retainAgain has all days of a tenant looked at, because other entries may be removed now.
func (s *Services) retainAgain(ctx context.Context, tenant audit.TenantID) error {
	return s.retainAgainAfter(ctx, tenant, 0)
}

func (s *Services) retainAgainAfter(ctx context.Context, tenant audit.TenantID, delay time.Duration) error {
	return jobs.SendTaskAfter(ctx, s.Stores.Queue(manifest.QueueJobs), tenant, delay, jobs.TaskRetainAgain, nil)
}

// Certificates has the certificates of erasures.
func (s *Services) Certificates() certificate.Store { return s.Stores.Certificates }

// Tenants administers tenants and keys.
func (s *Services) Tenants() *tenants.Service {
	return &tenants.Service{
		Tenants: s.tenants().Fresh(), Keys: s.Stores.Keys, Jobs: s.Jobs(), Placing: s.Stores.Placing,
		Recorder: s.accept(), Now: s.Now, Random: random, Holds: s.Stores.Holds, RetentionChanged: s.retainAgainAfter, Log: s.Log,
		SettleTime: TenantTTL + maxRequestTime + maxClockSkew,
	}
}
