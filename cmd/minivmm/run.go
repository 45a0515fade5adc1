package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"minivmm/internal/terminal"
	"minivmm/vmm"
	"minivmm/vmm/namespace"
)

// startFunc makes the machine, runs it until it ends, and closes it. The code is one of exit.go's, and only exitStopped
// when the machine ended because ctx did; an error that comes with exitPoweredOff is given the code that exitCode knows for it.
type startFunc func(ctx context.Context, plan vmm.Plan, opt startOptions) (exitCode int, err error)

// startOptions is what a machine gets from the command line beside its configuration.
type startOptions struct {
	Verbose bool      // print the machine's workers, and what else a person may want to see
	Log     io.Writer // messages for people, whole lines
	Console io.Writer // the guest's output; Write takes everything and never waits
	Ports   []vmm.Port

	AnyName bool           // the machine was given no name: any will do
	Stop    func(now bool) // end the machine as SIGTERM does, or at once; never waits

	// Attach is called once, when the guest is about to run: from then on signals press its power button and typing reaches it.
	Attach func(machine)
}

// machine is what the command line needs of a running one. The methods are called from goroutines of the command line's.
type machine interface {
	PowerButton()        // ask the guest to power off; must not wait for it
	ConsoleInput() Input // the guest's serial port
}

const runHelp = `Run a machine in the foreground until its guest powers off.

The configuration comes from FILE, from flags, or from both; flags win. On a terminal, Ctrl-A x ends
the machine, Ctrl-A Ctrl-A sends a Ctrl-A and Ctrl-A h prints help.

Without a kernel the machine gets a default guest: a kernel that minivmm keeps, or fetches the first
time, and minivmm's own init in memory. It runs COMMAND, or a shell, or what the image of --image
runs; standard input, output and error are the command's, and so is the exit code once it has run:
128 plus its number for a signal that ended it, 127 if it cannot be started, 125 if the guest cannot
be made ready for it. A guest that ends before its command does is an error, which is printed.
With root= in --cmdline and no COMMAND, the system on that disk is started instead; a guest that
finds none there crashes.

SIGTERM, SIGINT and SIGHUP press the guest's power button; a second one, or the end of
machine.shutdown_timeout, ends the guest at once. A guest that powers off in time gives 0, or 128
plus the signal's number if a command ended with it.

In the values of --net and --disk two commas stand for one, and a key without a value is switched on.
When one of them is given, it replaces the file's whole list.

`

func newRunCommand(start startFunc, stdin, stdout *os.File, stderr io.Writer, code *int) *cobra.Command {
	var verbose, dryRun bool
	cmd := &cobra.Command{
		Use:   "run [FILE] [-- COMMAND...]",
		Short: "Run a machine",
		Long:  runHelp + exitHelp(),
		Example: "  minivmm run -- uname -a\n" +
			"  minivmm run debian.toml\n" +
			"  minivmm run debian.toml --memory 2G --disk other.img,readonly\n" +
			"  minivmm run --kernel vmlinuz --initrd initrd.cpio --net auto --disk disk.img",
	}
	cmd.Args = args(func(cmd *cobra.Command, args []string) error {
		files, _ := beforeDash(cmd, args)
		return cobra.MaximumNArgs(1)(cmd, files)
	})
	flags := cmd.Flags()
	flags.SortFlags = false
	w := newWords(flags)
	flags.BoolVarP(&verbose, "verbose", "v", false, "print the machine's workers")
	flags.BoolVar(&dryRun, "dry-run", false, "print the resolved configuration as TOML, and start nothing")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		files, command := beforeDash(cmd, args)
		file := ""
		if len(files) == 1 {
			file = files[0]
			if file == "" {
				return usageError{errors.New("FILE is empty")}
			}
		}
		cfg, err := load(file, w.settings())
		if err != nil {
			return err
		}
		if dryRun {
			_, err := cmd.OutOrStdout().Write(cfg.TOML())
			return err
		}
		ours, err := runsOurInit(cfg, command)
		if err != nil {
			return err
		}
		var ports []string
		if ours {
			ports = append(ports, channelName)
		}
		left, over, err := enterNamespaces(cmd.Context(), cfg, ports, cmd.ErrOrStderr())
		if left || err != nil {
			*code = over
			return err
		}
		plan, notes := vmm.Resolve(cfg, ports...)
		for _, line := range notes {
			fmt.Fprintf(cmd.ErrOrStderr(), "minivmm: %s\n", line)
		}
		if err := furnishOrSignal(cmd.Context(), &plan, cmd.ErrOrStderr()); err != nil {
			return err
		}
		var ch *channel
		if ours {
			ch = openChannel(command, stdin, stdout, stderr)
		}
		opt := startOptions{Verbose: verbose, AnyName: file == "" && !flags.Changed("name")}
		*code, err = run(cmd.Context(), start, opt, plan, ch, stdin, stdout, stderr)
		return err
	}
	return cmd
}

