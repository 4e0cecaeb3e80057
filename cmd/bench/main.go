// Command bench measures the figures of Ocelot's specification (section 12) and writes
// them as a table. A ratio is measured in one run on one machine, with its two sides in
// turn. It is the median of the ratios of neighbours, so that what else the machine
// does affects both sides.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

func main() {
	log.SetFlags(log.Ltime)
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	quick := flag.Bool("quick", false, "leave out what needs 1,000,000 entries")
	out := flag.String("out", filepath.Join("docs", "performance.md"), "file to write")
	only := flag.String("only", "", "measure only the parts with these names, separated by commas, and print them without writing the file")
	flag.Parse()
	if err := run(ctx, *quick, *out, *only); err != nil {
		log.Print(err)
		os.Exit(1)
	}
}

// part is a group of figures that are measured together.
type part struct {
	name    string
	measure func(context.Context, *bench) ([]figure, error)
}

func parts() []part {
	return []part{
		{"ingest", measureIngest},
		{"sqs", measureSQS},
		{"embedded", measureEmbedded},
		{"latency", measureLatency},
		{"stream", measureStream},
		{"pages", measurePages},
		{"lambda", measureLambda},
	}
}

// named returns the parts with these names, separated by commas; all for "".
func named(names string) ([]part, error) {
	if names == "" {
		return parts(), nil
	}
	var found []part
	for name := range strings.SplitSeq(names, ",") {
		i := slices.IndexFunc(parts(), func(p part) bool { return p.name == name })
		if i < 0 {
			return nil, fmt.Errorf("%q is no part", name)
		}
		found = append(found, parts()[i])
	}
	return found, nil
}

// bench is what the parts share.
type bench struct {
	folder string // for everything that is built and stored; removed at the end
	quick  bool
}

func run(ctx context.Context, quick bool, out, only string) (err error) {
	chosen, err := named(only)
	if err != nil {
		return err
	}
	folder, err := os.MkdirTemp("", "ocelot-bench-")
	if err != nil {
		return fmt.Errorf("make a folder for the data: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(folder)) }()
	b := &bench{folder: folder, quick: quick}
	begun := time.Now()
	var figures []figure
	for _, p := range chosen {
		log.Printf("measuring %s", p.name)
		found, err := p.measure(ctx, b)
		if err != nil {
			return fmt.Errorf("measure %s: %w", p.name, err)
		}
		figures = append(figures, found...)
	}
	document := render(describeMachine(), begun, time.Since(begun), figures)
	fmt.Print(table(figures))
	if only != "" {
		return nil
	}
	if err := os.WriteFile(out, []byte(document), 0o644); err != nil {
		return fmt.Errorf("write the figures: %w", err)
	}
	log.Printf("wrote %s", out)
	return nil
}
