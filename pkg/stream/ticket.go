package stream

import (
	"fmt"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/ocelot-audit/ocelot/pkg/access"
	"github.com/ocelot-audit/ocelot/pkg/audit"
)

const (
	// TicketTTL is how long a ticket is valid.
	TicketTTL = time.Minute
	// MaxTicketBytes is the maximum length of a ticket. API Gateway limits a WebSocket URL
	// to 4,096 characters. That leaves 512 for the address and the parameter's name.
	MaxTicketBytes = 4096 - 512
)

// ticketList is the list name for which tickets are signed. No cursor has it.
const ticketList = "stream ticket"

// ticket is the signed content of a ticket.
type ticket struct {
	Principal access.Principal `json:"p"`
	Tenant    audit.TenantID   `json:"t"`
	Until     int64            `json:"u"` // Unix milliseconds
}

// Ticket returns a text with which a client that cannot set headers can connect within
// TicketTTL. It carries the principal's rights in the tenant. It returns an
// *audit.ValidationError if the principal is restricted to too many resources for a
// ticket of MaxTicketBytes.
func (s *Service) Ticket(principal access.Principal, tenant audit.TenantID) (text string, until time.Time, err error) {
	until = s.Now().Add(TicketTTL)
	payload, err := json.Marshal(ticket{
		Principal: principal.Within(tenant, access.LogsStream), Tenant: tenant, Until: until.UnixMilli(),
	})
	if err != nil {
		return "", time.Time{}, fmt.Errorf("ticket: %w", err)
	}
	text = s.Cursors.Sign(ticketList, payload)
	if len(text) > MaxTicketBytes {
		return "", time.Time{}, audit.Invalid("Header: Authorization", "too_long",
			"must be narrowed to fewer resources for a ticket: with them it has %d bytes, and may have %d", len(text), MaxTicketBytes)
	}
	return text, until, nil
}

// Redeem returns the principal and the tenant of a ticket. It returns
// audit.ErrUnauthenticated if the ticket is forged or expired.
func (s *Service) Redeem(text string) (access.Principal, audit.TenantID, error) {
	payload, err := s.Cursors.ParseRecent(ticketList, text)
	if err != nil {
		return access.Principal{}, "", fmt.Errorf("ticket: %w", audit.ErrUnauthenticated)
	}
	var t ticket
	if err := json.Unmarshal(payload, &t); err != nil || s.Now().UnixMilli() >= t.Until {
		return access.Principal{}, "", fmt.Errorf("ticket: not good any more: %w", audit.ErrUnauthenticated)
	}
	return t.Principal, t.Tenant, nil
}
