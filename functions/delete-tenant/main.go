// Command delete-tenant is the Lambda whose task is to remove a tenant from every store.
package main

import (
	"context"
	"log"

	"github.com/ocelot-audit/ocelot/pkg/edge/httpapi"
	"github.com/ocelot-audit/ocelot/pkg/edge/lambdaedge"
	"github.com/ocelot-audit/ocelot/pkg/wiring/fromenv"
)

func main() {
	services, err := fromenv.Services(context.Background())
	if err != nil {
		log.Fatal(err)
	}
	lambdaedge.StartHTTP(httpapi.DeleteTenant(services.Gate(), services.Tenants()))
}
