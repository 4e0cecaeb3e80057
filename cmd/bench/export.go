package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"time"
)

const (
	maxExportTime = 30 * time.Second
	maxExportMB   = 100 // that the service's memory grows by
	exportPoll    = 100 * time.Millisecond
)

// exports are the formats that are measured.
var exports = []string{"ndjson", "csv", "parquet"}

// exportAll exports all entries as a job in each format, and looks at the time and at the memory. The process is one
// of its own, which collects garbage as the function of jobs does: `ocelot dev` does so rarely.
func (b *bench) exportAll(ctx context.Context, data string, size int) (figures []figure, err error) {
	const limit = "GOMEMLIMIT"
	if _, chosen := os.LookupEnv(limit); !chosen {
		if err := os.Setenv(limit, "4GiB"); err != nil { // with it Go's own GOGC applies
			return nil, err
		}
		defer func() { err = errors.Join(err, os.Unsetenv(limit)) }()
	}
	s, err := b.startService(ctx, data)
	if err != nil {
		return nil, err
	}
	defer func() { _ = s.abandon() }() // does nothing after end
	before, err := s.highestMB()
	if err != nil {
		return nil, err
	}
	how := "From the request to the end of the job, over the same folder. Nothing else is done meanwhile."
	for _, format := range exports {
		begun := time.Now()
		bytes, err := s.export(ctx, format, size)
		if err != nil {
			return nil, err
		}
		took := time.Since(begun)
		figures = append(figures,
			atMost(fmt.Sprintf("export of %s entries as %s", thousands(size), format), "%.1f s", took.Seconds(), maxExportTime.Seconds(), how),
			noBound("… bytes of the file", "", "%.0f MB", float64(bytes)/1e6))
		how = ""
	}
	after, err := s.highestMB()
	if err != nil {
		return nil, err
	}
	if _, err := s.end(); err != nil {
		return nil, err
	}
	const name, memoryHow = "… memory of `ocelot dev` that these exports add", "The growth of VmHWM of /proc by all of them, in a process of their own that collects garbage as a Lambda function does."
	if runtime.GOOS != "linux" {
		return append(figures, noBound(name, memoryHow, "not measured: needs /proc")), nil
	}
	return append(figures, atMost(name, "%.0f MB", after-before, maxExportMB, memoryHow)), nil
}

// highestMB returns the memory of the service's process at its highest, zero where there is no /proc.
func (s *service) highestMB() (float64, error) {
	if runtime.GOOS != "linux" {
		return 0, nil
	}
	_, highest, err := residentMB(s.PID())
	return highest, err
}

// export makes an export of all entries and returns the bytes of its file.
func (s *service) export(ctx context.Context, format string, size int) (int64, error) {
	e, err := s.reader.CreateExport(ctx, map[string]any{"format": format})
	for err == nil && (e.State == "queued" || e.State == "running") {
		if err = pauseFor(ctx, exportPoll); err == nil {
			e, err = s.reader.ExportJob(ctx, e.ID)
		}
	}
	switch {
	case err != nil:
		return 0, err
	case e.State != "succeeded" || e.Count < int64(size):
		return 0, fmt.Errorf("the export as %s is %s with %d entries, want at least %d", format, e.State, e.Count, size)
	}
	return e.Bytes, nil
}
