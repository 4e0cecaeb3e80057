// Package config is the one place that reads the environment: a typed struct
// for each kind of process. Its errors name the variable and the limit and
// never repeat a value.
package config

import (
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/caarlos0/env/v11"
)

// MinSecretBytes is the least length of a secret: HMAC-SHA-256 is no stronger
// than its key, and no shorter key has 256 bits.
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
	CursorKey Secret     // OCELOT_CURSOR_KEY, which signs cursors; required
	LogLevel  slog.Level // OCELOT_LOG_LEVEL: debug, info (the default), warn or error
	// StreamURL is OCELOT_STREAM_URL, the public address of the WebSocket API; "": a
	// ticket's address follows from the request for it.
	StreamURL string
}

// Embedded is what a Lambda over the embedded engine reads.
type Embedded struct {
	Function
	Data string // OCELOT_DATA, the folder of the engine's file; required
	// Sockets is AWS_ENDPOINT_URL_APIGATEWAYMANAGEMENTAPI, where the runner takes what
	// is to be sent to clients; required.
	Sockets string
}

// AWS is what Lambda tells a function of its account. It is read here and not by
// the SDK, whose search through profiles, roles and sign-ins a function has no
// use for and pays for at every start.
type AWS struct {
	Region          string // AWS_REGION
	AccessKeyID     string // AWS_ACCESS_KEY_ID
	SecretAccessKey Secret // AWS_SECRET_ACCESS_KEY
	SessionToken    Secret // AWS_SESSION_TOKEN
	// Endpoints are AWS_ENDPOINT_URL, under "", and AWS_ENDPOINT_URL_<SERVICE>
	// under the service's id in the SDK. An absent one is the service's own.
	Endpoints map[string]string
}

// SocketsService is the id, among the endpoints, of API Gateway's management API
// of WebSocket connections. It has no endpoint of its own: each WebSocket API has one.
const SocketsService = "ApiGatewayManagementApi"

// Engines are the engines of production.
type Engines struct {
	AWS                AWS
	MongoURI           Secret // MONGODB_URI, a connection string
	MongoDatabase      string // MONGODB_DATABASE; "ocelot" where unset
	OpenSearchURL      Secret // OPENSEARCH_URL, which may hold a user and a password
	OpenSearchSigned   bool   // OPENSEARCH_AUTH is "aws" (sign every request) and not "none", the default
	OpenSearchPrefix   string // OPENSEARCH_PREFIX of the indexes' names; "ocelot" where unset
	OpenSearchReplicas int    // OPENSEARCH_REPLICAS, 0 to 5; 1 where unset
	QueuePrefix        string // OCELOT_QUEUE_PREFIX of the queues' names; "ocelot" where unset
}

// NamesQueues reports whether the environment says where SQS is, which a laptop
// needs and a Lambda does not.
func (e Engines) NamesQueues() bool { return e.AWS.Endpoints["SQS"] != "" || e.AWS.Endpoints[""] != "" }

// Cloud is what a Lambda over the engines of production reads. Its addresses of
// MongoDB and OpenSearch are required. In the place of a secret, the ARN of one in
// Secrets Manager can stand.
type Cloud struct {
	Function
	Engines
}

// Dev is what `ocelot dev` reads; the rest comes from its flags and its data folder.
type Dev struct {
	Auth Auth
	// Engines take the place of the embedded one where they are named.
	Engines  Engines
	LogLevel slog.Level // OCELOT_LOG_LEVEL: debug, info, warn (the default: the terminal is for people) or error
}

// Auth says which bearer tokens are good.
type Auth struct {
	JWKSURL   string // OIDC_JWKS_URL, an absolute URL with the keys of RS256, ES256 and EdDSA tokens
	Issuer    string // OIDC_ISSUER; "": not checked
	Audience  string // OIDC_AUDIENCE; "": not checked
	JWTSecret Secret // OCELOT_JWT_SECRET, of HS256 tokens, for development; nil where unset
}

// Enabled reports whether any bearer token can be good.
func (a Auth) Enabled() bool { return a.JWKSURL != "" || len(a.JWTSecret) > 0 }

// ReadEmbedded reads an Embedded. The error has every fault.
func ReadEmbedded() (Embedded, error) {
	r, err := newReader()
	if err != nil {
		return Embedded{}, err
	}
	return Embedded{
		Function: r.function(), Data: r.required("OCELOT_DATA", r.Data, "the folder of the embedded engine"), Sockets: r.sockets(),
	}, r.err()
}

// ReadCloud reads a Cloud. The error has every fault.
func ReadCloud() (Cloud, error) {
	r, err := newReader()
	if err != nil {
		return Cloud{}, err
	}
	cloud := Cloud{Function: r.function(), Engines: r.engines()}
	r.required("AWS_REGION", r.Region, "the region of the service's account")
	r.required("MONGODB_URI", r.MongoURI, "the connection string of the system of record")
	r.required("OPENSEARCH_URL", r.OpenSearchURL, "the address of the search index")
	r.sockets()
	return cloud, r.err()
}

// Check checks what only shows once named secrets were fetched.
func (c Cloud) Check() error {
	var r reader
	r.secret("OCELOT_CURSOR_KEY", string(c.CursorKey))
	r.secret("OCELOT_JWT_SECRET", string(c.Auth.JWTSecret))
	return r.err()
}

// ReadAWS reads an AWS. The error has every fault.
func ReadAWS() (AWS, error) {
	r, err := newReader()
	if err != nil {
		return AWS{}, err
	}
	r.required("AWS_REGION", r.Region, "the region of the service's account")
	return r.aws(), r.err()
}

