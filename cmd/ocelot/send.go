package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"sync"
	"time"

	"github.com/schollz/progressbar/v3"
	"golang.org/x/sync/errgroup"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/client"
	"github.com/ocelot-audit/ocelot/pkg/importers"
	"github.com/ocelot-audit/ocelot/pkg/ingest"
)

// maxBatchText keeps a request below audit.MaxBulkWire even where nothing of
// it can be compressed.
const maxBatchText = audit.MaxBulkWire - 64<<10 - maxText

type sendCmd struct {
	serviceFlags
	Format      formatFlag `default:"auto" placeholder:"FORMAT" help:"What the files have: auto recognizes each record. ndjson and json are entries, on lines or in any layout. cloudtrail, github, okta, gcp and k8s are audit logs of these services."`
	Rejects     string     `placeholder:"FILE" help:"A new file for rejected entries, to mend and send again."`
	Batch       int        `default:"500" help:"Entries in one request, up to 1,000."`
	Concurrency int        `default:"2" help:"Requests at the same time, up to 64."`
	LineKey     string     `env:"OCELOT_LINE_KEY" placeholder:"KEY" help:"Key for lines without an identity, as 64 hexadecimal digits. By default that of the file line.key in the user's configuration folder. Prefer OCELOT_LINE_KEY: other users can see a command line."`
	Files       []string   `arg:"" optional:"" name:"file" help:"Files, folders or patterns. Standard input if there is none, or for -."`
}

// formatFlag is the value of --format.
type formatFlag struct{ importers.Format }

// UnmarshalText parses the name of a format.
func (f *formatFlag) UnmarshalText(text []byte) (err error) {
	f.Format, err = importers.ParseFormat(string(text))
	return err
}

// Help is what --help adds.
func (*sendCmd) Help() string {
	return `Files may be compressed with gzip or zstd, and be UTF-8 or UTF-16. Of a folder, every file below is read whose name ends in .json,
.jsonl, .ndjson or .log, with or without .gz or .zst. Records of AWS CloudTrail are found in log files, arrays, lines, answers of
lookup-events, events of EventBridge and subscriptions of CloudWatch Logs. The metadata of an entry is the whole record.

ocelot repeats requests until the service answers, and sends entries again that the service rejects for now (status 503). After
eight attempts these count as rejected. Nothing is stored twice. An entry without an id and an idempotency key gets
one. With a timestamp, the idempotency key is an HMAC of the line and its number among equal lines: equal lines are as many entries, in
one file or in several of one run, and you can send the same files again. After two million different lines without a key, the numbers
also depend on the order of the lines. The HMAC's key is made at first use and kept in the file line.key of the user's configuration
folder. To send the same files from another machine, give it with OCELOT_LINE_KEY. Without a timestamp, the entry gets the time and a random id, which prevents duplicates within
this run only.

The last line of standard output is one JSON object:
{"accepted":n,"duplicate":n,"filtered":n,"expired":n,"rejected":n,"skipped":n}. "accepted" counts entries that the service stores or
had stored already. "skipped" counts what was passed over, such as digest files. Standard error names each rejected entry with its
file, line and reason. At its end ocelot waits up to 30 seconds until the entries are stored, and names those whose identity another
entry had with other content. These are in quarantine. It needs quarantine:read and logs:read, and otherwise says that they are
unchecked. The file of --rejects keeps it with its identity, unless it is longer than 16 MiB. After a rejected
entry, one in quarantine or another failure the exit code is 1.`
}

// Validate checks the numbers.
func (c *sendCmd) Validate() error {
	if c.Batch < 1 || c.Batch > audit.MaxBulkEntries {
		return fmt.Errorf("--batch must be from 1 to %d", audit.MaxBulkEntries)
	}
	if c.Concurrency < 1 || c.Concurrency > 64 {
		return errors.New("--concurrency must be from 1 to 64")
	}
	return nil
}

