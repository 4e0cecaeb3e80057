// Package config is the only place that reads the environment. It has a typed struct
// for each kind of process. Its errors name the variable and the limit and never
// contain a value.
package config

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/caarlos0/env/v11"

	"github.com/ocelot-audit/ocelot/pkg/manifest"
)

// MinSecretBytes is the minimum length of a secret, in bytes. HMAC-SHA-256 is no
// stronger than its key, and a shorter key has fewer than 256 bits.
const MinSecretBytes = 32

// Secret is a key; its bytes are those of the variable's text. It prints as "[redacted]".
type Secret []byte

func (Secret) String() string { return "[redacted]" }

// LogValue implements slog.LogValuer.
func (s Secret) LogValue() slog.Value { return slog.StringValue(s.String()) }

// MarshalText keeps the secret out of JSON.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// Format keeps the secret out of every verb.
func (s Secret) Format(f fmt.State, _ rune) {
	_, _ = f.Write([]byte(s.String())) // fmt's own buffer
}

// Function is what every Lambda reads.
type Function struct {
	Auth      Auth
	CursorKey Secret // OCELOT_CURSOR_KEY, which signs cursors and tickets
	// MasterKey is OCELOT_MASTER_KEY: the id, ARN or alias of the key of AWS KMS that wraps the tenants'
	// keys. LocalFolder and a folder is the key in a file there, for development only: whoever reads
	// the file can read every encrypted value.
	MasterKey string
	// ExportsBucket is OCELOT_EXPORTS_BUCKET: the bucket of S3 with the files of exports. LocalFolder and
	// a folder is that folder, for development only.
	ExportsBucket string
	// TombstonesBucket is OCELOT_TOMBSTONES_BUCKET: the bucket of S3 that says which keys were destroyed.
	// LocalFolder and a folder is that folder, for development only.
	TombstonesBucket string
	// ArchiveBucket is OCELOT_ARCHIVE_BUCKET: the bucket of S3 with the archive. LocalFolder and a folder is
	// that folder, for development only.
	ArchiveBucket string
	LogLevel      slog.Level // OCELOT_LOG_LEVEL: debug, info (the default), warn or error
	// StreamURL is OCELOT_STREAM_URL, the public address of the WebSocket API. If it
	// is "", a ticket names the host of the request for it.
	StreamURL string
	// Origins are OCELOT_ORIGINS, separated by commas, such as https://console.example.com. A browser
	// lets the scripts of their pages read the service's answers. nil: none.
	Origins []string
	Rates   Rates
	// Name is AWS_LAMBDA_FUNCTION_NAME, the function's name on AWS.
	Name string
	// TraceDaemon is AWS_XRAY_DAEMON_ADDRESS, where segments of traces go. Lambda sets it; "":
	// nowhere.
	TraceDaemon string
	// UsageKeys are OCELOT_USAGE_KEY_STANDARD and OCELOT_USAGE_KEY_PRIORITY.
	UsageKeys UsageKeys
	// MaxBacklog is OCELOT_MAX_BACKLOG, how many messages may wait to be stored: 1,000 to
	// 1,000,000,000. Over the engines of production the default is 50,000,000, a day of single
	// entries at 580/s. Over the embedded engine it is 40,000, which take up to 2.4 GB.
	MaxBacklog int
	// KeyBackupDays is OCELOT_KEY_BACKUP_DAYS, how long backups of the database are kept, which have the
	// wrapped keys of tenants: 0 to 3,650 days, 35 if unset. Certificates of erasures say it.
	KeyBackupDays Days
}

// Days is a number of days.
type Days int

// Duration returns them as a duration.
func (d Days) Duration() time.Duration { return time.Duration(d) * 24 * time.Hour }

// keyBackupDays is the default of Function.KeyBackupDays: the longest time for which DocumentDB keeps
// backups.
const keyBackupDays = "35"

// LocalFolder is what Function.MasterKey, ExportsBucket, TombstonesBucket and ArchiveBucket begin with if
// they name a folder.
const LocalFolder = "file:"

