package main

import (
	"context"
	"encoding/json"
	"net/url"
	"strings"

	"github.com/ocelot-audit/ocelot/pkg/client"
)

// revealFlag asks for encrypted values.
type revealFlag struct {
	Reveal string `placeholder:"REASON" group:"Encrypted values:" help:"Print the encrypted values in plain. The service records who asked, and the reason. Needs logs:reveal."`
}

// encryptedFlags find entries by encrypted values, and ask for these.
type encryptedFlags struct {
	revealFlag
	Match []string `sep:"none" placeholder:"PATH=VALUE" group:"Encrypted values:" help:"Only entries whose encrypted value at the path is this, as a whole; repeatable. A value that is a JSON number, string, true or false is of that type; any other is text. Recorded. Needs logs:match_encrypted."`
}

// wanted reports whether a flag was given.
func (f *encryptedFlags) wanted() bool { return f.Reveal != "" || len(f.Match) > 0 }

// matches returns the values by their paths.
func (f *encryptedFlags) matches() (map[string]any, error) {
	values := map[string]any{}
	for _, match := range f.Match {
		path, text, ok := strings.Cut(match, "=")
		if _, repeated := values[path]; !ok || path == "" || repeated {
			return nil, usagef("--match %s: must be PATH=VALUE, and have each path once", path)
		}
		values[path] = text
		var value any
		if err := json.Unmarshal([]byte(text), &value); err != nil {
			continue
		}
		switch value.(type) {
		case string, bool:
			values[path] = value
		case float64:
			values[path] = json.Number(strings.TrimSpace(text)) // every digit counts
		}
	}
	return values, nil
}

// search returns one page.
func (f *encryptedFlags) search(ctx context.Context, service *client.Client, params url.Values) (client.Page, error) {
	if !f.wanted() {
		return service.Search(ctx, params)
	}
	members := map[string]any{}
	for name, values := range params {
		members[name] = values
	}
	matches, err := f.matches()
	if err != nil {
		return client.Page{}, err
	}
	if len(matches) > 0 {
		members["match_encrypted"] = matches
	}
	if f.Reveal != "" {
		members["reveal"], members["reason"] = true, f.Reveal
	}
	return service.SearchBy(ctx, members)
}
