package jobs

import (
	"encoding/json"
	"fmt"

	"github.com/ocelot-audit/ocelot/pkg/audit"
)

// Message asks a worker to continue a job. events/schemas/job.json describes its JSON form.
type Message struct {
	Tenant audit.TenantID
	Job    string // its id
	// Generation is that of the job when the message was sent. A message with another
	// generation than the stored job is stale.
	Generation int64
}

// messageVersion is the version of the JSON form. A message of a later version waits for
// the release that knows it.
const messageVersion = 1

type messageBody struct {
	Version    int            `json:"v"`
	Tenant     audit.TenantID `json:"tenant"`
	Job        string         `json:"job"`
	Generation int64          `json:"generation"`
}

// messageOf returns the message that continues the job.
func messageOf(job *Job) (string, error) {
	return Message{Tenant: job.Tenant, Job: job.ID, Generation: job.Generation}.Encode()
}

// Encode returns the body of a queue message.
func (m Message) Encode() (string, error) {
	body, err := json.Marshal(messageBody{Version: messageVersion, Tenant: m.Tenant, Job: m.Job, Generation: m.Generation})
	if err != nil {
		return "", fmt.Errorf("encode the message of job %s of %s: %w", m.Job, m.Tenant, err)
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
	return Message{Tenant: b.Tenant, Job: b.Job, Generation: b.Generation}, nil
}
