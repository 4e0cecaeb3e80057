// Package enginetest gives tests real engines: MongoDB's wire protocol,
// OpenSearch and SQS, each a child process on loopback that is had from a
// package registry, without Docker; and proxies that do harm between a test and
// an engine.
//
// Mongo, OpenSearch and SQS return the engine that MONGODB_URI, OPENSEARCH_URL
// or AWS_ENDPOINT_URL_SQS names. Where that is not set and OCELOT_TEST_ENGINES=1
// is, they start one for the whole test binary; else they skip the test. Several
// tests and binaries may use one engine: choose a name of your own for
// databases, indexes and queues.
//
// An engine ends with the test that started it, or with the test binary,
// however that one ends. What is fetched is kept in ocelot/engines in the user's
// cache folder and fetched once.
package enginetest

import (
	"os"
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

// SQS returns the endpoint of an SQS service. An engine that was started here
// takes any region and credentials.
func SQS(t testing.TB) string {
	t.Helper()
	return use(t, sqs, sharedSQS)
}

// StartMongo starts a MongoDB server of the test's own, which it may stop and kill.
// The test is skipped unless OCELOT_TEST_ENGINES=1: a server from outside cannot be stopped.
func StartMongo(t testing.TB) *Engine {
	t.Helper()
	return startOwn(t, mongo)
}

// StartOpenSearch starts an OpenSearch node of the test's own, see StartMongo.
func StartOpenSearch(t testing.TB) *Engine {
	t.Helper()
	return startOwn(t, openSearch)
}

// StartSQS starts an SQS service of the test's own, see StartMongo.
func StartSQS(t testing.TB) *Engine {
	t.Helper()
	return startOwn(t, sqs)
}

// switchVariable allows tests to start engines when it is "1".
const switchVariable = "OCELOT_TEST_ENGINES"

// One engine of each kind serves a whole test binary.
var (
	sharedMongo      = sync.OnceValues(func() (*Engine, error) { return start(mongo) })
	sharedOpenSearch = sync.OnceValues(func() (*Engine, error) { return start(openSearch) })
	sharedSQS        = sync.OnceValues(func() (*Engine, error) { return start(sqs) })
)

func use(t testing.TB, k kind, shared func() (*Engine, error)) string {
	t.Helper()
	if url := os.Getenv(k.variable); url != "" {
		return url
	}
	if os.Getenv(switchVariable) != "1" {
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

// kind is what an engine is made of and how it is spoken to.
type kind struct {
	name      string   // its folder in the cache, and its argument to the fetching command
	title     string   // for people
	variable  string   // the environment variable that names one that runs already
	version   string   // of the first artifact
	artifacts []string // group:artifact:version
	main      string   // the class in java/ that runs it
	ports     int      // how many it listens on; the first is its clients'
	heap      string   // of the Java virtual machine
	url       func(addr string) string
}

// kinds are all engines.
func kinds() []kind { return []kind{mongo, openSearch, sqs} }

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
)

var (
	mongo = kind{
		name: "mongo", title: "MongoDB", variable: "MONGODB_URI", version: mongoVersion,
		artifacts: []string{
			"de.bwaldvogel:mongo-java-server:" + mongoVersion,
			"de.bwaldvogel:mongo-java-server-h2-backend:" + mongoVersion,
		},
		main: "Mongo", ports: 1, heap: "512m",
		// Without it the driver looks for other members of a replica set.
		url: func(addr string) string { return "mongodb://" + addr + "/?directConnection=true" },
	}
	openSearch = kind{
		name: "opensearch", title: "OpenSearch", variable: "OPENSEARCH_URL", version: openSearchVersion,
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
		name: "elasticmq", title: "SQS", variable: "AWS_ENDPOINT_URL_SQS", version: elasticMQVersion,
		artifacts: []string{"org.elasticmq:elasticmq-server_2.13:" + elasticMQVersion},
		main:      "Sqs", ports: 1, heap: "256m",
		url: func(addr string) string { return "http://" + addr },
	}
)
