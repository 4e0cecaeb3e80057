package stream

import (
	"fmt"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/ocelot-audit/ocelot/pkg/access"
	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/cursor"
)

// TicketTTL is how long a ticket opens a connection.
const TicketTTL = time.Minute

// ticketList is the list that tickets are signed for, which no cursor is.
const ticketList = "stream ticket"

// ticket is what a ticket carries.
type ticket struct {
	Principal access.Principal `json:"p"`
	Tenant    audit.TenantID   `json:"t"`
	Until     int64            `json:"u"` // Unix milliseconds
}

// Ticket returns a text with which a client that cannot set headers connects
// within TicketTTL. It stands for what the principal may listen to in the tenant;
// an *audit.ValidationError where that is narrowed to too many resources for a text.
func (s *Service) Ticket(principal access.Principal, tenant audit.TenantID) (text string, until time.Time, err error) {
	until = s.Now().Add(TicketTTL)
	payload, err := json.Marshal(ticket{
		Principal: principal.Within(tenant, access.LogsStream, access.LogsReadSensitive), Tenant: tenant, Until: until.UnixMilli(),
	})
	if err != nil {
		return "", time.Time{}, fmt.Errorf("ticket: %w", err)
	}
	if len(payload) > cursor.MaxPayload {
		return "", time.Time{}, audit.Invalid("Header: Authorization", "too_long", "must be narrowed to fewer resources for a ticket: it holds at most %d bytes of them", cursor.MaxPayload)
	}
	return s.Cursors.Sign(ticketList, payload), until, nil
}

// Redeem returns whom a ticket stands for; audit.ErrUnauthenticated where it is
// no ticket, or not one any more.
func (s *Service) Redeem(text string) (access.Principal, audit.TenantID, error) {
	payload, err := s.Cursors.Parse(ticketList, text)
	if err != nil {
		return access.Principal{}, "", fmt.Errorf("ticket: %w", audit.ErrUnauthenticated)
	}
	var t ticket
	if err := json.Unmarshal(payload, &t); err != nil || s.Now().UnixMilli() >= t.Until {
		return access.Principal{}, "", fmt.Errorf("ticket: not good any more: %w", audit.ErrUnauthenticated)
	}
	return t.Principal, t.Tenant, nil
}
