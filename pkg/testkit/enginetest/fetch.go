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

// fetchTimeout bounds one fetch of all engines; 250 MB take seconds where the registry is near,
// and building the S3 server takes a minute or two of two processors.
const fetchTimeout = 15 * time.Minute

// runtime is what runs an engine: it knows how the engine's parts are had and started.
type runtime interface {
	// ready reports whether the engine can be started from the cache.
	ready(cache string, k kind) bool
	// fetch gets engines of this runtime into the cache, by way of the staging folder.
	fetch(ctx context.Context, cache, staging string, absent []kind) error
	// command returns the command that runs an engine of the cache; its ports and its folder follow.
	command(cache string, k kind) []string
}

// folder is where the cache keeps the engine.
func (k kind) folder(cache string) string { return filepath.Join(cache, k.name+"-"+k.version) }

// mainFolder is where what was made of the main program's source is kept. It is
// named after that, so that a changed one is made anew.
func (k kind) mainFolder(cache, name string, sources ...[]byte) string {
	sum := sha256.Sum256(bytes.Join(sources, nil))
	return filepath.Join(k.folder(cache), fmt.Sprintf("%s-%x", name, sum[:6]))
}

// Fetch gets the named engines ready in the cache, at once, and returns
// when all of them are. What is there already is not fetched again; processes
// that fetch at the same time wait for each other. It needs java, javac and mvn,
// go, and python3 with venv, each for its engines.
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

// fetch is Fetch for kinds.
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
	// What was half done when a process was killed is put aside by its name.
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

// fetchInto gets what each runtime needs into the staging folder and moves it
// to its place when it is complete.
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

// place moves a complete folder to where it is looked for.
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

// cacheFolder is where engines are kept between runs.
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
