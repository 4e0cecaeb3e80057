package main

import (
	"context"
	"net/url"
	"strings"

	"github.com/ocelot-audit/ocelot/pkg/client"
)

// exportCmd writes entries to a file.
type exportCmd struct {
	readFlags
	Format     string   `enum:"ndjson,json,csv,parquet" default:"ndjson" help:"ndjson (one entry a line), json (one array), csv or parquet."`
	Output     string   `short:"o" type:"path" placeholder:"FILE" help:"File to write; standard output without it. It is replaced only once the export is complete."`
	Fields     []string `placeholder:"FIELD,…" help:"Columns in their order: members of an entry, or paths such as metadata.plan. All by default."`
	TimeFormat string   `enum:"rfc3339,epoch_ms" default:"rfc3339" help:"rfc3339, or epoch_ms for milliseconds since 1970."`
	Compress   string   `enum:"none,gzip,zstd" default:"none" help:"none, gzip or zstd."`
	BOM        bool     `name:"bom" help:"Begin a CSV file with a byte order mark, which some spreadsheets need."`
	Sort       string   `enum:",-timestamp,+timestamp,timestamp" default:"" help:"-timestamp (the newest first, the default) or timestamp (the oldest first, always with --hold)."`
	revealFlag
	Hold string `placeholder:"ID" help:"Export what this legal hold covers, also what has expired and no list shows. Needs holds:read."`
}

// export asks for the file. Encrypted values in plain are asked for in a body, and the file is a job's.
func (c *exportCmd) export(ctx context.Context, service *client.Client, params url.Values) (file []byte, job *client.Export, err error) {
	if c.Reveal == "" {
		return service.Export(ctx, params)
	}
	members := map[string]any{"reveal": true, "reason": c.Reveal}
	for name, values := range params {
		members[name] = values
	}
	started, err := service.CreateExport(ctx, members)
	return nil, &started, err
}

// newestFirst is the order of an export for which none is given.
const newestFirst = "-timestamp"

// Help is what --help adds.
func (*exportCmd) Help() string {
	return `More than 5,000 entries or 4 MiB are a job of the service: export waits for it, downloads the file and checks its SHA-256. A job has what was received before it began. The export is recorded in the tenant's log. A file of format ndjson or json can be sent to an empty tenant by the command send.`
}

// Run writes the file.
func (c *exportCmd) Run(ctx context.Context, con *console) error {
	if c.BOM && c.Format != "csv" {
		return usagef("--bom needs --format csv")
	}
	if c.Hold != "" && c.Sort == newestFirst {
		return usagef("--sort %s does not go with --hold, whose entries come in the order of their times", newestFirst)
	}
	if c.Compress != "none" && c.Format == "parquet" {
		return usagef("--compress does not go with --format parquet, whose columns are compressed with zstd")
	}
	service, params, err := c.open(con)
	if err != nil {
		return err
	}
	params.Set("format", c.Format)
	switch {
	case c.Hold != "":
		params.Set("hold", c.Hold)
	case c.Sort == "":
		params.Set("sort", newestFirst)
	default:
		params.Set("sort", c.Sort)
	}
	params.Set("time_format", c.TimeFormat)
	if len(c.Fields) > 0 {
		params.Set("fields", strings.Join(c.Fields, ","))
	}
	if c.Compress != "none" {
		params.Set("compress", c.Compress)
	}
	if c.BOM {
		params.Set("bom", "true")
	}
	file, job, err := c.export(ctx, service, params)
	if err != nil {
		return err
	}
	if job != nil {
		d := &download{service: service, con: con, output: c.Output}
		return d.run(ctx, *job)
	}
	if c.Output == "" {
		_, err = con.out.Write(file)
		return err
	}
	if err := replaceFile(c.Output, file); err != nil {
		return err
	}
	con.report("Wrote %d bytes to %s.", len(file), c.Output)
	return nil
}
