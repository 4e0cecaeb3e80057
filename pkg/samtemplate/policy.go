package samtemplate

import (
	"slices"

	"github.com/ocelot-audit/ocelot/pkg/manifest"
)

// policies returns the IAM policies that a function needs for its grants. SAM adds the
// rights to write logs and traces and to receive from the queues that trigger the
// function. MongoDB identifies a function by the user in its URI.
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

// onlyIf returns a statement that exists only if the condition is true.
func onlyIf(condition string, statement node) node { return when(condition, statement, noValue()) }

func granted(f manifest.Function, r manifest.Resource) (read, write bool) {
	for _, g := range f.Grants {
		if g.Resource == r {
			read, write = read || g.Read, write || g.Write
		}
	}
	return read, write
}

// secrets allows a function to fetch the secrets that its environment names. It also
// allows decrypting them, which only a key other than aws/secretsmanager requires.
func secrets(f manifest.Function) []node {
	var named []any
	if f.DependsOn(manifest.DependencyCursorKey) {
		named = append(named, ref(cursorKeySecret))
	}
	if f.DependsOn(manifest.DependencyRecords) {
		named = append(named, ref(mongoSecret))
	}
	if f.DependsOn(manifest.DependencySearch) {
		named = append(named, when(openSearchSigned, noValue(), ref(openSearchURL)))
	}
	if len(named) == 0 {
		return nil
	}
	decrypt := allow(ref(secretsKeyARN), "kms:Decrypt")
	decrypt["Condition"] = node{"StringLike": node{"kms:ViaService": "secretsmanager.*.amazonaws.com"}}
	return []node{allow(named, "secretsmanager:GetSecretValue"), onlyIf(secretsOwnKey, decrypt)}
}

// queues returns the statements about queues. A function gets the attributes of queues
// that it may read, and sends to those that it may write. It delays messages of those
// that trigger it.
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

// index allows a function to call the OpenSearch domain if calls are signed. A search is
// a POST. A function that only reads may POST to the search paths only.
func index(f manifest.Function) []node {
	read, write := granted(f, manifest.ResourceIndex)
	under := func(path string) node { return node{"Fn::Sub": "${" + openSearchARN + "}" + path} }
	switch {
	case write:
		return []node{onlyIf(openSearchSigned, allow(under("/*"), "es:ESHttpGet", "es:ESHttpPost", "es:ESHttpPut", "es:ESHttpDelete"))}
	case read:
		return []node{
			onlyIf(openSearchSigned, allow(under("/*"), "es:ESHttpGet")),
			onlyIf(openSearchSigned, allow(under("/*/_search"), "es:ESHttpPost")),
		}
	}
	return nil
}

// connections allows a function to send over connections and to close them.
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
