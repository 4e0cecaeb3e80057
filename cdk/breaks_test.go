package main

import (
	"archive/zip"
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/ocelot-audit/ocelot/pkg/manifest"
	"github.com/ocelot-audit/ocelot/pkg/testkit/enginetest"
)

const iamVersion = "2010-05-08"

// policyName is the inline policy of every function's role.
const policyName = "grants"

// holders returns the functions with a grant to write the resource.
func (u *user) holders(r manifest.Resource) []string {
	var names []string
	for _, f := range manifest.Functions() {
		if slices.ContainsFunc(f.Grants, func(g manifest.Grant) bool { return g.Resource == r && g.Write }) {
			names = append(names, f.Name)
		}
	}
	return names
}

// withoutAction takes an action from the roles of functions.
func (u *user) withoutAction(action string, functions ...string) (restore func()) {
	u.t.Helper()
	before := map[string]string{}
	for _, name := range functions {
		role := "ocelot-dev-" + name
		before[role] = u.policy(role)
		changed := strings.ReplaceAll(before[role], `"`+action+`"`, `"sts:GetCallerIdentity"`)
		if changed == before[role] {
			u.t.Fatalf("the role of %s has no %s, want one to take away", name, action)
		}
		u.putPolicy(role, changed)
	}
	return func() {
		u.t.Helper()
		for role, document := range before {
			u.putPolicy(role, document)
		}
	}
}

func (u *user) policy(role string) string {
	u.t.Helper()
	var answer struct {
		Document string `xml:"GetRolePolicyResult>PolicyDocument"`
	}
	u.query(&answer, "iam", "GetRolePolicy", iamVersion, url.Values{"RoleName": {role}, "PolicyName": {policyName}})
	document, err := url.QueryUnescape(answer.Document)
	if err != nil {
		u.t.Fatal(err)
	}
	return document
}

func (u *user) putPolicy(role, document string) {
	u.t.Helper()
	u.query(nil, "iam", "PutRolePolicy", iamVersion, url.Values{"RoleName": {role}, "PolicyName": {policyName}, "PolicyDocument": {document}})
}

// denySending has a queue's policy deny all messages.
func (u *user) denySending(queue string) (restore func()) {
	u.t.Helper()
	address := u.queueURL(queue)
	var answer struct{ Attributes map[string]string }
	u.target(&answer, "sqs", "AmazonSQS.GetQueueAttributes", map[string]any{"QueueUrl": address, "AttributeNames": []string{"Policy", "QueueArn"}})
	set := func(policy string) {
		u.t.Helper()
		u.target(nil, "sqs", "AmazonSQS.SetQueueAttributes", map[string]any{"QueueUrl": address, "Attributes": map[string]string{"Policy": policy}})
	}
	set(fmt.Sprintf(`{"Version":"2012-10-17","Statement":[{"Effect":"Deny","Principal":"*","Action":"sqs:SendMessage","Resource":%q}]}`, answer.Attributes["QueueArn"]))
	return func() {
		u.t.Helper()
		set(answer.Attributes["Policy"])
	}
}

const lambdaFunctions = "/2015-03-31/functions/"

// liveVersion returns the version at which a function's alias points.
func (c *cloud) liveVersion(name string) string {
	c.t.Helper()
	var alias struct{ FunctionVersion string }
	c.must(&alias, "lambda", http.MethodGet, lambdaFunctions+"ocelot-dev-"+name+"/aliases/live", nil, nil)
	return alias.FunctionVersion
}

// restart gives a function a new version, so that its next invocation starts a process.
func (c *cloud) restart(name string) {
	c.t.Helper()
	function := lambdaFunctions + "ocelot-dev-" + name
	header := http.Header{"Content-Type": {"application/json"}}
	c.must(nil, "lambda", http.MethodPut, function+"/configuration", header, []byte(fmt.Sprintf(`{"Description":"after version %s"}`, c.liveVersion(name))))
	var version struct{ Version string }
	c.must(&version, "lambda", http.MethodPost, function+"/versions", header, []byte("{}"))
	c.must(nil, "lambda", http.MethodPut, function+"/aliases/live", header, []byte(fmt.Sprintf(`{"FunctionVersion":%q}`, version.Version)))
}

// uploadTemplate stores template.yaml with the code of the functions in S3, and returns its
// address. It is as it is but for the places of the code.
func (c *cloud) uploadTemplate() string {
	c.t.Helper()
	const place = `<CreateBucketConfiguration><LocationConstraint>` + enginetest.Region + `</LocationConstraint></CreateBucketConfiguration>`
	c.must(nil, "s3", http.MethodPut, "/trial", nil, []byte(place))
	text, err := os.ReadFile("../template.yaml")
	if err != nil {
		c.t.Fatal(err)
	}
	for _, f := range manifest.Functions() {
		c.must(nil, "s3", http.MethodPut, "/trial/"+f.Name+".zip", nil, c.zipped(filepath.Join(bootstraps(c.t), f.Name, "bootstrap")))
		before := text
		text = bytes.Replace(text, []byte("CodeUri: bin/lambdas/arm64/"+f.Name+"\n"), []byte("CodeUri: s3://trial/"+f.Name+".zip\n"), 1)
		if bytes.Equal(before, text) {
			c.t.Fatalf("template.yaml has no code of %s, want it", f.Name)
		}
	}
	c.must(nil, "s3", http.MethodPut, "/trial/template.yaml", nil, text)
	return c.url + "/trial/template.yaml"
}

// zipped returns an archive with the executable, stored: this machine does not need it small.
func (c *cloud) zipped(bootstrap string) []byte {
	c.t.Helper()
	content, err := os.ReadFile(bootstrap)
	if err != nil {
		c.t.Fatal(err)
	}
	var archive bytes.Buffer
	w := zip.NewWriter(&archive)
	header := &zip.FileHeader{Name: "bootstrap", Method: zip.Store}
	header.SetMode(0o755)
	file, err := w.CreateHeader(header)
	if err == nil {
		_, err = io.Copy(file, bytes.NewReader(content))
	}
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		c.t.Fatal(err)
	}
	return archive.Bytes()
}

// member returns the name of a parameter of CloudFormation in a form.
func member(i int, part string) string { return fmt.Sprintf("Parameters.member.%d.%s", i+1, part) }
