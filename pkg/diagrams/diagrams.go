// Package diagrams draws the functions of the manifest: how messages flow between them, and what
// each of them may touch. The drawings are SVG files that follow the reader's light or dark mode.
package diagrams

import "github.com/ocelot-audit/ocelot/pkg/manifest"

//go:generate go run ./internal/generate ../../docs/diagrams

// Files returns the drawings by their file names. They are the same every time.
func Files() map[string][]byte {
	functions := manifest.Functions()
	return map[string][]byte{
		"flow.svg":   Flow(functions, manifest.Queues()),
		"rights.svg": Rights(functions),
	}
}
