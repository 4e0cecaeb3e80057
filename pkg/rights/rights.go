// Package rights says which calls to AWS the grants of a function need: IAM actions on
// targets. A deployment template turns each target into the ARN of its own resource.
package rights

import (
	"slices"

	"github.com/ocelot-audit/ocelot/pkg/manifest"
)

// Right allows actions of IAM on targets.
type Right struct {
	Actions []string
	Targets []Target
	// Via restricts the right to calls that this service makes for the function, as a
	// pattern of the condition key kms:ViaService. "" does not restrict it.
	Via string
}

// Target is what an action applies to.
type Target struct {
	Kind Kind
	Name string
}

// Kind is the kind of a target. It says what the target's name is.
type Kind string

// The kinds of targets.
const (
	Secret     Kind = "secret"      // the variable of pkg/config whose value is the secret's ARN
	SecretsKey Kind = "secrets-key" // no name: the key that encrypts the secrets
	MasterKey  Kind = "master-key"  // no name: the key that wraps the tenants' keys
	Exports    Kind = "exports"     // the bucket of exports, or a pattern of keys in it, such as /*
	Tombstones Kind = "tombstones"  // the bucket of tombstones, or a pattern of keys in it, such as /*
	Archive    Kind = "archive"     // the bucket of the archive, or a pattern of keys in it, such as /*
	BucketsKey Kind = "buckets-key" // no name: the key that encrypts the buckets
	Queue      Kind = "queue"       // the queue, as in pkg/manifest
	Index      Kind = "index"       // a pattern of paths below the address of the search index
	Sockets    Kind = "sockets"     // the HTTP method of a call about a connection of the WebSocket API
)

// The variables of pkg/config that hold secrets.
const (
	CursorKey = "OCELOT_CURSOR_KEY"
	Records   = "MONGODB_URI"
	Search    = "OPENSEARCH_URL" // a secret only if requests to the index are not signed
)

// Of returns what the function's own calls need. MongoDB identifies a function by the
// user in its URI, so that records need no right but the one to that secret.
func Of(f manifest.Function) []Right {
	return slices.Concat(secrets(f), rotation(f), masterKey(f), exports(f), tombstones(f), archive(f), queues(f), index(f), sockets(f))
}

// Polling returns what Lambda needs of the function's role to poll the queues that
// trigger the function.
func Polling(f manifest.Function) []Right {
	var all []Right
	for _, t := range f.Trigger.Queues {
		all = append(all, right(queue(t.Queue), "sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:GetQueueAttributes"))
	}
	return all
}

// FeedsItself reports whether the function sends to a queue that triggers it. Lambda
// stops such a function after 16 rounds unless its recursive loop is allowed.
func FeedsItself(f manifest.Function) bool {
	return slices.ContainsFunc(f.Trigger.Queues, func(t manifest.QueueTrigger) bool {
		_, write := granted(f, manifest.QueueResource(t.Queue))
		return write
	})
}

func right(target Target, actions ...string) Right {
	return Right{Actions: actions, Targets: []Target{target}}
}

func queue(name manifest.QueueName) Target { return Target{Queue, string(name)} }

func granted(f manifest.Function, r manifest.Resource) (read, write bool) {
	for _, g := range f.Grants {
		if g.Resource == r {
			read, write = read || g.Read, write || g.Write
		}
	}
	return read, write
}

// secrets allows a function to fetch the secrets that its environment names, and to
// decrypt them.
func secrets(f manifest.Function) []Right {
	var named []Target
	for _, secret := range []struct {
		of       manifest.Dependency
		variable string
	}{{manifest.DependencyCursorKey, CursorKey}, {manifest.DependencyRecords, Records}, {manifest.DependencySearch, Search}} {
		if f.DependsOn(secret.of) {
			named = append(named, Target{Secret, secret.variable})
		}
	}
	if len(named) == 0 {
		return nil
	}
	return []Right{{Actions: []string{"secretsmanager:GetSecretValue"}, Targets: named}, bySecretsManager("kms:Decrypt")}
}

// bySecretsManager allows an action on the key of the secrets if Secrets Manager does it.
func bySecretsManager(action string) Right {
	r := right(Target{Kind: SecretsKey}, action)
	r.Via = "secretsmanager.*.amazonaws.com"
	return r
}

// rotation allows a function to store new values of the secret that it rotates.
func rotation(f manifest.Function) []Right {
	if _, write := granted(f, manifest.ResourceCursorKey); !write {
		return nil
	}
	return []Right{
		right(Target{Secret, CursorKey}, "secretsmanager:DescribeSecret", "secretsmanager:PutSecretValue", "secretsmanager:UpdateSecretVersionStage"),
		bySecretsManager("kms:GenerateDataKey"),
	}
}

