package samtemplate

import (
	"slices"

	"github.com/ocelot-audit/ocelot/pkg/manifest"
)

// policies is what a function may do: no more than what the manifest grants it
// needs. SAM adds the right to write logs and traces, and to receive from the
// queues that trigger it. MongoDB knows a function by the user in its URI.
func policies(f manifest.Function) []node {
	statements := slices.Concat(secrets(f), queues(f), index(f), connections(f))
	if len(statements) == 0 {
		return nil
	}
	return []node{{"Version": "2012-10-17", "Statement": statements}}
}

func allow(resource any, actions ...string) node {
	return node{"Effect": "Allow", "Action": actions, "Resource": resource}
}

// only is a statement that is left out where the condition does not hold.
func only(condition string, statement node) node { return when(condition, statement, nothing()) }

func granted(f manifest.Function, r manifest.Resource) (read, write bool) {
	for _, g := range f.Grants {
		if g.Resource == r {
			read, write = read || g.Read, write || g.Write
		}
	}
	return read, write
}

// secrets lets a function fetch the secrets that its environment names. Decrypting
// them needs a right of its own unless they are encrypted by the key aws/secretsmanager.
func secrets(f manifest.Function) []node {
	var named []any
	if f.DependsOn(manifest.DependencyCursorKey) {
		named = append(named, ref(cursorKeySecret))
	}
	if f.DependsOn(manifest.DependencyRecords) {
		named = append(named, ref(mongoSecret))
	}
	if f.DependsOn(manifest.DependencySearch) {
		named = append(named, when(openSearchSigned, nothing(), ref(openSearchURL)))
	}
	if len(named) == 0 {
		return nil
	}
	decrypt := allow(ref(secretsKeyARN), "kms:Decrypt")
	decrypt["Condition"] = node{"StringLike": node{"kms:ViaService": "secretsmanager.*.amazonaws.com"}}
	return []node{allow(named, "secretsmanager:GetSecretValue"), only(secretsOwnKey, decrypt)}
}

// queues lets a function ask after the queues that it may read, send to those
// that it may write, and have a message of its own queue come again later.
func queues(f manifest.Function) []node {
	var statements []node
	for _, q := range manifest.Queues() {
		for _, name := range []manifest.QueueName{q.Name, q.Name.DeadLetters()} {
			read, write := granted(f, manifest.QueueResource(name))
			own := slices.ContainsFunc(f.Trigger.Queues, func(t manifest.QueueTrigger) bool { return t.Queue == name })
			actions := []string{"sqs:GetQueueUrl"}
			if read {
				actions = append(actions, "sqs:GetQueueAttributes")
			}
			if write {
				actions = append(actions, "sqs:SendMessage")
			}
			if own {
				actions = append(actions, "sqs:ChangeMessageVisibility")
			}
			if len(actions) > 1 {
				statements = append(statements, allow(arn(queueID(name)), actions...))
			}
		}
	}
	return statements
}

// index lets a function call the OpenSearch domain where calls are signed. A
// search is a POST; a function that only reads may send none to other paths.
func index(f manifest.Function) []node {
	read, write := granted(f, manifest.ResourceIndex)
	under := func(path string) node { return node{"Fn::Sub": "${" + openSearchARN + "}" + path} }
	switch {
	case write:
		return []node{only(openSearchSigned, allow(under("/*"), "es:ESHttpGet", "es:ESHttpPost", "es:ESHttpPut", "es:ESHttpDelete"))}
	case read:
		return []node{
			only(openSearchSigned, allow(under("/*"), "es:ESHttpGet")),
			only(openSearchSigned, allow(under("/*/_search"), "es:ESHttpPost")),
		}
	}
	return nil
}

// connections lets a function send over connections and cut them.
func connections(f manifest.Function) []node {
	if _, write := granted(f, manifest.ResourceSockets); !write {
		return nil
	}
	var resources []node
	for _, method := range []string{"POST", "DELETE"} {
		resources = append(resources, node{"Fn::Sub": socketARN + "/" + stage + "/" + method + "/@connections/*"})
	}
	return []node{allow(resources, "execute-api:ManageConnections")}
}