// The defaults of Function.MaxBacklog.
const (
	cloudBacklog    = "50000000"
	embeddedBacklog = "40000"
)

// Rate is a quota of entries. Its burst is that of the variable with the suffix _BURST, and ten
// seconds of the rate if that is unset.
type Rate struct {
	PerSecond int // 0: no limit
	Burst     int // entries at once after a pause
}

// Rates are the quotas: OCELOT_RATE_STANDARD and OCELOT_RATE_PRIORITY of a tenant by its tier,
// OCELOT_RATE_CREDENTIAL of a credential. Over the engines of production they have defaults,
// over the embedded engine there is no limit unless one is set.
type Rates struct{ Standard, Priority, Credential Rate }

// DefaultRates returns the texts of the quotas of a deployment by their variables.
func DefaultRates() map[string]string {
	return map[string]string{rateStandard: "1000", ratePriority: "5000", rateCredential: "2500"}
}

const (
	rateStandard   = "OCELOT_RATE_STANDARD"
	ratePriority   = "OCELOT_RATE_PRIORITY"
	rateCredential = "OCELOT_RATE_CREDENTIAL"
	burstSuffix    = "_BURST"
)

const (
	maxRate = 1_000_000 // entries a second
	// maxBurstSeconds is the longest time in which a burst is refilled.
	maxBurstSeconds = 3600
	// burstSeconds is the time in which a burst is refilled that is unset.
	burstSeconds = 10
)

// UsageKeys are the API keys of API Gateway's usage plans by the tier of a tenant; "": there is no
// plan. They are names and no secrets: API Gateway takes a key from the authorizer alone.
type UsageKeys struct{ Standard, Priority string }

const (
	usageKeyStandard = "OCELOT_USAGE_KEY_STANDARD"
	usageKeyPriority = "OCELOT_USAGE_KEY_PRIORITY"
)

// MinUsageKey is the length of the shortest API key that API Gateway accepts.
const MinUsageKey = 20

// Embedded is what a Lambda over the embedded engine reads.
type Embedded struct {
	Function
	Data string // OCELOT_DATA, the folder of the engine's file
	// Sockets is AWS_ENDPOINT_URL_APIGATEWAYMANAGEMENTAPI, the address at which the
	// runner accepts frames for clients.
	Sockets string
}

// AWS is a function's AWS account. Lambda sets these variables. They are read here and
// not by the SDK, whose search for profiles, roles and sign-ins costs time at every
// start. A function needs none of these.
type AWS struct {
	Region          string // AWS_REGION
	AccessKeyID     string // AWS_ACCESS_KEY_ID
	SecretAccessKey Secret // AWS_SECRET_ACCESS_KEY
	SessionToken    Secret // AWS_SESSION_TOKEN
	// Endpoints are AWS_ENDPOINT_URL, under "", and AWS_ENDPOINT_URL_<SERVICE>
	// under the service's id in the SDK. A missing one means the service's own endpoint.
	Endpoints map[string]string
}

// SocketsService is the id, among the endpoints, of API Gateway's management API
// for WebSocket connections. Each WebSocket API has its own endpoint.
const SocketsService = "ApiGatewayManagementApi"

// Engines are the engines of production.
type Engines struct {
	AWS           AWS
	MongoURI      Secret // MONGODB_URI, a connection string
	MongoDatabase string // MONGODB_DATABASE; default "ocelot"
	MongoIndexes  string // OCELOT_MONGO_INDEXES of new partitions: "full", the default, or "lean"
	// MongoReadPreference is OCELOT_MONGO_READ_PREFERENCE, the servers that answer lists
	// from MongoDB: "primary", the default, "primaryPreferred", "secondaryPreferred" or "nearest".
	MongoReadPreference string
	OpenSearchURL       Secret // OPENSEARCH_URL, which may hold a user and a password
	OpenSearchSigned    bool   // OPENSEARCH_AUTH is "aws" (sign every request) and not "none", the default
	OpenSearchPrefix    string // OPENSEARCH_PREFIX of the indexes' names; default "ocelot"
	OpenSearchReplicas  int    // OPENSEARCH_REPLICAS, 0 to 5; default 1
	// SearchSeparateTenants is OCELOT_SEARCH_SEPARATE_TENANTS: up to this many tenants, each
	// has search indexes of its own. From 0 to 10,000, default 200.
	SearchSeparateTenants int
	SearchPools           int    // OCELOT_SEARCH_POOLS that the other tenants share, 1 to 100; default 16
	QueuePrefix           string // OCELOT_QUEUE_PREFIX of the queues' names; default "ocelot"
}

