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

	"minivmm/internal/terminal"
	"minivmm/vmm"
	"minivmm/vmm/account"
	"minivmm/vmm/config"
	"minivmm/vmm/control"
	"minivmm/vmm/namespace"
)

// runner is one "minivmm run", from a loaded configuration to the end of its machine. Its methods
// stand in the order of that life.
type runner struct {
	cfg     *config.Config
	command []string // for the guest; empty: what the guest has
	verbose bool     // print the machine's workers
	anyName bool     // the machine was given no name: any will do
	build   newMachine

	stdin, stdout *os.File
	stderr        io.Writer // for a guest's output, as it is

	plan    vmm.Plan
	channel *channel // nil where the guest is not minivmm's own: its console is all there is to see then
	console *console
	log     io.Writer // stderr for people, cleaned, as it suits the console

	signals  chan os.Signal
	shutdown shutdown
	attached chan machine
	stop     context.CancelCauseFunc // ends the machine at once

	name    *control.Name
	machine machine
	server  *control.Server
}

// newMachine makes a machine that waits for Run.
type newMachine func(vmm.Plan, vmm.Options) (machine, error)

// machine is a [vmm.VM], or a test's stand-in.
type machine interface {
	Run(context.Context) (vmm.Outcome, error)
	PowerButton() error
	ConsoleInput() Input // the guest's serial port
	Workers() []vmm.Worker
	About() account.Machine
	Report() (*account.Report, error)
	Tune(config.Tuning) error
	Rescan() ([]account.DiskSize, error)
	Close() error
}

// run returns nil for a guest that powered off by itself, or after its command succeeded; exitCode
// knows the errors.
func (r *runner) run(ctx context.Context) error {
	outside, err := r.settle()
	if err != nil {
		return err
	}
	if err := r.resolve(outside); err != nil {
		return err
	}
	if err := r.furnish(ctx); err != nil {
		return err
	}
	if outside {
		return r.enter()
	}
	return r.live(ctx)
}

// resolve makes the plan, and prints what it had to choose: once, inside the namespaces.
func (r *runner) resolve(outside bool) error {
	ours, err := runsOurInit(r.cfg, r.command)
	if err != nil {
		return err
	}
	var ports, notes []string
	if ours {
		ports = append(ports, channelName)
	}
	r.plan, notes = vmm.Resolve(r.cfg, ports...)
	if !outside {
		for _, line := range notes {
			fmt.Fprintf(r.log, "minivmm: %s\n", line)
		}
	}
	return nil
}

// furnish completes the plan. It may fetch and build, until a signal ends it.
func (r *runner) furnish(ctx context.Context) error {
	return work(ctx, func(ctx context.Context) error { return furnishGuest(ctx, &r.plan, r.log) })
}

// live is the machine's life in this process.
func (r *runner) live(ctx context.Context) error {
	ctx, r.stop = context.WithCancelCause(ctx)
	defer r.stop(nil)
	defer r.catchSignals()()
	if err := r.open(); err != nil {
		return err
	}
	defer func() {
		if lost := r.console.Close(); lost != nil {
			fmt.Fprintf(terminal.Writer{W: r.stderr}, "minivmm: %v\n", lost)
		}
	}()
	unwatch := r.watch()
	defer unwatch()
	outcome, err := r.runMachine(ctx)
	if r.channel != nil {
		unwatch()
		r.channel.close(flushTime)
	}
	if err != nil {
		return err
	}
	return r.verdict(outcome, context.Cause(ctx))
}

// catchSignals has the runner handle signals.
func (r *runner) catchSignals() (stop func()) {
	// A reader of our output that went away must not end the machine: with a handler, writing
	// returns EPIPE instead.
	pipe := make(chan os.Signal, 1)
	signal.Notify(pipe, syscall.SIGPIPE)
	r.signals = make(chan os.Signal, 4)
	// Never stopped: a signal that comes when the machine has ended would take the place of its exit
	// code.
	signal.Notify(r.signals, syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP)
	namespace.Ready()
	return func() { signal.Stop(pipe) }
}

