// Command generate writes the SAM template to the file it is given.
package main

import (
	"log"
	"os"

	"github.com/ocelot-audit/ocelot/pkg/samtemplate"
)

func main() {
	text, err := samtemplate.Template()
	if err != nil {
		log.Fatal(err)
	}
	if err := os.WriteFile(os.Args[1], text, 0o644); err != nil {
		log.Fatal(err)
	}
}
