// Command generate writes the diagrams to the folder that it is given.
package main

import (
	"log"
	"os"
	"path/filepath"

	"github.com/ocelot-audit/ocelot/pkg/diagrams"
)

func main() {
	for name, drawing := range diagrams.Files() {
		if err := os.WriteFile(filepath.Join(os.Args[1], name), drawing, 0o644); err != nil {
			log.Fatal(err)
		}
	}
}
