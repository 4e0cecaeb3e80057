package lambdaedge

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/aws/aws-lambda-go/events"

	"github.com/ocelot-audit/ocelot/pkg/access"
	"github.com/ocelot-audit/ocelot/pkg/audit"
)

// principalKey is the member of the authorizer's context that has the principal as JSON text.
const principalKey = "principal"

// parsePrincipal returns the principal that Authorizer put into the request's context.
// known is false if no authorizer ran.
func parsePrincipal(event events.APIGatewayProxyRequest) (p access.Principal, known bool, err error) {
	value, ok := event.RequestContext.Authorizer[principalKey]
	if !ok {
		return access.Principal{}, false, nil
	}
	text, isText := value.(string)
	if !isText {
		return access.Principal{}, false, fmt.Errorf("it is a %T, want a string", value)
	}
	if err := json.Unmarshal([]byte(text), &p); err != nil {
		return access.Principal{}, false, fmt.Errorf("parse its JSON: %w", err)
	}
	p.Grants = separated(p.Grants)
	if p.Subject == "" {
		return access.Principal{}, false, fmt.Errorf("it has no subject")
	}
	return p, true, nil
}

// tenantSeparator stands between tenants with the same permissions. No tenant's id has it.
const tenantSeparator = ","

// formatPrincipal returns the JSON text that parsePrincipal reads. Tenants with the same
// permissions share them ("acme,globex": […]), because the text has to fit into a few KB.
func formatPrincipal(p access.Principal) (string, error) {
	p.Grants = joined(p.Grants)
	text, err := json.Marshal(p)
	if err != nil {
		return "", fmt.Errorf("principal %s as JSON: %w", p.Subject, err)
	}
	return string(text), nil
}

func joined(grants map[audit.TenantID][]access.Permission) map[audit.TenantID][]access.Permission {
	tenants := map[string][]string{} // by their permissions
	for _, id := range slices.Sorted(maps.Keys(grants)) {
		key := fmt.Sprint(grants[id])
		tenants[key] = append(tenants[key], string(id))
	}
	shared := make(map[audit.TenantID][]access.Permission, len(tenants))
	for _, ids := range tenants {
		shared[audit.TenantID(strings.Join(ids, tenantSeparator))] = grants[audit.TenantID(ids[0])]
	}
	return shared
}

func separated(shared map[audit.TenantID][]access.Permission) map[audit.TenantID][]access.Permission {
	grants := make(map[audit.TenantID][]access.Permission, len(shared))
	for ids, permissions := range shared {
		for id := range strings.SplitSeq(string(ids), tenantSeparator) {
			grants[audit.TenantID(id)] = permissions
		}
	}
	return grants
}
