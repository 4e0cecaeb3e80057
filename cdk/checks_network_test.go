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
			without("AWS::EC2::SecurityGroup", "SecurityGroupEgress"), with("AWS::EC2::SecurityGroup", "SecurityGroupIngress.0.FromPort", 0.0),
			with("AWS::EC2::SecurityGroupEgress", "ToPort", 65535.0), with("AWS::EC2::SecurityGroupEgress", "DestinationSecurityGroupId", "sg-other"), {"a group open to the internet", func(s stacks) bool {
				s.of("AWS::EC2::SecurityGroup")[0].Properties["SecurityGroupIngress"] = []any{node{"CidrIp": anywhere, "FromPort": 443.0}}
				return true
			}},
		}},
		{"endpoints", endpointFaults, []mutation{
			removed("AWS::EC2::VPCEndpoint"), with("AWS::EC2::VPCEndpoint", "PrivateDnsEnabled", false), without("AWS::EC2::VPCEndpoint", "PolicyDocument"),
			without("AWS::EC2::VPCEndpoint", "SecurityGroupIds"), withoutEndpoint("kms"), with("AWS::EC2::VPC", "EnableDnsHostnames", false), with("AWS::EC2::VPCEndpoint", "RouteTableIds", []any{}),
		}},
		{"subnets", subnetFaults, []mutation{removed("AWS::EC2::Subnet"), removed("AWS::EC2::FlowLog"), removed("AWS::EC2::NatGateway"), with("AWS::EC2::Subnet", "MapPublicIpOnLaunch", true)}},
		{"routes out of the network", egressFaults, []mutation{
			removed("AWS::EC2::Route"), removed("AWS::EC2::SubnetRouteTableAssociation"), with("AWS::EC2::Route", "NatGatewayId", "other"),
			{"a way from the data to the internet", func(s stacks) bool {
				table, is := s.named("AWS::EC2::SubnetRouteTableAssociation", "SubnetId", "${"+subnetOf(s, dataSubnets)+"}")
				route := s.of("AWS::EC2::Route")[0]
				route.Properties["RouteTableId"] = table.get("RouteTableId")
				return is
			}},
		}},
		{"references within a stack", referenceFaults, []mutation{
			removed("AWS::Logs::LogGroup"), removed("AWS::CodeDeploy::Application"), removed("AWS::DocDB::DBSubnetGroup"), removed("AWS::EC2::VPC"), removed("AWS::IAM::Role"),
		}},
		{"references between stacks", exportFaults, []mutation{{"one more export", func(s stacks) bool {
			s["Data"].Outputs["Other"] = node{"Value": "x", "Export": node{"Name": "x"}}
			return true
		}}}},
	}
}

