package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/http"
	"net/url"
	"strings"

	"github.com/ocelot-audit/ocelot/pkg/access/bearer"
	"github.com/ocelot-audit/ocelot/pkg/client"
)

// exportCmd writes entries to files, and administers the jobs that do.
type exportCmd struct {
	Create   exportCreateCmd   `cmd:"" default:"withargs" help:"Write entries to a file, as export does without a command."`
	List     exportListCmd     `cmd:"" help:"List the exports that are jobs, the newest first, one a line."`
	Get      exportGetCmd      `cmd:"" help:"Print an export, with a new URL of its file."`
	Download exportDownloadCmd `cmd:"" help:"Wait for an export and get its file."`
	Cancel   exportCancelCmd   `cmd:"" help:"Cancel an export."`
}

// Help is what --help adds.
func (*exportCmd) Help() string {
	return `ocelot export --format csv --output FILE QUERY exports what the query finds: ocelot export create --help has the flags. A query that begins with the name of a command, such as list, needs the word create before it.`
}

// exportsPath is that of the API.
const exportsPath = "logs/exports"

// exportPath is that of one export.
func exportPath(id string) string { return exportsPath + "/" + url.PathEscape(id) }

// fileFlag names the file of an export.
type fileFlag struct {
	Output string `short:"o" type:"path" placeholder:"FILE" help:"File to write; standard output without it. It is replaced only once the export is complete. What an interrupted run has downloaded is in FILE.next."`
}

// exportCreateCmd writes entries to a file.
type exportCreateCmd struct {
	readFlags
	fileFlag
	Format     string   `enum:"ndjson,json,csv,parquet" default:"ndjson" help:"ndjson (one entry a line), json (one array), csv or parquet."`
	Fields     []string `placeholder:"FIELD,…" help:"Columns in their order: members of an entry, or paths such as metadata.plan. All by default."`
	TimeFormat string   `enum:"rfc3339,epoch_ms" default:"rfc3339" help:"rfc3339, or epoch_ms for milliseconds since 1970."`
	Compress   string   `enum:"none,gzip,zstd" default:"none" help:"none, gzip or zstd."`
	BOM        bool     `name:"bom" help:"Begin a CSV file with a byte order mark, which some spreadsheets need."`
	Sort       string   `enum:",-timestamp,+timestamp,timestamp" default:"" help:"-timestamp (the newest first, the default) or timestamp (the oldest first, always with --hold)."`
	revealFlag
	Hold    string `placeholder:"ID" help:"Export what this legal hold covers, also what has expired and no list shows. Needs holds:read."`
	Restart bool   `help:"Begin a new export, also if an interrupted run has left one in FILE.next."`
}

