package main

import (
	"slices"
	"strconv"
	"strings"
)

func networkChecks() []check {
	return []check{
		{"security groups", groupFaults, []mutation{
			with("AWS::EC2::SecurityGroup", "SecurityGroupIngress.0.SourceSecurityGroupId", "sg-other"), removed("AWS::EC2::SecurityGroupEgress"),
			without("AWS::EC2::SecurityGroup", "SecurityGroupEgress"), {"a group open to the internet", func(s stacks) bool {
				s.of("AWS::EC2::SecurityGroup")[0].Properties["SecurityGroupIngress"] = []any{node{"CidrIp": anywhere, "FromPort": 443.0}}
				return true
			}},
		}},
		{"endpoints", endpointFaults, []mutation{
			removed("AWS::EC2::VPCEndpoint"), with("AWS::EC2::VPCEndpoint", "PrivateDnsEnabled", false), without("AWS::EC2::VPCEndpoint", "PolicyDocument"),
			without("AWS::EC2::VPCEndpoint", "SecurityGroupIds"),
		}},
		{"subnets", subnetFaults, []mutation{removed("AWS::EC2::Subnet"), removed("AWS::EC2::FlowLog"), removed("AWS::EC2::NatGateway"), with("AWS::EC2::Subnet", "MapPublicIpOnLaunch", true)}},
		{"references between stacks", exportFaults, []mutation{{"one more export", func(s stacks) bool {
			s["Data"].Outputs["Other"] = node{"Value": "x", "Export": node{"Name": "x"}}
			return true
		}}}},
	}
}

// groupFaults finds rules that name no group. Only functions that verify tokens, and those
// that reach Atlas without PrivateLink, may open connections to the internet.
func groupFaults(e environment) []string {
	var f faults
	functions := ""
	for _, group := range f.some(e.stacks, "AWS::EC2::SecurityGroup") {
		if strings.HasPrefix(group.id, "FunctionsGroup") {
			functions = "${" + group.id + ".GroupId}"
		}
	}
	accepting := 0
	for _, group := range e.stacks.of("AWS::EC2::SecurityGroup") {
		for _, rule := range list(group.get("SecurityGroupIngress")) {
			accepting++
			if got := textOf(at(rule, "SourceSecurityGroupId")); got != functions {
				f.addf("%s accepts connections of %q, want those of the functions alone", group.id, got)
			}
		}
		f.want(group, "SecurityGroupEgress.0.CidrIp", nowhere)
	}
	if accepting != 3 {
		f.addf("%d groups accept connections, want 3: endpoints, search, database", accepting)
	}
	var to []string
	for _, rule := range e.stacks.of("AWS::EC2::SecurityGroupEgress") {
		to = append(to, strings.TrimSuffix(strings.TrimPrefix(rule.id, "To"), "Rule"))
		if rule.text("CidrIp") != "" && rule.id != "ToIssuers" && rule.id != "ToAtlas" {
			f.addf("%s opens connections to %s, want a group", rule.id, rule.text("CidrIp"))
		}
	}
	for _, want := range []string{"Endpoints", "Search", "Database", "Issuers"} {
		if !slices.Contains(to, want) {
			f.addf("got outgoing rules to %v, want %s too", to, want)
		}
	}
	return f
}

func endpointFaults(e environment) []string {
	var f faults
	for _, service := range []string{"sqs", "secretsmanager", "execute-api"} {
		name := ownEndpoint(service)
		endpoint, is := e.stacks.named("AWS::EC2::VPCEndpoint", "ServiceName", name)
		if !is {
			f.addf("got no endpoint %s, want one", name)
			continue
		}
		f.want(endpoint, "PrivateDnsEnabled", "true")
		f.want(endpoint, "PolicyDocument.Statement.0.Condition.StringEquals.aws:PrincipalAccount", "${AWS::AccountId}")
		f.present(endpoint, "SecurityGroupIds.0")
		if got := len(list(endpoint.get("SubnetIds"))); got != len(e.Zones) {
			f.addf("%s has %d subnets, want one in each of %d zones", service, got, len(e.Zones))
		}
	}
	if e.Database.AtlasService != "" {
		if _, is := e.stacks.named("AWS::EC2::VPCEndpoint", "ServiceName", e.Database.AtlasService); !is {
			f.addf("got no endpoint of Atlas, want one")
		}
	}
	if !slices.ContainsFunc(e.stacks.of("AWS::EC2::VPCEndpoint"), func(r found) bool { return r.text("VpcEndpointType") == "Gateway" }) {
		f.addf("got no gateway endpoint of S3, want one")
	}
	return f
}

func subnetFaults(e environment) []string {
	var f faults
	subnets := e.stacks.of("AWS::EC2::Subnet")
	if got, want := len(subnets), 3*len(e.Zones); got != want {
		f.addf("got %d subnets, want %d: three kinds in each zone", got, want)
	}
	for _, subnet := range subnets {
		if !slices.Contains(e.Zones, subnet.text("AvailabilityZone")) {
			f.addf("%s is in %q, want one of %v", subnet.id, subnet.text("AvailabilityZone"), e.Zones)
		}
		f.want(subnet, "MapPublicIpOnLaunch", "false")
	}
	if got := strconv.Itoa(len(e.stacks.of("AWS::EC2::NatGateway"))); got != strconv.Itoa(e.NATs) {
		f.addf("got %s NAT gateways, want %d", got, e.NATs)
	}
	f.some(e.stacks, "AWS::EC2::FlowLog")
	return f
}

// exportFaults finds values that one stack takes of another though a name would do. What has
// no name: networks, the key's ARN, the search domain's address, the WebSocket API's id.
func exportFaults(e environment) []string {
	var f faults
	allowed := []string{"VPC", "Subnet", "Group", "StoresKey", "tenantsKey", "SearchDomainEndpoint", "SearchAttr", "StreamApi", "Vpc"}
	for stack, t := range e.stacks {
		for id, output := range t.Outputs {
			name := textOf(at(output, "Export.Name"))
			if name == "" {
				continue
			}
			if !slices.ContainsFunc(allowed, func(part string) bool { return strings.Contains(id, part) }) {
				f.addf("%s exports %s, want a name instead", stack, id)
			}
		}
	}
	return f
}