// ReadDev reads a Dev. The error has every fault.
func ReadDev() (Dev, error) {
	r, err := newReader()
	if err != nil {
		return Dev{}, err
	}
	dev := Dev{Auth: r.auth(), Engines: r.engines(), LogLevel: r.logLevel(slog.LevelWarn)}
	if r.MongoURI != "" && r.OpenSearchURL == "" {
		r.fault("OPENSEARCH_URL", "is required with MONGODB_URI: the embedded index finds entries of the embedded store only")
	}
	if dev.Engines.NamesQueues() {
		r.required("AWS_REGION", r.Region, "the region of the queues")
	}
	return dev, r.err()
}

// reader checks the texts of the variables and gathers their faults.
type reader struct {
	variables
	faults []error
}

// variables are texts only, so that reading them cannot fail with one in the error.
type variables struct {
	Data      string `env:"OCELOT_DATA"`
	CursorKey string `env:"OCELOT_CURSOR_KEY"`

	MongoURI           string `env:"MONGODB_URI"`
	MongoDatabase      string `env:"MONGODB_DATABASE" envDefault:"ocelot"`
	OpenSearchURL      string `env:"OPENSEARCH_URL"`
	OpenSearchAuth     string `env:"OPENSEARCH_AUTH" envDefault:"none"`
	OpenSearchPrefix   string `env:"OPENSEARCH_PREFIX" envDefault:"ocelot"`
	OpenSearchReplicas string `env:"OPENSEARCH_REPLICAS" envDefault:"1"`
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

	LogLevel  string `env:"OCELOT_LOG_LEVEL"`
	StreamURL string `env:"OCELOT_STREAM_URL"`
	JWTSecret string `env:"OCELOT_JWT_SECRET"`
	JWKSURL   string `env:"OIDC_JWKS_URL"`
	Issuer    string `env:"OIDC_ISSUER"`
	Audience  string `env:"OIDC_AUDIENCE"`
}

func newReader() (*reader, error) {
	v, err := env.ParseAs[variables]()
	if err != nil {
		return nil, fmt.Errorf("read the environment: %w", err)
	}
	return &reader{variables: v}, nil
}

func (r *reader) fault(variable, format string, args ...any) {
	r.faults = append(r.faults, fmt.Errorf("%s %s", variable, fmt.Sprintf(format, args...)))
}

// err is every fault that was found, nil where there is none. In a return
// statement it stands after what finds them.
func (r *reader) err() error { return errors.Join(r.faults...) }

func (r *reader) function() Function {
	r.required("OCELOT_CURSOR_KEY", r.CursorKey, "the key that signs cursors")
	return Function{
		Auth: r.auth(), CursorKey: r.secret("OCELOT_CURSOR_KEY", r.CursorKey), LogLevel: r.logLevel(slog.LevelInfo),
		StreamURL: r.address("OCELOT_STREAM_URL", r.StreamURL, "ws", "wss"),
	}
}

func (r *reader) engines() Engines {
	return Engines{
		AWS: r.aws(), MongoURI: Secret(r.MongoURI), MongoDatabase: r.MongoDatabase, OpenSearchURL: Secret(r.OpenSearchURL),
		OpenSearchSigned:   r.choice("OPENSEARCH_AUTH", r.OpenSearchAuth, "none", "aws") == "aws",
		OpenSearchPrefix:   r.OpenSearchPrefix,
		OpenSearchReplicas: r.number("OPENSEARCH_REPLICAS", r.OpenSearchReplicas, 5),
		QueuePrefix:        r.QueuePrefix,
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

func (r *reader) required(variable, text, meaning string) string {
	if text == "" {
		r.fault(variable, "is required: %s", meaning)
	}
	return text
}

func (r *reader) sockets() string {
	const variable = "AWS_ENDPOINT_URL_APIGATEWAYMANAGEMENTAPI"
	r.required(variable, r.EndpointSockets, "the address of the WebSocket API's stage, of which @connections is part")
	return r.address(variable, r.EndpointSockets, "http", "https")
}

func (r *reader) choice(variable, text string, choices ...string) string {
	if !slices.Contains(choices, text) {
		r.fault(variable, "must be one of %s", strings.Join(choices, ", "))
	}
	return text
}

// number reads a whole number from 0 to limit.
func (r *reader) number(variable, text string, limit int) int {
	n, err := strconv.Atoi(text)
	if err != nil || n < 0 || n > limit {
		r.fault(variable, "must be a whole number from 0 to %d", limit)
	}
	return n
}

func (r *reader) auth() Auth {
	return Auth{
		JWKSURL: r.address("OIDC_JWKS_URL", r.JWKSURL, "http", "https"), Issuer: r.Issuer, Audience: r.Audience,
		JWTSecret: r.secret("OCELOT_JWT_SECRET", r.JWTSecret),
	}
}

// address reads an absolute URL with one of the schemes, or nothing.
func (r *reader) address(variable, text string, schemes ...string) string {
	u, err := url.Parse(text)
	if text != "" && (err != nil || u.Host == "" || !slices.Contains(schemes, u.Scheme)) {
		r.fault(variable, "must be an absolute %s URL", strings.Join(schemes, " or "))
	}
	return text
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

func (r *reader) logLevel(otherwise slog.Level) slog.Level {
	names := []string{"debug", "info", "warn", "error"}
	levels := []slog.Level{slog.LevelDebug, slog.LevelInfo, slog.LevelWarn, slog.LevelError}
	if r.LogLevel == "" {
		return otherwise
	}
	i := slices.Index(names, strings.ToLower(r.LogLevel))
	if i < 0 {
		r.fault("OCELOT_LOG_LEVEL", "must be one of %s", strings.Join(names, ", "))
		return otherwise
	}
	return levels[i]
}
