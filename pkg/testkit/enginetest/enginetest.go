// Package enginetest provides real engines for tests: MongoDB's wire protocol, OpenSearch,
// SQS, S3, KMS, Secrets Manager, and readers of Parquet files. Each is a child process on loopback. It comes from a
// package registry and needs no Docker. The package also has proxies that inject faults
// between a test and an engine.
//
// Mongo, OpenSearch, SQS, S3, KMS and SecretsManager return the engine that MONGODB_URI,
// OPENSEARCH_URL or AWS_ENDPOINT_URL_<SERVICE> names. If the variable is not set and
// OCELOT_TEST_ENGINES is 1, they start an engine for the whole test binary. Otherwise they
// skip the test. Several tests and binaries can use one engine, so each test must use its own
// names of databases, indexes, queues and buckets.
//
// An engine ends with the test or the test binary that started it, also after a crash.
// Downloads are cached in ocelot/engines in the user's cache folder.
package enginetest

import (
	"encoding/json"
	"os"
	"slices"
	"sync"
	"testing"
)

// Mongo returns the connection string of a MongoDB server.
func Mongo(t testing.TB) string {
	t.Helper()
	return use(t, mongo, sharedMongo)
}

// OpenSearch returns the URL of an OpenSearch node or cluster.
func OpenSearch(t testing.TB) string {
	t.Helper()
	return use(t, openSearch, sharedOpenSearch)
}

// SQS returns the endpoint of an SQS service. An engine that was started here accepts any
// region and credentials.
func SQS(t testing.TB) string {
	t.Helper()
	return use(t, sqs, sharedSQS)
}

// S3 returns the endpoint of an S3 service. An engine that was started here accepts AccessKey,
// SecretKey and Region. So do KMS, SecretsManager and AWS.
func S3(t testing.TB) string {
	t.Helper()
	return use(t, s3, sharedS3)
}

// KMS returns the endpoint of a KMS service.
func KMS(t testing.TB) string {
	t.Helper()
	return use(t, aws.as("KMS", "AWS_ENDPOINT_URL_KMS"), sharedAWS)
}

// SecretsManager returns the endpoint of a Secrets Manager service.
func SecretsManager(t testing.TB) string {
	t.Helper()
	return use(t, aws.as("Secrets Manager", "AWS_ENDPOINT_URL_SECRETS_MANAGER"), sharedAWS)
}

// AWS returns the endpoint of an engine with many services of AWS. It does what the other
// engines do not, for example evaluate IAM policies. It keeps everything in memory. No
// variable replaces it by a real account.
func AWS(t testing.TB) string {
	t.Helper()
	return use(t, aws, sharedAWS)
}

// ParquetReaders returns the URL of a service that reads Parquet files: POST /pyarrow, and POST
// /duckdb?sql=…, where the table is named file. The body is the file. The answer has its types and
// rows.
func ParquetReaders(t testing.TB) string {
	t.Helper()
	return use(t, parquetReaders, sharedParquetReaders)
}

// StartMongo starts a MongoDB server for this test only, which may stop and kill it. It skips
// the test unless OCELOT_TEST_ENGINES is 1, because a test cannot stop an outside server.
func StartMongo(t testing.TB) *Engine {
	t.Helper()
	return startOwn(t, mongo)
}

// StartOpenSearch starts an OpenSearch node for this test only; see StartMongo.
func StartOpenSearch(t testing.TB) *Engine {
	t.Helper()
	return startOwn(t, openSearch)
}

// StartSQS starts an SQS service for this test only; see StartMongo.
func StartSQS(t testing.TB) *Engine {
	t.Helper()
	return startOwn(t, sqs)
}

// StartS3 starts an S3 service for this test only; see StartMongo.
func StartS3(t testing.TB) *Engine {
	t.Helper()
	return startOwn(t, s3)
}

// StartAWS starts the engine of AWS for this test only; see StartMongo. It loses its data when
// it ends.
func StartAWS(t testing.TB) *Engine {
	t.Helper()
	return startOwn(t, aws)
}

// StartCloud starts the engine of AWS for this test only, and lets it run deployed functions;
// see StartMongo. The functions get these values of variables instead of their own.
func StartCloud(t testing.TB, variables map[string]string) *Engine {
	t.Helper()
	text, err := json.Marshal(variables)
	if err != nil {
		t.Fatal(err)
	}
	k := aws
	k.environment = []string{"FUNCTION_VARIABLES=" + string(text)}
	return startOwn(t, k)
}

// The region and credentials of the engines of AWS services that are started here.
const (
	AccessKey = "test" // of an administrator
	SecretKey = "ocelot-test-secret"
	Region    = "eu-central-1"
)

// switchVariable allows tests to start engines when it is "1".
const switchVariable = "OCELOT_TEST_ENGINES"

// Enabled reports whether tests that need a MongoDB server run and are not skipped.
func Enabled() bool { return os.Getenv(switchVariable) == "1" || os.Getenv(mongo.variable) != "" }

// One engine of each kind serves a whole test binary.
var (
	sharedMongo      = sync.OnceValues(func() (*Engine, error) { return start(mongo) })
	sharedOpenSearch = sync.OnceValues(func() (*Engine, error) { return start(openSearch) })
	sharedSQS        = sync.OnceValues(func() (*Engine, error) { return start(sqs.inMemory()) })
	sharedS3         = sync.OnceValues(func() (*Engine, error) { return start(s3) })
	sharedAWS        = sync.OnceValues(func() (*Engine, error) { return start(aws) })

	sharedParquetReaders = sync.OnceValues(func() (*Engine, error) { return start(parquetReaders) })
)