// masterKey allows a function to wrap and unwrap the tenants' keys. The policy of the key asks for
// a tenant as the encryption context.
func masterKey(f manifest.Function) []Right {
	var actions []string
	read, write := granted(f, manifest.ResourceMasterKey)
	if read {
		actions = append(actions, "kms:Decrypt")
	}
	if write {
		actions = append(actions, "kms:Encrypt")
	}
	if len(actions) == 0 {
		return nil
	}
	return []Right{right(Target{Kind: MasterKey}, actions...)}
}

// exports allows a function to read the files of exports by the URLs that it signs, and to write and
// remove them. S3 decrypts parts to check them.
func exports(f manifest.Function) []Right {
	switch read, write := granted(f, manifest.ResourceExports); {
	case write: // an erasure removes all versions of a file
		return append(writeFiles(Exports), right(Target{Exports, "/*"}, "s3:DeleteObjectVersion"), right(Target{Kind: Exports}, "s3:ListBucketVersions"))
	case read:
		return []Right{right(Target{Exports, "/*"}, "s3:GetObject"), byS3("kms:Decrypt")}
	}
	return nil
}

// archive allows a function to read, write and remove the files of the archive.
func archive(f manifest.Function) []Right {
	if _, write := granted(f, manifest.ResourceArchive); !write {
		return nil
	}
	return writeFiles(Archive)
}

// writeFiles allows everything about the files of a bucket.
func writeFiles(bucket Kind) []Right {
	return []Right{
		right(Target{bucket, "/*"}, "s3:GetObject", "s3:PutObject", "s3:DeleteObject", "s3:AbortMultipartUpload"),
		right(Target{Kind: bucket}, "s3:ListBucket", "s3:ListBucketMultipartUploads"), byS3("kms:Decrypt", "kms:GenerateDataKey"),
	}
}

// tombstones allows a function to list tombstones, or to write them. S3 tells a writer whether one is
// there. No function may remove or replace one.
func tombstones(f manifest.Function) []Right {
	read, write := granted(f, manifest.ResourceTombstones)
	var all []Right
	if write {
		all = append(all, right(Target{Tombstones, "/*"}, "s3:GetObject", "s3:PutObject"), byS3("kms:Decrypt", "kms:GenerateDataKey"))
	}
	if read || write {
		all = append(all, right(Target{Kind: Tombstones}, "s3:ListBucket"))
	}
	return all
}

// byS3 allows actions on the key of the buckets if S3 does them.
func byS3(actions ...string) Right {
	r := right(Target{Kind: BucketsKey}, actions...)
	r.Via = "s3.*.amazonaws.com"
	return r
}

// queues returns the rights on queues. A function gets the attributes of queues that it
// may read, and sends to those that it may write. It delays messages of those that
// trigger it.
func queues(f manifest.Function) []Right {
	var all []Right
	for _, name := range queueNames(f) {
		read, write := granted(f, manifest.QueueResource(name))
		actions := []string{"sqs:GetQueueUrl"}
		if read {
			actions = append(actions, "sqs:GetQueueAttributes")
		}
		if write {
			actions = append(actions, "sqs:SendMessage")
		}
		if triggeredBy(f, name) {
			actions = append(actions, "sqs:ChangeMessageVisibility")
		}
		all = append(all, right(queue(name), actions...))
	}
	return all
}

// queueNames returns each queue that triggers the function or stands in its grants, once.
func queueNames(f manifest.Function) []manifest.QueueName {
	var names []manifest.QueueName
	for _, t := range f.Trigger.Queues {
		names = append(names, t.Queue)
	}
	for _, g := range f.Grants {
		if name, is := g.Resource.Queue(); is {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

func triggeredBy(f manifest.Function, name manifest.QueueName) bool {
	return slices.ContainsFunc(f.Trigger.Queues, func(t manifest.QueueTrigger) bool { return t.Queue == name })
}

// index allows a function to call the search index with signed requests. A search is a
// POST. A function that only reads may POST to the search paths only.
func index(f manifest.Function) []Right {
	everything := Target{Index, "/*"}
	switch read, write := granted(f, manifest.ResourceIndex); {
	case write:
		return []Right{right(everything, "es:ESHttpGet", "es:ESHttpPost", "es:ESHttpPut", "es:ESHttpDelete")}
	case read:
		return []Right{right(everything, "es:ESHttpGet"), right(Target{Index, "/*/_search"}, "es:ESHttpPost")}
	}
	return nil
}

// sockets allows a function to send over connections and to close them.
func sockets(f manifest.Function) []Right {
	if _, write := granted(f, manifest.ResourceSockets); !write {
		return nil
	}
	return []Right{{Actions: []string{"execute-api:ManageConnections"}, Targets: []Target{{Sockets, "POST"}, {Sockets, "DELETE"}}}}
}
