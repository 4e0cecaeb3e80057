package main

import (
	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsec2"
	"github.com/aws/aws-cdk-go/awscdk/v2/awslogs"

	"github.com/ocelot-audit/ocelot/pkg/manifest"
)

const (
	httpsPort = 443
	mongoPort = 27017
	anywhere  = "0.0.0.0/0"
	nowhere   = "127.0.0.1/32" // a rule for it replaces AWS's default, which allows everything
)

// network is the VPC with the groups of what runs in it.
type network struct {
	stack awscdk.Stack
	vpc   awsec2.Vpc
	// Every function in the VPC has the first group. Those that verify tokens have the second
	// too, because issuers publish their keys on the internet.
	functions, issuers awsec2.CfnSecurityGroup
	search, database   awsec2.CfnSecurityGroup
}

// The groups of subnets.
const (
	publicSubnets   = "public"
	functionSubnets = "functions"
	dataSubnets     = "data"
)

func newNetwork(d *deployment) *network {
	n := &network{stack: d.newStack("Network", "Ocelot: the network")}
	n.vpc = newVPC(d, n.stack)
	n.functions = n.group("Functions", "Functions of Ocelot")
	n.issuers = n.group("TokenVerifiers", "Functions of Ocelot that fetch keys of tokens")
	endpoints := n.group("Endpoints", "Addresses of AWS services", from(n.functions, httpsPort))
	n.search = n.group("Search", "The search index", from(n.functions, httpsPort))
	n.database = n.group("Database", "The system of record", from(n.functions, mongoPort))
	if !d.Basic {
		n.allow("Endpoints", n.functions, httpsPort, endpoints)
		n.allow("Search", n.functions, httpsPort, n.search)
		n.allow("Database", n.functions, mongoPort, n.database)
		n.allowAnywhere("Issuers", n.issuers, httpsPort)
		if d.Database.Instances == 0 && d.Database.AtlasService == "" {
			n.allowAnywhere("Atlas", n.functions, mongoPort)
		}
	}
	for _, dependency := range manifest.Dependencies() {
		if name, needs := endpointOf(dependency); needs {
			n.addEndpoint(name, ownEndpoint(name), endpoints)
		}
	}
	if d.Database.Instances == 0 && d.Database.AtlasService != "" {
		n.addEndpoint("atlas", d.Database.AtlasService, n.database)
	}
	return n
}

// endpointOf returns the AWS service that functions call for a dependency. Secrets Manager
// decrypts by itself, so that functions do not call KMS for it. Lambda delivers logs and traces.
func endpointOf(d manifest.Dependency) (service string, needs bool) {
	service, needs = map[manifest.Dependency]string{
		manifest.DependencyQueues: "sqs", manifest.DependencyRecords: "secretsmanager", manifest.DependencySockets: "execute-api",
		manifest.DependencyMasterKey: "kms",
	}[d]
	return service, needs
}

func newVPC(d *deployment, stack awscdk.Stack) awsec2.Vpc {
	subnets := []*awsec2.SubnetConfiguration{
		{Name: text(functionSubnets), SubnetType: awsec2.SubnetType_PRIVATE_WITH_EGRESS, CidrMask: number(20)},
		{Name: text(dataSubnets), SubnetType: awsec2.SubnetType_PRIVATE_ISOLATED, CidrMask: number(24)},
		{Name: text(publicSubnets), SubnetType: awsec2.SubnetType_PUBLIC, CidrMask: number(24), MapPublicIpOnLaunch: truth(false)},
	}
	nats := d.NATs
	flows := map[string]*awsec2.FlowLogOptions{}
	if d.Basic {
		subnets[0].SubnetType, nats = awsec2.SubnetType_PRIVATE_ISOLATED, 0
	} else {
		group := awslogs.NewLogGroup(stack, text("FlowLogs"), &awslogs.LogGroupProps{
			LogGroupName: text("/ocelot/" + d.Name + "/flows"), Retention: retention(d), RemovalPolicy: removal(d),
		})
		flows["All"] = &awsec2.FlowLogOptions{
			Destination: awsec2.FlowLogDestination_ToCloudWatchLogs(group, nil), TrafficType: awsec2.FlowLogTrafficType_ALL,
		}
	}
	return awsec2.NewVpc(stack, text("Vpc"), &awsec2.VpcProps{
		VpcName: text(d.name("vpc")), IpAddresses: awsec2.IpAddresses_Cidr(text(d.CIDR)),
		AvailabilityZones: texts(d.Zones...), NatGateways: number(nats), SubnetConfiguration: &subnets, FlowLogs: &flows,
		RestrictDefaultSecurityGroup: truth(false), // it would add a function of its own
		GatewayEndpoints: &map[string]*awsec2.GatewayVpcEndpointOptions{
			"S3": {Service: awsec2.GatewayVpcEndpointAwsService_S3()},
		},
	})
}