// NamesQueues reports whether the environment names an endpoint of SQS. On a laptop
// that selects SQS. A Lambda needs no endpoint.
func (e Engines) NamesQueues() bool { return e.AWS.Endpoints["SQS"] != "" || e.AWS.Endpoints[""] != "" }

// Cloud is what a Lambda over the engines of production reads. A secret may be given
// as the ARN of a secret in Secrets Manager.
type Cloud struct {
	Function
	Engines
}

// Dev is what `ocelot dev` reads; the rest comes from its flags and its data folder.
type Dev struct {
	Auth Auth
	// Engines replace the parts of the embedded engine that they name.
	Engines Engines
	Rates   Rates
	// MasterKey is that of Function; "": a key in the data folder.
	MasterKey string
	// ExportsBucket, TombstonesBucket and ArchiveBucket are those of Function; "": a folder in the data
	// folder.
	ExportsBucket, TombstonesBucket, ArchiveBucket string
	// MaxBacklog is that of Function over the embedded engine.
	MaxBacklog int
	// KeyBackupDays are those of Function.
	KeyBackupDays Days
	// Origins are those of Function.
	Origins []string
	// TraceDaemon is that of Function, for functions that run as Lambda binaries.
	TraceDaemon string
	LogLevel    slog.Level // OCELOT_LOG_LEVEL: debug, info, warn (the default: the terminal is for people) or error
}

// Auth configures which bearer tokens are valid.
type Auth struct {
	JWKSURL   string // OIDC_JWKS_URL, an absolute URL with the keys of RS256, ES256 and EdDSA tokens
	Issuer    string // OIDC_ISSUER; required with OIDC_JWKS_URL; "": not checked
	Audience  string // OIDC_AUDIENCE; required with OIDC_JWKS_URL; "": not checked
	JWTSecret Secret // OCELOT_JWT_SECRET, of HS256 tokens, for development, without OIDC_JWKS_URL; nil if unset
}

// Enabled reports whether any bearer token can be valid.
func (a Auth) Enabled() bool { return a.JWKSURL != "" || len(a.JWTSecret) > 0 }

// ReadEmbedded reads the settings of a function over the embedded engine. It requires
// the variables of the function's dependencies. The error lists every fault.
func ReadEmbedded(needs ...manifest.Dependency) (Embedded, error) {
	r, err := newReader(needs)
	if err != nil {
		return Embedded{}, err
	}
	function := r.function(nil, embeddedBacklog)
	embedded := Embedded{Function: function, Data: r.Data, Sockets: r.sockets()}
	if slices.ContainsFunc(needs, func(d manifest.Dependency) bool {
		return slices.Contains([]manifest.Dependency{
			manifest.DependencyRecords, manifest.DependencySearch, manifest.DependencyQueues, manifest.DependencyExports, manifest.DependencyTombstones, manifest.DependencyArchive,
		}, d)
	}) {
		r.required("OCELOT_DATA", r.Data, "the folder of the embedded engine")
	}
	return embedded, r.err()
}

