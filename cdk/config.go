package main

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// Environment is everything in which the environments differ.
type Environment struct {
	Name    string
	Account string // "": the account of who deploys
	Region  string
	// Zones are named, so that synthesis asks no account.
	Zones []string
	CIDR  string // of the network
	NATs  int    // gateways, through which some functions reach the issuers of tokens

	// Basic leaves out what some accounts lack, and emulators of AWS too: NAT gateways, flow
	// logs, outgoing rules of security groups, the firewall's association, canaries of
	// CodeDeploy, composite alarms, schedules of rotations and the pipeline.
	Basic bool
	// Protected refuses the deletion of stacks and databases.
	Protected bool

	// TenantsKey is the ARN of the KMS key that wraps the tenants' keys, such as the replica of
	// another region's. "": a key is made.
	TenantsKey string

	LogRetention time.Duration // of every log group: days that CloudWatch knows
	Rollout      string        // CodeDeploy's configuration for a function's new version

	Domain      Domain
	Issuer      Issuer
	Origins     []string // that browsers may call the API from
	Accepting   int      // concurrent executions reserved for each function that accepts entries; 0: none
	Requests    float64  // a second that the REST API takes
	Rates       Rates
	Burst       int // of the same
	Search      Search
	Database    Database
	LockDays    int    // the trust bucket's object lock in compliance mode; 0: no lock
	AlarmsEmail string // "": nobody subscribes to the alarms yet
	LogLevel    string // of the functions
}

// Domain is the service's own names. Without them AWS's are used.
type Domain struct {
	API, Stream    string // host names
	CertificateARN string // for both
}

// Issuer is whose tokens the service accepts.
type Issuer struct{ JWKSURL, Issuer, Audience string }

// Rates are quotas of entries a second.
type Rates struct {
	Standard, Priority int // of a tenant by its tier
	Credential         int // of a credential
}

// Search is the OpenSearch domain.
type Search struct {
	Instance  string
	Instances int // a multiple of the zones
	VolumeGB  int // of each instance
	Replicas  int
	Masters   string // the type of the dedicated masters; "": none
	Warm      int    // UltraWarm nodes; 0: none
}

// Database is where the system of record runs.
type Database struct {
	// Instances of DocumentDB, of the type Instance. 0: MongoDB Atlas.
	Instances  int
	Instance   string
	BackupDays int // how long backups are kept, by DocumentDB or as it is set in Atlas
	// AtlasService is the name of Atlas's PrivateLink service. "": its public addresses.
	AtlasService string
}

// Environments returns every environment, in the order in which a release passes them.
func Environments() []Environment {
	dev := Environment{
		Name: "dev", Region: "eu-central-1", Zones: []string{"eu-central-1a", "eu-central-1b"}, CIDR: "10.40.0.0/16", NATs: 1,
		LogRetention: 7 * day, Rollout: "CodeDeployDefault.LambdaAllAtOnce", LogLevel: "debug",
		Issuer:   Issuer{JWKSURL: "https://issuer.dev.example.com/.well-known/jwks.json", Issuer: "https://issuer.dev.example.com", Audience: "ocelot"},
		Requests: 200, Burst: 400, Rates: Rates{Standard: 100, Priority: 500, Credential: 250},
		Search:   Search{Instance: "t3.small.search", Instances: 2, VolumeGB: 20, Replicas: 1},
		Database: Database{BackupDays: 35},
	}
	staging := dev
	staging.Name, staging.CIDR = "staging", "10.41.0.0/16"
	staging.Zones = []string{"eu-central-1a", "eu-central-1b", "eu-central-1c"}
	staging.LogRetention, staging.LogLevel = 30*day, "info"
	staging.Rollout = "CodeDeployDefault.LambdaCanary10Percent5Minutes"
	staging.Issuer = Issuer{JWKSURL: "https://issuer.staging.example.com/.well-known/jwks.json", Issuer: "https://issuer.staging.example.com", Audience: "ocelot"}
	staging.Search = Search{Instance: "r7g.large.search", Instances: 3, VolumeGB: 100, Replicas: 1}
	staging.Database = Database{BackupDays: 35, AtlasService: "com.amazonaws.vpce.eu-central-1.vpce-svc-00000000000000000"}
	staging.LockDays, staging.Accepting = 1, 50

	prod := staging
	prod.Name, prod.CIDR, prod.NATs = "prod", "10.42.0.0/16", 3
	prod.Protected, prod.LogRetention = true, 90*day
	prod.Domain = Domain{
		API: "audit.example.com", Stream: "stream.audit.example.com",
		CertificateARN: "arn:aws:acm:eu-central-1:111122223333:certificate/00000000-0000-0000-0000-000000000000",
	}
	prod.Issuer = Issuer{JWKSURL: "https://issuer.example.com/.well-known/jwks.json", Issuer: "https://issuer.example.com", Audience: "ocelot"}
	prod.Origins = []string{"https://console.example.com"}
	prod.Accepting, prod.Requests, prod.Burst = 400, 4000, 4000
	prod.Rates = Rates{Standard: 1000, Priority: 5000, Credential: 2500}
	prod.Search = Search{Instance: "r7g.2xlarge.search", Instances: 6, VolumeGB: 1000, Replicas: 2, Masters: "m7g.large.search", Warm: 3}
	prod.Database = Database{Instances: 3, Instance: "db.r6g.2xlarge", BackupDays: 35}
	prod.LockDays = 35
	prod.AlarmsEmail = "on-call@example.com"
	return []Environment{dev, staging, prod}
}

const day = 24 * time.Hour

// Pipeline says where the pipeline takes the source from.
type Pipeline struct {
	Repository, Branch string
	ConnectionARN      string // of CodeConnections
	Region             string // where the pipeline runs; it releases to environments there alone
}

func pipeline() Pipeline {
	return Pipeline{
		Repository: "ocelot-audit/ocelot", Branch: "main", Region: "eu-central-1",
		ConnectionARN: "arn:aws:codeconnections:eu-central-1:111122223333:connection/00000000-0000-0000-0000-000000000000",
	}
}

// chosen returns the environments with these names, separated by commas.
func chosen(names string, basic bool) ([]Environment, error) {
	var found []Environment
	for name := range strings.SplitSeq(names, ",") {
		all := Environments()
		i := slices.IndexFunc(all, func(e Environment) bool { return e.Name == name })
		if i < 0 {
			return nil, fmt.Errorf("there is no environment %q", name)
		}
		all[i].Basic = basic
		found = append(found, all[i])
	}
	return found, nil
}
