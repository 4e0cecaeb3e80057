package cost

import (
	"math"
	"time"
)

// Prices is a price list in USD. Hours are of one instance, GB are of a month.
type Prices struct {
	Region string
	AsOf   string // the month in which they were looked up

	APIRequest []Tier // REST API
	// LambdaGBSecond and LambdaRequest are of arm64.
	LambdaGBSecond []Tier
	LambdaRequest  float64
	SQSRequest     []Tier  // of up to 64 KB, on a queue that is fair by tenant
	KMSKey         float64 // its requests cost nothing here: none is made for an entry
	Secret         float64
	LogsIngestGB   float64
	LogsStoredGB   float64
	S3GB           []Tier
	S3Put, S3Get   float64 // one request

	EndpointZoneHour float64 // an interface endpoint in one zone
	NATHour          float64 // a NAT gateway

	SearchNodeHour   float64 // a data node with 64 GB
	SearchMasterHour float64
	SearchDiskGB     float64 // gp3

	DocumentNodeHour float64 // a node with 64 GB
	DocumentDiskGB   float64 // of one logical copy, which is stored in three zones
	DocumentIO       float64 // one write of up to 4 KB, or one read of 8 KB
	AtlasShardHour   float64 // three nodes with 64 GB
	AtlasDiskGB      float64 // on all three nodes
}

// Tier is a price for up to so many units a month, beginning after the tier before it.
type Tier struct {
	UpTo float64
	Unit float64
}

// tiered returns the price of an amount.
func tiered(amount float64, tiers []Tier) (usd float64) {
	from := 0.0
	for _, t := range tiers {
		if amount <= from {
			break
		}
		usd += (min(amount, t.UpTo) - from) * t.Unit
		from = t.UpTo
	}
	return usd
}

// lambda returns the price of invocations without its tiers: they begin at 100,000 USD a month.
func (p *Prices) lambda(invocations float64, each time.Duration, memoryMB int) float64 {
	gbSeconds := invocations * each.Seconds() * float64(memoryMB) / 1024
	return tiered(gbSeconds, p.LambdaGBSecond) + invocations*p.LambdaRequest
}

var forEver = math.Inf(1)

// USEast1 returns list prices of us-east-1 without free tiers and discounts, as of November 2026.
// Those of SQS, of OpenSearch's data nodes, and of DocumentDB's disk and I/O were compared with
// what others published in 2026. The rest is as it was known. Check them before you budget.
func USEast1() Prices {
	return Prices{
		Region: "us-east-1", AsOf: "2026-11",

		// https://aws.amazon.com/api-gateway/pricing/, REST API
		APIRequest: []Tier{{333e6, 3.50e-6}, {1000e6, 2.80e-6}, {20_000e6, 2.38e-6}, {forEver, 1.51e-6}},
		// https://aws.amazon.com/lambda/pricing/, arm64
		LambdaGBSecond: []Tier{{7.5e9, 0.0000133334}, {18.75e9, 0.0000120001}, {forEver, 0.0000106667}},
		LambdaRequest:  0.20e-6,
		// https://aws.amazon.com/sqs/pricing/, standard queue with message groups: 0.40 and 0.10
		SQSRequest: []Tier{{100e9, 0.50e-6}, {200e9, 0.40e-6}, {forEver, 0.34e-6}},
		// https://aws.amazon.com/kms/pricing/ and https://aws.amazon.com/secrets-manager/pricing/
		KMSKey: 1, Secret: 0.40,
		// https://aws.amazon.com/cloudwatch/pricing/
		LogsIngestGB: 0.50, LogsStoredGB: 0.03,
		// https://aws.amazon.com/s3/pricing/, Standard
		S3GB:  []Tier{{50e3, 0.023}, {500e3, 0.022}, {forEver, 0.021}},
		S3Put: 0.005e-3, S3Get: 0.0004e-3,
		// https://aws.amazon.com/privatelink/pricing/ and https://aws.amazon.com/vpc/pricing/
		EndpointZoneHour: 0.01, NATHour: 0.045,
		// https://aws.amazon.com/opensearch-service/pricing/: r6g.2xlarge.search, m6g.large.search
		// and gp3. UltraWarm is not used: its indexes refuse entries that come late.
		SearchNodeHour: 0.669, SearchMasterHour: 0.128, SearchDiskGB: 0.122,
		// https://aws.amazon.com/documentdb/pricing/: db.r6g.2xlarge, standard storage
		DocumentNodeHour: 1.053, DocumentDiskGB: 0.10, DocumentIO: 0.20e-6,
		// https://www.mongodb.com/pricing: M60. Its manual's example of a larger disk
		// (https://www.mongodb.com/docs/atlas/billing/) comes to 0.50 a GB.
		AtlasShardHour: 3.95, AtlasDiskGB: 0.50,
	}
}

// What a deployment has without any entry.
const (
	kmsKeys = 3 // of the stores, of tenants and of trust
	secrets = 4 // the addresses of MongoDB and OpenSearch, the cursor key, the tokens' secret

	// Zones is how many zones the environment prod of the CDK stacks has, each with a NAT
	// gateway. A test of cdk compares both numbers with its templates.
	Zones = 3
	// InterfaceEndpoints are the addresses of AWS services in the VPC. Atlas has one more.
	InterfaceEndpoints = 4
)
