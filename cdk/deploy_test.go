package main

import (
	"maps"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/jsii-runtime-go"

	"github.com/ocelot-audit/ocelot/pkg/manifest"
)

// TestDeployment deploys all stacks of dev, and then changes of them, with the CDK's own
// command line. It sends entries the whole way through what was deployed. Mutations that must
// be noticed each break the way.
func TestDeployment(t *testing.T) {
	c := newCloud(t)
	c.cdk("bootstrap", "aws://000000000000/"+Environments()[0].Region)
	s := often(table())
	s.bootstraps = bootstraps(t)
	c.deploy("deploy", s)
	u := c.newUser()

	// The job takes longest: a tenant's deletion waits for consumers. It runs meanwhile.
	job, err := u.deletesTenant("gone")
	if err != nil {
		t.Fatal(err)
	}
	for _, step := range u.way() {
		if err := step.walk(); err != nil {
			t.Fatalf("%s: %v", step.name, err)
		}
	}
	t.Run("mutations", func(t *testing.T) {
		for _, m := range u.breaks() {
			u.tryBreak(t, m)
		}
	})
	t.Run("update", func(t *testing.T) {
		before := c.liveVersion("search-logs")
		s.bootstraps = changed(t, s.bootstraps, "search-logs")
		c.deploy("update", s)
		if got := c.liveVersion("search-logs"); got == before {
			t.Errorf("the alias points at version %s as before, want the new one", got)
		}
		if got := c.liveVersion("get-log"); got != "1" {
			t.Errorf("the alias of a function without a change points at version %s, want 1", got)
		}
		if err := u.entryIsFound("after-the-update"); err != nil {
			t.Error(err)
		}
	})
	if err := u.jobSucceeds(job, "gone"); err != nil {
		t.Errorf("job: %v", err)
	}
}

// deploy synthesises the environment dev and deploys its stacks.
func (c *cloud) deploy(name string, s service) {
	c.t.Helper()
	out := filepath.Join(folder, name)
	app := awscdk.NewApp(&awscdk.AppProps{Outdir: jsii.String(out), AnalyticsReporting: jsii.Bool(false)})
	environments, err := chosen("dev", true)
	if err != nil {
		c.t.Fatal(err)
	}
	addApp(app, environments, s)
	app.Synth(nil)
	c.cdk("deploy", "--app", out, "dev/*", "--require-approval", "never", "--method", "direct", "--ci", "--progress", "events")
}

// often returns the table with schedules of a minute, so that a test sees them fire.
func often(s service) service {
	s.functions = slices.Clone(s.functions)
	for i, f := range s.functions {
		if f.Trigger.Schedule != nil {
			s.functions[i].Trigger.Schedule = &manifest.Schedule{Every: time.Minute}
		}
	}
	return s
}

// changed returns a copy of the bootstraps in which one is another binary: bytes after an
// executable's end do not matter.
func changed(t *testing.T, bootstraps, name string) string {
	t.Helper()
	copied := t.TempDir()
	if err := os.CopyFS(copied, os.DirFS(bootstraps)); err != nil {
		t.Fatal(err)
	}
	file, err := os.OpenFile(filepath.Join(copied, name, "bootstrap"), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := file.WriteString("changed"); err != nil {
		t.Fatal(err)
	}
	if err := file.Close(); err != nil {
		t.Fatal(err)
	}
	return copied
}

// broken is a mutation of what was deployed. The named step of the way must fail with it.
type broken struct {
	name  string
	step  string
	apply func() (restore func())
}

func (u *user) breaks() []broken {
	return []broken{
		{"a role loses sqs:SendMessage", stepEntry, func() func() { return u.withoutAction("sqs:SendMessage", "create-log") }},
		{"a role loses secretsmanager:GetSecretValue", stepEntry, func() func() {
			restore := u.withoutAction("secretsmanager:GetSecretValue", "create-log")
			u.restart("create-log") // a process reads its secrets once
			return func() {
				restore()
				u.restart("create-log")
			}
		}},
		{"roles lose execute-api:ManageConnections", stepStream, func() func() {
			return u.withoutAction("execute-api:ManageConnections", u.holders(manifest.ResourceSockets)...)
		}},
		{"the authorizer's role loses sqs:SendMessage", stepRefuse, func() func() { return u.withoutAction("sqs:SendMessage", "authorize-request") }},
		{"a queue's policy denies", stepEntry, func() func() { return u.denySending("ingest") }},
	}
}

// tryBreak applies the mutation and walks its step, which must fail, and then again without it.
func (u *user) tryBreak(t *testing.T, m broken) {
	t.Helper()
	way := u.way()
	step := way[slices.IndexFunc(way, func(s step) bool { return s.name == m.step })]
	restore := m.apply()
	if err := step.walk(); err == nil {
		t.Errorf("%s: %s: got no error, want one", m.name, m.step)
	} else {
		t.Logf("%s: %v", m.name, err)
	}
	restore()
	if err := eventually(t.Context(), 30*time.Second, step.walk); err != nil {
		t.Errorf("%s, undone: %s: %v", m.name, m.step, err)
	}
}

// TestSAMTemplate deploys template.yaml by create-stack, and finds an entry through it.
func TestSAMTemplate(t *testing.T) {
	c := newCloud(t)
	dev := Environments()[0]
	secret := func(name, value string) string {
		var created struct{ ARN string }
		c.target(&created, "secretsmanager", "secretsmanager.CreateSecret", map[string]string{"Name": name, "SecretString": value})
		return created.ARN
	}
	var key struct{ KeyMetadata struct{ Arn string } }
	c.target(&key, "kms", "TrentService.CreateKey", map[string]string{})
	parameters := map[string]string{
		"MasterKeyArn":      key.KeyMetadata.Arn,
		"MongoUriSecretArn": secret("mongo", c.mongo), "CursorKeySecretArn": secret("cursor", "a-key-of-at-least-thirty-two-bytes"),
		"OpenSearchUrl": secret("search", "http://search.invalid"), "JwksUrl": dev.Issuer.JWKSURL, "Issuer": dev.Issuer.Issuer, "Audience": dev.Issuer.Audience,
	}
	values := url.Values{
		"StackName": {"trial"}, "TemplateURL": {c.uploadTemplate()}, "Capabilities.member.1": {"CAPABILITY_IAM"}, "Capabilities.member.2": {"CAPABILITY_AUTO_EXPAND"},
	}
	for i, name := range slices.Sorted(maps.Keys(parameters)) {
		values.Set(member(i, "ParameterKey"), name)
		values.Set(member(i, "ParameterValue"), parameters[name])
	}
	c.query(nil, "cloudformation", "CreateStack", "2010-05-15", values)
	var outputs map[string]string
	if err := eventually(t.Context(), time.Minute, func() error {
		outputs = c.outputs("trial")
		return wantText("stack status", outputs["status"], "CREATE_COMPLETE")
	}); err != nil {
		t.Fatal(err)
	}
	u := c.userOf(dev.Issuer, outputs)
	u.createsTenant()
	if err := u.entryIsFound("through-the-template"); err != nil {
		t.Error(err)
	}
	if err := u.attemptIsRecorded(); err != nil {
		t.Error(err)
	}
}