// withoutEndpoint removes the address of an AWS service.
func withoutEndpoint(service string) mutation {
	return mutation{"no endpoint of " + service, func(s stacks) bool {
		endpoint, is := s.named("AWS::EC2::VPCEndpoint", "ServiceName", ownEndpoint(service))
		if is {
			delete(s[endpoint.stack].Resources, endpoint.id)
		}
		return is
	}}
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
			f.onePort(group.id, rule)
		}
		f.want(group, "SecurityGroupEgress.0.CidrIp", nowhere)
	}
	if accepting != 3 {
		f.addf("%d groups accept connections, want 3: endpoints, search, database", accepting)
	}
	var to []string
	for _, rule := range e.stacks.of("AWS::EC2::SecurityGroupEgress") {
		f.onePort(rule.id, rule.Properties)
		if group := strings.TrimPrefix(rule.text("DestinationSecurityGroupId"), "${"); group != "" && !strings.HasPrefix(group, strings.TrimPrefix(rule.id, "To")+"Group") {
			f.addf("%s opens connections to %s, want the group of its name", rule.id, group)
		}
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

// onePort adds a fault unless a rule is about HTTPS or MongoDB's port alone.
func (f *faults) onePort(name string, rule any) {
	from, to := textOf(at(rule, "FromPort")), textOf(at(rule, "ToPort"))
	if from != to || from != strconv.Itoa(httpsPort) && from != strconv.Itoa(mongoPort) {
		f.addf("%s has a rule about the ports %s to %s, want %d or %d alone", name, from, to, httpsPort, mongoPort)
	}
}

func endpointFaults(e environment) []string {
	var f faults
	for _, vpc := range f.some(e.stacks, "AWS::EC2::VPC") { // endpoints are found by their names
		f.want(vpc, "EnableDnsSupport", "true")
		f.want(vpc, "EnableDnsHostnames", "true")
	}
	for _, service := range []string{"sqs", "secretsmanager", "execute-api", "kms"} {
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
	gateway, is := e.stacks.named("AWS::EC2::VPCEndpoint", "VpcEndpointType", "Gateway")
	if !is {
		f.addf("got no gateway endpoint of S3, want one")
	}
	for _, subnet := range e.stacks.of("AWS::EC2::Subnet") {
		if table := e.routeTable(subnet); kindOf(subnet) == functionSubnets && !slices.Contains(textsOf(gateway.get("RouteTableIds")), table) {
			f.addf("%s reaches S3 over its routes %q alone, want the gateway endpoint", subnet.id, table)
		}
	}
	return f
}

// kindOf returns which group a subnet belongs to.
func kindOf(subnet found) string {
	for _, kind := range []string{functionSubnets, dataSubnets, publicSubnets} {
		if strings.HasPrefix(subnet.id, "Vpc"+kind+"Subnet") {
			return kind
		}
	}
	return ""
}

// subnetOf returns the id of a subnet of the group.
func subnetOf(s stacks, kind string) string {
	all := s.of("AWS::EC2::Subnet")
	if i := slices.IndexFunc(all, func(subnet found) bool { return kindOf(subnet) == kind }); i >= 0 {
		return all[i].id
	}
	return ""
}

// routeTable returns the route table of a subnet, as the templates refer to it.
func (e environment) routeTable(subnet found) string {
	association, _ := e.stacks.named("AWS::EC2::SubnetRouteTableAssociation", "SubnetId", "${"+subnet.id+"}")
	return association.text("RouteTableId")
}

// egressFaults finds subnets whose way to the internet is not that of their kind: functions go
// through NAT gateways, and the data has none.
func egressFaults(e environment) []string {
	var f faults
	routes := map[string]string{}
	for _, route := range e.stacks.of("AWS::EC2::Route") {
		if route.text("DestinationCidrBlock") == anywhere {
			routes[route.text("RouteTableId")] = route.text("NatGatewayId") + route.text("GatewayId")
		}
	}
	for _, subnet := range e.stacks.of("AWS::EC2::Subnet") {
		table := e.routeTable(subnet)
		if table == "" {
			f.addf("%s has no route table, want one of its own", subnet.id)
		}
		gateway, _, _ := strings.Cut(strings.Trim(routes[table], "${}"), ".")
		got := ""
		if r, is := e.stacks.find(subnet.stack, gateway); is {
			got = r.Type
		}
		want := map[string]string{functionSubnets: "AWS::EC2::NatGateway", publicSubnets: "AWS::EC2::InternetGateway"}[kindOf(subnet)]
		if got != want || (got == "") != (routes[table] == "") {
			f.addf("%s reaches the internet through %q %s, want %q", subnet.id, routes[table], got, want)
		}
	}
	return f
}

// referenceFaults finds what refers to a resource that its stack does not have.
func referenceFaults(e environment) []string {
	var f faults
	for name, stack := range e.stacks {
		check := func(from string, value any) {
			for _, id := range referencesOf(value) {
				if !strings.HasPrefix(id, "AWS::") && stack.Resources[id] == nil {
					f.addf("%s/%s refers to %s, want it there", name, from, id)
				}
			}
		}
		for id, r := range stack.Resources {
			check(id, r.Properties)
		}
		for id, output := range stack.Outputs {
			check(id, output)
		}
	}
	return f
}

// referencesOf returns the ids below a value that CloudFormation's functions name.
func referencesOf(value any) []string {
	var all []string
	switch v := value.(type) {
	case []any:
		for _, one := range v {
			all = append(all, referencesOf(one)...)
		}
	case map[string]any:
		if id, is := v["Ref"].(string); is && len(v) == 1 {
			return []string{id}
		}
		if attribute := list(v["Fn::GetAtt"]); len(attribute) > 0 {
			return []string{textOf(attribute[0])}
		}
		for _, one := range v {
			all = append(all, referencesOf(one)...)
		}
	}
	return all
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
