package main

import (
	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsapigatewayv2"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsdocdb"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsiam"
	"github.com/aws/aws-cdk-go/awscdk/v2/awskms"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsopensearchservice"
	"github.com/aws/aws-cdk-go/awscdk/v2/awss3"
	"github.com/aws/aws-cdk-go/awscdk/v2/awssecretsmanager"

	"github.com/ocelot-audit/ocelot/pkg/manifest"
	"github.com/ocelot-audit/ocelot/pkg/rights"
)

// data is what keeps something, and the addresses that functions are given.
type data struct {
	stack   awscdk.Stack
	key     awskms.Key
	tenants *string // the ARN of the key that wraps the tenants' keys
	search  awsopensearchservice.CfnDomain
	sockets awsapigatewayv2.CfnApi // without its routes, which know the functions
}

func newData(d *deployment, net *network) *data {
	s := &data{stack: d.newStack("Data", "Ocelot: keys, secrets, queues, stores", net.stack)}
	s.addKeys(d)
	s.addSecrets(d)
	s.addBuckets(d)
	s.addQueues(d)
	s.addSearch(d, net)
	if d.Database.Instances > 0 {
		s.addDocumentDB(d, net)
	}
	s.sockets = newSocketAPI(d, s.stack)
	return s
}

// The aliases of the keys, below alias/ocelot-<environment>-.
const (
	storesKey  = "stores"  // encrypts what the stores, secrets and files hold
	tenantsKey = "tenants" // wraps the tenants' root keys
	trustKey   = "trust"   // signs the service's checkpoints
)

func (s *data) addKeys(d *deployment) {
	s.key = awskms.NewKey(s.stack, text("StoresKey"), &awskms.KeyProps{
		Alias: text("alias/" + d.name(storesKey)), Description: text("Encrypts what Ocelot stores"), EnableKeyRotation: truth(true), RemovalPolicy: removal(d),
	})
	// Alarms are published to an encrypted topic.
	s.key.AddToResourcePolicy(awsiam.NewPolicyStatement(&awsiam.PolicyStatementProps{
		Principals: &[]awsiam.IPrincipal{awsiam.NewServicePrincipal(text("cloudwatch.amazonaws.com"), nil)},
		Actions:    texts("kms:Decrypt", "kms:GenerateDataKey*"), Resources: texts("*"), // a key's policy is about this key
		Conditions: &map[string]any{"StringEquals": map[string]any{"aws:SourceAccount": sub("${AWS::AccountId}")}},
	}), nil)
	s.addTenantsKey(d)
	s.addAlias(d, trustKey, s.addKey(d, trustKey, "Signs the checkpoints of Ocelot's log", "ECC_NIST_EDWARDS25519", "SIGN_VERIFY", map[string]any{
		"Sid": "OnlyWholeMessages", "Effect": "Deny", "Principal": map[string]any{"AWS": "*"}, "Resource": "*", "Action": "kms:Sign",
		"Condition": map[string]any{"StringNotEquals": map[string]any{"kms:MessageType": "RAW"}},
	}).AttrKeyId())
}

// addTenantsKey adds the key that wraps the tenants' keys, unless the environment names one. A
// multi-region key can be replicated, and its replica reads what it wrapped. A key cannot become
// one later.
func (s *data) addTenantsKey(d *deployment) {
	s.tenants = text(d.TenantsKey)
	if d.TenantsKey == "" {
		key := s.addKey(d, tenantsKey, "Wraps the root keys of Ocelot's tenants", "SYMMETRIC_DEFAULT", "ENCRYPT_DECRYPT", map[string]any{
			"Sid": "OnlyForATenant", "Effect": "Deny", "Principal": map[string]any{"AWS": "*"}, "Resource": "*",
			"Action":    []string{"kms:Encrypt", "kms:Decrypt", "kms:GenerateDataKey", "kms:ReEncrypt*"},
			"Condition": map[string]any{"Null": map[string]any{"kms:EncryptionContext:tenant": "true"}},
		})
		key.SetMultiRegion(true)
		s.tenants = key.AttrArn()
	}
	s.addAlias(d, tenantsKey, s.tenants)
}

