// Command release makes the files of a release: an archive of the command line for each platform,
// its list of parts (SBOM), the checksums of all, and the folder that the container image is built
// from. The same commit gives the same bytes.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"
)

// sbomTool writes the list of parts of a binary in the format CycloneDX.
const sbomTool = "github.com/CycloneDX/cyclonedx-gomod/cmd/cyclonedx-gomod@v1.10.0"

// target is a platform.
type target struct{ os, arch string }

func targets() []target {
	var all []target
	for _, system := range []string{"linux", "darwin", "windows"} {
		all = append(all, target{system, "amd64"}, target{system, "arm64"})
	}
	return all
}

// program returns the name of the command line on the platform.
func (t target) program() string {
	if t.os == "windows" {
		return "ocelot.exe"
	}
	return "ocelot"
}

// settings of a run.
type settings struct {
	root    string // of the repository
	out     string // folder for the files; what is there is removed
	version string
	time    time.Time // of every file in the archives
	targets []target
	// sbom is false if no lists of parts are written.
	sbom bool
}

var versionSyntax = regexp.MustCompile(`^[0-9A-Za-z][0-9A-Za-z._+-]*$`)

func main() {
	log.SetFlags(0)
	log.SetPrefix("release: ")
	s := settings{root: ".", targets: targets(), sbom: true}
	epoch := flag.Int64("epoch", 0, "seconds since 1970: the time of every file, as a rule that of the commit")
	flag.StringVar(&s.version, "version", "", "the version, such as v1.2.3")
	flag.StringVar(&s.out, "out", "bin/release", "folder for the files")
	flag.Parse()
	s.time = time.Unix(*epoch, 0).UTC()
	if !versionSyntax.MatchString(s.version) || *epoch <= 0 || flag.NArg() > 0 {
		flag.Usage()
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := release(ctx, &s)
	stop()
	if err != nil {
		log.Fatal(err)
	}
}

// release makes the files.
func release(ctx context.Context, s *settings) error {
	if err := os.RemoveAll(s.out); err != nil {
		return err
	}
	if err := os.MkdirAll(s.out, 0o755); err != nil {
		return err
	}
	var names []string
	for _, t := range s.targets {
		made, err := s.make(ctx, t)
		if err != nil {
			return fmt.Errorf("%s/%s: %w", t.os, t.arch, err)
		}
		names = append(names, made...)
	}
	if err := s.imageFolders(); err != nil {
		return err
	}
	slices.Sort(names)
	return writeChecksums(s.out, names)
}

// make builds the program for a platform, packs it and lists its parts. It returns the names of
// the files.
func (s *settings) make(ctx context.Context, t target) (names []string, err error) {
	work, err := os.MkdirTemp("", "ocelot-release-")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(work)) }()
	binary := filepath.Join(work, t.program())
	if err := s.build(ctx, t, binary); err != nil {
		return nil, err
	}
	if t.os == "linux" {
		if err := copyFile(binary, filepath.Join(s.out, "image", t.arch, "ocelot"), 0o755); err != nil {
			return nil, err
		}
	}
	base := fmt.Sprintf("ocelot_%s_%s_%s", strings.TrimPrefix(s.version, "v"), t.os, t.arch)
	archive, err := s.pack(base, t, binary)
	if err != nil || !s.sbom {
		return []string{archive}, err
	}
	list := base + ".cdx.json"
	return []string{archive, list}, s.listParts(ctx, binary, filepath.Join(s.out, list))
}

func (s *settings) build(ctx context.Context, t target, to string) error {
	absolute, err := filepath.Abs(to)
	if err != nil {
		return err
	}
	c := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags", "-s -w -X github.com/ocelot-audit/ocelot/pkg/version.linked="+s.version, "-o", absolute, "./cmd/ocelot")
	c.Dir = s.root
	c.Env = append(c.Environ(), "GOOS="+t.os, "GOARCH="+t.arch, "CGO_ENABLED=0")
	return run(c)
}

func (s *settings) listParts(ctx context.Context, binary, to string) error {
	absolute, err := filepath.Abs(to)
	if err != nil {
		return err
	}
	c := exec.CommandContext(ctx, "go", "run", sbomTool, "bin", "-json", "-noserial", "-notimestamp", "-std", "-version", s.version, "-output", absolute, binary)
	c.Dir = s.root
	return run(c)
}

func run(c *exec.Cmd) error {
	if out, err := c.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w\n%s", strings.Join(c.Args, " "), err, out)
	}
	return nil
}

// imageFolders makes the empty folders of the container image.
func (s *settings) imageFolders() error {
	return errors.Join(
		os.MkdirAll(filepath.Join(s.out, "image", "folders", "data"), 0o755),
		os.MkdirAll(filepath.Join(s.out, "image", "folders", "tmp"), 0o755))
}

func copyFile(from, to string, mode os.FileMode) error {
	text, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		return err
	}
	return os.WriteFile(to, text, mode)
}