// group adds a security group that accepts these connections and opens none.
func (n *network) group(name, description string, ingress ...*awsec2.CfnSecurityGroup_IngressProperty) awsec2.CfnSecurityGroup {
	accepts := make([]any, len(ingress))
	for i, rule := range ingress {
		accepts[i] = rule
	}
	return awsec2.NewCfnSecurityGroup(n.stack, text(name+"Group"), &awsec2.CfnSecurityGroupProps{
		GroupDescription: text(description), VpcId: n.vpc.VpcId(), SecurityGroupIngress: &accepts,
		SecurityGroupEgress: &[]any{&awsec2.CfnSecurityGroup_EgressProperty{
			IpProtocol: text("tcp"), FromPort: number(httpsPort), ToPort: number(httpsPort), CidrIp: text(nowhere), Description: text("nothing else"),
		}},
	})
}

func from(group awsec2.CfnSecurityGroup, port int) *awsec2.CfnSecurityGroup_IngressProperty {
	return &awsec2.CfnSecurityGroup_IngressProperty{
		IpProtocol: text("tcp"), FromPort: number(port), ToPort: number(port), SourceSecurityGroupId: group.AttrGroupId(),
		Description: text("from the functions"),
	}
}

// allow lets a group open connections to another.
func (n *network) allow(name string, from awsec2.CfnSecurityGroup, port int, to awsec2.CfnSecurityGroup) {
	awsec2.NewCfnSecurityGroupEgress(n.stack, text("To"+name), &awsec2.CfnSecurityGroupEgressProps{
		GroupId: from.AttrGroupId(), IpProtocol: text("tcp"), FromPort: number(port), ToPort: number(port), DestinationSecurityGroupId: to.AttrGroupId(),
	})
}

func (n *network) allowAnywhere(name string, from awsec2.CfnSecurityGroup, port int) {
	awsec2.NewCfnSecurityGroupEgress(n.stack, text("To"+name), &awsec2.CfnSecurityGroupEgressProps{
		GroupId: from.AttrGroupId(), IpProtocol: text("tcp"), FromPort: number(port), ToPort: number(port), CidrIp: text(anywhere),
	})
}

func ownEndpoint(service string) string { return "com.amazonaws.${AWS::Region}." + service }

// addEndpoint adds an address of a service within the VPC. It serves this account only.
func (n *network) addEndpoint(name, service string, group awsec2.CfnSecurityGroup) {
	props := &awsec2.CfnVPCEndpointProps{
		VpcId: n.vpc.VpcId(), VpcEndpointType: text("Interface"), ServiceName: sub(service),
		SubnetIds: values(n.subnets(functionSubnets)), SecurityGroupIds: &[]any{group.AttrGroupId()},
	}
	if name != "atlas" { // whose service has neither
		props.PrivateDnsEnabled = true
		props.PolicyDocument = map[string]any{
			"Version": "2012-10-17",
			"Statement": []any{map[string]any{
				"Effect": "Allow", "Principal": "*", "Action": "*", "Resource": "*",
				"Condition": map[string]any{"StringEquals": map[string]any{"aws:PrincipalAccount": sub("${AWS::AccountId}")}},
			}},
		}
	}
	awsec2.NewCfnVPCEndpoint(n.stack, text(manifest.CamelCase(name)+"Endpoint"), props)
}

// subnets returns the ids of a group's subnets, one for each zone.
func (n *network) subnets(group string) []*string {
	return *n.vpc.SelectSubnets(&awsec2.SubnetSelection{SubnetGroupName: text(group)}).SubnetIds
}

func values(texts []*string) *[]any {
	all := make([]any, len(texts))
	for i, t := range texts {
		all[i] = t
	}
	return &all
}
