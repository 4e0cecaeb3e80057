package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/coder/websocket"

	"github.com/ocelot-audit/ocelot/pkg/manifest"
	"github.com/ocelot-audit/ocelot/pkg/rotation"
)

// user calls a deployed service.
type user struct {
	*cloud
	api, stream     string
	admin, operator string // tokens
	tenant          string
	issuer          Issuer
	sent            int // entries, so that each has a word of its own
	refused         int // callers, so that each is recorded
}

// newUser completes the deployment of dev as docs/deploy.md says, and creates a tenant.
func (c *cloud) newUser() *user {
	c.t.Helper()
	dev := Environments()[0]
	c.target(nil, "secretsmanager", "secretsmanager.PutSecretValue", map[string]string{"SecretId": "ocelot/dev/mongodb-uri", "SecretString": c.mongo})
	u := c.userOf(dev.Issuer, c.outputs((&deployment{Environment: dev}).name("Api")))
	u.createsTenant()
	return u
}

func (c *cloud) userOf(issuer Issuer, outputs map[string]string) *user {
	c.t.Helper()
	u := &user{cloud: c, issuer: issuer, api: c.here(outputs["ApiUrl"]), stream: c.here(outputs["StreamUrl"]), tenant: fmt.Sprintf("t%d", time.Now().UnixNano())}
	u.operator, u.admin = c.token(issuer, "*", "operator"), c.token(issuer, []string{u.tenant}, "admin")
	return u
}

func (u *user) createsTenant() {
	u.t.Helper()
	if err := eventually(u.t.Context(), 20*time.Second, func() error {
		return u.send(http.MethodPost, "/tenants", u.operator, u.tenant, map[string]any{"id": u.tenant, "name": "Acme"}, http.StatusCreated, nil)
	}); err != nil {
		u.t.Fatal(err)
	}
}

// step is a part of the whole way.
type step struct {
	name string
	walk func() error
}

const (
	stepEntry  = "an entry from REST to search"
	stepStream = "an entry to a subscriber"
	stepRefuse = "a refused attempt to the tenant's log"
)

func (u *user) way() []step {
	return []step{
		{stepEntry, func() error { return u.entryIsFound("") }},
		{stepStream, u.entryIsStreamed},
		{stepRefuse, u.attemptIsRecorded},
		{"poison to the dead-letter queue", u.poisonIsDead},
		{"schedules fire", u.schedulesFire},
		{"the key of cursors rotates", u.keyRotates},
	}
}

// send sends a request and reads the answer. Another status is an error.
func (u *user) send(method, path, token, tenant string, body any, want int, answer any) error {
	var text []byte
	if body != nil {
		var err error
		if text, err = json.Marshal(body); err != nil {
			return err
		}
	}
	request, err := http.NewRequestWithContext(u.t.Context(), method, u.api+path, bytes.NewReader(text))
	if err != nil {
		return err
	}
	request.Header.Set("Authorization", "Bearer "+token)
	request.Header.Set("X-Tenant-ID", tenant)
	request.Header.Set("Content-Type", "application/json")
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer func() { _ = response.Body.Close() }()
	got, err := io.ReadAll(response.Body)
	if err != nil {
		return err
	}
	if response.StatusCode != want {
		return fmt.Errorf("%s %s: got %s: %s, want %d", method, path, response.Status, got, want)
	}
	if answer != nil {
		return json.Unmarshal(got, answer)
	}
	return nil
}

// sendEntry sends an entry with the word, or with a new one.
func (u *user) sendEntry(word string) (sent string, err error) {
	if word == "" {
		u.sent++
		word = fmt.Sprintf("word%d", u.sent)
	}
	entry := map[string]any{"user_id": "u1", "action": "CREATE", "resource_type": "order", "message": word}
	return word, u.send(http.MethodPost, "/logs", u.admin, u.tenant, entry, http.StatusAccepted, nil)
}

