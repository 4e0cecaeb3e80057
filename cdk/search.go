package main

import (
	"encoding/json"

	"github.com/aws/aws-cdk-go/awscdk/v2/awsiam"
	"github.com/aws/aws-cdk-go/awscdk/v2/awslogs"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsopensearchservice"
)

// addSearch adds the OpenSearch domain. Its fine-grained access control knows one
// administrator, the role ocelot-<environment>-search-admin, which maps the functions' roles
// (see docs/deploy.md).
func (s *data) addSearch(d *deployment, net *network) {
	admin := awsiam.NewRole(s.stack, text("SearchAdmin"), &awsiam.RoleProps{
		RoleName: text(d.name("search-admin")), Description: text("Maps the roles of functions in the search domain"),
		AssumedBy: awsiam.NewAccountRootPrincipal(),
	})
	domain := awsopensearchservice.NewCfnDomain(s.stack, text("Search"), &awsopensearchservice.CfnDomainProps{
		DomainName: text(d.name("search")), EngineVersion: text("OpenSearch_2.19"), ClusterConfig: clusterConfig(d),
		EbsOptions: &awsopensearchservice.CfnDomain_EBSOptionsProperty{
			EbsEnabled: true, VolumeType: text("gp3"), VolumeSize: number(d.Search.VolumeGB),
		},
		EncryptionAtRestOptions:     &awsopensearchservice.CfnDomain_EncryptionAtRestOptionsProperty{Enabled: true, KmsKeyId: s.key.KeyArn()},
		NodeToNodeEncryptionOptions: &awsopensearchservice.CfnDomain_NodeToNodeEncryptionOptionsProperty{Enabled: true},
		DomainEndpointOptions: &awsopensearchservice.CfnDomain_DomainEndpointOptionsProperty{
			EnforceHttps: true, TlsSecurityPolicy: text("Policy-Min-TLS-1-2-PFS-2023-10"),
		},
		AdvancedSecurityOptions: &awsopensearchservice.CfnDomain_AdvancedSecurityOptionsInputProperty{
			Enabled: true, InternalUserDatabaseEnabled: false,
			MasterUserOptions: &awsopensearchservice.CfnDomain_MasterUserOptionsProperty{MasterUserArn: admin.RoleArn()},
		},
		VpcOptions: &awsopensearchservice.CfnDomain_VPCOptionsProperty{
			SubnetIds: pointers(net.subnets(dataSubnets)), SecurityGroupIds: pointers([]*string{net.search.AttrGroupId()}),
		},
		// Roles of the account may ask. Their own policies and the domain's roles say what.
		AccessPolicies: map[string]any{"Version": "2012-10-17", "Statement": []any{map[string]any{
			"Effect": "Allow", "Principal": map[string]any{"AWS": sub("arn:${AWS::Partition}:iam::${AWS::AccountId}:root")},
			"Action": "es:ESHttp*", "Resource": sub(d.searchARN() + "/*"),
		}}},
		LogPublishingOptions:  s.searchLogs(d),
		SoftwareUpdateOptions: &awsopensearchservice.CfnDomain_SoftwareUpdateOptionsProperty{AutoSoftwareUpdateEnabled: true},
	})
	domain.ApplyRemovalPolicy(removal(d), nil)
	s.search = domain
}

func (d *deployment) searchARN() string { return ownARN("es", "domain/"+d.name("search")) }

func clusterConfig(d *deployment) *awsopensearchservice.CfnDomain_ClusterConfigProperty {
	config := &awsopensearchservice.CfnDomain_ClusterConfigProperty{
		InstanceType: text(d.Search.Instance), InstanceCount: number(d.Search.Instances), ZoneAwarenessEnabled: true,
		ZoneAwarenessConfig:    &awsopensearchservice.CfnDomain_ZoneAwarenessConfigProperty{AvailabilityZoneCount: number(len(d.Zones))},
		DedicatedMasterEnabled: d.Search.Masters != "",
	}
	if d.Search.Masters != "" {
		config.DedicatedMasterType, config.DedicatedMasterCount = text(d.Search.Masters), number(3)
	}
	if d.Search.Warm > 0 {
		config.WarmEnabled, config.WarmType, config.WarmCount = true, text("ultrawarm1.medium.search"), number(d.Search.Warm)
	}
	return config
}

// searchLogs lets the domain write its logs. The CDK's own way adds a function for that.
func (s *data) searchLogs(d *deployment) map[string]any {
	options := map[string]any{}
	for _, kind := range []string{"ES_APPLICATION_LOGS", "SEARCH_SLOW_LOGS", "INDEX_SLOW_LOGS", "AUDIT_LOGS"} {
		group := newLogGroup(s.stack, d, "Search"+kind, "/ocelot/"+d.Name+"/search/"+kind)
		options[kind] = &awsopensearchservice.CfnDomain_LogPublishingOptionProperty{CloudWatchLogsLogGroupArn: group.LogGroupArn(), Enabled: true}
	}
	policy, err := json.Marshal(map[string]any{"Version": "2012-10-17", "Statement": []any{map[string]any{
		"Effect": "Allow", "Principal": map[string]any{"Service": "es.amazonaws.com"}, "Action": []string{"logs:PutLogEvents", "logs:CreateLogStream"},
		"Resource":  ownARN("logs", "log-group:/ocelot/"+d.Name+"/search/*"),
		"Condition": map[string]any{"StringEquals": map[string]any{"aws:SourceAccount": "${AWS::AccountId}"}},
	}}})
	if err != nil {
		panic("cdk: the policy of the search domain's logs: " + err.Error()) // maps of texts always can
	}
	awslogs.NewCfnResourcePolicy(s.stack, text("SearchLogsPolicy"), &awslogs.CfnResourcePolicyProps{
		PolicyName: text(d.name("search-logs")), PolicyDocument: sub(string(policy)),
	})
	return options
}
