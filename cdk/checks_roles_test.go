package main

import (
	"slices"
	"strings"

	"github.com/ocelot-audit/ocelot/pkg/manifest"
)

func roleChecks() []check {
	const role = "AWS::IAM::Role"
	return []check{
		{"roles are the manifest's grants", grantFaults, []mutation{
			withoutAction("sqs:SendMessage"), withoutAction("secretsmanager:GetSecretValue"), withoutAction("execute-api:ManageConnections"),
			withoutAction("es:ESHttpPost"), withoutAction("kms:Decrypt"), withoutAction("kms:Encrypt"), withoutAction("s3:GetObject"), withoutAction("s3:PutObject"), withoutAction("sqs:ChangeMessageVisibility"), withoutAction("logs:PutLogEvents"), withoutAction("xray:PutTraceSegments"),
			withStatement(node{"Effect": "Allow", "Action": "sqs:SendMessage", "Resource": "arn:aws:sqs:eu-central-1:1:other"}),
			withStatement(node{"Effect": "Allow", "Action": "s3:GetObject", "Resource": "arn:aws:s3:::other/*"}),
		}},
		{"no right on everything", wildcardFaults, []mutation{
			withStatement(node{"Effect": "Allow", "Action": "sqs:*", "Resource": "arn:aws:sqs:eu-central-1:1:other"}),
			withStatement(node{"Effect": "Allow", "Action": "sqs:SendMessage", "Resource": "*"}),
			with(role, "Description", "x").and(func(s stacks) bool {
				s.of(role)[0].Properties["ManagedPolicyArns"] = []any{"arn:aws:iam::aws:policy/service-role/AWSLambdaBasicExecutionRole"}
				return true
			}),
			{"the network's denial removed", func(s stacks) bool {
				changed := false
				for _, r := range s.of(role) {
					for _, statement := range statementsOf(r.resource) {
						if textOf(statement["Effect"]) == "Deny" {
							statement["Effect"], changed = "Allow", true
						}
					}
				}
				return changed
			}},
		}},
	}
}

func (m mutation) and(apply func(s stacks) bool) mutation {
	first := m.apply
	return mutation{m.name + " and more", func(s stacks) bool { return first(s) && apply(s) }}
}

// withoutAction takes an action from every role of a function and a schedule.
func withoutAction(action string) mutation {
	return mutation{"roles without " + action, func(s stacks) bool {
		changed := false
		for _, r := range s.of("AWS::IAM::Role") {
			for _, statement := range statementsOf(r.resource) {
				if actions := textsOf(statement["Action"]); slices.Contains(actions, action) {
					statement["Action"] = slices.DeleteFunc(list(statement["Action"]), func(a any) bool { return a == action })
					changed = true
				}
			}
		}
		return changed
	}}
}

// withStatement gives one more right to every role that has inline policies.
func withStatement(statement node) mutation {
	return mutation{"roles with " + textOf(statement["Action"]) + " on " + textOf(statement["Resource"]), func(s stacks) bool {
		changed := false
		for _, r := range s.of("AWS::IAM::Role") {
			if policies := list(r.get("Policies")); len(policies) > 0 {
				document := at(policies[0], "PolicyDocument").(map[string]any)
				document["Statement"] = append(list(document["Statement"]), statement)
				changed = true
			}
		}
		return changed
	}}
}

func statementsOf(r *resource) []node {
	var all []node
	if r == nil {
		return nil
	}
	for _, policy := range list(r.get("Policies")) {
		for _, s := range list(at(policy, "PolicyDocument.Statement")) {
			all = append(all, s.(map[string]any))
		}
	}
	return all
}

// rightsOf returns what a role allows, as "action resource".
func rightsOf(r *resource) []string {
	var all []string
	for _, s := range statementsOf(r) {
		if textOf(s["Effect"]) != "Allow" {
			continue
		}
		for _, action := range textsOf(s["Action"]) {
			for _, on := range textsOf(s["Resource"]) {
				all = append(all, action+" "+on)
			}
		}
	}
	return all
}

// rights returns what the role of a function allows.
func (e environment) rights(f manifest.Function) []string {
	role, _ := e.stacks.named("AWS::IAM::Role", "RoleName", e.name(f.Name))
	return rightsOf(role.resource)
}

