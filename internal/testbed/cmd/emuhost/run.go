package main

import (
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

// options are the flags of run and exec.
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
	f.StringVar(&o.config.Kernel, "kernel", envOr("MINIVMM_HOST_KERNEL", o.config.Kernel), "host kernel, 6.12 or 6.1; MINIVMM_HOST_KERNEL sets the default")
	f.IntVar(&o.config.CPUs, "cpus", o.config.CPUs, "number of host CPUs; 1 with -icount")
	f.IntVar(&o.config.MemoryMiB, "memory", o.config.MemoryMiB, "host memory in MiB")
	f.BoolVar(&o.config.Icount, "icount", false, "make the host's clock count instructions, 1 ns each")
	f.DurationVar(&o.timeout, "timeout", 0, "stop the host after this time; 0 means no limit")
	f.Var(&o.shares, "share", "folder that is writable in the host and keeps its changes; may be repeated")
	f.Var(&o.env, "env", "KEY=VALUE for the command; may be repeated")
	return f
}

func envOr(key, otherwise string) string {
	if v := os.Getenv(key); v != "" {
		return v
	}
	return otherwise
}

// parse parses the flags. A request for help has exit status 0.
func parse(f *flag.FlagSet, args []string) error {
	err := f.Parse(args)
	if errors.Is(err, flag.ErrHelp) {
		return &statusError{status: 0}
	}
	if err != nil {
		return &statusError{status: statusUsage} // the flag set has printed the error
	}
	return nil
}

// finish sets the options that depend on several flags, and checks -env.
func (o *options) finish(f *flag.FlagSet) error {
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
	if err := parse(f, args); err != nil {
		return err
	}
	if err := o.finish(f); err != nil {
		return err
	}
	argv := f.Args()
	if len(argv) == 0 {
		return &statusError{statusUsage, errors.New("run: no program given")}
	}
	t, err := openTerminal()
	if err != nil {
		return err
	}
	command, streams := agent.Command{Argv: argv}, agent.Streams{Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr}
	if t != nil {
		command.Terminal, streams.Resize = &t.size, t.resized
	}
	return o.inHost(ctx, c, command, streams, t)
}

// inHost runs the command in the emulated host, with this process's environment and working
// directory. The terminal, if t is not nil, is in raw mode while the host runs.
func (o *options) inHost(ctx context.Context, c *cache.Cache, command agent.Command, streams agent.Streams, t *terminal) error {
	h, err := emuhost.Prepare(ctx, c, o.config)
	if err != nil {
		return ended(ctx, err)
	}
	if command.Dir, err = os.Getwd(); err != nil {
		return err
	}
	command.Env = slices.Concat(os.Environ(), []string{emuhost.ClockEnv + "=" + o.config.Clock()}, o.env)
	// go test sends this signal at its time limit, to get all stacks.
	quit := make(chan os.Signal, 1)
	signal.Notify(quit, syscall.SIGQUIT)
	defer signal.Stop(quit)
	streams.Signals = quit
	if o.timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, o.timeout, timedOut{o.timeout})
		defer cancel()
	}
	if err := t.raw(); err != nil {
		return err
	}
	exit, err := h.Run(ctx, command, streams)
	t.restore()
	if err != nil && exit.Code() == 0 {
		return ended(ctx, err)
	}
	if exit.Code() == 0 {
		return nil
	}
	return &statusError{exit.Code(), err}
}

// timedOut is the cause of a context whose time limit was exceeded.
type timedOut struct{ limit time.Duration }

func (t timedOut) Error() string { return fmt.Sprintf("time limit of %v exceeded", t.limit) }

// ended returns err with the exit status for its cause: a signal or the time limit.
func ended(ctx context.Context, err error) error {
	var i interrupted
	if errors.As(context.Cause(ctx), &i) {
		return &statusError{status: 128 + int(i.sig)}
	}
	var t timedOut
	if errors.As(err, &t) {
		return &statusError{statusTimeout, err}
	}
	return err
}
