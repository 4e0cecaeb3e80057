package main

import (
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/alecthomas/kong"
)

// version is set by the linker, as make build and make release do.
var version string

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
	return fmt.Sprintf("ocelot %s %s %s/%s", buildVersion(), runtime.Version(), runtime.GOOS, runtime.GOARCH)
}

// buildVersion is the version of the build, otherwise the module's version as the Go tool
// recorded it.
func buildVersion() string {
	if version != "" {
		return version
	}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "(unknown)"
	}
	module := info.Main.Version
	if module == "" {
		module = "(devel)"
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" && module == "(devel)" {
			module += " " + s.Value[:min(12, len(s.Value))]
		}
	}
	return module
}