// grantFaults compares each role with what the manifest grants, read here once more.
func grantFaults(e environment) []string {
	var f faults
	for _, function := range e.functions {
		got, want := e.rights(function), e.wantedRights(function)
		for _, w := range want {
			if !slices.Contains(got, w) {
				f.addf("%s may not %s, want it allowed", function.Name, w)
			}
		}
		for _, g := range got {
			if !slices.Contains(want, g) {
				f.addf("%s may %s, want no such right", function.Name, g)
			}
		}
	}
	return f
}

func (e environment) wantedRights(f manifest.Function) []string {
	var all []string
	add := func(on string, actions ...string) {
		for _, a := range actions {
			all = append(all, a+" "+on)
		}
	}
	add(ownARN("logs", "log-group:/aws/lambda/"+e.name(f.Name)+":*"), "logs:CreateLogStream", "logs:PutLogEvents")
	add("*", "xray:PutTraceSegments", "xray:PutTelemetryRecords")
	if len(f.Grants) > 0 {
		add("*", "ec2:CreateNetworkInterface", "ec2:DescribeNetworkInterfaces", "ec2:DescribeSubnets", "ec2:DeleteNetworkInterface",
			"ec2:AssignPrivateIpAddresses", "ec2:UnassignPrivateIpAddresses")
	}
	secrets := false
	for dependency, name := range map[manifest.Dependency]string{manifest.DependencyRecords: "mongodb-uri", manifest.DependencyCursorKey: "cursor-key"} {
		if f.DependsOn(dependency) {
			secrets = true
			add(ownARN("secretsmanager", "secret:ocelot/"+e.Name+"/"+name+"-??????"), "secretsmanager:GetSecretValue")
		}
	}
	if secrets {
		add(e.keyImport(), "kms:Decrypt")
	}
	if _, write := grantOf(f, "cursor-key"); write {
		add(ownARN("secretsmanager", "secret:ocelot/"+e.Name+"/cursor-key-??????"),
			"secretsmanager:DescribeSecret", "secretsmanager:PutSecretValue", "secretsmanager:UpdateSecretVersionStage")
		add(e.keyImport(), "kms:GenerateDataKey")
	}
	read, write := grantOf(f, "master-key") // IAM knows a key by its ARN alone
	if read {
		add(e.tenantsKeyARN(), "kms:Decrypt")
	}
	if write {
		add(e.tenantsKeyARN(), "kms:Encrypt")
	}
	e.wantExports(f, add)
	e.wantTombstones(f, add)
	e.wantArchive(f, add)
	e.wantQueues(f, add)
	index := ownARN("es", "domain/"+e.name("search"))
	switch read, write := grantOf(f, "search"); {
	case write:
		add(index+"/*", "es:ESHttpGet", "es:ESHttpPost", "es:ESHttpPut", "es:ESHttpDelete")
	case read:
		add(index+"/*", "es:ESHttpGet")
		add(index+"/*/_search", "es:ESHttpPost")
	}
	if _, write := grantOf(f, "sockets"); write {
		for _, method := range []string{"POST", "DELETE"} {
			add(ownARN("execute-api", e.socketImport()+"/live/"+method+"/@connections/*"), "execute-api:ManageConnections")
		}
	}
	return all
}

func (e environment) wantExports(f manifest.Function, add func(on string, actions ...string)) {
	bucket := e.bucketARN("exports")
	read, write := grantOf(f, "exports")
	if read || write {
		add(bucket+"/*", "s3:GetObject")
		add(e.keyImport(), "kms:Decrypt")
	}
	if write {
		e.wantFiles(bucket, add)
		add(bucket+"/*", "s3:DeleteObjectVersion")
		add(bucket, "s3:ListBucketVersions")
	}
}

func (e environment) wantArchive(f manifest.Function, add func(on string, actions ...string)) {
	if _, write := grantOf(f, "archive"); write {
		e.wantFiles(e.bucketARN("archive"), add)
	}
}

// wantFiles expects everything about the files of a bucket.
func (e environment) wantFiles(bucket string, add func(on string, actions ...string)) {
	add(bucket+"/*", "s3:GetObject", "s3:PutObject", "s3:DeleteObject", "s3:AbortMultipartUpload")
	add(bucket, "s3:ListBucket", "s3:ListBucketMultipartUploads")
	add(e.keyImport(), "kms:Decrypt", "kms:GenerateDataKey")
}

func (e environment) bucketARN(name string) string {
	return "arn:${AWS::Partition}:s3:::" + e.name(name) + "-${AWS::AccountId}-${AWS::Region}"
}

