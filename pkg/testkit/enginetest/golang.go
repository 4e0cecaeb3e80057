package enginetest

import (
	"context"
	_ "embed"
	"fmt"
	"os"
	"path/filepath"
)

//go:embed testdata/s3/main.go
var s3Source []byte

// golang runs engines that are Go programs. Their artifacts are modules (path and version, as
// in go.mod).
type golang struct{}

func (golang) ready(cache string, k kind) bool { return exists(k.binary(cache)) }

func (golang) command(cache string, k kind) []string { return []string{k.binary(cache)} }

// fetch builds the programs. The modules determine the versions of their dependencies.
func (golang) fetch(ctx context.Context, cache, staging string, absent []kind) error {
	for _, k := range absent {
		from := filepath.Join(staging, k.name)
		if err := os.MkdirAll(filepath.Join(from, "bin"), 0o755); err != nil {
			return err
		}
		module := "module engine\n\ngo 1.26\n"
		for _, artifact := range k.artifacts {
			module += fmt.Sprintf("\nrequire %s\n", artifact)
		}
		for name, text := range map[string][]byte{"go.mod": []byte(module), "main.go": k.source} {
			if err := os.WriteFile(filepath.Join(from, name), text, 0o644); err != nil {
				return err
			}
		}
		if err := run(ctx, from, "go", "build", "-mod=mod", "-trimpath", "-ldflags", "-s -w", "-o", filepath.Join("bin", k.name), "."); err != nil {
			return err
		}
		if err := place(filepath.Join(from, "bin"), filepath.Dir(k.binary(cache))); err != nil {
			return err
		}
	}
	return nil
}

// binary returns the path of an engine's program.
func (k kind) binary(cache string) string {
	return filepath.Join(k.mainFolder(cache, "bin", k.source), k.name)
}
