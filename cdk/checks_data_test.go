package main

import (
	"slices"
	"strconv"
	"strings"

	"github.com/ocelot-audit/ocelot/pkg/manifest"
)

func dataChecks() []check {
	return []check{
		{"queues", queueFaults, []mutation{
			without("AWS::SQS::Queue", "SqsManagedSseEnabled"), without("AWS::SQS::Queue", "RedrivePolicy"), removed("AWS::SQS::Queue"),
			with("AWS::SQS::Queue", "VisibilityTimeout", 30.0), with("AWS::SQS::Queue", "MessageRetentionPeriod", 60.0),
			with("AWS::SQS::Queue", "RedrivePolicy.maxReceiveCount", 1.0),
		}},
		{"TLS only", tlsFaults, []mutation{
			removed("AWS::SQS::QueuePolicy"), removed("AWS::S3::BucketPolicy"),
			with("AWS::SQS::QueuePolicy", "PolicyDocument.Statement.0.Effect", "Allow"),
			with("AWS::S3::BucketPolicy", "PolicyDocument.Statement.0.Effect", "Allow"),
			with("AWS::SNS::TopicPolicy", "PolicyDocument.Statement.1.Effect", "Allow"),
			with("AWS::S3::BucketPolicy", "PolicyDocument.Statement.0.Action", "s3:GetObject"),
		}},
		{"keys", keyFaults, []mutation{
			without("AWS::KMS::Key", "EnableKeyRotation"), with("AWS::KMS::Key", "KeySpec", "RSA_2048"), removed("AWS::KMS::Alias"),
			without("AWS::KMS::Key", "KeyPolicy.Statement.1.Condition"), with("AWS::KMS::Key", "MultiRegion", false), allowing("tenants"), allowing("trust"), removed("AWS::KMS::Key"),
			with("AWS::KMS::Alias", "TargetKeyId", "other"),
		}},
		{"secrets", secretFaults, []mutation{without("AWS::SecretsManager::Secret", "KmsKeyId"), with("AWS::SecretsManager::Secret", "Name", "other")}},
		{"buckets", bucketFaults, []mutation{
			without("AWS::S3::Bucket", "BucketEncryption"), without("AWS::S3::Bucket", "VersioningConfiguration"),
			with("AWS::S3::Bucket", "PublicAccessBlockConfiguration.BlockPublicPolicy", false), without("AWS::S3::Bucket", "LifecycleConfiguration"),
			without("AWS::S3::Bucket", "ObjectLockConfiguration"), removed("AWS::S3::Bucket"), with("AWS::S3::Bucket", "ObjectLockEnabled", false),
			with("AWS::S3::Bucket", "LifecycleConfiguration.Rules.0.Status", "Disabled"),
			with("AWS::S3::Bucket", "LifecycleConfiguration.Rules.0.AbortIncompleteMultipartUpload.DaysAfterInitiation", 1.0),
		}},
		{"search domain", searchFaults, []mutation{
			with("AWS::OpenSearchService::Domain", "EncryptionAtRestOptions.Enabled", false), with("AWS::OpenSearchService::Domain", "NodeToNodeEncryptionOptions.Enabled", false),
			with("AWS::OpenSearchService::Domain", "DomainEndpointOptions.TLSSecurityPolicy", "Policy-Min-TLS-1-0-2019-07"),
			with("AWS::OpenSearchService::Domain", "DomainEndpointOptions.EnforceHTTPS", false), without("AWS::OpenSearchService::Domain", "VPCOptions"),
			with("AWS::OpenSearchService::Domain", "AdvancedSecurityOptions.Enabled", false), without("AWS::OpenSearchService::Domain", "ClusterConfig.DedicatedMasterCount"),
			with("AWS::OpenSearchService::Domain", "ClusterConfig.ZoneAwarenessConfig.AvailabilityZoneCount", 2.0), without("AWS::OpenSearchService::Domain", "LogPublishingOptions.AUDIT_LOGS"),
			removed("AWS::Logs::ResourcePolicy"), without("AWS::OpenSearchService::Domain", "ClusterConfig.WarmCount"),
			with("AWS::OpenSearchService::Domain", "ClusterConfig.WarmEnabled", false), with("AWS::OpenSearchService::Domain", "ClusterConfig.DedicatedMasterEnabled", false),
			with("AWS::OpenSearchService::Domain", "ClusterConfig.ZoneAwarenessEnabled", false), with("AWS::OpenSearchService::Domain", "VPCOptions.SecurityGroupIds", []any{}),
			with("AWS::OpenSearchService::Domain", "VPCOptions.SubnetIds", []any{"a", "b", "c"}),
		}},
		{"DocumentDB", databaseFaults, []mutation{
			with("AWS::DocDB::DBCluster", "StorageEncrypted", false), with("AWS::DocDB::DBCluster", "ManageMasterUserPassword", false),
			with("AWS::DocDB::DBCluster", "DeletionProtection", false), with("AWS::DocDB::DBClusterParameterGroup", "Parameters.tls", "disabled"), removed("AWS::DocDB::DBInstance"),
			with("AWS::DocDB::DBCluster", "BackupRetentionPeriod", 1.0), with("AWS::DocDB::DBCluster", "VpcSecurityGroupIds", []any{}),
			with("AWS::DocDB::DBSubnetGroup", "SubnetIds", []any{"a"}),
		}},
		{"data outlives its stack", retainFaults, []mutation{
			deleted("AWS::SQS::Queue"), deleted("AWS::S3::Bucket"), deleted("AWS::KMS::Key"), deleted("AWS::OpenSearchService::Domain"), deleted("AWS::SecretsManager::Secret"),
		}},
	}
}

