package jobs

import (
	"encoding/json"
	"fmt"

	"github.com/ocelot-audit/ocelot/pkg/audit"
)

// PurgeMessage is a message of the purge queue: it asks the PurgeWorker to do a
// job of the kind audit.JobPurgeTenant.
type PurgeMessage struct {
	Tenant audit.TenantID
	Job    string // its id
}

// purgeVersion is the only version of the message's form.
const purgeVersion = 1

type purgeBody struct {
	Version int            `json:"v"`
	Tenant  audit.TenantID `json:"tenant"`
	Job     string         `json:"job"`
}

// Encode returns the body of the message.
func (m PurgeMessage) Encode() (string, error) {
	body, err := json.Marshal(purgeBody{Version: purgeVersion, Tenant: m.Tenant, Job: m.Job})
	if err != nil {
		return "", fmt.Errorf("encode purge message: %w", err)
	}
	return string(body), nil
}

// ParsePurgeMessage reads the body of a message. It returns
// audit.ErrUnreadable if the body is not the JSON form, and another error if
// its version is unknown.
func ParsePurgeMessage(body string) (PurgeMessage, error) {
	var b purgeBody
	if err := json.Unmarshal([]byte(body), &b); err != nil {
		return PurgeMessage{}, fmt.Errorf("purge: %w: not its JSON form", audit.ErrUnreadable)
	}
	if b.Version != purgeVersion {
		return PurgeMessage{}, fmt.Errorf("purge: message version %d, known is %d", b.Version, purgeVersion)
	}
	return PurgeMessage{Tenant: b.Tenant, Job: b.Job}, nil
}
