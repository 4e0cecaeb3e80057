package samtemplate_test

import (
	"encoding/json"
	"io"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/engine/opensearchindex"
	"github.com/ocelot-audit/ocelot/pkg/manifest"
)

// may is a function's right: an action on a resource, where a condition of the template holds.
type may struct{ Action, Resource, Where string }

// rights are those that the template gives to each function, by the function's name.
func rights(t *testing.T) map[string][]may {
	t.Helper()
	var template struct {
		Resources map[string]struct {
			Properties struct {
				Policies []struct{ Statement []json.RawMessage }
			}
		}
	}
	parse(t, &template)
	found := map[string][]may{}
	for _, f := range manifest.Functions() {
		policies := template.Resources[manifest.CamelCase(f.Name)+"Function"].Properties.Policies
		if len(policies) == 0 {
			continue // the function was granted nothing
		}
		if len(policies) > 1 {
			t.Fatalf("%s has %d policies, want at most one", f.Name, len(policies))
		}
		for _, s := range policies[0].Statement {
			statement, where := unless(t, s)
			found[f.Name] = append(found[f.Name], rightsOf(t, statement, where)...)
		}
	}
	return found
}

// unless takes {"Fn::If": [condition, value, nothing]} apart.
func unless(t *testing.T, text json.RawMessage) (value json.RawMessage, where string) {
	t.Helper()
	var choice struct {
		If []json.RawMessage `json:"Fn::If"`
	}
	if json.Unmarshal(text, &choice) != nil || len(choice.If) != 3 {
		return text, ""
	}
	if err := json.Unmarshal(choice.If[0], &where); err != nil {
		t.Fatal(err)
	}
	const nothing = `{"Ref":"AWS::NoValue"}`
	switch {
	case string(choice.If[2]) == nothing:
		return choice.If[1], where
	case string(choice.If[1]) == nothing:
		return choice.If[2], "not " + where
	}
	t.Fatalf("both sides of %s have a value, want one", text)
	return nil, ""
}

func rightsOf(t *testing.T, statement json.RawMessage, where string) []may {
	t.Helper()
	var s struct {
		Effect   string
		Action   []string
		Resource json.RawMessage
	}
	if err := json.Unmarshal(statement, &s); err != nil {
		t.Fatal(err)
	} else if s.Effect != "Allow" {
		t.Fatalf("got effect %q in the statement %s, want %q", s.Effect, statement, "Allow")
	}
	resources := []json.RawMessage{s.Resource}
	if s.Resource[0] == '[' {
		if err := json.Unmarshal(s.Resource, &resources); err != nil {
			t.Fatal(err)
		}
	}
	var all []may
	for _, action := range s.Action {
		for _, resource := range resources {
			value, only := unless(t, resource)
			all = append(all, may{Action: action, Resource: named(t, value), Where: where + only})
		}
	}
	return all
}

// named is the text of a resource: its parameter, its Fn::Sub or the resource whose ARN it is.
func named(t *testing.T, text json.RawMessage) string {
	t.Helper()
	var resource struct {
		Ref string
		Sub string   `json:"Fn::Sub"`
		Att []string `json:"Fn::GetAtt"`
	}
	if err := json.Unmarshal(text, &resource); err != nil {
		t.Fatal(err)
	}
	return resource.Ref + resource.Sub + strings.Join(resource.Att, ".")
}

// TestRolesAreTheManifestsGrants: every function has the rights of its grants, and no other.
func TestRolesAreTheManifestsGrants(t *testing.T) {
	given := rights(t)
	for _, f := range manifest.Functions() {
		want := wanted(f)
		got := given[f.Name]
		order := func(a, b may) int { return strings.Compare(a.Action+a.Resource, b.Action+b.Resource) }
		slices.SortFunc(got, order)
		slices.SortFunc(want, order)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: rights (-want of the grants +got in the role):\n%s", f.Name, diff)
		}
	}
}