// ReadCloud reads the settings of a function over the engines of production. It
// requires the variables of the function's dependencies. The error lists every fault.
func ReadCloud(needs ...manifest.Dependency) (Cloud, error) {
	r, err := newReader(needs)
	if err != nil {
		return Cloud{}, err
	}
	cloud := Cloud{Function: r.function(DefaultRates(), cloudBacklog), Engines: r.engines()}
	r.requiredFor(manifest.DependencyRecords, "MONGODB_URI", r.MongoURI, "the connection string of the system of record")
	r.requiredFor(manifest.DependencySearch, "OPENSEARCH_URL", r.OpenSearchURL, "the address of the search index")
	r.requiredFor(manifest.DependencyMasterKey, "OCELOT_MASTER_KEY", r.MasterKey, "the key of AWS KMS that wraps the tenants' keys")
	r.requiredFor(manifest.DependencyExports, exportsVariable, r.ExportsBucket, "the bucket of S3 with the files of exports")
	r.requiredFor(manifest.DependencyTombstones, tombstonesVariable, r.TombstonesBucket, "the bucket of S3 that says which keys were destroyed")
	r.requiredFor(manifest.DependencyArchive, archiveVariable, r.ArchiveBucket, "the bucket of S3 with the archive")
	if len(needs) > 0 {
		r.required("AWS_REGION", r.Region, "the region of the service's account")
	}
	r.sockets()
	return cloud, r.err()
}

// Variables returns the names of the variables that a function over the engines of
// production reads for a dependency, required ones first. A deployment sets
// them. AWS sets AWS_REGION and the account's credentials itself.
func Variables(d manifest.Dependency) []string {
	switch d {
	case manifest.DependencyRecords:
		return []string{"MONGODB_URI", "MONGODB_DATABASE", "OCELOT_MONGO_INDEXES", "OCELOT_MONGO_READ_PREFERENCE"}
	case manifest.DependencySearch:
		return []string{"OPENSEARCH_URL", "OPENSEARCH_AUTH", "OPENSEARCH_PREFIX", "OPENSEARCH_REPLICAS"}
	case manifest.DependencyQueues:
		return []string{"OCELOT_QUEUE_PREFIX"}
	case manifest.DependencySockets:
		return []string{socketsVariable}
	case manifest.DependencyCursorKey:
		return []string{"OCELOT_CURSOR_KEY"}
	case manifest.DependencyMasterKey:
		return []string{"OCELOT_MASTER_KEY"}
	case manifest.DependencyExports:
		return []string{exportsVariable}
	case manifest.DependencyTombstones:
		return []string{tombstonesVariable}
	case manifest.DependencyArchive:
		return []string{archiveVariable}
	case manifest.DependencyTokens:
		return []string{"OIDC_JWKS_URL", "OIDC_ISSUER", "OIDC_AUDIENCE", "OCELOT_JWT_SECRET"}
	}
	return nil
}

// FunctionVariables returns the names of the variables that a function over the engines of
// production reads. A deployment sets those of them that have no default.
func FunctionVariables(f manifest.Function) []string {
	names := []string{"OCELOT_LOG_LEVEL", "OCELOT_STREAM_URL", "OCELOT_ORIGINS"} // of every function
	for _, d := range f.Dependencies() {
		names = append(names, Variables(d)...)
	}
	if f.Trigger.Authorizer {
		names = append(names, usageKeyStandard, usageKeyPriority)
	}
	if certifies(f) {
		names = append(names, keyBackupVariable)
	}
	if accepts(f) {
		names = append(names, rateStandard, ratePriority, rateCredential)
	}
	return names
}

// certifies reports whether the function signs certificates.
func certifies(f manifest.Function) bool {
	return slices.ContainsFunc(f.Grants, func(g manifest.Grant) bool { return g.Resource == manifest.ResourceCertificates && g.Write })
}

// accepts reports whether the function accepts entries, for which there are quotas.
func accepts(f manifest.Function) bool {
	return f.Trigger.Route != nil && slices.ContainsFunc(f.Grants, func(g manifest.Grant) bool {
		return g.Resource == manifest.ResourceQuotas && g.Write
	})
}

// CheckSecret returns an error if a secret has fewer than MinSecretBytes bytes. It is
// for secrets that were fetched after the environment was read.
func CheckSecret(variable string, value Secret) error {
	var r reader
	r.secret(variable, string(value))
	return r.err()
}

// ReadAWS reads an AWS. The error has every fault.
func ReadAWS() (AWS, error) {
	r, err := newReader(nil)
	if err != nil {
		return AWS{}, err
	}
	r.required("AWS_REGION", r.Region, "the region of the service's account")
	return r.aws(), r.err()
}

