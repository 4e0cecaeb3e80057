package enginetest

import (
	"bytes"
	"context"
	"crypto/sha256"
	"embed"
	"encoding/xml"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// fetchTimeout bounds one fetch of all engines; 90 MB take seconds where the registry is near.
const fetchTimeout = 8 * time.Minute

// copyDependencies is the Maven goal that puts a module's jars into a folder.
const copyDependencies = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies"

// lifeline is the class that every engine's main class uses.
const lifeline = "Lifeline"

//go:embed java/*.java
var sources embed.FS

// Fetch gets the named engines ready in the cache, at once, and returns
// when all of them are. What is there already is not fetched again; processes
// that fetch at the same time wait for each other. It needs java, javac and mvn.
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

// fetchInto gets jars and classes into the staging folder and moves them to
// their places when they are complete.
func fetchInto(ctx context.Context, cache, staging string, absent []kind) error {
	var jarless []kind
	for _, k := range absent {
		if !exists(k.jars(cache)) {
			jarless = append(jarless, k)
		}
	}
	if err := fetchJars(ctx, cache, staging, jarless); err != nil {
		return err
	}
	for _, k := range absent {
		if exists(k.classes(cache)) {
			continue
		}
		if err := compile(ctx, cache, staging, k); err != nil {
			return err
		}
	}
	return nil
}

// fetchJars has Maven resolve all engines in one run, each a module.
func fetchJars(ctx context.Context, cache, staging string, jarless []kind) error {
	if len(jarless) == 0 {
		return nil
	}
	root := project{Artifact: "engines"}
	for _, k := range jarless {
		root.Modules = append(root.Modules, k.name)
		if err := writeProject(filepath.Join(staging, k.name), k.project()); err != nil {
			return err
		}
	}
	if err := writeProject(staging, root); err != nil {
		return err
	}
	err := run(ctx, staging, "mvn", "--batch-mode", "--quiet", "--threads", "1C", copyDependencies, "-DoutputDirectory=lib", "-DincludeScope=runtime")
	if err != nil {
		return err
	}
	for _, k := range jarless {
		if err := place(filepath.Join(staging, k.name, "lib"), k.jars(cache)); err != nil {
			return err
		}
	}
	return nil
}

func compile(ctx context.Context, cache, staging string, k kind) error {
	from := filepath.Join(staging, k.name+"-java")
	if err := os.MkdirAll(from, 0o755); err != nil {
		return err
	}
	args := []string{"-d", "classes", "-cp", filepath.Join(k.jars(cache), "*")}
	for name, text := range k.sources() {
		if err := os.WriteFile(filepath.Join(from, name), text, 0o644); err != nil {
			return err
		}
		args = append(args, name)
	}
	if err := run(ctx, from, "javac", args...); err != nil {
		return err
	}
	return place(filepath.Join(from, "classes"), k.classes(cache))
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

// jars is the folder of an engine's class path.
func (k kind) jars(cache string) string { return filepath.Join(cache, k.name+"-"+k.version, "lib") }

// classes is the folder of an engine's compiled main class. It is named after
// the sources, so that changed ones are compiled anew.
func (k kind) classes(cache string) string {
	hash := sha256.New()
	for _, text := range []string{lifeline, k.main} {
		_, _ = hash.Write(k.sources()[text+".java"]) // never fails
	}
	return filepath.Join(cache, k.name+"-"+k.version, fmt.Sprintf("classes-%x", hash.Sum(nil)[:6]))
}

// sources are the Java files that an engine's main class needs, by name.
func (k kind) sources() map[string][]byte {
	files := make(map[string][]byte, 2)
	for _, class := range []string{lifeline, k.main} {
		text, err := fs.ReadFile(sources, "java/"+class+".java")
		if err != nil {
			panic(err) // embedded, and named in this package only
		}
		files[class+".java"] = text
	}
	return files
}

func missing(cache string, wanted []kind) []kind {
	var absent []kind
	for _, k := range wanted {
		if !exists(k.jars(cache)) || !exists(k.classes(cache)) {
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

// project is a Maven project file.
type project struct {
	XMLName      xml.Name     `xml:"project"`
	Model        string       `xml:"modelVersion"`
	Group        string       `xml:"groupId"`
	Artifact     string       `xml:"artifactId"`
	Version      string       `xml:"version"`
	Packaging    string       `xml:"packaging"`
	Modules      []string     `xml:"modules>module,omitempty"`
	Dependencies []dependency `xml:"dependencies>dependency,omitempty"`
}

type dependency struct {
	Group    string `xml:"groupId"`
	Artifact string `xml:"artifactId"`
	Version  string `xml:"version"`
}

func (k kind) project() project {
	p := project{Artifact: k.name}
	for _, artifact := range k.artifacts {
		part := strings.Split(artifact, ":")
		p.Dependencies = append(p.Dependencies, dependency{Group: part[0], Artifact: part[1], Version: part[2]})
	}
	return p
}

func writeProject(folder string, p project) error {
	p.Model, p.Group, p.Version, p.Packaging = "4.0.0", "ocelot.engines", "1", "pom"
	text, err := xml.MarshalIndent(p, "", "  ")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(folder, "pom.xml"), text, 0o644)
}