// open opens the console, and the channel of a guest that is minivmm's own.
func (r *runner) open() (err error) {
	serial, typed, raw := io.Writer(r.stdout), false, true
	if len(r.plan.Ports) > 0 {
		r.channel = openChannel(r.command, r.stdin, r.stdout, r.stderr)
		serial, typed, raw = r.stderr, true, r.channel.terminal
	}
	if r.console, err = openConsole(r.plan.Console, r.stdin, serial, typed, raw); err != nil {
		return err
	}
	r.log = terminal.Writer{W: r.console.Log(r.stderr)}
	if r.channel != nil {
		go guard(func() {
			r.channel.run(func(err error) { r.stop(channelError{err}) })
		})
	}
	return nil
}

func (r *runner) logf(format string, args ...any) {
	fmt.Fprintf(r.log, "minivmm: "+format+"\n", args...)
}

// watch has signals and Ctrl-A x end the machine, until unwatch.
func (r *runner) watch() (unwatch func()) {
	r.attached = make(chan machine, 1)
	r.shutdown = shutdown{grace: r.plan.Machine.ShutdownTimeout.Duration, stop: r.stop, log: r.log, after: time.After}
	done, ended := make(chan struct{}), make(chan struct{})
	go guard(func() {
		defer close(ended)
		r.shutdown.watch(r.signals, r.console.Left(), r.attached, done)
	})
	return sync.OnceFunc(func() {
		close(done)
		<-ended
	})
}

// runMachine makes the machine, runs it until it ends or ctx does, and takes it apart.
func (r *runner) runMachine(ctx context.Context) (outcome vmm.Outcome, err error) {
	defer func() { err = errors.Join(err, r.end()) }()
	if err := r.start(ctx); err != nil {
		return 0, err
	}
	go guard(func() { staySmall(ctx) })
	return r.machine.Run(ctx)
}

// start makes the machine and connects it with the world.
func (r *runner) start(ctx context.Context) (err error) {
	if err := r.claimName(); err != nil {
		return err
	}
	opt := vmm.Options{Console: r.console.Output(), Logf: r.logf}
	if r.channel != nil {
		opt.Console = r.channel.console(opt.Console)
		opt.Ports = []vmm.Port{{Name: channelName, Conn: r.channel.guest}}
	}
	if r.machine, err = r.build(r.plan, opt); err != nil {
		return err
	}
	if r.verbose {
		for _, w := range r.machine.Workers() {
			r.logf("worker %v", w)
		}
	}
	r.attached <- r.machine
	if r.channel != nil {
		r.console.Attach(r.channel.typing)
	} else {
		r.console.Attach(r.machine.ConsoleInput())
	}
	if r.name == nil {
		return nil
	}
	if r.server, err = r.name.Serve(newControlled(ctx, r.machine, r.requestStop)); err != nil {
		r.logf("no other program can ask for the workers or stop this machine: %v", err)
	}
	return nil
}

// requestStop ends the machine as SIGTERM does, or at once. It never waits.
func (r *runner) requestStop(now bool) {
	if now {
		r.stop(signalError{syscall.SIGTERM})
		return
	}
	select {
	case r.signals <- syscall.SIGTERM:
	default: // as many wait to be seen already
	}
}

// end undoes start.
func (r *runner) end() error {
	var errs []error
	if r.server != nil {
		r.server.Close()
	}
	if r.machine != nil {
		errs = append(errs, r.machine.Close())
	}
	if r.name != nil {
		errs = append(errs, r.name.Close())
	}
	if err := errors.Join(errs...); err != nil {
		return cleanupError{err}
	}
	return nil
}

// verdict is what the end of a machine is to the caller; cause is of one that was stopped.
func (r *runner) verdict(outcome vmm.Outcome, cause error) error {
	switch {
	case outcome == vmm.Stopped:
		return stopError(cause)
	case r.channel != nil:
		return r.channel.result(outcome, r.shutdown.pressed)
	case outcome == vmm.PoweredOff:
		return nil
	}
	return quiet{outcomeError{outcome}}
}
