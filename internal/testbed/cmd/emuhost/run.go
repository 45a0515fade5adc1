package main

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"minivmm/guestimages/agent"
	"minivmm/guestimages/cache"
	"minivmm/internal/testbed/emuhost"
)

// options are the flags of the commands run and exec.
type options struct {
	config  emuhost.Config
	timeout time.Duration
	env     list
	shares  list
}

// list is a flag that may be given more than once.
type list []string

func (l *list) String() string { return strings.Join(*l, " ") }

func (l *list) Set(v string) error {
	*l = append(*l, v)
	return nil
}

func newFlags(command string, o *options) *flag.FlagSet {
	o.config = emuhost.DefaultConfig()
	f := flag.NewFlagSet("emuhost "+command, flag.ContinueOnError)
	f.StringVar(&o.config.Kernel, "kernel", cmp.Or(os.Getenv("MINIVMM_HOST_KERNEL"), o.config.Kernel),
		"host kernel: 6.12, 6.1 or newest; MINIVMM_HOST_KERNEL sets the default")
	f.IntVar(&o.config.CPUs, "cpus", o.config.CPUs, "number of host CPUs; 1 with -icount")
	f.IntVar(&o.config.MemoryMiB, "memory", o.config.MemoryMiB, "host memory in MiB")
	f.BoolVar(&o.config.Icount, "icount", false, "make the host's clock count instructions, 1 ns each")
	f.DurationVar(&o.timeout, "timeout", 0, "stop the host after this time; 0 means no limit")
	f.Var(&o.shares, "share", "folder that is writable in the host and keeps its changes; may be repeated")
	f.Var(&o.env, "env", "KEY=VALUE for the command; may be repeated")
	return f
}

// parse parses the flags, sets the options that depend on several flags, and checks -env. If args
// ask for help, the error has exit status 0.
func (o *options) parse(f *flag.FlagSet, args []string) error {
	switch err := f.Parse(args); {
	case errors.Is(err, flag.ErrHelp):
		return &statusError{status: 0}
	case err != nil:
		return &statusError{status: statusUsage} // the flag set has printed the error
	}
	cpusGiven := false
	f.Visit(func(given *flag.Flag) { cpusGiven = cpusGiven || given.Name == "cpus" })
	if o.config.Icount && !cpusGiven {
		o.config.CPUs = 1
	}
	for _, dir := range o.shares {
		abs, err := filepath.Abs(dir)
		if err != nil {
			return err
		}
		o.config.Shares = append(o.config.Shares, abs)
	}
	for _, kv := range o.env {
		if !strings.Contains(kv, "=") {
			return &statusError{statusUsage, fmt.Errorf("-env %s: want KEY=VALUE", kv)}
		}
	}
	return nil
}

// run implements "emuhost run".
func run(ctx context.Context, c *cache.Cache, args []string) error {
	var o options
	f := newFlags("run", &o)
	if err := o.parse(f, args); err != nil {
		return err
	}
	if f.NArg() == 0 {
		return &statusError{statusUsage, errors.New("run: no program given")}
	}
	return o.inHost(ctx, c, agent.Command{Argv: f.Args(), Terminal: terminalSize()})
}

// inHost runs the command in the emulated host, with this process's standard streams, environment
// and working directory. If the command gets a terminal, this process's terminal is in raw mode
// while the emulated host runs.
func (o *options) inHost(ctx context.Context, c *cache.Cache, command agent.Command) error {
	h, err := emuhost.Prepare(ctx, c, o.config)
	if err != nil {
		return err
	}
	if command.Dir, err = os.Getwd(); err != nil {
		return err
	}
	command.Env = slices.Concat(os.Environ(), []string{emuhost.ClockEnv + "=" + o.config.Clock()}, o.env)
	streams := agent.Streams{Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr}
	// go test sends SIGQUIT at its time limit, so that the test prints the stacks of all
	// goroutines.
	quit := make(chan os.Signal, 1)
	signal.Notify(quit, syscall.SIGQUIT)
	defer signal.Stop(quit)
	streams.Signals = quit
	if o.timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, o.timeout, timedOut{o.timeout})
		defer cancel()
	}
	restore := func() {}
	if command.Terminal != nil {
		if streams.Resize, restore, err = takeTerminal(); err != nil {
			return err
		}
	}
	exit, err := h.Run(ctx, command, streams)
	restore()
	if exit.Code() == 0 {
		return err
	}
	return &statusError{exit.Code(), err}
}

// timedOut is the cause (context.Cause) of a context whose time limit was exceeded.
type timedOut struct{ limit time.Duration }

func (t timedOut) Error() string { return fmt.Sprintf("time limit of %v exceeded", t.limit) }