func (e environment) wantTombstones(f manifest.Function, add func(on string, actions ...string)) {
	bucket := e.bucketARN("tombstones")
	read, write := grantOf(f, "tombstones")
	if write {
		add(bucket+"/*", "s3:GetObject", "s3:PutObject")
		add(e.keyImport(), "kms:Decrypt", "kms:GenerateDataKey")
	}
	if read || write {
		add(bucket, "s3:ListBucket")
	}
}

func (e environment) wantQueues(f manifest.Function, add func(on string, actions ...string)) {
	for _, q := range e.queues {
		for _, name := range []manifest.QueueName{q.Name, q.Name.DeadLetters()} {
			arn := e.queueARN(name)
			read, write := grantOf(f, manifest.QueueResource(name))
			triggers := slices.ContainsFunc(f.Trigger.Queues, func(t manifest.QueueTrigger) bool { return t.Queue == name })
			if read || write || triggers {
				add(arn, "sqs:GetQueueUrl")
			}
			if read {
				add(arn, "sqs:GetQueueAttributes")
			}
			if write {
				add(arn, "sqs:SendMessage")
			}
			if triggers {
				add(arn, "sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:GetQueueAttributes", "sqs:ChangeMessageVisibility")
			}
		}
	}
}

func grantOf(f manifest.Function, r manifest.Resource) (read, write bool) {
	for _, g := range f.Grants {
		if g.Resource == r {
			read, write = read || g.Read, write || g.Write
		}
	}
	return read, write
}

// keyImport and socketImport are how other stacks refer to the key of the secrets and to the
// WebSocket API.
func (e environment) keyImport() string { return e.imported("StoresKey", "Arn") }

func (e environment) socketImport() string { return e.imported("StreamApi", "") }

func (e environment) tenantsKeyARN() string {
	if e.TenantsKey != "" {
		return e.TenantsKey
	}
	return e.imported("tenantsKey", "Arn")
}

func (e environment) imported(id, attribute string) string {
	for name, output := range e.stacks["Data"].Outputs {
		value := textOf(at(output, "Value"))
		if strings.Contains(name, id) && strings.HasPrefix(value, "${"+id) && strings.HasSuffix(value, attribute+"}") {
			return "${import " + textOf(at(output, "Export.Name")) + "}"
		}
	}
	return "no export of " + id
}

// unscoped are the actions that AWS has no resource for, or that Lambda wants on all. A
// function may not do the latter itself: a denial stands beside them.
var unscoped = map[string]string{
	"xray:PutTraceSegments": "X-Ray knows no resource", "xray:PutTelemetryRecords": "X-Ray knows no resource",
	"cloudwatch:DescribeAlarms":    "CloudWatch knows no resource of it",
	"ec2:CreateNetworkInterface":   networkReason,
	"ec2:DeleteNetworkInterface":   networkReason,
	"ec2:AssignPrivateIpAddresses": networkReason, "ec2:UnassignPrivateIpAddresses": networkReason,
	"ec2:DescribeNetworkInterfaces": "EC2 knows no resource of it", "ec2:DescribeSubnets": "EC2 knows no resource of it",
}

const networkReason = "Lambda creates and removes the interfaces; the function itself is denied"

func wildcardFaults(e environment) []string {
	var f faults
	for _, role := range f.some(e.stacks, "AWS::IAM::Role") {
		if managed := textsOf(role.get("ManagedPolicyArns")); len(managed) > 0 {
			f.addf("%s/%s has the managed policies %v, want none", role.stack, role.id, managed)
		}
		for _, right := range rightsOf(role.resource) {
			action, on, _ := strings.Cut(right, " ")
			if strings.Contains(action, "*") {
				f.addf("%s/%s may %s, want single actions", role.stack, role.id, right)
			}
			if on == "*" && unscoped[action] == "" {
				f.addf("%s/%s may %s, want a resource or a reason", role.stack, role.id, right)
			}
		}
	}
	for _, function := range e.functions {
		if len(function.Grants) == 0 {
			continue
		}
		role, _ := e.stacks.named("AWS::IAM::Role", "RoleName", e.name(function.Name))
		if !slices.ContainsFunc(statementsOf(role.resource), func(s node) bool {
			return textOf(s["Effect"]) == "Deny" && textOf(at(s, "Condition.ArnEquals.lambda:SourceFunctionArn")) == e.functionARN(function.Name)
		}) {
			f.addf("%s: got no denial of the network's actions, want one", function.Name)
		}
	}
	return f
}