func (u *user) entryIsFound(word string) error {
	word, err := u.sendEntry(word)
	if err != nil {
		return err
	}
	return eventually(u.t.Context(), 30*time.Second, func() error {
		var list struct{ Items []struct{ Message string } }
		if err := u.send(http.MethodGet, "/logs?q="+url.QueryEscape(`"`+word+`"`), u.admin, u.tenant, nil, http.StatusOK, &list); err != nil {
			return err
		}
		if len(list.Items) != 1 {
			return fmt.Errorf("found %d entries with %q, want 1", len(list.Items), word)
		}
		return nil
	})
}

// attemptIsRecorded has API Gateway refuse an auditor, twice, and finds the one entry that the authorizer
// made of it. Then it has a handler refuse what the route alone allows.
func (u *user) attemptIsRecorded() error {
	u.refused++
	subject := fmt.Sprintf("eve%d", u.refused)
	token := u.tokenOf(subject, u.issuer, []string{u.tenant}, "auditor")
	for range 2 {
		if err := u.send(http.MethodDelete, "/logs/cleanup?before=2000-01-01", token, u.tenant, nil, http.StatusForbidden, nil); err != nil {
			return err
		}
	}
	if err := u.send(http.MethodPost, "/logs/search", token, u.tenant, map[string]any{"reveal": true, "reason": "r"}, http.StatusForbidden, nil); err != nil {
		return err
	}
	return eventually(u.t.Context(), 8*time.Second, func() error {
		var list struct {
			Items []struct {
				ResourceID string `json:"resource_id"`
			}
		}
		if err := u.send(http.MethodGet, "/logs?action=access.refused&user_id="+subject, u.admin, u.tenant, nil, http.StatusOK, &list); err != nil {
			return err
		}
		var routes []string
		for _, item := range list.Items {
			routes = append(routes, item.ResourceID)
		}
		slices.Sort(routes)
		return wantText("refused attempts", strings.Join(slices.Compact(routes), ", "), "DELETE /logs/cleanup, POST /logs/search") // a minute may end between them
	})
}

// entryIsStreamed subscribes, sends an entry and waits for it.
func (u *user) entryIsStreamed() error {
	ctx, cancel := context.WithTimeout(u.t.Context(), 15*time.Second)
	defer cancel()
	connection, _, err := websocket.Dial(ctx, u.stream, &websocket.DialOptions{HTTPHeader: http.Header{ //nolint:bodyclose // Dial closes it
		"Authorization": {"Bearer " + u.admin}, "X-Tenant-ID": {u.tenant},
	}})
	if err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	defer func() { _ = connection.CloseNow() }()
	if err := connection.Write(ctx, websocket.MessageText, []byte(`{"action":"subscribe"}`)); err != nil {
		return err
	}
	if err := u.awaitFrame(ctx, connection, `"type":"subscribed"`); err != nil {
		return err
	}
	word, err := u.sendEntry("")
	if err != nil {
		return err
	}
	return u.awaitFrame(ctx, connection, word)
}

// awaitFrame reads frames until one has the text.
func (u *user) awaitFrame(ctx context.Context, connection *websocket.Conn, part string) error {
	for {
		_, frame, err := connection.Read(ctx)
		if err != nil {
			return fmt.Errorf("wait for a frame with %s: %w", part, err)
		}
		if strings.Contains(string(frame), part) {
			return nil
		}
	}
}

func (u *user) queueURL(name string) string {
	u.t.Helper()
	var answer struct{ QueueUrl string } //nolint:revive // as SQS spells it
	u.target(&answer, "sqs", "AmazonSQS.GetQueueUrl", map[string]string{"QueueName": "ocelot-dev-" + name})
	return answer.QueueUrl
}

