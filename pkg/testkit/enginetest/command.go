package enginetest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
)

// RunWith starts the engines with these names and runs a command whose environment names them.
// It ends the engines when the command has ended. An engine that the environment names already
// is not started.
func RunWith(ctx context.Context, names []string, command *exec.Cmd) (failure error) {
	command.Env = os.Environ()
	for _, name := range names {
		i := slices.IndexFunc(kinds(), func(k kind) bool { return k.name == name && k.variable != "" })
		if i < 0 {
			return fmt.Errorf("start engine %q: there are %s", name, strings.Join(Names(), ", "))
		}
		k := kinds()[i]
		if os.Getenv(k.variable) != "" {
			continue
		}
		engine, err := start(k)
		if err != nil {
			return err
		}
		defer func() { failure = errors.Join(failure, engine.remove()) }()
		command.Env = append(command.Env, k.variable+"="+engine.URL())
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := command.Run(); err != nil {
		return fmt.Errorf("%s: %w", command, err)
	}
	return nil
}