func wanted(f manifest.Function) []may {
	const signed = "OpenSearchIsSigned"
	var all []may
	for _, secret := range []struct {
		dependency manifest.Dependency
		may
	}{
		{manifest.DependencyCursorKey, may{"secretsmanager:GetSecretValue", "CursorKeySecretArn", ""}},
		{manifest.DependencyRecords, may{"secretsmanager:GetSecretValue", "MongoUriSecretArn", ""}},
		{manifest.DependencySearch, may{"secretsmanager:GetSecretValue", "OpenSearchUrl", "not " + signed}},
	} {
		if f.DependsOn(secret.dependency) {
			all = append(all, secret.may)
		}
	}
	if len(all) > 0 {
		all = append(all, may{"kms:Decrypt", "SecretsKeyArn", "SecretsHaveTheirOwnKey"})
	}
	grants := func(r manifest.Resource) (read, write bool) {
		is := func(g manifest.Grant) bool { return g.Resource == r }
		return slices.ContainsFunc(f.Grants, func(g manifest.Grant) bool { return is(g) && g.Read }),
			slices.ContainsFunc(f.Grants, func(g manifest.Grant) bool { return is(g) && g.Write })
	}
	for action, has := range map[string]func(read, write bool) bool{
		"kms:Decrypt": func(read, _ bool) bool { return read }, "kms:Encrypt": func(_, write bool) bool { return write },
	} {
		if has(grants(manifest.ResourceMasterKey)) {
			all = append(all, may{action, "MasterKeyArn", ""})
		}
	}
	for resource, bucket := range map[manifest.Resource]string{manifest.ResourceExports: "${ExportsBucket.Arn}", manifest.ResourceArchive: "${ArchiveBucket.Arn}"} {
		readFiles, writeFiles := grants(resource)
		if readFiles || writeFiles {
			all = append(all, may{"s3:GetObject", bucket + "/*", ""})
		}
		if writeFiles {
			for _, action := range []string{"PutObject", "DeleteObject", "AbortMultipartUpload"} {
				all = append(all, may{"s3:" + action, bucket + "/*", ""})
			}
			all = append(all, may{"s3:ListBucket", bucket, ""}, may{"s3:ListBucketMultipartUploads", bucket, ""})
			if resource == manifest.ResourceExports {
				all = append(all, may{"s3:DeleteObjectVersion", bucket + "/*", ""}, may{"s3:ListBucketVersions", bucket, ""})
			}
		}
	}
	readTombstones, writeTombstones := grants(manifest.ResourceTombstones)
	if writeTombstones {
		all = append(all, may{"s3:GetObject", "${TombstonesBucket.Arn}/*", ""}, may{"s3:PutObject", "${TombstonesBucket.Arn}/*", ""})
	}
	if readTombstones || writeTombstones {
		all = append(all, may{"s3:ListBucket", "${TombstonesBucket.Arn}", ""})
	}
	if _, write := grants(manifest.ResourceCursorKey); write {
		for _, action := range []string{"DescribeSecret", "PutSecretValue", "UpdateSecretVersionStage"} {
			all = append(all, may{"secretsmanager:" + action, "CursorKeySecretArn", ""})
		}
		all = append(all, may{"kms:GenerateDataKey", "SecretsKeyArn", "SecretsHaveTheirOwnKey"})
	}
	switch read, write := grants(manifest.ResourceIndex); {
	case write:
		for _, method := range []string{"Get", "Post", "Put", "Delete"} {
			all = append(all, may{"es:ESHttp" + method, "${OpenSearchDomainArn}/*", signed})
		}
	case read:
		all = append(all, may{"es:ESHttpGet", "${OpenSearchDomainArn}/*", signed}, may{"es:ESHttpPost", "${OpenSearchDomainArn}/*/_search", signed})
	}
	if _, write := grants(manifest.ResourceSockets); write {
		const api = "arn:${AWS::Partition}:execute-api:${AWS::Region}:${AWS::AccountId}:${StreamApi}/live/"
		all = append(all, may{"execute-api:ManageConnections", api + "POST/@connections/*", ""}, may{"execute-api:ManageConnections", api + "DELETE/@connections/*", ""})
	}
	for _, q := range manifest.Queues() {
		for _, name := range []manifest.QueueName{q.Name, q.Name.DeadLetters()} {
			read, write := grants(manifest.QueueResource(name))
			own := slices.ContainsFunc(f.Trigger.Queues, func(trigger manifest.QueueTrigger) bool { return trigger.Queue == name })
			for action, has := range map[string]bool{
				"GetQueueUrl": read || write || own, "GetQueueAttributes": read, "SendMessage": write, "ChangeMessageVisibility": own,
			} {
				if has {
					all = append(all, may{"sqs:" + action, manifest.CamelCase(string(name)) + "Queue.Arn", ""})
				}
			}
		}
	}
	return all
}

