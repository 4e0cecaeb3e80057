package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"runtime"
	"slices"
	"strings"

	"github.com/go-json-experiment/json"
	"sigs.k8s.io/yaml"
)

// configFile is the user's configuration: named profiles, and the one to use if none is named.
type configFile struct {
	Default  string             `json:"default"`
	Profiles map[string]profile `json:"profiles"`
}

// profile has what flags and environment do not give. Members may be empty.
type profile struct {
	URL       string `json:"url"`
	StreamURL string `json:"stream_url"`
	Token     string `json:"token"`
	Tenant    string `json:"tenant"`
}

const (
	maxConfigFile = 1 << 20 // bytes
	// openToOthers are the permissions that a file with tokens must not have.
	openToOthers fs.FileMode = 0o066
)

// configPath returns the path of the user's configuration file.
func configPath() (string, error) { return userFile("config.yaml") }

// readProfile returns the profile with the name. An empty name stands for the default one,
// which may be missing.
func readProfile(con *console, name string) (profile, error) {
	path, err := configPath()
	if err != nil {
		if name == "" {
			return profile{}, nil // this user has no configuration
		}
		return profile{}, fmt.Errorf("profile %s: %w", name, err)
	}
	file, err := readConfigFile(con, path)
	if errors.Is(err, fs.ErrNotExist) && name == "" {
		return profile{}, nil
	}
	if err != nil {
		return profile{}, err
	}
	if name == "" && file.Default == "" {
		return profile{}, nil
	}
	if name == "" {
		name = file.Default
	}
	found, ok := file.Profiles[name]
	if !ok {
		return profile{}, fmt.Errorf("%s has no profile %q. It has %s", path, name, file.names())
	}
	return found, nil
}

// names lists the profiles for a message.
func (f configFile) names() string {
	if len(f.Profiles) == 0 {
		return "no profile"
	}
	return "the profiles " + strings.Join(slices.Sorted(maps.Keys(f.Profiles)), ", ")
}

func readConfigFile(con *console, path string) (configFile, error) {
	info, err := os.Stat(path)
	if err != nil {
		return configFile{}, err
	}
	if !info.Mode().IsRegular() { // a pipe would wait for who writes to it
		return configFile{}, fmt.Errorf("%s is no file", path)
	}
	if runtime.GOOS != "windows" && info.Mode()&openToOthers != 0 {
		con.report("ocelot: other users can read or change %s. Run: chmod 600 %s", path, shellWord(path))
	}
	file, err := os.Open(path)
	if err != nil {
		return configFile{}, err
	}
	defer func() { _ = file.Close() }() // only read
	text, err := io.ReadAll(io.LimitReader(file, maxConfigFile+1))
	if err != nil {
		return configFile{}, fmt.Errorf("%s: %w", path, err)
	}
	if len(text) > maxConfigFile {
		return configFile{}, fmt.Errorf("%s has more than %d bytes", path, maxConfigFile)
	}
	parsed, err := parseConfigFile(text)
	if err != nil {
		return configFile{}, fmt.Errorf("%s: %w", path, err)
	}
	return parsed, nil
}

// parseConfigFile refuses members that it does not know.
func parseConfigFile(text []byte) (configFile, error) {
	asJSON, err := yaml.YAMLToJSONStrict(text)
	if err != nil {
		return configFile{}, err
	}
	var file configFile
	err = json.Unmarshal(asJSON, &file, json.RejectUnknownMembers(true))
	var wrong *json.SemanticError
	switch {
	case err == nil:
		return file, nil
	case errors.Is(err, json.ErrUnknownName) && errors.As(err, &wrong):
		return configFile{}, fmt.Errorf("unknown member %s. The file has default and profiles. A profile has url, stream_url, token and tenant", wrong.JSONPointer)
	case errors.As(err, &wrong):
		return configFile{}, fmt.Errorf("%s has a value of the wrong kind", wrong.JSONPointer)
	}
	return configFile{}, err
}
