package protect_test

import (
	"testing"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/entryjson"
	"github.com/ocelot-audit/ocelot/pkg/protect"
)

// sample is an entry of about one KB, as an order service would send it.
const sample = `{"user_id":"user-17","session_id":"s-8f14e45fceea167a","request_id":"req-1017","action":"UPDATE","resource_type":"order","resource_id":"order-1017","timestamp":"2026-11-23T10:00:00.017Z","ip_address":"203.0.113.7","user_agent":"Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36","before_state":{"status":"pending","total":129.90,"items":[{"sku":"A-1","qty":2},{"sku":"B-7","qty":1}],"customer":{"id":"c-77","tier":"gold"}},"after_state":{"status":"paid","total":129.90,"items":[{"sku":"A-1","qty":2},{"sku":"B-7","qty":1}],"customer":{"id":"c-77","tier":"gold"}},"metadata":{"region":"eu-central-1","service":"checkout","version":"4.18.2","trace":"4bf92f3577b34da6a3ce929d0e0e4736","flags":{"beta":true,"retry":false},"latency_ms":42},"severity":"INFO","message":"Order 1017 was paid by card and confirmed to the customer by e-mail","idempotency_key":"k-1017"}`

func BenchmarkRemoveSecrets(b *testing.B) {
	parsed, invalid := entryjson.ParseSubmitted([]byte(sample))
	if invalid != nil {
		b.Fatalf("got %v, want no fault", invalid)
	}
	secret := parsed.Entry
	secret.Metadata = append(audit.Object(`{"password":"x",`), parsed.Metadata[1:]...)
	for name, test := range map[string]struct {
		entry    audit.Entry
		settings audit.Settings
	}{
		"no secret": {parsed.Entry, audit.Settings{RemoveSecrets: true}},
		"a secret":  {secret, audit.Settings{RemoveSecrets: true}},
		"detectors": {parsed.Entry, audit.Settings{RemoveSecrets: true, Detect: audit.Detectors()}},
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				entry := test.entry
				if invalid := protect.RemoveSecrets(&test.settings, &entry); invalid != nil {
					b.Fatalf("got %v, want no fault", invalid)
				}
			}
		})
	}
}
