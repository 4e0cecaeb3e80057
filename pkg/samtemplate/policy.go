package samtemplate

import (
	"github.com/ocelot-audit/ocelot/pkg/manifest"
	"github.com/ocelot-audit/ocelot/pkg/rights"
)

// policies returns the IAM policies that a function needs for its grants. SAM adds the
// rights to write logs and traces and to receive from the queues that trigger the
// function.
func policies(f manifest.Function) []node {
	var statements []node
	for _, r := range rights.Of(f) {
		if r.Targets[0].Kind == rights.BucketsKey {
			continue // S3 encrypts this template's buckets with keys of its own
		}
		statements = append(statements, statement(r))
	}
	if len(statements) == 0 {
		return nil
	}
	return []node{{"Version": "2012-10-17", "Statement": statements}}
}

// statement returns the statement of a right. It exists only if the template's parameters
// require it: the secrets have their own key, or calls of the search index are signed.
func statement(r rights.Right) node {
	resources := make([]any, len(r.Targets))
	for i, target := range r.Targets {
		resources[i] = resource(target)
	}
	s := node{"Effect": "Allow", "Action": r.Actions, "Resource": resources}
	if r.Via != "" {
		s["Condition"] = node{"StringLike": node{"kms:ViaService": r.Via}}
	}
	switch r.Targets[0].Kind {
	case rights.SecretsKey:
		return when(secretsOwnKey, s, noValue())
	case rights.Index:
		return when(openSearchSigned, s, noValue())
	}
	return s
}

// resource returns the ARN of a target.
func resource(target rights.Target) node {
	switch target.Kind {
	case rights.Secret:
		if target.Name == rights.Search {
			return when(openSearchSigned, noValue(), ref(openSearchURL))
		}
		return ref(map[string]string{rights.CursorKey: cursorKeySecret, rights.Records: mongoSecret}[target.Name])
	case rights.SecretsKey:
		return ref(secretsKeyARN)
	case rights.MasterKey:
		return ref(masterKeyARN)
	case rights.Exports:
		return node{"Fn::Sub": "${" + exportsBucket + ".Arn}" + target.Name}
	case rights.Tombstones:
		return node{"Fn::Sub": "${" + tombstonesBucket + ".Arn}" + target.Name}
	case rights.Archive:
		return node{"Fn::Sub": "${" + archiveBucket + ".Arn}" + target.Name}
	case rights.Queue:
		return arn(queueID(manifest.QueueName(target.Name)))
	case rights.Index:
		return node{"Fn::Sub": "${" + openSearchARN + "}" + target.Name}
	case rights.Sockets:
		return node{"Fn::Sub": socketARN + "/" + stage + "/" + target.Name + "/@connections/*"}
	}
	panic("samtemplate: no ARN for a target of the kind " + string(target.Kind))
}