// deleted has the resource removed with its stack.
func deleted(kind string) mutation {
	return mutation{kind + " deleted with its stack", func(s stacks) bool {
		all := s.of(kind)
		if len(all) == 0 {
			return false
		}
		all[0].DeletionPolicy = "Delete"
		return true
	}}
}

// allowing turns the denial in a key's policy into a right.
func allowing(key string) mutation {
	return mutation{"the key " + key + " for every call", func(s stacks) bool {
		r, is := s.find("Data", key+"Key")
		if is {
			at(r.Properties, "KeyPolicy.Statement.1").(map[string]any)["Effect"] = "Allow"
		}
		return is
	}}
}

func queueFaults(e environment) []string {
	var f faults
	for _, q := range e.queues {
		queue, is := e.stacks.named("AWS::SQS::Queue", "QueueName", e.name(string(q.Name)))
		if !is {
			f.addf("got no queue %s, want one", q.Name)
			continue
		}
		dead, is := e.stacks.named("AWS::SQS::Queue", "QueueName", e.name(string(q.Name.DeadLetters())))
		if !is {
			f.addf("got no dead-letter queue of %s, want one", q.Name)
		}
		f.want(queue, "RedrivePolicy.deadLetterTargetArn", "${"+dead.id+".Arn}")
		f.want(queue, "RedrivePolicy.maxReceiveCount", strconv.Itoa(q.MaxReceives))
		f.want(queue, "VisibilityTimeout", strconv.Itoa(int(q.VisibilityTimeout.Seconds())))
		for _, one := range []found{queue, dead} {
			f.want(one, "SqsManagedSseEnabled", "true")
			f.want(one, "MessageRetentionPeriod", strconv.Itoa(14*24*60*60))
		}
		for _, function := range e.functions {
			for _, t := range function.Trigger.Queues {
				if got, _ := queue.get("VisibilityTimeout").(float64); t.Queue == q.Name && got < 6*function.Timeout.Seconds() {
					f.addf("%s: got a visibility timeout of %.0f s, want at least six times the %s of %s", q.Name, got, function.Timeout, function.Name)
				}
			}
		}
	}
	return f
}

// tlsFaults finds queues, buckets and topics that take requests without TLS.
func tlsFaults(e environment) []string {
	var f faults
	for _, pair := range []struct{ kind, policy, of string }{
		{"AWS::SQS::Queue", "AWS::SQS::QueuePolicy", "Queues"}, {"AWS::S3::Bucket", "AWS::S3::BucketPolicy", "Bucket"}, {"AWS::SNS::Topic", "AWS::SNS::TopicPolicy", "Topics"},
	} {
		policies := e.stacks.of(pair.policy)
		for _, r := range f.some(e.stacks, pair.kind) {
			if !slices.ContainsFunc(policies, func(p found) bool {
				return slices.Contains(textsOf(p.get(pair.of)), "${"+r.id+"}") && deniesPlainText(p)
			}) {
				f.addf("%s/%s: got no policy that denies requests without TLS, want one", r.stack, r.id)
			}
		}
	}
	return f
}

func deniesPlainText(policy found) bool {
	return slices.ContainsFunc(list(policy.get("PolicyDocument.Statement")), func(s any) bool {
		all := slices.Contains([]string{"sqs:*", "s3:*", "sns:Publish"}, textOf(at(s, "Action")))
		return all && textOf(at(s, "Effect")) == "Deny" && textOf(at(s, "Condition.Bool.aws:SecureTransport")) == "false" && strings.Contains(textOf(at(s, "Principal")), "*")
	})
}

