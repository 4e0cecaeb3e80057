package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"time"

	"github.com/schollz/progressbar/v3"

	"github.com/ocelot-audit/ocelot/pkg/backoff"
	"github.com/ocelot-audit/ocelot/pkg/client"
)

const (
	// downloadPause is the time between two attempts to download a file.
	downloadPause = time.Second
	// maxCuts is how often a download may be cut without a byte in between.
	maxCuts = 8
)

// download waits for an export that is a job, and gets its file.
type download struct {
	service *client.Client
	con     *console
	output  string // a file; "": standard output

	to      io.Writer
	sum     hash.Hash
	written int64
}

func (d *download) run(ctx context.Context, job client.Export) error {
	err := d.con.await(ctx, "export", job.Job, func(ctx context.Context) (client.Job, error) {
		var err error
		job, err = d.service.ExportJob(ctx, job.ID)
		return job.Job, err
	})
	if err != nil {
		return err
	}
	if d.output == "" {
		d.to = d.con.out
		return d.fetch(ctx, job)
	}
	next := d.output + ".next"
	file, err := os.OpenFile(next, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	d.to = file
	err = d.fetch(ctx, job)
	if err == nil {
		err = file.Sync()
	}
	if err = errors.Join(err, file.Close()); err != nil {
		return errors.Join(err, os.Remove(next))
	}
	if err := os.Rename(next, d.output); err != nil {
		return err
	}
	d.con.report("Wrote %d bytes with %d entries to %s.", job.Bytes, job.Count, d.output)
	return nil
}

// fetch downloads the file and checks it. It resumes a download that is cut, by a new URL.
func (d *download) fetch(ctx context.Context, job client.Export) error {
	d.sum = sha256.New()
	bar := d.con.bar(job.Bytes, progressbar.OptionShowBytes(true), progressbar.OptionSetDescription("download"))
	for cuts := 0; d.written < job.Bytes; {
		before := d.written
		err := d.part(ctx, job.URL, bar)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if failed := (*os.PathError)(nil); errors.As(err, &failed) { // the output takes no more
			return err
		}
		if d.written > before {
			cuts = 0
		}
		if d.written >= job.Bytes {
			break
		}
		if cuts++; cuts == maxCuts {
			return fmt.Errorf("the download of export %s was cut after %d of %d bytes: %w", job.ID, d.written, job.Bytes, errors.Join(err, io.ErrUnexpectedEOF))
		}
		if err := backoff.Sleep(ctx, downloadPause); err != nil {
			return err
		}
		if job, err = d.service.ExportJob(ctx, job.ID); err != nil {
			return err
		}
	}
	_ = bar.Clear() // the bar is no part of the result
	if got := hex.EncodeToString(d.sum.Sum(nil)); got != job.SHA256 || d.written != job.Bytes {
		return fmt.Errorf("the file of export %s is damaged: %d bytes with the SHA-256 %s, want %d with %s", job.ID, d.written, got, job.Bytes, job.SHA256)
	}
	return nil
}

// part downloads what is left of the file, or as much as comes.
func (d *download) part(ctx context.Context, address string, bar io.Writer) error {
	body, err := d.service.Download(ctx, address, d.written)
	if err != nil {
		return err
	}
	n, err := io.Copy(io.MultiWriter(d.to, d.sum, bar), body)
	d.written += n
	return errors.Join(err, body.Close())
}