// addKey adds a key with one more statement in its policy. What a function may do with it
// stands in the function's role.
func (s *data) addKey(d *deployment, name, description, spec, usage string, statement map[string]any) awskms.CfnKey {
	key := awskms.NewCfnKey(s.stack, text(name+"Key"), &awskms.CfnKeyProps{
		Description: text(description), KeySpec: text(spec), KeyUsage: text(usage), PendingWindowInDays: number(30),
		EnableKeyRotation: usage == "ENCRYPT_DECRYPT", // KMS rotates symmetric keys only
		KeyPolicy: map[string]any{"Version": "2012-10-17", "Statement": []any{
			map[string]any{
				"Sid": "RolesOfTheAccount", "Effect": "Allow", "Principal": map[string]any{"AWS": sub("arn:${AWS::Partition}:iam::${AWS::AccountId}:root")},
				"Action": "kms:*", "Resource": "*",
			},
			statement,
		}},
	})
	key.ApplyRemovalPolicy(removal(d), nil)
	return key
}

// addAlias names a key, given by its id or ARN.
func (s *data) addAlias(d *deployment, name string, key *string) {
	awskms.NewCfnAlias(s.stack, text(name+"Alias"), &awskms.CfnAliasProps{AliasName: text("alias/" + d.name(name)), TargetKeyId: key})
}

// secretNames are the names of the secrets below ocelot/<environment>/, by the variable
// of pkg/config whose value they are.
var secretNames = map[string]string{rights.CursorKey: "cursor-key", rights.Records: "mongodb-uri"}

// secretARN returns the ARN of a secret without the characters that AWS adds to its name.
// Secrets Manager finds the secret by it.
func (d *deployment) secretARN(variable string) string {
	return ownARN("secretsmanager", "secret:"+d.secretName(variable))
}

func (d *deployment) secretName(variable string) string {
	return "ocelot/" + d.Name + "/" + secretNames[variable]
}

func (s *data) addSecrets(d *deployment) {
	add := func(id, variable, description string) {
		awssecretsmanager.NewSecret(s.stack, text(id), &awssecretsmanager.SecretProps{
			SecretName: text(d.secretName(variable)), Description: text(description), EncryptionKey: s.key, RemovalPolicy: removal(d),
			GenerateSecretString: &awssecretsmanager.SecretStringGenerator{PasswordLength: number(64), ExcludePunctuation: truth(true)},
		})
	}
	add("CursorKey", rights.CursorKey, "Signs cursors and tickets")
	add("MongoURI", rights.Records, "The connection string of the system of record; set it after the deployment")
}

// The names of buckets in the environment: with the files of exports, with what says which keys were
// destroyed, and with the archive.
const (
	exportsBucket    = "exports"
	tombstonesBucket = "tombstones"
	archiveBucket    = "archive"
)

// bucket returns the name of a bucket, which is unique on AWS.
func (d *deployment) bucket(name string) string {
	return d.name(name) + "-${AWS::AccountId}-${AWS::Region}"
}

func (d *deployment) exportsBucket() string { return d.bucket(exportsBucket) }