// keyFaults looks at the key that each alias names.
func keyFaults(e environment) []string {
	var f faults
	const effect, condition = "KeyPolicy.Statement.1.Effect", "KeyPolicy.Statement.1.Condition."
	for name, want := range map[string]map[string]string{
		storesKey:  {"EnableKeyRotation": "true", condition + "StringEquals.aws:SourceAccount": "${AWS::AccountId}"},
		tenantsKey: {"EnableKeyRotation": "true", "KeySpec": "SYMMETRIC_DEFAULT", "MultiRegion": "true", effect: "Deny", condition + "Null.kms:EncryptionContext:tenant": "true"},
		trustKey:   {"KeyUsage": "SIGN_VERIFY", "KeySpec": "ECC_NIST_EDWARDS25519", effect: "Deny", condition + "StringNotEquals.kms:MessageType": "RAW"},
	} {
		alias, _ := e.stacks.named("AWS::KMS::Alias", "AliasName", "alias/"+e.name(name))
		if name == tenantsKey && e.TenantsKey != "" {
			f.want(alias, "TargetKeyId", e.TenantsKey)
			continue
		}
		id, _, _ := strings.Cut(strings.TrimPrefix(alias.text("TargetKeyId"), "${"), ".")
		key, is := e.stacks.find(alias.stack, id)
		if !is {
			f.addf("got no key %s, want one", name)
			continue
		}
		for path, value := range want {
			f.want(key, path, value)
		}
	}
	return f
}

func secretFaults(e environment) []string {
	var f faults
	for _, variable := range []string{"MONGODB_URI", "OCELOT_CURSOR_KEY"} {
		secret, is := e.stacks.named("AWS::SecretsManager::Secret", "Name", e.secretName(variable))
		if !is {
			f.addf("got no secret for %s, want one", variable)
			continue
		}
		f.present(secret, "KmsKeyId")
	}
	return f
}

func bucketFaults(e environment) []string {
	var f faults
	for _, name := range []string{"exports", "tombstones", "archive", "trust"} {
		bucket, is := e.stacks.named("AWS::S3::Bucket", "BucketName", e.name(name)+"-${AWS::AccountId}-${AWS::Region}")
		if !is {
			f.addf("got no bucket %s, want one", name)
			continue
		}
		f.want(bucket, "BucketEncryption.ServerSideEncryptionConfiguration.0.ServerSideEncryptionByDefault.SSEAlgorithm", "aws:kms")
		f.want(bucket, "VersioningConfiguration.Status", "Enabled")
		for _, block := range []string{"BlockPublicAcls", "BlockPublicPolicy", "IgnorePublicAcls", "RestrictPublicBuckets"} {
			f.want(bucket, "PublicAccessBlockConfiguration."+block, "true")
		}
		f.want(bucket, "LifecycleConfiguration.Rules.0.Status", "Enabled")
		f.want(bucket, "LifecycleConfiguration.Rules.0.AbortIncompleteMultipartUpload.DaysAfterInitiation", strconv.Itoa(manifest.UploadDays))
		if name == "exports" {
			f.want(bucket, "LifecycleConfiguration.Rules.0.ExpirationInDays", strconv.Itoa(manifest.ExportBucketDays))
		}
		if name == "tombstones" && at(bucket.get("LifecycleConfiguration"), "Rules.0.ExpirationInDays") != nil {
			f.addf("the bucket %s removes objects, want it to keep them", name)
		}
		if name == "trust" && e.LockDays > 0 {
			f.want(bucket, "ObjectLockEnabled", "true")
			f.want(bucket, "ObjectLockConfiguration.Rule.DefaultRetention.Mode", "COMPLIANCE")
			f.want(bucket, "ObjectLockConfiguration.Rule.DefaultRetention.Days", strconv.Itoa(e.LockDays))
		}
	}
	return f
}