// Run sends the inputs.
func (c *sendCmd) Run(ctx context.Context, con *console) error {
	service, err := c.connect()
	if err != nil {
		return err
	}
	paths, err := inputs(c.Files)
	if err == nil {
		err = c.reach()
	}
	if err != nil {
		return err
	}
	rejects, err := newRejects(c.Rejects)
	if err != nil {
		return err
	}
	s := &sending{client: service, con: con, batch: c.Batch, bar: newProgress(con, paths), rejects: rejects}
	f := &feed{
		arguments: paths, stdin: con.in, format: c.Format.Format, progress: s.read,
		identify: (&identifier{now: con.now, random: con.random, key: (&lineKey{c.LineKey, s.note}).key}).identify,
	}
	started := time.Now()
	err = s.run(ctx, f.all(ctx), c.Concurrency)
	if err == nil {
		s.checkConflicts(ctx, started)
	}
	if closeErr := rejects.close(); err == nil {
		err = closeErr
	}
	s.finish()
	if printErr := s.print(); printErr != nil {
		return printErr
	}
	if err != nil {
		return err
	}
	if s.failed || s.counts.Rejected > 0 {
		return errReported
	}
	return nil
}

// counts is the last line of the output.
type counts struct {
	Accepted  int `json:"accepted"`
	Duplicate int `json:"duplicate"`
	Filtered  int `json:"filtered"`
	Expired   int `json:"expired"`
	Rejected  int `json:"rejected"`
	Skipped   int `json:"skipped"`
}

// sending is one run of the command.
type sending struct {
	client *client.Client
	con    *console
	batch  int // entries in one request

	mu      sync.Mutex // guards what follows
	bar     *progressbar.ProgressBar
	counts  counts
	rejects *rejects
	sent    sent
	failed  bool // an input could not be read to its end, or an entry is in quarantine
}

// maxBatchDelay is how long an entry waits for others to share its request. It
// keeps a slow input (tail -f log | ocelot send) from waiting for a full batch.
const maxBatchDelay = time.Second

// maxReadAhead bounds the entries that are read and not sent yet. Each has up to maxText bytes.
const maxReadAhead = 64

// fedItem is one element of the feed.
type fedItem struct {
	item item
	err  error
}

// run sends the items in batches, several at the same time. It stops at the
// first batch that the service did not take, and when ctx ends.
func (s *sending) run(ctx context.Context, items iter.Seq2[item, error], concurrency int) error {
	group, running := errgroup.WithContext(ctx)
	group.SetLimit(concurrency)
	incoming := readAhead(running, items)
	var batch batch
	flush := func() {
		if full := batch.drain(); len(full) > 0 {
			group.Go(func() error { return s.send(running, full) })
		}
	}
	for more := true; more; {
		select {
		case <-running.Done():
			more = false
		case <-batch.due:
			flush()
		case next, open := <-incoming:
			more = open
			if open && s.accepts(next) && batch.add(next.item, s.batch) {
				flush()
			}
		}
	}
	if running.Err() == nil {
		flush()
	}
	err := group.Wait()
	if err == nil {
		err = context.Cause(ctx)
	}
	if err != nil {
		s.reportStop(batch.drain())
	}
	return err
}

// readAhead reads the items in its own goroutine, since a read of standard input
// cannot be interrupted.
func readAhead(ctx context.Context, items iter.Seq2[item, error]) <-chan fedItem {
	incoming := make(chan fedItem, maxReadAhead)
	go func() {
		defer close(incoming)
		for it, err := range items {
			select {
			case incoming <- fedItem{it, err}:
			case <-ctx.Done():
				return
			}
		}
	}()
	return incoming
}

// accepts reports whether the element is an entry that can be sent. If not, it reports why.
func (s *sending) accepts(next fedItem) bool {
	switch {
	case next.err != nil:
		s.reportFailure(next.err)
		return false
	case next.item.note != "":
		s.skip(next.item)
		return false
	case next.item.reason != "":
		s.reject(next.item, next.item.reason)
		return false
	}
	return true
}

// batch is what goes into the next request.
type batch struct {
	items []item
	size  int              // bytes
	due   <-chan time.Time // fires when its first item has waited for maxBatchDelay; nil while it is empty
}