// ReadDev reads a Dev. The error has every fault.
func ReadDev() (Dev, error) {
	r, err := newReader(nil)
	if err != nil {
		return Dev{}, err
	}
	dev := Dev{Auth: r.auth(), MasterKey: r.MasterKey, ExportsBucket: r.ExportsBucket, TombstonesBucket: r.tombstonesBucket(), ArchiveBucket: r.archiveBucket(), Engines: r.engines(), Rates: r.rates(nil), MaxBacklog: r.maxBacklog(embeddedBacklog), KeyBackupDays: r.keyBackupDays(), Origins: r.origins(), TraceDaemon: r.TraceDaemon, LogLevel: r.logLevel(slog.LevelWarn)}
	if r.MongoURI != "" && r.OpenSearchURL == "" {
		r.fault("OPENSEARCH_URL", "is required with MONGODB_URI: the embedded index finds entries of the embedded store only")
	}
	if dev.Engines.NamesQueues() {
		r.required("AWS_REGION", r.Region, "the region of the queues")
	}
	if r.ExportsBucket != "" && !strings.HasPrefix(r.ExportsBucket, LocalFolder) {
		r.required("AWS_REGION", r.Region, "the region of the bucket of exports")
	}
	if r.TombstonesBucket != "" && !strings.HasPrefix(r.TombstonesBucket, LocalFolder) {
		r.required("AWS_REGION", r.Region, "the region of the bucket of tombstones")
	}
	if r.ArchiveBucket != "" && !strings.HasPrefix(r.ArchiveBucket, LocalFolder) {
		r.required("AWS_REGION", r.Region, "the region of the bucket of the archive")
	}
	return dev, r.err()
}

// reader checks the texts of the variables and gathers their faults.
type reader struct {
	variables
	needs  []manifest.Dependency
	faults []error
}

// variables has only strings, so that a failure to read them cannot put a value into the error.
type variables struct {
	Data          string `env:"OCELOT_DATA"`
	CursorKey     string `env:"OCELOT_CURSOR_KEY"`
	MasterKey     string `env:"OCELOT_MASTER_KEY"`
	ExportsBucket string `env:"OCELOT_EXPORTS_BUCKET"`

	TombstonesBucket string `env:"OCELOT_TOMBSTONES_BUCKET"`
	ArchiveBucket    string `env:"OCELOT_ARCHIVE_BUCKET"`

	MongoURI           string `env:"MONGODB_URI"`
	MongoDatabase      string `env:"MONGODB_DATABASE" envDefault:"ocelot"`
	MongoIndexes       string `env:"OCELOT_MONGO_INDEXES" envDefault:"full"`
	MongoReads         string `env:"OCELOT_MONGO_READ_PREFERENCE" envDefault:"primary"`
	OpenSearchURL      string `env:"OPENSEARCH_URL"`
	OpenSearchAuth     string `env:"OPENSEARCH_AUTH" envDefault:"none"`
	OpenSearchPrefix   string `env:"OPENSEARCH_PREFIX" envDefault:"ocelot"`
	OpenSearchReplicas string `env:"OPENSEARCH_REPLICAS" envDefault:"1"`
	SeparateTenants    string `env:"OCELOT_SEARCH_SEPARATE_TENANTS" envDefault:"200"`
	SearchPools        string `env:"OCELOT_SEARCH_POOLS" envDefault:"16"`
	QueuePrefix        string `env:"OCELOT_QUEUE_PREFIX" envDefault:"ocelot"`

	Region          string `env:"AWS_REGION"`
	AccessKeyID     string `env:"AWS_ACCESS_KEY_ID"`
	SecretAccessKey string `env:"AWS_SECRET_ACCESS_KEY"`
	SessionToken    string `env:"AWS_SESSION_TOKEN"`
	Endpoint        string `env:"AWS_ENDPOINT_URL"`
	EndpointSQS     string `env:"AWS_ENDPOINT_URL_SQS"`
	EndpointS3      string `env:"AWS_ENDPOINT_URL_S3"`
	EndpointKMS     string `env:"AWS_ENDPOINT_URL_KMS"`
	EndpointSecrets string `env:"AWS_ENDPOINT_URL_SECRETS_MANAGER"`
	EndpointSockets string `env:"AWS_ENDPOINT_URL_APIGATEWAYMANAGEMENTAPI"`

	RateStandard        string `env:"OCELOT_RATE_STANDARD"`
	RateStandardBurst   string `env:"OCELOT_RATE_STANDARD_BURST"`
	RatePriority        string `env:"OCELOT_RATE_PRIORITY"`
	RatePriorityBurst   string `env:"OCELOT_RATE_PRIORITY_BURST"`
	RateCredential      string `env:"OCELOT_RATE_CREDENTIAL"`
	RateCredentialBurst string `env:"OCELOT_RATE_CREDENTIAL_BURST"`

	UsageKeyStandard string `env:"OCELOT_USAGE_KEY_STANDARD"`
	UsageKeyPriority string `env:"OCELOT_USAGE_KEY_PRIORITY"`

	MaxBacklog string `env:"OCELOT_MAX_BACKLOG"`

	KeyBackupDays string `env:"OCELOT_KEY_BACKUP_DAYS"`

	Name        string `env:"AWS_LAMBDA_FUNCTION_NAME"`
	TraceDaemon string `env:"AWS_XRAY_DAEMON_ADDRESS"`

	LogLevel  string `env:"OCELOT_LOG_LEVEL"`
	StreamURL string `env:"OCELOT_STREAM_URL"`
	Origins   string `env:"OCELOT_ORIGINS"`
	JWTSecret string `env:"OCELOT_JWT_SECRET"`
	JWKSURL   string `env:"OIDC_JWKS_URL"`
	Issuer    string `env:"OIDC_ISSUER"`
	Audience  string `env:"OIDC_AUDIENCE"`
}

