package enginetest

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
)

// fetchTimeout bounds one fetch of all engines. 250 MB take seconds from a near registry, and
// building the S3 server takes one or two minutes on two processors.
const fetchTimeout = 15 * time.Minute

// runtime fetches and starts engines of one platform.
type runtime interface {
	// ready reports whether the engine can be started from the cache.
	ready(cache string, k kind) bool
	// fetch downloads engines of this runtime into the cache through the staging folder.
	fetch(ctx context.Context, cache, staging string, absent []kind) error
	// command returns the command that runs a cached engine. The ports and the data folder are
	// its further arguments.
	command(cache string, k kind) []string
}

// folder returns the cache folder of the engine.
func (k kind) folder(cache string) string { return filepath.Join(cache, k.name+"-"+k.version) }

// mainFolder returns the cache folder of the compiled main program. Its name is a hash of the
// source, so that a changed program is compiled again.
func (k kind) mainFolder(cache, name string, sources ...[]byte) string {
	sum := sha256.Sum256(bytes.Join(sources, nil))
	return filepath.Join(k.folder(cache), fmt.Sprintf("%s-%x", name, sum[:6]))
}

// Fetch downloads the named engines into the cache in parallel. It skips engines that are
// cached. Concurrent processes wait for each other. It needs java, javac and mvn, go, or
// python3 with venv, depending on the engine.
func Fetch(ctx context.Context, names ...string) error {
	var wanted []kind
	for _, name := range names {
		i := slices.IndexFunc(kinds(), func(k kind) bool { return k.name == name })
		if i < 0 {
			return fmt.Errorf("fetch engine %q: there are %s", name, strings.Join(Names(), ", "))
		}
		wanted = append(wanted, kinds()[i])
	}
	return fetch(ctx, wanted)
}

// fetch is Fetch with kinds instead of names.
func fetch(ctx context.Context, wanted []kind) error {
	cache, err := cacheFolder()
	if err != nil {
		return err
	}
	if len(missing(cache, wanted)) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, fetchTimeout)
	defer cancel()
	if err := os.MkdirAll(cache, 0o755); err != nil {
		return fmt.Errorf("fetch engines: %w", err)
	}
	unlock, err := lock(ctx, filepath.Join(cache, "lock"))
	if err != nil {
		return fmt.Errorf("fetch engines: %w", err)
	}
	defer unlock()
	absent := missing(cache, wanted) // another process may have been quicker
	if len(absent) == 0 {
		return nil
	}
	// Move a partial download of a killed process aside.
	staging, err := os.MkdirTemp(cache, "staging-")
	if err != nil {
		return fmt.Errorf("fetch engines: %w", err)
	}
	err = errors.Join(fetchInto(ctx, cache, staging, absent), os.RemoveAll(staging))
	if err != nil {
		return fmt.Errorf("fetch engines: %w", err)
	}
	return nil
}

// fetchInto downloads the parts of each runtime into the staging folder and moves them into
// the cache when they are complete.
func fetchInto(ctx context.Context, cache, staging string, absent []kind) error {
	byRuntime := map[runtime][]kind{}
	for _, k := range absent {
		byRuntime[k.runtime] = append(byRuntime[k.runtime], k)
	}
	group, ctx := errgroup.WithContext(ctx)
	for r, kinds := range byRuntime {
		group.Go(func() error { return r.fetch(ctx, cache, staging, kinds) })
	}
	return group.Wait()
}

// place moves a complete folder to its path in the cache.
func place(from, to string) error {
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		return err
	}
	return os.Rename(from, to)
}

func run(ctx context.Context, folder, program string, args ...string) error {
	var output bytes.Buffer
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = folder, &output, &output
	cmd.WaitDelay = 5 * time.Second
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%s: %w\n%s", program, err, tail(output.Bytes()))
	}
	return nil
}

func missing(cache string, wanted []kind) []kind {
	var absent []kind
	for _, k := range wanted {
		if !k.runtime.ready(cache, k) {
			absent = append(absent, k)
		}
	}
	return absent
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// cacheFolder returns the folder in which engines are cached between runs.
func cacheFolder() (string, error) {
	base := os.Getenv("XDG_CACHE_HOME")
	if base == "" {
		home, err := os.UserHomeDir()
		if err != nil {
			return "", fmt.Errorf("find the cache folder: %w", err)
		}
		base = filepath.Join(home, ".cache")
	}
	return filepath.Join(base, "ocelot", "engines"), nil
}
