package main

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
)

// curl is the part of the program curl that scripts and documents need, so that
// they run the same everywhere: -s, -S, -f, -i, -X, -H, -d, --data-binary and
// -o. It refuses every other option.
func curl() {
	if err := runCurl(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "curl:", err)
		os.Exit(22) // as curl -f does
	}
}

func runCurl(args []string) error {
	call := curlCall{header: http.Header{}}
	for len(args) > 0 {
		rest, err := call.option(args)
		if err != nil {
			return err
		}
		args = rest
	}
	request, err := http.NewRequest(call.requestMethod(), call.url, strings.NewReader(call.body))
	if err != nil {
		return err
	}
	request.Header = call.header
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer func() { _ = response.Body.Close() }() // it was only read
	return call.print(response)
}

// curlCall is what the options of a command line ask for.
type curlCall struct {
	url, method, body, output string
	header                    http.Header
	fail, include             bool
}

// option applies the first option or address of args and returns the arguments after it.
func (c *curlCall) option(args []string) (rest []string, err error) {
	name := args[0]
	switch name {
	case "-s", "-S", "-sS":
		return args[1:], nil
	case "-f", "-sf", "-fsS":
		c.fail = true
		return args[1:], nil
	case "-i", "-si":
		c.include = true
		return args[1:], nil
	}
	if !strings.HasPrefix(name, "-") && c.url == "" {
		c.url = name
		return args[1:], nil
	}
	if len(args) < 2 {
		return nil, fmt.Errorf("%s: the curl of the tests does not know it, see cmd/ocelot/tools_test.go", name)
	}
	switch value := args[1]; name {
	case "-X":
		c.method = value
	case "-d", "--data-binary":
		c.body = value
	case "-o":
		c.output = value
	case "-H":
		header, text, _ := strings.Cut(value, ":")
		c.header.Add(header, strings.TrimSpace(text))
	default:
		return nil, fmt.Errorf("%s: the curl of the tests does not know it, see cmd/ocelot/tools_test.go", name)
	}
	return args[2:], nil
}

func (c *curlCall) requestMethod() string {
	switch {
	case c.method != "":
		return c.method
	case c.body != "":
		return http.MethodPost
	}
	return http.MethodGet
}

func (c *curlCall) print(response *http.Response) error {
	if c.fail && response.StatusCode >= 400 {
		return fmt.Errorf("the requested URL returned error: %d", response.StatusCode)
	}
	text, err := io.ReadAll(response.Body)
	if err != nil {
		return err
	}
	if c.output != "" {
		return os.WriteFile(c.output, text, 0o600)
	}
	if c.include {
		fmt.Printf("%s %s\n", response.Proto, response.Status)
		if err := response.Header.Write(os.Stdout); err != nil {
			return err
		}
		fmt.Println()
	}
	_, err = os.Stdout.Write(text)
	return err
}

// checkMakeTargets stands in for make in documents. It runs nothing: it exits
// with 2 unless the Makefile of the working folder has every target.
func checkMakeTargets() {
	makefile, err := os.ReadFile(filepath.Join(".", "Makefile"))
	if err != nil {
		fmt.Fprintln(os.Stderr, "make:", err)
		os.Exit(2)
	}
	for _, target := range os.Args[1:] {
		isTarget := regexp.MustCompile(`(?m)^` + regexp.QuoteMeta(target) + `:`)
		if !strings.Contains(target, "=") && !isTarget.Match(makefile) {
			fmt.Fprintf(os.Stderr, "make: the Makefile has no target %s\n", target)
			os.Exit(2)
		}
	}
}
