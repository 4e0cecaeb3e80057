package envelope

import (
	"encoding/json"
	"fmt"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/trace"
)

// NudgeVersion is the version of the messages that PackNudge writes.
const NudgeVersion = 1

// nudge is the JSON form of a message of the queue stream. Its JSON Schema is
// events/schemas/nudge.json.
type nudge struct {
	Version int            `json:"v"`
	Tenant  audit.TenantID `json:"tenant"`
	Traces  traces         `json:"traces,omitempty"`
}

// maxNudgeTraces bounds the traces of a nudge, so that it is one billed chunk.
const maxNudgeTraces = 500

// PackNudge returns the message that asks to look for what the tenant's subscribers have not
// received. It names up to 500 of the traces that brought it.
func PackNudge(tenant audit.TenantID, traces ...trace.Trace) (string, error) {
	body, err := json.Marshal(nudge{Version: NudgeVersion, Tenant: tenant, Traces: traces[:min(len(traces), maxNudgeTraces)]})
	if err != nil {
		return "", fmt.Errorf("pack a nudge of %s: %w", tenant, err)
	}
	return string(body), nil
}

// UnpackNudge reads a message of PackNudge. It returns audit.ErrUnreadable or ErrVersion if it
// cannot.
func UnpackNudge(body string) (audit.TenantID, []trace.Trace, error) {
	var m nudge
	if err := json.Unmarshal([]byte(body), &m); err != nil {
		return "", nil, fmt.Errorf("%w: not the JSON form of a nudge", audit.ErrUnreadable)
	}
	if err := checkHead(m.Version, NudgeVersion, m.Tenant); err != nil {
		return "", nil, err
	}
	return m.Tenant, m.Traces, nil
}