func (s *data) addBuckets(d *deployment) {
	add := func(name string, change func(*awss3.BucketProps)) {
		props := &awss3.BucketProps{
			BucketName: sub(d.bucket(name)), Encryption: awss3.BucketEncryption_KMS, EncryptionKey: s.key,
			BucketKeyEnabled: truth(true), BlockPublicAccess: awss3.BlockPublicAccess_BLOCK_ALL(), EnforceSSL: truth(true), MinimumTLSVersion: number(1.2),
			Versioned: truth(true), ObjectOwnership: awss3.ObjectOwnership_BUCKET_OWNER_ENFORCED, RemovalPolicy: removal(d),
		}
		change(props)
		awss3.NewBucket(s.stack, text(name+"Bucket"), props)
	}
	days := func(n int) awscdk.Duration { return awscdk.Duration_Days(number(n)) }
	// The service removes files after a week. The first rule is for those that it could not remove.
	add(exportsBucket, func(p *awss3.BucketProps) {
		p.LifecycleRules = &[]*awss3.LifecycleRule{{
			Expiration: days(manifest.ExportBucketDays), NoncurrentVersionExpiration: days(1), AbortIncompleteMultipartUploadAfter: days(manifest.UploadDays),
		}}
	})
	// Tombstones are small, and must outlive every backup of the database.
	add(tombstonesBucket, func(p *awss3.BucketProps) {
		p.LifecycleRules = &[]*awss3.LifecycleRule{{AbortIncompleteMultipartUploadAfter: days(manifest.UploadDays)}}
	})
	// Ocelot itself removes parts of the archive whose retention is over.
	add(archiveBucket, func(p *awss3.BucketProps) {
		p.LifecycleRules = &[]*awss3.LifecycleRule{{NoncurrentVersionExpiration: days(30), AbortIncompleteMultipartUploadAfter: days(manifest.UploadDays)}}
	})
	add("trust", func(p *awss3.BucketProps) {
		p.LifecycleRules = &[]*awss3.LifecycleRule{{AbortIncompleteMultipartUploadAfter: days(manifest.UploadDays)}}
		if d.LockDays > 0 {
			p.ObjectLockEnabled = truth(true)
			p.ObjectLockDefaultRetention = awss3.ObjectLockRetention_Compliance(days(d.LockDays))
		}
	})
}

func (s *data) addDocumentDB(d *deployment, net *network) {
	groups := awsdocdb.NewCfnDBSubnetGroup(s.stack, text("DatabaseSubnets"), &awsdocdb.CfnDBSubnetGroupProps{
		DbSubnetGroupDescription: text("Ocelot's system of record"), SubnetIds: pointers(net.subnets(dataSubnets)),
	})
	parameters := awsdocdb.NewCfnDBClusterParameterGroup(s.stack, text("DatabaseParameters"), &awsdocdb.CfnDBClusterParameterGroupProps{
		Family: text("docdb5.0"), Description: text("Ocelot's system of record"),
		Parameters: map[string]any{"tls": "enabled", "audit_logs": "enabled", "ttl_monitor": "enabled"},
	})
	cluster := awsdocdb.NewCfnDBCluster(s.stack, text("Database"), &awsdocdb.CfnDBClusterProps{
		DbClusterIdentifier: text(d.name("records")), EngineVersion: text("5.0.0"), DbSubnetGroupName: groups.Ref(), DbClusterParameterGroupName: parameters.Ref(),
		VpcSecurityGroupIds: pointers([]*string{net.database.AttrGroupId()}), Port: number(mongoPort),
		// Secrets Manager keeps the administrator's password and rotates it.
		MasterUsername: text("administrator"), ManageMasterUserPassword: true, MasterUserSecretKmsKeyId: s.key.KeyArn(),
		StorageEncrypted: true, KmsKeyId: s.key.KeyArn(), DeletionProtection: d.Protected, BackupRetentionPeriod: number(d.Database.BackupDays),
		CopyTagsToSnapshot: true, EnableCloudwatchLogsExports: texts("audit", "profiler"),
	})
	cluster.ApplyRemovalPolicy(awscdk.RemovalPolicy_SNAPSHOT, nil)
	for i := range d.Database.Instances {
		awsdocdb.NewCfnDBInstance(s.stack, text("Database"+string(rune('A'+i))), &awsdocdb.CfnDBInstanceProps{
			DbClusterIdentifier: cluster.Ref(), DbInstanceClass: text(d.Database.Instance), AvailabilityZone: text(d.Zones[i%len(d.Zones)]),
			AutoMinorVersionUpgrade: true,
		})
	}
}

func pointers(texts []*string) *[]*string { return &texts }