// poisonIsDead sends what is no message and finds it in the dead-letter queue.
func (u *user) poisonIsDead() error {
	u.target(nil, "sqs", "AmazonSQS.SendMessage", map[string]string{"QueueUrl": u.queueURL("ingest"), "MessageBody": "poison"})
	dead := u.queueURL("ingest-dlq")
	return eventually(u.t.Context(), 30*time.Second, func() error {
		var got struct{ Messages []struct{ Body string } }
		u.target(&got, "sqs", "AmazonSQS.ReceiveMessage", map[string]any{"QueueUrl": dead, "VisibilityTimeout": 0})
		if len(got.Messages) != 1 {
			return fmt.Errorf("got %d dead letters, want 1", len(got.Messages))
		}
		return wantText("the dead letter", got.Messages[0].Body, "poison")
	})
}

// schedulesFire waits for the logs of every function with a schedule.
func (u *user) schedulesFire() error {
	return eventually(u.t.Context(), 100*time.Second, func() error {
		var missing []string
		for _, f := range manifest.Functions() {
			if f.Trigger.Schedule == nil {
				continue
			}
			var got struct{ LogStreams []struct{} }
			u.target(&got, "logs", "Logs_20140328.DescribeLogStreams", map[string]string{"logGroupName": "/aws/lambda/ocelot-dev-" + f.Name})
			if len(got.LogStreams) == 0 {
				missing = append(missing, f.Name)
			}
		}
		if len(missing) > 0 {
			return fmt.Errorf("%v did not run, want every schedule to fire", missing)
		}
		return nil
	})
}

// keyRotates does the steps of a rotation, as Secrets Manager would. The emulator stores versions
// of secrets, but does not rotate them.
func (u *user) keyRotates() error {
	const secret = "ocelot/dev/cursor-key"
	current := func() []string {
		var got struct{ SecretString string }
		u.target(&got, "secretsmanager", "secretsmanager.GetSecretValue", map[string]string{"SecretId": secret})
		return strings.Split(got.SecretString, "\n")
	}
	before, version := current(), rand.Text()+rand.Text()
	for _, step := range []string{rotation.StepCreate, rotation.StepSet, rotation.StepTest, rotation.StepFinish} {
		event, err := json.Marshal(map[string]string{"Step": step, "SecretId": secret, "ClientRequestToken": version})
		if err != nil {
			return err
		}
		var failed struct{ ErrorMessage string }
		u.must(&failed, "lambda", http.MethodPost, lambdaFunctions+"ocelot-dev-rotate-cursor-key/invocations?Qualifier=live", nil, event)
		if failed.ErrorMessage != "" {
			return fmt.Errorf("%s: %s", step, failed.ErrorMessage)
		}
	}
	after := current()
	if got, want := len(after), len(before)+1; got != want {
		return fmt.Errorf("the secret has %d keys, want %d", got, want)
	}
	if !slices.Contains(after, before[0]) {
		return errors.New("the key that signed before is not in the secret, want it kept")
	}
	return nil
}

// deletesTenant creates a tenant and starts its deletion. It returns the job's id.
func (u *user) deletesTenant(id string) (job string, err error) {
	if err := u.send(http.MethodPost, "/tenants", u.operator, id, map[string]any{"id": id, "name": "Gone"}, http.StatusCreated, nil); err != nil {
		return "", err
	}
	var answer struct{ ID string }
	err = u.send(http.MethodDelete, "/tenants/"+id, u.operator, id, nil, http.StatusAccepted, &answer)
	return answer.ID, err
}

func (u *user) jobSucceeds(job, tenant string) error {
	return eventually(u.t.Context(), 4*time.Minute, func() error {
		var answer struct{ State string }
		if err := u.send(http.MethodGet, "/jobs/"+job, u.operator, tenant, nil, http.StatusOK, &answer); err != nil {
			return err
		}
		return wantText("the job's state", answer.State, "succeeded")
	})
}

func wantText(what, got, want string) error {
	if got == want {
		return nil
	}
	return errors.New(what + ": got " + got + ", want " + want)
}
