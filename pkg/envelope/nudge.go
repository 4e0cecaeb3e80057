package envelope

import (
	"encoding/json"
	"fmt"

	"github.com/ocelot-audit/ocelot/pkg/audit"
)

// NudgeVersion is the version of the messages that PackNudge writes.
const NudgeVersion = 1

// nudge is the JSON form of a message of the queue stream. Its JSON Schema is
// events/schemas/nudge.json.
type nudge struct {
	Version int            `json:"v"`
	Tenant  audit.TenantID `json:"tenant"`
}

// PackNudge returns the message that asks to look for what the tenant's subscribers have not
// received.
func PackNudge(tenant audit.TenantID) (string, error) {
	body, err := json.Marshal(nudge{Version: NudgeVersion, Tenant: tenant})
	if err != nil {
		return "", fmt.Errorf("pack a nudge of %s: %w", tenant, err)
	}
	return string(body), nil
}

// UnpackNudge reads a message of PackNudge. It returns audit.ErrUnreadable or ErrVersion if it
// cannot.
func UnpackNudge(body string) (audit.TenantID, error) {
	var m nudge
	if err := json.Unmarshal([]byte(body), &m); err != nil {
		return "", fmt.Errorf("%w: not the JSON form of a nudge", audit.ErrUnreadable)
	}
	if err := checkHead(m.Version, NudgeVersion, m.Tenant); err != nil {
		return "", err
	}
	return m.Tenant, nil
}