func newReader(needs []manifest.Dependency) (*reader, error) {
	v, err := env.ParseAs[variables]()
	if err != nil {
		return nil, fmt.Errorf("read the environment: %w", err)
	}
	return &reader{variables: v, needs: needs}, nil
}

func (r *reader) fault(variable, format string, args ...any) {
	r.faults = append(r.faults, fmt.Errorf("%s %s", variable, fmt.Sprintf(format, args...)))
}

// err returns every fault that was found, or nil. In a return statement it must come
// after the calls that find faults.
func (r *reader) err() error { return errors.Join(r.faults...) }

// function reads a Function. rates are the texts of the quotas that are unset, by variable, and
// backlog that of OCELOT_MAX_BACKLOG.
func (r *reader) function(rates map[string]string, backlog string) Function {
	r.requiredFor(manifest.DependencyCursorKey, "OCELOT_CURSOR_KEY", r.CursorKey, "the key that signs cursors")
	return Function{
		Auth: r.auth(), CursorKey: r.secret("OCELOT_CURSOR_KEY", r.CursorKey), MasterKey: r.MasterKey, ExportsBucket: r.ExportsBucket, TombstonesBucket: r.tombstonesBucket(), ArchiveBucket: r.archiveBucket(), LogLevel: r.logLevel(slog.LevelInfo),
		StreamURL: r.address("OCELOT_STREAM_URL", r.StreamURL, "ws", "wss"), Origins: r.origins(),
		Rates: r.rates(rates), UsageKeys: r.usageKeys(), MaxBacklog: r.maxBacklog(backlog), KeyBackupDays: r.keyBackupDays(), Name: r.Name, TraceDaemon: r.TraceDaemon,
	}
}

func (r *reader) tombstonesBucket() string {
	if r.TombstonesBucket != "" && r.TombstonesBucket == r.ExportsBucket {
		r.fault(tombstonesVariable, "must differ from %s, whose files are removed", exportsVariable)
	}
	return r.TombstonesBucket
}

