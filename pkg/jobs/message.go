package jobs

import (
	"encoding/json"
	"fmt"

	"github.com/ocelot-audit/ocelot/pkg/audit"
)

// Message asks a worker to continue a job, or to do a task. events/schemas/job.json describes
// its JSON form.
type Message struct {
	Tenant audit.TenantID
	Job    string // its id; empty: the message is a task
	// Generation is that of the job when the message was sent. A message with another
	// generation than the stored job is stale.
	Generation int64

	// Task and its Input are set for a task.
	Task  TaskName
	Input json.RawMessage
}

// messageVersion is the version of the JSON form. A message of a later version waits for
// the release that knows it.
const messageVersion = 1

type messageBody struct {
	Version    int            `json:"v"`
	Tenant     audit.TenantID `json:"tenant"`
	Job        string         `json:"job,omitempty"`
	Generation *int64         `json:"generation,omitempty"`

	Task  TaskName        `json:"task,omitempty"`
	Input json.RawMessage `json:"input,omitempty"`
}

// messageOf returns the message that continues the job.
func messageOf(job *Job) (string, error) {
	return Message{Tenant: job.Tenant, Job: job.ID, Generation: job.Generation}.Encode()
}

// Encode returns the body of a queue message.
func (m Message) Encode() (string, error) {
	b := messageBody{Version: messageVersion, Tenant: m.Tenant, Job: m.Job, Task: m.Task, Input: m.Input}
	if m.Job != "" {
		b.Generation = &m.Generation
	}
	body, err := json.Marshal(b)
	if err != nil {
		return "", fmt.Errorf("encode the message of job %s%s of %s: %w", m.Job, m.Task, m.Tenant, err)
	}
	return string(body), nil
}

// ParseMessage reads the body of a queue message. It returns audit.ErrUnreadable if the
// body is not the JSON form, and another error if its version is unknown.
func ParseMessage(body string) (Message, error) {
	var b messageBody
	if err := json.Unmarshal([]byte(body), &b); err != nil {
		return Message{}, fmt.Errorf("job message: %w: not its JSON form", audit.ErrUnreadable)
	}
	if b.Version != messageVersion {
		return Message{}, fmt.Errorf("job message: version %d, known is %d", b.Version, messageVersion)
	}
	if tenant, err := audit.ParseTenantID(string(b.Tenant)); err != nil || tenant != b.Tenant || (b.Job == "") == (b.Task == "") {
		return Message{}, fmt.Errorf("job message: %w: it names no job or task of a tenant", audit.ErrUnreadable)
	}
	m := Message{Tenant: b.Tenant, Job: b.Job, Task: b.Task, Input: b.Input}
	if b.Generation != nil {
		m.Generation = *b.Generation
	}
	return m, nil
}