func use(t testing.TB, k kind, shared func() (*Engine, error)) string {
	t.Helper()
	if url := os.Getenv(k.variable); url != "" {
		return url
	}
	if os.Getenv(switchVariable) != "1" {
		if k.variable == "" {
			t.Skipf("wants %s: run `make test-engines`, which starts one", k.title)
		}
		t.Skipf("wants %s: run `make test-engines`, which starts one, or set %s to one that runs", k.title, k.variable)
	}
	engine, err := shared()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { engine.showLog(t) })
	return engine.URL()
}

func startOwn(t testing.TB, k kind) *Engine {
	t.Helper()
	if os.Getenv(switchVariable) != "1" {
		t.Skipf("wants a %s that it may stop: run `make test-engines`, which starts one", k.title)
	}
	engine, err := start(k)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		engine.showLog(t)
		if err := engine.remove(); err != nil {
			t.Error(err)
		}
	})
	return engine
}

// kind describes an engine: its runtime, its parts and its address.
type kind struct {
	name      string   // its folder in the cache, and its argument to the fetching command
	title     string   // for people
	variable  string   // the environment variable that names one that runs already; "" where none can
	version   string   // of the first artifact
	runtime   runtime  // which decides what an artifact is
	artifacts []string // each with its version
	main      string   // of Java: the class in the folder java that runs it
	heap      string   // of Java: the most it takes
	source    []byte   // of others: the program that runs it
	ports     int      // how many it listens on; the first is its clients'
	// environment is set for its process.
	environment []string
	url         func(addr string) string
}

// as returns the engine as one of its services.
func (k kind) as(title, variable string) kind {
	k.title, k.variable = title, variable
	return k
}

// inMemory returns the engine of SQS without a file, which only an engine that is stopped needs.
// While ElasticMQ writes a message to the file, it can change the message's list of receipts.
// Then it never answers the SendMessage.
func (k kind) inMemory() kind {
	k.environment = append(slices.Clone(k.environment), "SQS_MESSAGES=memory")
	return k
}

// kinds returns all engines.
func kinds() []kind { return []kind{mongo, openSearch, sqs, s3, aws, parquetReaders} }

// Names returns the names of all engines, as Fetch takes them.
func Names() []string {
	var names []string
	for _, k := range kinds() {
		names = append(names, k.name)
	}
	return names
}

const (
	mongoVersion      = "1.47.0"
	openSearchVersion = "2.19.6"
	elasticMQVersion  = "1.7.1"
	versityVersion    = "1.8.0"
	ministackVersion  = "1.5.33"
	samVersion        = "1.110.0" // of the translator of SAM templates, which ministack uses
	pyarrowVersion    = "26.0.1"
	duckDBVersion     = "2.0.0"
)

var (
	mongo = kind{
		name: "mongo", title: "MongoDB", variable: "MONGODB_URI", version: mongoVersion, runtime: java{},
		artifacts: []string{
			"de.bwaldvogel:mongo-java-server:" + mongoVersion,
			"de.bwaldvogel:mongo-java-server-h2-backend:" + mongoVersion,
		},
		main: "Mongo", ports: 1, heap: "512m",
		// Without it the driver looks for other members of a replica set.
		url: func(addr string) string { return "mongodb://" + addr + "/?directConnection=true" },
	}
	openSearch = kind{
		name: "opensearch", title: "OpenSearch", variable: "OPENSEARCH_URL", version: openSearchVersion, runtime: java{},
		artifacts: []string{
			"org.opensearch:opensearch:" + openSearchVersion,
			"org.opensearch.plugin:transport-netty4-client:" + openSearchVersion,
			"org.opensearch.plugin:reindex-client:" + openSearchVersion,
			"org.opensearch.plugin:analysis-common:" + openSearchVersion,
			"org.opensearch.plugin:lang-painless:" + openSearchVersion,
			"org.opensearch.plugin:mapper-extras-client:" + openSearchVersion,
			"org.opensearch.plugin:aggs-matrix-stats-client:" + openSearchVersion,
			"org.apache.logging.log4j:log4j-core:2.25.4", // without it the node dies
		},
		main: "OpenSearch", ports: 2, heap: "512m",
		url: func(addr string) string { return "http://" + addr },
	}
	sqs = kind{
		name: "elasticmq", title: "SQS", variable: "AWS_ENDPOINT_URL_SQS", version: elasticMQVersion, runtime: java{},
		artifacts: []string{"org.elasticmq:elasticmq-server_2.13:" + elasticMQVersion},
		main:      "Sqs", ports: 1, heap: "256m",
		url: func(addr string) string { return "http://" + addr },
	}
	s3 = kind{
		name: "versitygw", title: "S3", variable: "AWS_ENDPOINT_URL_S3", version: versityVersion, runtime: golang{},
		artifacts: []string{"github.com/versity/versitygw v" + versityVersion},
		source:    s3Source, ports: 1,
		url: func(addr string) string { return "http://" + addr },
	}
	aws = kind{
		name: "ministack", title: "an engine for many services of AWS", version: ministackVersion + "-sam-" + samVersion, runtime: python{},
		artifacts: []string{"ministack==" + ministackVersion, "cryptography==50.0.2", "aws-sam-translator==" + samVersion},
		source:    awsSource, ports: 1,
		url: func(addr string) string { return "http://" + addr },
	}
	parquetReaders = kind{
		name: "parquet", title: "readers of Parquet files", version: pyarrowVersion + "-duckdb-" + duckDBVersion, runtime: python{},
		artifacts: []string{"pyarrow==" + pyarrowVersion, "duckdb==" + duckDBVersion},
		source:    parquetSource, ports: 1,
		url: func(addr string) string { return "http://" + addr },
	}
)