// export asks for the file. Encrypted values in plain are asked for in a body, and the file is a job's.
func (c *exportCreateCmd) export(ctx context.Context, service *client.Client, params url.Values) (file []byte, job *client.Export, err error) {
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
func (*exportCreateCmd) Help() string {
	return `More than 5,000 entries or 4 MiB are a job of the service: export waits for it, downloads the file and checks its SHA-256. A job has what was received before it began. The export is recorded in the tenant's log. A file of format ndjson or json can be sent to an empty tenant by the command send.

The same command with the same --output goes on with a job that was interrupted, also on another day, and its file has nothing that was received after the job began. --restart begins a new one. Two runs must not write one file at the same time.`
}

// addParams sets the flags as parameters of the API, beside those of the entries.
func (c *exportCreateCmd) addParams(params url.Values) {
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
}

// Validate refuses flags that do not go together.
func (c *exportCreateCmd) Validate() error {
	if c.BOM && c.Format != "csv" {
		return errors.New("--bom needs --format csv")
	}
	if c.Hold != "" && c.Sort == newestFirst {
		return fmt.Errorf("--sort %s does not go with --hold, whose entries come in the order of their times", newestFirst)
	}
	if c.Compress != "none" && c.Format == "parquet" {
		return errors.New("--compress does not go with --format parquet, whose columns are compressed with zstd")
	}
	return nil
}

// Run writes the file.
func (c *exportCreateCmd) Run(ctx context.Context, con *console) error {
	service, params, err := c.open(con)
	if err != nil {
		return err
	}
	c.addParams(params)
	d := &download{service: service, con: con, output: c.Output, request: c.digest(params)}
	goesOn, err := c.continues(ctx, d)
	if err != nil {
		return err
	}
	if goesOn {
		return d.run(ctx)
	}
	file, job, err := c.export(ctx, service, params)
	if err != nil {
		return err
	}
	if c.Output != "" {
		if err := discardUnfinished(c.Output); err != nil {
			return err
		}
	}
	if job != nil {
		d.export = *job
		return d.run(ctx)
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

// digest identifies what the command line asks for, and who asks: others may see other entries. Times relative to now are the same whenever it runs.
// What it asks for can be personal data, and is not stored in plain.
func (c *exportCreateCmd) digest(params url.Values) string {
	asked := maps.Clone(params)
	asked["from"], asked["to"] = []string{c.Since}, []string{c.Until}
	sum := sha256.Sum256([]byte(strings.Join([]string{c.URL, c.Tenant, bearer.Caller(c.Token), c.Reveal, asked.Encode()}, "\n")))
	return hex.EncodeToString(sum[:])
}

// continues reports whether an earlier run has left an export that is the same and can go on, and sets it.
// It says what happens to what the earlier run has left.
func (c *exportCreateCmd) continues(ctx context.Context, d *download) (bool, error) {
	if c.Output == "" {
		return false, nil
	}
	left, err := readUnfinished(c.Output)
	if errors.Is(err, fs.ErrNotExist) || err != nil && c.Restart {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	part := partPath(c.Output)
	switch {
	case c.Restart:
		d.con.report("Begins a new export. %s was left of export %s.", part, left.Export)
		return false, nil
	case left.Request != d.request:
		d.con.report("Begins a new export. %s was left of another one, which this gets: ocelot export download %s", part, left.Export)
		return false, nil
	}
	d.export, err = d.service.ExportJob(ctx, left.Export)
	var problem *client.Problem
	if errors.As(err, &problem) && problem.Status == http.StatusNotFound {
		d.con.report("Begins a new export: the service has export %s no more.", left.Export)
		return false, nil
	}
	if err != nil {
		return false, err
	}
	if why := whyEnded(&d.export); why != "" {
		d.con.report("Begins a new export: export %s cannot go on, %s.", left.Export, why)
		return false, nil
	}
	d.con.report("Goes on with export %s of %s, which has nothing that was received later. A new one: --restart", left.Export, d.export.CreatedAt)
	return true, nil
}

type exportListCmd struct{ serviceFlags }

// Run prints the exports.
func (c *exportListCmd) Run(ctx context.Context, con *console) error {
	service, err := c.openLog()
	if err != nil {
		return err
	}
	return printAll(ctx, con, service, exportsPath, url.Values{})
}

type exportGetCmd struct {
	serviceFlags
	ID string `arg:"" help:"Id of the export."`
}

// Run prints the export.
func (c *exportGetCmd) Run(ctx context.Context, con *console) error {
	return c.show(ctx, con, exportPath(c.ID))
}

type exportDownloadCmd struct {
	serviceFlags
	fileFlag
	ID string `arg:"" help:"Id of the export."`
}

// Help is what --help adds.
func (*exportDownloadCmd) Help() string {
	return `The command checks the SHA-256 of the file. With --output it goes on with a download that was interrupted. Two runs must not write one file at the same time.`
}

// Run waits for the export and writes its file.
func (c *exportDownloadCmd) Run(ctx context.Context, con *console) error {
	service, err := c.openLog()
	if err != nil {
		return err
	}
	d := &download{service: service, con: con, output: c.Output}
	if d.export, err = service.ExportJob(ctx, c.ID); err != nil {
		return err
	}
	return d.run(ctx)
}

type exportCancelCmd struct {
	serviceFlags
	ID string `arg:"" help:"Id of the export."`
}

// Run cancels the export and prints its job.
func (c *exportCancelCmd) Run(ctx context.Context, con *console) error {
	service, err := c.openLog()
	if err != nil {
		return err
	}
	job, _, err := service.Job(ctx, c.ID)
	if err != nil {
		return err
	}
	if job.Kind != "export" { // all jobs have one path
		return fmt.Errorf("%s is not an export; its kind is %s", c.ID, job.Kind)
	}
	answer, err := service.Delete(ctx, "jobs/"+url.PathEscape(c.ID), nil)
	return printAnswer(con, answer, err)
}