// TestFunctionsReachTheIndexAndTheirQueue names, apart from the manifest, who has to.
func TestFunctionsReachTheIndexAndTheirQueue(t *testing.T) {
	given := rights(t)
	for _, test := range []struct{ function, action, resource string }{
		{"list-logs", "es:ESHttpPost", "${OpenSearchDomainArn}/*/_search"},
		{"get-log", "es:ESHttpGet", "${OpenSearchDomainArn}/*"},
		{"get-health", "es:ESHttpGet", "${OpenSearchDomainArn}/*"},
		{"run-jobs", "es:ESHttpPost", "${OpenSearchDomainArn}/*"},
		{"index-logs", "es:ESHttpPut", "${OpenSearchDomainArn}/*"},
		{"index-logs", "es:ESHttpPost", "${OpenSearchDomainArn}/*"},
		{"run-jobs", "es:ESHttpDelete", "${OpenSearchDomainArn}/*"},
		{"persist-logs", "sqs:ChangeMessageVisibility", "IngestQueue.Arn"},
		{"persist-logs", "sqs:ChangeMessageVisibility", "IngestPriorityQueue.Arn"},
		{"index-logs", "sqs:ChangeMessageVisibility", "IndexQueue.Arn"},
		{"run-jobs", "sqs:ChangeMessageVisibility", "JobsQueue.Arn"},
		{"stream-logs", "sqs:ChangeMessageVisibility", "StreamQueue.Arn"},
	} {
		if !slices.ContainsFunc(given[test.function], func(m may) bool { return m.Action == test.action && m.Resource == test.resource }) {
			t.Errorf("%s may not %s on %s, want it allowed", test.function, test.action, test.resource)
		}
	}
	for _, m := range given["create-log"] {
		if strings.HasPrefix(m.Action, "es:") {
			t.Errorf("create-log may %s on %s, want no right on the index", m.Action, m.Resource)
		}
	}
}

// calls are the requests that reached an OpenSearch which has no index.
type calls []string

func (c *calls) RoundTrip(r *http.Request) (*http.Response, error) {
	*c = append(*c, r.Method+" "+r.URL.Path)
	return &http.Response{
		StatusCode: http.StatusNotFound, Header: http.Header{"Content-Type": {"application/json"}}, Request: r,
		Body: io.NopCloser(strings.NewReader(`{"error":{"type":"index_not_found_exception"},"status":404}`)),
	}, nil
}

// TestReadersSendNoOtherCallsThanTheirRoleAllows: reading the index takes no
// call that only a function which writes it may send.
func TestReadersSendNoOtherCallsThanTheirRoleAllows(t *testing.T) {
	var sent calls
	index, err := opensearchindex.Open(opensearchindex.Config{URLs: []string{"http://search.invalid"}, Transport: &sent})
	if err != nil {
		t.Fatal(err)
	}
	ctx, id := t.Context(), audit.EntryID{}
	now := time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)
	reads := map[string]func() error{
		"Find": func() error {
			_, err := index.Find(ctx, "acme", audit.Filter{}, audit.PageRequest{Limit: 50})
			return err
		},
		"Contains": func() error { _, err := index.Contains(ctx, "acme", id); return err },
		"IDs":      func() error { _, err := index.IDs(ctx, "acme", now, now.Add(24*time.Hour), id, 50); return err },
		"Stats": func() error {
			_, err := index.Stats(ctx, "acme", audit.Filter{}, audit.StatsRequest{GroupBy: []audit.Field{audit.FieldAction}, Top: 10})
			return err
		},
		"Ping": func() error { return index.Ping(ctx) },
	}
	role := rights(t)["list-logs"]
	for name, read := range reads {
		sent = nil
		err := read()
		if len(sent) == 0 {
			t.Errorf("%s sends nothing, want a request: %v", name, err)
		}
		for _, call := range sent {
			method, target, _ := strings.Cut(call, " ")
			action := "es:ESHttp" + method[:1] + strings.ToLower(method[1:])
			if !slices.ContainsFunc(role, func(m may) bool { return m.Action == action && covers(m.Resource, target) }) {
				t.Errorf("%s sends %s, want only what the role of list-logs allows", name, call)
			}
		}
	}
}

// covers reports whether a resource of the domain matches a path, as IAM has it.
func covers(resource, path string) bool {
	pattern := regexp.QuoteMeta(strings.TrimPrefix(resource, "${OpenSearchDomainArn}"))
	return regexp.MustCompile("^" + strings.ReplaceAll(pattern, `\*`, ".*") + "$").MatchString(path)
}
