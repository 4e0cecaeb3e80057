package enginetest

import (
	"context"
	"embed"
	"encoding/xml"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// copyDependencies is the Maven goal that puts a module's jars into a folder.
const copyDependencies = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies"

// lifeline is the class that every engine's main class uses.
const lifeline = "Lifeline"

//go:embed java/*.java
var sources embed.FS

// java runs engines whose artifacts are Maven artifacts (group:artifact:version). Their main
// classes are in the folder java.
type java struct{}

func (java) ready(cache string, k kind) bool {
	return exists(k.jars(cache)) && exists(k.classes(cache))
}

func (java) command(cache string, k kind) []string {
	classpath := k.classes(cache) + string(filepath.ListSeparator) + filepath.Join(k.jars(cache), "*")
	return []string{"java", "-Xmx" + k.heap, "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-cp", classpath, k.main}
}

// fetch downloads the jars and compiles the main classes.
func (java) fetch(ctx context.Context, cache, staging string, absent []kind) error {
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

// fetchJars lets Maven resolve all engines in one run, each as a module.
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

// jars returns the folder of an engine's class path.
func (k kind) jars(cache string) string { return filepath.Join(k.folder(cache), "lib") }

// classes returns the folder of an engine's compiled main class.
func (k kind) classes(cache string) string {
	files := k.sources()
	return k.mainFolder(cache, "classes", files[lifeline+".java"], files[k.main+".java"])
}

// sources returns the Java files that an engine's main class needs, by name.
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
