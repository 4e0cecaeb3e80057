package audit

import "time"

// JobKind is what a job does.
type JobKind string

// JobPurgeTenant removes a tenant from every store.
const JobPurgeTenant JobKind = "purge_tenant"

// JobState is the state of a job.
type JobState string

// The states of a job.
const (
	JobQueued    JobState = "queued"
	JobRunning   JobState = "running"
	JobSucceeded JobState = "succeeded"
	JobFailed    JobState = "failed"
)

// Job is work that continues after the request that started it.
type Job struct {
	ID        string    `json:"id"`
	Kind      JobKind   `json:"kind"`
	Tenant    TenantID  `json:"tenant_id"`
	State     JobState  `json:"state"`
	Progress  float64   `json:"progress"` // 0 to 1
	Count     int64     `json:"count"`    // entries handled so far
	CreatedAt time.Time `json:"created_at"`
	UpdatedAt time.Time `json:"updated_at"`
	Error     string    `json:"error,omitempty"`
}
