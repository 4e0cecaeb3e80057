// Command ocelot is Ocelot's command line: it runs the service on a laptop,
// sends entries to a service and reads them back.
package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/alecthomas/kong"
	"golang.org/x/term"

	"github.com/ocelot-audit/ocelot/pkg/backoff"
	"github.com/ocelot-audit/ocelot/pkg/local/localcloud"
)

// The exit codes.
const (
	exitOK      = 0
	exitFailure = 1
	exitUsage   = 2
)

// commands is the grammar of the command line.
type commands struct {
	ShowVersion versionFlag `name:"version" help:"Print the version of this program."`

	Dev     devCmd     `cmd:"" help:"Run the service on this machine."`
	Token   tokenCmd   `cmd:"" help:"Print a token signed with the development key of a data folder."`
	Send    sendCmd    `cmd:"" help:"Send entries from files or standard input."`
	Search  searchCmd  `cmd:"" help:"List entries, the newest first."`
	Get     getCmd     `cmd:"" help:"Print one entry with its status."`
	Tail    tailCmd    `cmd:"" help:"Follow the live stream of entries."`
	Pull    pullCmd    `cmd:"" help:"Copy entries in the order of their arrival, each once, for cron and agents."`
	Export  exportCmd  `cmd:"" help:"Write entries to a file: NDJSON, JSON, CSV or Parquet. Administer exports."`
	Cleanup cleanupCmd `cmd:"" help:"Remove entries before their end."`
	Stats   statsCmd   `cmd:"" help:"Count entries by field and over time."`
	Cost    costCmd    `cmd:"" help:"Price a workload on AWS, part by part."`
	Redrive redriveCmd `cmd:"" help:"Move dead letters back to their queues."`
	Requeue requeueCmd `cmd:"" help:"Store again what only the search index has."`
	Invoke  invokeCmd  `cmd:"" help:"Run a scheduled function of a running service now."`

	Tenant     tenantCmd     `cmd:"" help:"Administer tenants."`
	APIKey     apiKeyCmd     `cmd:"" name:"api-key" help:"Administer the API keys of a tenant."`
	Quarantine quarantineCmd `cmd:"" help:"Administer entries that a step refused."`
	Erasure    erasureCmd    `cmd:"" help:"Erase what is encrypted about a person."`
	LegalHold  legalHoldCmd  `cmd:"" help:"Keep entries from being removed."`
	Restore    restoreCmd    `cmd:"" help:"Bring archived entries back for some days."`
	Job        jobCmd        `cmd:"" help:"Administer long-running jobs."`

	Certificate certificateCmd `cmd:"" help:"Read and verify certificates of erasures."`

	Completion completionCmd `cmd:"" help:"Print a script that completes command lines."`

	Version versionCmd `cmd:"" help:"Print the version of this program."`
}

// console is the terminal or pipes of a command, its clock, its time zone and its random source.
type console struct {
	in       io.Reader
	out, err io.Writer
	// outTerminal and errTerminal say whether a person is watching. width is the
	// terminal's at out in columns, 0 if out is none.
	outTerminal, errTerminal bool
	width                    int
	now                      func() time.Time
	zone                     *time.Location // of this machine
	random                   func(b []byte)
	// pause waits for d. It returns the context's error if the context ends first.
	pause func(ctx context.Context, d time.Duration) error
}

// usageError is a wrong command line; the program exits with exitUsage.
type usageError struct{ err error }

func (e *usageError) Error() string { return e.err.Error() }

func (e *usageError) Unwrap() error { return e.err }

func usagef(format string, args ...any) error { return &usageError{fmt.Errorf(format, args...)} }

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	// The first Ctrl-C asks the command to end. The second one kills it.
	context.AfterFunc(ctx, stop)
	code := run(ctx, os.Args[1:], newConsole())
	stop()
	os.Exit(code)
}

