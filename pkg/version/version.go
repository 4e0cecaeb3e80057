// Package version knows the version of the running program.
package version

import "runtime/debug"

// linked is set by the linker, as make build, make lambdas and make release do.
var linked string

// LinkerFlag returns the flag of go build's -ldflags that gives a program the version.
func LinkerFlag(version string) string {
	return "-X 'github.com/ocelot-audit/ocelot/pkg/version.linked=" + version + "'"
}

// Build returns the version of the build, else the module's version as the Go tool recorded it.
func Build() string {
	if linked != "" {
		return linked
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