// beforeDash splits the arguments at "--".
func beforeDash(cmd *cobra.Command, args []string) (before, after []string) {
	if at := cmd.ArgsLenAtDash(); at >= 0 {
		return args[:at], args[at:]
	}
	return args, nil
}

// furnishOrSignal is furnishGuest, which may fetch and build, until a signal ends it.
func furnishOrSignal(ctx context.Context, plan *vmm.Plan, log io.Writer) error {
	ctx, stop := interruptible(ctx)
	defer stop()
	err := furnishGuest(ctx, plan, log)
	if err != nil && ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return imageError(err)
}

// run is the life of one machine; the rest of opt is run's to fill. ch is nil where the guest is not minivmm's own: its console is all there is to see then.
func run(ctx context.Context, start startFunc, opt startOptions, plan vmm.Plan, ch *channel, stdin, stdout *os.File, stderr io.Writer) (code int, err error) {
	// A reader of our output that went away must not end the machine: with a handler, writing gives EPIPE instead.
	pipe := make(chan os.Signal, 1)
	signal.Notify(pipe, syscall.SIGPIPE)
	defer signal.Stop(pipe)
	signals := make(chan os.Signal, 4)
	// Never stopped: a signal that comes when the machine has ended would take the place of its exit code.
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP)
	namespace.Ready()

	serial, typed, raw := io.Writer(stdout), false, true
	if ch != nil {
		serial, typed, raw = stderr, true, ch.terminal
	}
	con, err := openConsole(plan.Console, stdin, serial, typed, raw)
	if err != nil {
		return exitCode(err), err
	}
	log := terminal.Writer{W: con.Log(stderr)}
	defer func() {
		if lost := con.Close(); lost != nil {
			fmt.Fprintf(terminal.Writer{W: stderr}, "minivmm: %v\n", lost)
		}
	}()

	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	attached, done, ended := make(chan machine, 1), make(chan struct{}), make(chan struct{})
	ending := &shutdown{grace: plan.Machine.ShutdownTimeout.Duration, stop: stop, log: log, after: time.After}
	go guard(func() {
		defer close(ended)
		ending.watch(signals, con.Left(), attached, done)
	})
	unwatch := sync.OnceFunc(func() {
		close(done)
		<-ended
	})
	defer unwatch()

	opt.Log, opt.Console = log, con.Output()
	opt.Attach = func(m machine) {
		attached <- m
		con.Attach(m.ConsoleInput())
	}
	opt.Stop = func(now bool) {
		if now {
			stop(signalError{syscall.SIGTERM})
			return
		}
		select {
		case signals <- syscall.SIGTERM:
		default: // as many wait to be seen already
		}
	}
	if ch != nil {
		opt.Ports = []vmm.Port{{Name: channelName, Conn: ch.guest}}
		opt.Console = ch.console(opt.Console)
		opt.Attach = func(m machine) {
			attached <- m
			con.Attach(ch.typing)
		}
		go guard(func() { ch.run(func(err error) { stop(channelError{err}) }) })
	}
	code, err = start(ctx, plan, opt)
	if ch != nil {
		unwatch()
		ch.close(flushTime)
		if code != exitStopped && err == nil {
			return ch.result(code, ending.pressed)
		}
	}
	switch {
	case code == exitStopped:
		code, cause := stopCode(context.Cause(ctx))
		return code, errors.Join(cause, err)
	case code == exitPoweredOff && err != nil:
		return exitCode(err), err
	}
	return code, err
}
