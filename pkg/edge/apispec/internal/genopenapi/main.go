// Command genopenapi writes the OpenAPI document to the file named by its argument.
package main

import (
	"fmt"
	"os"

	"github.com/ocelot-audit/ocelot/pkg/edge/apispec"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: genopenapi FILE")
		os.Exit(2)
	}
	if err := os.WriteFile(os.Args[1], apispec.OpenAPI(), 0o644); err != nil {
		fmt.Fprintln(os.Stderr, "genopenapi:", err)
		os.Exit(1)
	}
}
