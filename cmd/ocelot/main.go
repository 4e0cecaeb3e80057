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
	"syscall"
	"time"

	"github.com/alecthomas/kong"
	"golang.org/x/term"
)

// The exit codes.
const (
	exitOK      = 0
	exitFailure = 1
	exitUsage   = 2
)

// commands is the grammar of the command line.
type commands struct {
	Dev     devCmd     `cmd:"" help:"Run the service on this machine."`
	Token   tokenCmd   `cmd:"" help:"Print a token signed with the development key of a data folder."`
	Send    sendCmd    `cmd:"" help:"Send entries from files or standard input."`
	Search  searchCmd  `cmd:"" help:"List entries, the newest first."`
	Tail    tailCmd    `cmd:"" help:"Follow the live stream of entries."`
	Stats   statsCmd   `cmd:"" help:"Count entries by field and over time."`
	Redrive redriveCmd `cmd:"" help:"Move dead letters back to their queues."`
	Version versionCmd `cmd:"" help:"Print the version of this program."`
}

// console is what a command talks to.
type console struct {
	in       io.Reader
	out, err io.Writer
	// outTerminal and errTerminal say that a person is watching; width is of the
	// terminal at out in columns, 0 where there is none.
	outTerminal, errTerminal bool
	width                    int
	now                      func() time.Time
	random                   func(b []byte)
}

// usageError is a command line that cannot be meant.
type usageError struct{ err error }

func (e *usageError) Error() string { return e.err.Error() }

func (e *usageError) Unwrap() error { return e.err }

func usagef(format string, args ...any) error { return &usageError{fmt.Errorf(format, args...)} }

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	// The first Ctrl-C asks the command to end, the second ends it.
	context.AfterFunc(ctx, stop)
	code := run(ctx, os.Args[1:], newConsole())
	stop()
	os.Exit(code)
}

func newConsole() *console {
	c := &console{
		in: os.Stdin, out: os.Stdout, err: os.Stderr, now: time.Now,
		random: func(b []byte) { _, _ = rand.Read(b) }, // never fails, see crypto/rand
	}
	c.outTerminal = term.IsTerminal(int(os.Stdout.Fd()))
	c.errTerminal = term.IsTerminal(int(os.Stderr.Fd()))
	if width, _, err := term.GetSize(int(os.Stdout.Fd())); err == nil {
		c.width = width
	}
	return c
}

// exited ends the parsing of a command line that only asks for help.
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
		kong.Description("The command line of Ocelot, the audit-log service. Exit codes: 0 done, 1 failed, 2 not understood."),
		kong.Writers(con.out, con.err),
		kong.Exit(func(code int) { panic(exited(code)) }),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true, WrapUpperBound: 100}),
		kong.BindTo(ctx, (*context.Context)(nil)),
		kong.Bind(con),
	)
	if err != nil {
		panic(err) // the grammar is fixed
	}
	if len(args) == 0 {
		args = []string{"--help"}
	}
	command, err := parser.Parse(args)
	if err != nil {
		return con.fail(&usageError{err})
	}
	return con.fail(command.Run())
}

// fail tells the error, if any, and returns the exit code that goes with it.
func (c *console) fail(err error) int {
	if err == nil {
		return exitOK
	}
	if !errors.Is(err, errToldAlready) {
		c.complain("ocelot: %s", err)
	}
	var usage *usageError
	if errors.As(err, &usage) {
		c.complain("Run ocelot --help, or ocelot <command> --help.")
		return exitUsage
	}
	return exitFailure
}

// errToldAlready is a failure whose reasons are on standard error already.
var errToldAlready = errors.New("failed")

// complain writes a line to standard error. Nothing in it can steer a terminal.
// There is nobody left to tell when that fails.
func (c *console) complain(format string, args ...any) {
	_, _ = fmt.Fprintln(c.err, printable(fmt.Sprintf(format, args...)))
}