// add puts an item in and reports whether the batch is full.
func (b *batch) add(it item, limit int) bool {
	if len(b.items) == 0 {
		b.due = time.After(maxBatchDelay)
	}
	b.items = append(b.items, it)
	b.size += len(it.text) + 1
	return len(b.items) == limit || b.size > maxBatchText
}

// drain empties the batch and returns what was in it.
func (b *batch) drain() []item {
	items := b.items
	*b = batch{}
	return items
}

// send sends one batch and counts its outcome.
func (s *sending) send(ctx context.Context, items []item) error {
	texts := make([][]byte, len(items))
	for i, it := range items {
		texts[i] = it.text
	}
	answer, err := s.client.Bulk(ctx, texts)
	if err != nil {
		s.reportFailure(fmt.Errorf("%s to %s not acknowledged: %w", items[0].place, items[len(items)-1].place, err))
		return errReported
	}
	s.count(items, answer)
	for _, outcome := range answer.Items {
		if outcome.Status == ingest.Rejected {
			reason := "rejected without a reason"
			if outcome.Error != nil && outcome.Error.Reason() != "" {
				reason = outcome.Error.Reason()
			}
			s.reject(items[outcome.Index], reason)
		}
	}
	return nil
}

// count adds what the service took. reject counts the rejected entries.
func (s *sending) count(items []item, answer client.Bulk) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sent.add(items, answer)
	s.counts.Accepted += answer.Accepted
	s.counts.Duplicate += answer.Duplicate
	s.counts.Filtered += answer.Filtered
	s.counts.Expired += answer.Expired
	if s.bar != nil {
		s.bar.Describe(fmt.Sprintf("%d entries", s.counts.Accepted+s.counts.Duplicate+s.counts.Filtered+s.counts.Expired))
	}
}

// reject counts one entry, keeps it for --rejects and reports why.
func (s *sending) reject(it item, reason string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.counts.Rejected++
	s.report("%s: %s", it.place, reason)
	if err := s.rejects.keep(it); err != nil {
		s.failed = true
		s.report("ocelot: %s", err)
	}
}

// skip counts what is passed over and reports why.
func (s *sending) skip(it item) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.counts.Skipped += max(it.passed, 1)
	s.report("%s: %s", it.place, it.note)
}

// reportFailure reports an input that could not be read or sent to its end.
func (s *sending) reportFailure(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.failed = true
	s.report("ocelot: %s", err)
}

// reportStop reports that the rest of the input was not sent, from the first of
// these items on if there are any.
func (s *sending) reportStop(rest []item) {
	if len(rest) > 0 {
		s.reportFailure(fmt.Errorf("stopped: %s and what follows was not sent", rest[0].place))
		return
	}
	s.reportFailure(errors.New("stopped: the rest of the input was not sent"))
}

// note reports what is no failure.
func (s *sending) note(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.report(format, args...)
}

// report writes a line in place of the progress bar, which comes back by
// itself. The bar is decoration: it is not a failure if it cannot be drawn.
func (s *sending) report(format string, args ...any) {
	if s.bar != nil {
		_ = s.bar.Clear()
	}
	s.con.report(format, args...)
}

// read moves the progress bar.
func (s *sending) read(n int) {
	if s.bar == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	_ = s.bar.Add(n)
}

func (s *sending) finish() {
	if s.bar != nil {
		_ = s.bar.Clear()
	}
}

// print writes the counts.
func (s *sending) print() error {
	line, err := json.Marshal(s.counts)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(s.con.out, "%s\n", line)
	return err
}

// newProgress returns a bar over the bytes of the inputs, on standard error;
// nil if the output is not a terminal.
func newProgress(con *console, paths []string) *progressbar.ProgressBar {
	if !con.errTerminal {
		return nil
	}
	return newBar(totalSize(paths), con.err)
}

func newBar(total int64, w io.Writer) *progressbar.ProgressBar {
	return progressbar.NewOptions64(total, progressbar.OptionSetWriter(w), progressbar.OptionShowBytes(true),
		progressbar.OptionSetDescription("0 entries"), progressbar.OptionThrottle(100*time.Millisecond), progressbar.OptionFullWidth())
}
