package client

import (
	"context"
	"encoding/json"
	"net/url"
)

// Job is work that the service does after a request.
type Job struct {
	ID       string  `json:"id"`
	Kind     string  `json:"kind"`
	State    string  `json:"state"`
	Progress float64 `json:"progress"` // 0 to 1
	Count    int64   `json:"count"`    // entries handled so far
	// CreatedAt is when it was created, as the service spells it.
	CreatedAt string `json:"created_at"`
	// ArchiveCount counts the entries that a cleanup has removed from the archive; nil: it was not to.
	ArchiveCount *int64 `json:"archive_count"`
	Error        string `json:"error"` // why it failed
}

// Finished reports whether the job does no more.
func (j Job) Finished() bool { return j.State != "queued" && j.State != "running" }

// Job returns GET /jobs/{id}, and the text of the answer.
func (c *Client) Job(ctx context.Context, id string) (j Job, answer json.RawMessage, err error) {
	if answer, err = c.Read(ctx, "jobs/"+url.PathEscape(id), nil); err == nil {
		err = decode("job", answer, &j)
	}
	return j, answer, err
}
