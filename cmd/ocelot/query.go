package main

import (
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/client"
)

// readFlags choose a service and its entries.
type readFlags struct {
	serviceFlags
	queryFlags
	timeFlags
}

// open returns a client of the service, and the flags as query parameters of the API.
func (f *readFlags) open(con *console) (*client.Client, url.Values, error) {
	service, err := f.connect()
	if err != nil {
		return nil, nil, err
	}
	params, err := f.params()
	if err == nil {
		err = f.addTimes(params, con.now())
	}
	if err == nil {
		err = f.reach()
	}
	return service, params, err
}

// queryFlags choose entries.
type queryFlags struct {
	Filter []string `sep:"none" short:"f" placeholder:"FIELD=VALUE" group:"Entries:" help:"Only entries whose field has the value; repeatable; an entry matches any of one field's values. Fields: user_id, session_id, request_id, action, resource_type, resource_id, severity, ip_address, changed, submitted_by, metadata.<path>."`
	Query  []string `arg:"" optional:"" help:"Full text and field operators, such as: login severity>=ERROR -test. Put -- before a query that begins with a hyphen."`
}

// params are the flags as query parameters of the API.
func (f *queryFlags) params() (url.Values, error) {
	params := url.Values{}
	if q := strings.Join(f.Query, " "); q != "" {
		params.Set("q", q)
	}
	for _, filter := range f.Filter {
		field, value, ok := strings.Cut(filter, "=")
		path, isMetadata := audit.Field(field).MetadataPath()
		if !ok || !slices.Contains(audit.FilterFields(), audit.Field(field)) && (!isMetadata || path == "") {
			return nil, usagef("--filter %s: must be FIELD=VALUE with one of the fields %s, metadata.<path>", filter, filterFields())
		}
		params.Add(field, value)
	}
	return params, nil
}

// filterFields lists the fields outside the metadata.
func filterFields() string {
	var names []string
	for _, field := range audit.FilterFields() {
		names = append(names, string(field))
	}
	return strings.Join(names, ", ")
}

// timeFlags choose entries by their timestamps.
type timeFlags struct {
	Since string `aliases:"from" placeholder:"TIME" group:"Entries:" help:"Only entries from this time on: RFC 3339, a date (midnight in UTC, or in the time zone that another flag names), or a duration before now (90m, 24h, 7d)."`
	Until string `aliases:"to" placeholder:"TIME" group:"Entries:" help:"Only entries before this time: RFC 3339, a date, or a duration before now."`

	dates *time.Location // of dates, nil: as the service reads them
}

// addTimes sets the query parameters of the API.
func (f *timeFlags) addTimes(params url.Values, now time.Time) error {
	for _, flag := range []struct{ name, text, parameter string }{{"since", f.Since, "from"}, {"until", f.Until, "to"}} {
		if flag.text == "" {
			continue
		}
		at, err := parseTime(flag.text, now, f.dates)
		if err != nil {
			return usagef("--%s %s: %w", flag.name, flag.text, err)
		}
		params.Set(flag.parameter, at)
	}
	return nil
}

// parseTime returns a time as the API reads it. RFC 3339 stays as it is, and so does a date
// unless it is one of a zone. A duration counts back from now.
func parseTime(text string, now time.Time, dates *time.Location) (string, error) {
	if _, err := audit.ParseTime(text); err == nil {
		return text, nil
	}
	if _, err := time.Parse(time.DateOnly, text); err == nil && dates == nil {
		return text, nil
	}
	if dates != nil {
		if midnight, err := time.ParseInLocation(time.DateOnly, text, dates); err == nil {
			return midnight.UTC().Format(time.RFC3339), nil
		}
	}
	ago, err := parseDuration(text)
	if err != nil {
		return "", errors.New("must be a time such as 2026-03-01T10:00:00Z, a date such as 2026-03-01, or how long ago, such as 90m, 24h or 7d")
	}
	return now.Add(-ago).UTC().Format(time.RFC3339), nil
}

// outputFlag chooses the output format.
type outputFlag struct {
	Output string `short:"o" enum:"auto,table,json,ndjson,csv" default:"auto" help:"table, json, ndjson or csv; auto is table on a terminal, else ndjson."`
}

// palette colors words for a terminal; the zero palette does not.
type palette struct{ on bool }

// colorFlag turns colors off, as https://no-color.org asks for.
type colorFlag struct {
	NoColor string `env:"NO_COLOR" hidden:"" help:"Do not color."`
}

func (f *colorFlag) palette(con *console) palette {
	return palette{on: con.outTerminal && f.NoColor == ""}
}

const (
	bold   = "1"
	dim    = "2"
	red    = "31"
	yellow = "33"
)

// paint sets printable text in a style; the styles are SGR parameters.
func (p palette) paint(style, text string) string {
	if !p.on || style == "" {
		return text
	}
	return fmt.Sprintf("\x1b[%sm%s\x1b[0m", style, text)
}

func severityStyle(severity string) string {
	switch severity {
	case "WARNING":
		return yellow
	case "ERROR":
		return red
	case "CRITICAL":
		return bold + ";" + red
	}
	return ""
}