// archiveBucket refuses the buckets of others: the deletion of a tenant removes its whole archive.
func (r *reader) archiveBucket() string {
	for variable, other := range map[string]string{exportsVariable: r.ExportsBucket, tombstonesVariable: r.TombstonesBucket} {
		if r.ArchiveBucket != "" && r.ArchiveBucket == other {
			r.fault(archiveVariable, "must differ from %s", variable)
		}
	}
	return r.ArchiveBucket
}

func (r *reader) usageKeys() UsageKeys {
	for variable, key := range map[string]string{usageKeyStandard: r.UsageKeyStandard, usageKeyPriority: r.UsageKeyPriority} {
		if key != "" && len(key) < MinUsageKey {
			r.fault(variable, "must have at least %d characters", MinUsageKey)
		}
	}
	if (r.UsageKeyStandard == "") != (r.UsageKeyPriority == "") {
		r.fault(usageKeyStandard, "and %s must both be set, or none of them", usageKeyPriority)
	}
	return UsageKeys{Standard: r.UsageKeyStandard, Priority: r.UsageKeyPriority}
}

func (r *reader) maxBacklog(unset string) int {
	return r.number("OCELOT_MAX_BACKLOG", cmp.Or(r.MaxBacklog, unset), 1000, 1_000_000_000)
}

const keyBackupVariable = "OCELOT_KEY_BACKUP_DAYS"

func (r *reader) keyBackupDays() Days {
	return Days(r.number(keyBackupVariable, cmp.Or(r.KeyBackupDays, keyBackupDays), 0, 3650))
}

func (r *reader) rates(unset map[string]string) Rates {
	rate := func(variable, text, burst string) Rate {
		rate := Rate{PerSecond: r.number(variable, cmp.Or(text, unset[variable], "0"), 0, maxRate)}
		rate.Burst = burstSeconds * rate.PerSecond
		if burst != "" {
			rate.Burst = r.number(variable+burstSuffix, burst, 1, max(1, maxBurstSeconds*rate.PerSecond))
		}
		return rate
	}
	return Rates{
		Standard:   rate(rateStandard, r.RateStandard, r.RateStandardBurst),
		Priority:   rate(ratePriority, r.RatePriority, r.RatePriorityBurst),
		Credential: rate(rateCredential, r.RateCredential, r.RateCredentialBurst),
	}
}

func (r *reader) engines() Engines {
	return Engines{
		AWS: r.aws(), MongoURI: Secret(r.MongoURI), MongoDatabase: r.MongoDatabase, OpenSearchURL: Secret(r.OpenSearchURL),
		MongoIndexes:          r.choice("OCELOT_MONGO_INDEXES", r.MongoIndexes, "full", "lean"),
		MongoReadPreference:   r.choice("OCELOT_MONGO_READ_PREFERENCE", r.MongoReads, "primary", "primaryPreferred", "secondaryPreferred", "nearest"),
		OpenSearchSigned:      r.choice("OPENSEARCH_AUTH", r.OpenSearchAuth, "none", "aws") == "aws",
		OpenSearchPrefix:      r.OpenSearchPrefix,
		OpenSearchReplicas:    r.number("OPENSEARCH_REPLICAS", r.OpenSearchReplicas, 0, 5),
		SearchSeparateTenants: r.number("OCELOT_SEARCH_SEPARATE_TENANTS", r.SeparateTenants, 0, 10_000),
		SearchPools:           r.number("OCELOT_SEARCH_POOLS", r.SearchPools, 1, 100),
		QueuePrefix:           r.QueuePrefix,
	}
}

func (r *reader) aws() AWS {
	endpoints := map[string]string{}
	for id, address := range map[string]string{
		"": r.Endpoint, "SQS": r.EndpointSQS, "S3": r.EndpointS3, "KMS": r.EndpointKMS, "Secrets Manager": r.EndpointSecrets,
		SocketsService: r.EndpointSockets,
	} {
		if address != "" {
			endpoints[id] = address
		}
	}
	return AWS{
		Region: r.Region, AccessKeyID: r.AccessKeyID,
		SecretAccessKey: Secret(r.SecretAccessKey), SessionToken: Secret(r.SessionToken), Endpoints: endpoints,
	}
}

