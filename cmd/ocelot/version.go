package main

import (
	"fmt"
	"runtime"

	"github.com/alecthomas/kong"

	"github.com/ocelot-audit/ocelot/pkg/version"
)

type versionCmd struct{}

// Run prints the version.
func (versionCmd) Run(con *console) error {
	_, err := fmt.Fprintln(con.out, versionLine())
	return err
}

// versionFlag prints the version wherever it stands.
type versionFlag bool

// BeforeReset prints the version and ends the program, before the rest of the command line is
// judged.
func (versionFlag) BeforeReset(app *kong.Kong) error {
	if _, err := fmt.Fprintln(app.Stdout, versionLine()); err != nil {
		return err
	}
	app.Exit(exitOK)
	return nil
}

func versionLine() string {
	return fmt.Sprintf("ocelot %s %s %s/%s", version.Build(), runtime.Version(), runtime.GOOS, runtime.GOARCH)
}
