// Command genpostman writes the Postman collection of the API to the file named by its argument.
package main

import (
	"fmt"
	"os"

	"github.com/ocelot-audit/ocelot/pkg/edge/apispec"
	"github.com/ocelot-audit/ocelot/pkg/edge/apispec/internal/postman"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: genpostman FILE")
		os.Exit(2)
	}
	collection, err := postman.Collection(apispec.OpenAPI())
	if err == nil {
		err = os.WriteFile(os.Args[1], collection, 0o644)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "genpostman:", err)
		os.Exit(1)
	}
}
