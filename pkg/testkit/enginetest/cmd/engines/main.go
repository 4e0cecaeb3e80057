// Command engines fetches the engines that tests start, so that no test waits
// for it. Without arguments it fetches all.
//
//	engines [name…]
//	engines with name… -- command…
//
// The second form starts the engines, runs the command with the variables that name them, and
// ends them.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"slices"

	"github.com/ocelot-audit/ocelot/pkg/testkit/enginetest"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	if len(args) > 0 && args[0] == "with" {
		return runWith(ctx, args[1:])
	}
	if len(args) == 0 {
		args = enginetest.Names()
	}
	return enginetest.Fetch(ctx, args...)
}

// runWith runs what follows "--" with the engines before it.
func runWith(ctx context.Context, args []string) error {
	i := slices.Index(args, "--")
	if i < 0 || i+1 == len(args) {
		return errors.New("no command after --")
	}
	command := exec.CommandContext(ctx, args[i+1], args[i+2:]...)
	command.Stdin, command.Stdout, command.Stderr = os.Stdin, os.Stdout, os.Stderr
	command.Cancel = func() error { return command.Process.Signal(os.Interrupt) }
	return enginetest.RunWith(ctx, args[:i], command)
}
