package enginetest

import (
	"context"
	_ "embed"
	"os"
	"path/filepath"
)

//go:embed testdata/aws/main.py
var awsSource []byte

//go:embed testdata/parquet/main.py
var parquetSource []byte

// python runs engines whose artifacts are packages of the Python package index
// (name==version).
type python struct{}

func (python) ready(cache string, k kind) bool {
	return exists(k.venv(cache)) && exists(k.script(cache))
}

func (python) command(cache string, k kind) []string {
	return []string{filepath.Join(k.venv(cache), "bin", "python"), k.script(cache)}
}

// fetch makes a virtual environment for each engine. The environment can be moved.
func (python) fetch(ctx context.Context, cache, staging string, absent []kind) error {
	for _, k := range absent {
		if !exists(k.venv(cache)) {
			venv := filepath.Join(staging, k.name+"-venv")
			if err := run(ctx, staging, "python3", "-m", "venv", venv); err != nil {
				return err
			}
			args := append([]string{"-m", "pip", "install", "--quiet", "--disable-pip-version-check"}, k.artifacts...)
			if err := run(ctx, staging, filepath.Join(venv, "bin", "python"), args...); err != nil {
				return err
			}
			if err := place(venv, k.venv(cache)); err != nil {
				return err
			}
		}
		if err := placeScript(staging, cache, k); err != nil {
			return err
		}
	}
	return nil
}

func placeScript(staging, cache string, k kind) error {
	if exists(k.script(cache)) {
		return nil
	}
	from := filepath.Join(staging, k.name+"-main")
	if err := os.MkdirAll(from, 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(from, "main.py"), k.source, 0o644); err != nil {
		return err
	}
	return place(from, filepath.Dir(k.script(cache)))
}

// venv returns the virtual environment of an engine.
func (k kind) venv(cache string) string { return filepath.Join(k.folder(cache), "venv") }

// script returns the main program of an engine.
func (k kind) script(cache string) string {
	return filepath.Join(k.mainFolder(cache, "main", k.source), "main.py")
}
