package localcloud

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/access"
	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/ingest"
	"github.com/ocelot-audit/ocelot/pkg/tenants"
)

// DemoTenant is the tenant that the first start creates, with demo entries.
const DemoTenant audit.TenantID = "demo"

const (
	demoEntries = 500
	demoSpan    = 14 * 24 * time.Hour // before the tenant's creation
)

// seed creates the demo tenant and its entries. Repeating it adds nothing: the entries follow
// from the tenant's creation time and have idempotency keys.
func seed(ctx context.Context, administration *tenants.Service, store tenants.Store, accept *ingest.Service) error {
	by := access.Principal{Subject: "ocelot"}
	settings := audit.DefaultSettings()
	settings.RetentionDays = 0 // the demo entries and the README's stay good however old they get
	_, err := administration.Create(ctx, by, audit.Tenant{ID: DemoTenant, Name: "Demo shop", Settings: settings})
	if err != nil && !errors.Is(err, audit.ErrConflict) {
		return fmt.Errorf("create the demo tenant: %w", err)
	}
	tenant, err := store.Tenant(ctx, DemoTenant)
	if errors.Is(err, audit.ErrNotFound) || err == nil && tenant.Status != audit.TenantActive {
		return nil // it was deleted, and stays so
	}
	if err != nil {
		return fmt.Errorf("read the demo tenant: %w", err)
	}
	outcomes, err := accept.Submit(ctx, tenant, ingest.Origin{}, demoTexts(tenant.CreatedAt))
	if err != nil {
		return fmt.Errorf("submit the demo entries: %w", err)
	}
	for i, o := range outcomes {
		if o.Status == ingest.Rejected {
			return fmt.Errorf("demo entry %d: %w", i, o.Err)
		}
	}
	return nil
}

// demoTexts returns entries of an online shop, all before end.
func demoTexts(end time.Time) [][]byte {
	random := rand.New(rand.NewPCG(uint64(end.UnixMilli()), 2026))
	texts := make([][]byte, demoEntries)
	for i := range texts {
		entry := demoStory(random, i)
		age := time.Duration(float64(demoSpan) * (1 - float64(i)/demoEntries) * (0.98 + 0.02*random.Float64()))
		entry["timestamp"] = end.Add(-age).UTC().Format(time.RFC3339Nano)
		entry["idempotency_key"] = fmt.Sprintf("demo-%03d", i)
		text, err := json.Marshal(entry)
		if err != nil {
			panic(err) // strings, numbers and maps only
		}
		texts[i] = text
	}
	return texts
}

type fields = map[string]any

var (
	demoPeople  = []string{"ann.lee", "bo.chen", "carla.diaz", "dev.patel", "eva.novak", "finn.berg"}
	demoAgents  = []string{"Mozilla/5.0 (Macintosh; Intel Mac OS X 14_5) Safari/605.1.15", "Mozilla/5.0 (Windows NT 10.0) Firefox/128.0", "shop-backend/4.18.2"}
	demoRegions = []string{"eu-central-1", "eu-west-1", "us-east-1"}
)

// demoStory returns the entries without their times.
func demoStory(random *rand.Rand, i int) fields {
	pick := func(from []string) string { return from[random.IntN(len(from))] }
	person := pick(demoPeople)
	entry := fields{
		"user_id": person, "session_id": fmt.Sprintf("s-%08x", random.Uint32()), "request_id": fmt.Sprintf("req-%08x", random.Uint32()),
		"ip_address": fmt.Sprintf("203.0.113.%d", 1+random.IntN(40)), "user_agent": pick(demoAgents),
		"metadata": fields{"region": pick(demoRegions), "service": "shop", "latency_ms": 3 + random.IntN(200)},
	}
	order := fmt.Sprintf("order-%d", 1000+random.IntN(200))
	switch n := random.IntN(100); {
	case i == demoEntries-1: // the newest one is worth a look
		return with(entry, fields{"action": "role.grant", "resource_type": "user", "resource_id": "finn.berg", "severity": "CRITICAL",
			"message":      "Role admin granted to finn.berg outside of the change window",
			"before_state": fields{"roles": []string{"support"}}, "after_state": fields{"roles": []string{"support", "admin"}}})
	case n < 30:
		return with(entry, fields{"action": "VIEW", "resource_type": "order", "resource_id": order,
			"message": "Order " + order + " was opened"})
	case n < 55:
		return with(entry, fields{"action": "UPDATE", "resource_type": "order", "resource_id": order,
			"message":      "Order " + order + " was paid by card",
			"before_state": fields{"status": "pending", "total": 129.9}, "after_state": fields{"status": "paid", "total": 129.9}})
	case n < 65:
		return with(entry, fields{"action": "CREATE", "resource_type": "order", "resource_id": order,
			"message": "Order " + order + " was placed", "after_state": fields{"status": "pending", "total": 129.9}})
	case n < 80:
		return with(entry, fields{"action": "user.login", "resource_type": "user", "resource_id": person,
			"message": person + " signed in with a passkey"})
	case n < 88:
		return with(entry, fields{"action": "user.login", "resource_type": "user", "resource_id": person, "severity": "WARNING",
			"message": "Sign-in of " + person + " failed: wrong one-time code"})
	case n < 94:
		return with(entry, fields{"action": "invoice.export", "resource_type": "invoice", "resource_id": fmt.Sprintf("inv-%d", 400+random.IntN(90)),
			"message": "Invoices of the quarter were exported"})
	case n < 98:
		return with(entry, fields{"action": "payment.capture", "resource_type": "payment", "resource_id": fmt.Sprintf("pay-%d", random.IntN(900)), "severity": "ERROR",
			"message": "Payment failed: the card issuer declined it"})
	default:
		return with(entry, fields{"action": "DELETE", "resource_type": "customer", "resource_id": fmt.Sprintf("cust-%d", random.IntN(300)), "severity": "WARNING",
			"message":      "Customer record deleted on request",
			"before_state": fields{"consent": true, "tier": "gold"}})
	}
}

func with(entry, more fields) fields {
	for name, value := range more {
		entry[name] = value
	}
	return entry
}
