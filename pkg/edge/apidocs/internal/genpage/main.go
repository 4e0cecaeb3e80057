// Command genpage writes the documentation page to the file named by its argument.
package main

import (
	"fmt"
	"os"

	"github.com/ocelot-audit/ocelot/pkg/edge/apidocs/internal/page"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: genpage FILE")
		os.Exit(2)
	}
	if err := write(os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, "genpage:", err)
		os.Exit(1)
	}
}

func write(file string) error {
	text, err := page.Render()
	if err != nil {
		return err
	}
	return os.WriteFile(file, text, 0o644)
}
