// Command engines fetches the engines that tests start, so that no test waits
// for it. Without arguments it fetches all.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"

	"github.com/ocelot-audit/ocelot/pkg/testkit/enginetest"
)

func main() {
	names := os.Args[1:]
	if len(names) == 0 {
		names = enginetest.Names()
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := enginetest.Fetch(ctx, names...); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