func (r *reader) required(variable, text, meaning string) {
	if text == "" {
		r.fault(variable, "is required: %s", meaning)
	}
}

// requiredFor requires the variable if the function has the dependency.
func (r *reader) requiredFor(d manifest.Dependency, variable, text, meaning string) {
	if slices.Contains(r.needs, d) {
		r.required(variable, text, meaning)
	}
}

const (
	exportsVariable    = "OCELOT_EXPORTS_BUCKET"
	tombstonesVariable = "OCELOT_TOMBSTONES_BUCKET"
	archiveVariable    = "OCELOT_ARCHIVE_BUCKET"
)

const socketsVariable = "AWS_ENDPOINT_URL_APIGATEWAYMANAGEMENTAPI"

func (r *reader) sockets() string {
	r.requiredFor(manifest.DependencySockets, socketsVariable, r.EndpointSockets, "the address of the WebSocket API's stage, without /@connections")
	return r.address(socketsVariable, r.EndpointSockets, "http", "https")
}

func (r *reader) choice(variable, text string, choices ...string) string {
	if !slices.Contains(choices, text) {
		r.fault(variable, "must be one of %s", strings.Join(choices, ", "))
	}
	return text
}

// number reads a whole number from lowest to highest.
func (r *reader) number(variable, text string, lowest, highest int) int {
	n, err := strconv.Atoi(text)
	if err != nil || n < lowest || n > highest {
		r.fault(variable, "must be a whole number from %d to %d", lowest, highest)
	}
	return n
}

func (r *reader) auth() Auth {
	if r.JWKSURL != "" {
		for variable, text := range map[string]string{"OIDC_ISSUER": r.Issuer, "OIDC_AUDIENCE": r.Audience} {
			if text == "" {
				r.fault(variable, "is required with OIDC_JWKS_URL")
			}
		}
		if r.JWTSecret != "" {
			r.fault("OCELOT_JWT_SECRET", "must not be set with OIDC_JWKS_URL")
		}
	}
	return Auth{
		JWKSURL: r.address("OIDC_JWKS_URL", r.JWKSURL, "http", "https"), Issuer: r.Issuer, Audience: r.Audience,
		JWTSecret: r.secret("OCELOT_JWT_SECRET", r.JWTSecret),
	}
}

// address reads an absolute URL with one of the schemes. It accepts an empty text.
func (r *reader) address(variable, text string, schemes ...string) string {
	u, err := url.Parse(text)
	if text != "" && (err != nil || u.Host == "" || !slices.Contains(schemes, u.Scheme)) {
		r.fault(variable, "must be an absolute %s URL", strings.Join(schemes, " or "))
	}
	return text
}

// origins reads origins as browsers spell them: a scheme and a host without a path.
func (r *reader) origins() []string {
	if r.Origins == "" {
		return nil
	}
	origins := strings.Split(r.Origins, ",")
	for _, origin := range origins {
		u, err := url.Parse(origin)
		if err != nil || u.Host == "" || !slices.Contains([]string{"http", "https"}, u.Scheme) || origin != u.Scheme+"://"+u.Host {
			r.fault("OCELOT_ORIGINS", "must be origins such as https://console.example.com, separated by commas")
		}
	}
	return origins
}

func (r *reader) secret(variable, text string) Secret {
	if text == "" {
		return nil
	}
	if len(text) < MinSecretBytes {
		r.fault(variable, "must have at least %d bytes", MinSecretBytes)
	}
	return Secret(text)
}

func (r *reader) logLevel(unset slog.Level) slog.Level {
	names := []string{"debug", "info", "warn", "error"}
	levels := []slog.Level{slog.LevelDebug, slog.LevelInfo, slog.LevelWarn, slog.LevelError}
	if r.LogLevel == "" {
		return unset
	}
	i := slices.Index(names, strings.ToLower(r.LogLevel))
	if i < 0 {
		r.fault("OCELOT_LOG_LEVEL", "must be one of %s", strings.Join(names, ", "))
		return unset
	}
	return levels[i]
}