func newConsole() *console {
	c := &console{
		in: os.Stdin, out: os.Stdout, err: os.Stderr, now: time.Now, zone: time.Local, pause: backoff.Sleep,
		random: func(b []byte) { _, _ = rand.Read(b) }, // never fails, see crypto/rand
	}
	c.outTerminal = term.IsTerminal(int(os.Stdout.Fd()))
	c.errTerminal = term.IsTerminal(int(os.Stderr.Fd()))
	if width, _, err := term.GetSize(int(os.Stdout.Fd())); err == nil {
		c.width = width
	}
	return c
}

// exited ends the parsing of a command line after --help.
type exited int

// run does what the arguments say and returns the exit code.
func run(ctx context.Context, args []string, con *console) (code int) {
	defer func() {
		switch v := recover().(type) {
		case nil:
		case exited:
			code = int(v)
		default:
			panic(v)
		}
	}()
	parser, err := kong.New(&commands{},
		kong.Name("ocelot"),
		kong.Description("The command line of Ocelot, the audit-log service. Exit codes: 0 success, 1 failure, 2 wrong usage."),
		kong.Writers(con.out, con.err),
		kong.Exit(func(code int) { panic(exited(code)) }),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true, WrapUpperBound: 100}),
		kong.BindTo(ctx, (*context.Context)(nil)),
		kong.Bind(con),
		kong.Vars{"schedules": strings.Join(localcloud.ScheduledFunctions(), ",")},
	)
	if err != nil {
		panic(err) // the grammar is fixed
	}
	command, err := parser.Parse(withHelp(parser.Model.Node, args))
	if err != nil {
		return con.fail(&usageError{withQueryHint(err, args)})
	}
	return con.fail(command.Run())
}

// withQueryHint adds to the error of a command line what it may be about: a query such as
// -action:VIEW looks like flags.
func withQueryHint(err error, args []string) error {
	var parsing *kong.ParseError
	if !errors.As(err, &parsing) || slices.Contains(args, "--") {
		return err
	}
	node := parsing.Context.Selected()
	if node != nil && node.DefaultCmd != nil {
		node = node.DefaultCmd
	}
	if node == nil || !slices.ContainsFunc(node.Positional, func(p *kong.Positional) bool { return p.Name == "query" }) {
		return err
	}
	i := slices.IndexFunc(args, func(arg string) bool {
		return excludes.MatchString(arg) && strings.HasPrefix(err.Error(), "unknown flag "+arg[:2])
	})
	if i < 0 {
		return err
	}
	return fmt.Errorf("%w; put -- before a query that begins with a hyphen: %s -- %s", err, node.FullPath(), shellWord(args[i]))
}

// excludes matches a term of a query that excludes entries.
var excludes = regexp.MustCompile(`^-["\w]{2}`)

// withHelp returns the arguments with --help for the word help. It stands first, or among the
// names of commands alone: elsewhere it is a word to search for, or the name of a file.
func withHelp(root *kong.Node, args []string) []string {
	isHelp := func(arg string) bool { return arg == "help" }
	others := slices.DeleteFunc(slices.Clone(args), isHelp)
	switch {
	case len(args) == 0:
		return []string{"--help"}
	case isHelp(args[0]), len(others) < len(args) && nameCommand(root, others):
		return append(others, "--help")
	}
	return args
}

// nameCommand reports whether the words lead from the node to a command.
func nameCommand(node *kong.Node, words []string) bool {
	for _, word := range words {
		i := slices.IndexFunc(node.Children, func(c *kong.Node) bool { return c.Name == word })
		if i < 0 {
			return false
		}
		node = node.Children[i]
	}
	return true
}

// fail reports the error, if any, and returns the exit code for it.
func (c *console) fail(err error) int {
	if err == nil {
		return exitOK
	}
	if !errors.Is(err, errReported) {
		c.report("ocelot: %s", err)
	}
	var usage *usageError
	if errors.As(err, &usage) {
		c.report("Run ocelot --help, or ocelot <command> --help.")
		return exitUsage
	}
	return exitFailure
}

// errReported is a failure that is on standard error already.
var errReported = errors.New("failed")

// report writes a line to standard error, with control characters spelled out.
// An error of that write has no one to go to.
func (c *console) report(format string, args ...any) {
	_, _ = fmt.Fprintln(c.err, printable(fmt.Sprintf(format, args...)))
}
