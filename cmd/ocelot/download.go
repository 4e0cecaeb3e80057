package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"strings"

	"github.com/schollz/progressbar/v3"

	"github.com/ocelot-audit/ocelot/pkg/client"
)

// errDamaged is a file whose content is not that of the export.
var errDamaged = errors.New("damaged")

// download waits for an export that is a job, and gets its file.
type download struct {
	service *client.Client
	con     *console
	output  string // a file; "": standard output
	request string // digest of what the export was asked for; "": it was named by its id
	export  client.Export

	bar     *progressbar.ProgressBar
	to      io.Writer
	sum     hash.Hash
	written int64
}

// run gets the file. If it is interrupted, what was downloaded stays beside the file for a later run.
func (d *download) run(ctx context.Context) error {
	err := d.begin()
	if err == nil {
		err = d.get(ctx)
	}
	switch {
	case err == nil:
		return nil
	case d.output != "" && (errors.Is(err, errDamaged) || whyEnded(&d.export) != ""):
		return errors.Join(err, discardUnfinished(d.output))
	case whyEnded(&d.export) == "":
		d.con.report("To get the file: %s", d.command())
	}
	return err
}

// whyEnded says why there will be no file of the export. It returns "" if there is one or can be one.
func whyEnded(e *client.Export) string {
	switch {
	case !e.Finished():
		return ""
	case e.State != "succeeded":
		return "it is " + e.State
	case e.RemovedByErasure:
		return "its file was removed by an erasure"
	case e.Expired:
		return "its file was removed when its time was over"
	}
	return ""
}

// command is a command line that goes on with the download.
func (d *download) command() string {
	line := "ocelot export download " + d.export.ID
	if d.output != "" {
		line += " --output " + shellWord(d.output)
	}
	return line
}

// begin stores the record of the export unless an earlier run has.
func (d *download) begin() error {
	if d.output == "" {
		return nil
	}
	left, err := readUnfinished(d.output)
	if err == nil && left.Export == d.export.ID {
		return nil
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err == nil {
		d.con.report("%s was left of export %s, and is replaced.", partPath(d.output), left.Export)
	}
	return unfinished{Export: d.export.ID, Request: d.request}.store(d.output)
}

func (d *download) get(ctx context.Context) error {
	id := d.export.ID
	err := d.con.await(ctx, "export", d.export.Job, func(ctx context.Context) (client.Job, error) {
		e, err := d.service.ExportJob(ctx, id)
		if err == nil {
			d.export = e
		}
		return e.Job, err
	})
	if err == nil {
		err = d.needURL()
	}
	if err != nil {
		return err
	}
	d.bar = d.con.bar(d.export.Bytes, progressbar.OptionShowBytes(true), progressbar.OptionSetDescription("download"))
	if d.output != "" {
		return d.toFile(ctx)
	}
	d.to, d.sum = d.con.out, sha256.New()
	return d.fetch(ctx)
}

// needURL returns an error that says why the export has no URL, if it has none.
func (d *download) needURL() error {
	e := &d.export
	why := whyEnded(e)
	switch {
	case e.URL != "":
		return nil
	case len(e.URLRequires) > 0:
		why = "its URL requires " + strings.Join(e.URLRequires, ", ")
	case why == "":
		why = "the service gives no URL of its file"
	}
	return fmt.Errorf("the export %s cannot be downloaded: %s", e.ID, printable(why))
}

// toFile downloads to a file, which is replaced once everything is there.
func (d *download) toFile(ctx context.Context) error {
	file, err := d.openPart()
	if err != nil {
		return err
	}
	kept := d.written
	err = d.fetch(ctx)
	if errors.Is(err, errDamaged) && kept > 0 {
		d.con.report("What an earlier run downloaded to %s is damaged: all of it is downloaded again.", partPath(d.output))
		if err = d.empty(file); err == nil {
			err = d.fetch(ctx)
		}
	}
	if err == nil {
		err = file.Sync()
	}
	if err = errors.Join(err, file.Close()); err != nil {
		return err
	}
	if err := errors.Join(os.Rename(partPath(d.output), d.output), removeIfExists(recordPath(d.output))); err != nil {
		return err
	}
	d.con.report("Wrote %d bytes with %d entries to %s.", d.export.Bytes, d.export.Count, d.output)
	return nil
}

// openPart opens the part for writing after what an earlier run downloaded of the same file.
func (d *download) openPart() (*os.File, error) {
	left, err := readUnfinished(d.output)
	if err != nil {
		return nil, err
	}
	file, err := os.OpenFile(partPath(d.output), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if left.SHA256 == d.export.SHA256 {
		err = d.keep(file)
	} else if err = d.empty(file); err == nil {
		left.SHA256 = d.export.SHA256
		err = left.store(d.output)
	}
	if err != nil {
		return nil, errors.Join(err, file.Close())
	}
	d.to = file
	return file, nil
}

// keep reads what the part has, up to its end.
func (d *download) keep(file *os.File) error {
	info, err := file.Stat()
	if err != nil {
		return err
	}
	if info.Size() > d.export.Bytes {
		return d.empty(file)
	}
	d.sum = sha256.New()
	d.written, err = io.Copy(io.MultiWriter(d.sum, d.bar), file)
	return err
}

// empty makes the part empty. The download begins with the first byte.
func (d *download) empty(file *os.File) error {
	d.sum, d.written = sha256.New(), 0
	d.bar.Reset()
	_, err := file.Seek(0, io.SeekStart)
	return errors.Join(err, file.Truncate(0))
}

// fetch downloads what is left of the file, and checks the whole. It goes on with a download that is cut,
// by a new URL.
func (d *download) fetch(ctx context.Context) error {
	cut := outage{con: d.con, bar: d.bar}
	for d.written < d.export.Bytes {
		before := d.written
		err := d.some(ctx)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if failed := (*os.PathError)(nil); errors.As(err, &failed) { // the output takes no more
			return err
		}
		if d.written > before {
			cut.end()
		}
		if d.written >= d.export.Bytes {
			break
		}
		if err == nil {
			err = io.ErrUnexpectedEOF
		}
		if err := cut.wait(ctx, fmt.Errorf("the download of export %s was cut after %d of %d bytes: %w", d.export.ID, d.written, d.export.Bytes, err)); err != nil {
			return err
		}
		if err := d.renew(ctx, &cut); err != nil {
			return err
		}
	}
	_ = d.bar.Clear() // the bar is no part of the result
	if got := hex.EncodeToString(d.sum.Sum(nil)); got != d.export.SHA256 || d.written != d.export.Bytes {
		return fmt.Errorf("the file of export %s is %w: %d bytes with the SHA-256 %s, want %d with %s", d.export.ID, errDamaged, d.written, got, d.export.Bytes, d.export.SHA256)
	}
	return nil
}

// some downloads what is left of the file, or as much as comes.
func (d *download) some(ctx context.Context) error {
	body, err := d.service.Download(ctx, d.export.URL, d.written)
	if err != nil {
		return err
	}
	n, err := io.Copy(io.MultiWriter(d.to, d.sum, d.bar), body)
	d.written += n
	return errors.Join(err, body.Close())
}

// renew gets a new URL of the file.
func (d *download) renew(ctx context.Context, away *outage) error {
	err := away.retry(ctx, func() error {
		e, err := d.service.ExportJob(ctx, d.export.ID)
		if err == nil {
			d.export = e
		}
		return err
	})
	if err != nil {
		return err
	}
	return d.needURL()
}
