// Command bench measures what Ocelot promises and writes the results as tables:
// docs/performance.md and other pages beside it. A ratio is measured in one run on one machine,
// with its two sides in turn. It is the median of the ratios of neighbours, so that what else the
// machine does affects both sides.
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
	quick := flag.Bool("quick", false, "leave out what needs 1,000,000 entries, and send fewer beside the floor")
	out := flag.String("out", filepath.Join("docs", "performance.md"), "file to write")
	only := flag.String("only", "", "only the parts and pages with these names, separated by commas: figures are printed and not written, a page is written")
	entries := flag.Int("entries", walkedEntries, "entries that are stored before the walk of the part arrival begins; 1000000 takes minutes")
	flag.Parse()
	if err := run(ctx, &bench{quick: *quick, entries: *entries}, *out, *only); err != nil {
		log.Print(err)
		os.Exit(1)
	}
}

// part is a group of figures that are measured together. docs/performance.md has those of all
// parts.
type part struct {
	name    string
	measure func(context.Context, *bench) ([]figure, error)
}

func parts() []part {
	return []part{
		{"ingest", measureIngest},
		{"encryption", measureEncryption},
		{"sqs", measureSQS},
		{"beside", measureBeside},
		{"embedded", measureEmbedded},
		{"latency", measureLatency},
		{"fairness", measureFairness},
		{"removal", measureRemoval},
		{"memory", measureMemory},
		{"stream", measureStream},
		{"arrival", measureArrival},
		{"counts", measureCounts},
		{"pages", measurePages},
		{"lambda", measureLambda},
	}
}

// page is a document of its own, beside docs/performance.md.
type page struct {
	name  string // of the file, without its extension
	write func(context.Context, *bench) (string, error)
	// named is set if the page is written only if it is named: it needs engines.
	named bool
}

func pages() []page {
	return []page{
		{name: "scale", write: func(context.Context, *bench) (string, error) { return scalePage() }},
		{name: "queries", write: queriesPage, named: true},
	}
}

// chosen returns the parts and pages with these names, separated by commas. For "" it returns
// all parts, and all pages that need no name.
func chosen(names string) (measured []part, written []page, err error) {
	if names == "" {
		return parts(), slices.DeleteFunc(pages(), func(p page) bool { return p.named }), nil
	}
	for name := range strings.SplitSeq(names, ",") {
		i := slices.IndexFunc(parts(), func(p part) bool { return p.name == name })
		j := slices.IndexFunc(pages(), func(p page) bool { return p.name == name })
		switch {
		case i >= 0:
			measured = append(measured, parts()[i])
		case j >= 0:
			written = append(written, pages()[j])
		default:
			return nil, nil, fmt.Errorf("%q is no part and no page", name)
		}
	}
	return measured, written, nil
}

// bench is what the parts share.
type bench struct {
	folder string // for everything that is built and stored; removed at the end
	quick  bool
	// entries is how many the walk of the arrival log finds stored.
	entries int
}

func run(ctx context.Context, b *bench, out, only string) (err error) {
	measured, written, err := chosen(only)
	if err != nil {
		return err
	}
	folder, err := os.MkdirTemp("", "ocelot-bench-")
	if err != nil {
		return fmt.Errorf("make a folder for the data: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(folder)) }()
	b.folder = folder
	for _, p := range written {
		log.Printf("writing %s", p.name)
		document, err := p.write(ctx, b)
		if err != nil {
			return fmt.Errorf("write %s: %w", p.name, err)
		}
		if err := writeFile(filepath.Join(filepath.Dir(out), p.name+".md"), document); err != nil {
			return err
		}
	}
	if len(measured) == 0 {
		return nil
	}
	document, err := measure(ctx, b, measured)
	if err != nil || only != "" {
		return err
	}
	return writeFile(out, document)
}

// measure measures the parts, prints their figures and returns docs/performance.md.
func measure(ctx context.Context, b *bench, measured []part) (document string, err error) {
	begun := time.Now()
	var figures []figure
	for _, p := range measured {
		log.Printf("measuring %s", p.name)
		found, err := p.measure(ctx, b)
		if err != nil {
			return "", fmt.Errorf("measure %s: %w", p.name, err)
		}
		figures = append(figures, found...)
	}
	fmt.Print(table(figures))
	return render(describeMachine(), begun, time.Since(begun), figures), nil
}

func writeFile(path, document string) error {
	if err := os.WriteFile(path, []byte(document), 0o644); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	log.Printf("wrote %s", path)
	return nil
}