func searchFaults(e environment) []string {
	var f faults
	domain, is := e.stacks.named("AWS::OpenSearchService::Domain", "DomainName", e.name("search"))
	if !is {
		f.addf("got no search domain, want one")
		return f
	}
	f.present(domain, "EncryptionAtRestOptions.KmsKeyId")
	for _, path := range []string{
		"EncryptionAtRestOptions.Enabled", "NodeToNodeEncryptionOptions.Enabled", "DomainEndpointOptions.EnforceHTTPS",
		"AdvancedSecurityOptions.Enabled", "LogPublishingOptions.AUDIT_LOGS.Enabled",
	} {
		f.want(domain, path, "true")
	}
	f.want(domain, "AdvancedSecurityOptions.InternalUserDatabaseEnabled", "false")
	admin, _ := e.stacks.named("AWS::IAM::Role", "RoleName", e.name("search-admin"))
	f.want(domain, "AdvancedSecurityOptions.MasterUserOptions.MasterUserARN", "${"+admin.id+".Arn}")
	if !strings.Contains(domain.text("VPCOptions.SecurityGroupIds"), "SearchGroup") {
		f.addf("the search domain has the groups %q, want its own", domain.text("VPCOptions.SecurityGroupIds"))
	}
	for _, subnet := range textsOf(domain.get("VPCOptions.SubnetIds")) {
		if !strings.Contains(subnet, "Vpc"+dataSubnets+"Subnet") {
			f.addf("the search domain is in the subnet %s, want those of the data", subnet)
		}
	}
	f.want(domain, "ClusterConfig.ZoneAwarenessEnabled", "true")
	if got := domain.text("DomainEndpointOptions.TLSSecurityPolicy"); !strings.HasPrefix(got, "Policy-Min-TLS-1-2") {
		f.addf("got the TLS policy %q, want TLS 1.2", got)
	}
	if got := len(list(domain.get("VPCOptions.SubnetIds"))); got != len(e.Zones) {
		f.addf("the search domain is in %d subnets, want one in each of %d zones", got, len(e.Zones))
	}
	f.want(domain, "ClusterConfig.ZoneAwarenessConfig.AvailabilityZoneCount", strconv.Itoa(len(e.Zones)))
	if e.Protected {
		f.want(domain, "ClusterConfig.ZoneAwarenessConfig.AvailabilityZoneCount", "3")
		f.want(domain, "ClusterConfig.DedicatedMasterEnabled", "true")
		f.want(domain, "ClusterConfig.DedicatedMasterCount", "3")
	}
	if e.Search.Warm > 0 {
		f.want(domain, "ClusterConfig.WarmEnabled", "true")
		f.want(domain, "ClusterConfig.WarmCount", strconv.Itoa(e.Search.Warm))
	}
	f.some(e.stacks, "AWS::Logs::ResourcePolicy")
	return f
}

func databaseFaults(e environment) []string {
	var f faults
	clusters := e.stacks.of("AWS::DocDB::DBCluster")
	if e.Database.Instances == 0 {
		if len(clusters) > 0 {
			f.addf("got %d DocumentDB clusters, want none beside Atlas", len(clusters))
		}
		return f
	}
	for _, cluster := range f.some(e.stacks, "AWS::DocDB::DBCluster") {
		f.want(cluster, "StorageEncrypted", "true")
		f.present(cluster, "KmsKeyId")
		f.want(cluster, "ManageMasterUserPassword", "true")
		if !strings.Contains(cluster.text("VpcSecurityGroupIds"), "DatabaseGroup") {
			f.addf("the database has the groups %q, want its own", cluster.text("VpcSecurityGroupIds"))
		}
		f.want(cluster, "DeletionProtection", strconv.FormatBool(e.Protected))
		f.want(cluster, "BackupRetentionPeriod", strconv.Itoa(e.Database.BackupDays))
	}
	for _, group := range f.some(e.stacks, "AWS::DocDB::DBSubnetGroup") {
		for _, subnet := range textsOf(group.get("SubnetIds")) {
			if !strings.Contains(subnet, "Vpc"+dataSubnets+"Subnet") {
				f.addf("the database is in the subnet %s, want those of the data", subnet)
			}
		}
	}
	for _, parameters := range f.some(e.stacks, "AWS::DocDB::DBClusterParameterGroup") {
		f.want(parameters, "Parameters.tls", "enabled")
	}
	if got := len(e.stacks.of("AWS::DocDB::DBInstance")); got != e.Database.Instances {
		f.addf("got %d database instances, want %d", got, e.Database.Instances)
	}
	return f
}

// retainFaults finds what a protected environment would lose with a stack.
func retainFaults(e environment) []string {
	var f faults
	if !e.Protected {
		return nil
	}
	for _, kind := range []string{
		"AWS::SQS::Queue", "AWS::S3::Bucket", "AWS::KMS::Key", "AWS::OpenSearchService::Domain", "AWS::SecretsManager::Secret", "AWS::DocDB::DBCluster",
	} {
		for _, r := range f.some(e.stacks, kind) {
			if r.DeletionPolicy != "Retain" && r.DeletionPolicy != "Snapshot" {
				f.addf("%s/%s: got the deletion policy %q, want it to keep the data", r.stack, r.id, r.DeletionPolicy)
			}
		}
	}
	return f
}
