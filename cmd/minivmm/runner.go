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

// runner is one "minivmm run" of a loaded configuration. Its methods are in the order of execution.
type runner struct {
	cfg     *config.Config
	command []string // to run in the guest; empty: the guest's default
	verbose bool     // print the machine's workers
	anyName bool     // the user chose no name, so any free name will do
	build   newMachine

	stdin, stdout *os.File
	stderr        io.Writer // for a guest's output, unchanged

	plan    vmm.Plan
	channel *channel // nil if the guest does not run minivmm's own init; the console is then the only output
	console *console
	log     io.Writer // stderr for people, sanitized, with line ends that suit the console

	signals  chan os.Signal
	shutdown shutdown
	attached chan machine
	stop     context.CancelCauseFunc // stops the machine at once

	name    *control.Name
	machine machine
	server  *control.Server
}

// newMachine creates a machine that is ready for Run, and returns its serial port too.
type newMachine func(vmm.Plan, vmm.Options) (machine, Input, error)

// machine is a [vmm.VM], or a fake in tests.
type machine interface {
	Run(context.Context) (vmm.Outcome, error)
	PowerButton() error
	Workers() []vmm.Worker
	About() account.Machine
	Report() (*account.Report, error)
	Tune(config.Tuning) error
	Rescan() ([]account.DiskSize, error)
	Close() error
}

// run runs the machine. It returns nil if the guest powered off or its command succeeded.
func (r *runner) run(ctx context.Context) error {
	outside, err := r.settle()
	if err != nil {
		return err
	}
	if err := r.resolve(outside); err != nil {
		return err
	}
	// This may download and build; a signal interrupts it.
	furnish := func(ctx context.Context) error { return furnishGuest(ctx, &r.plan, r.log, outside) }
	if err := work(ctx, furnish); err != nil {
		return err
	}
	if outside {
		return r.enter()
	}
	return r.live(ctx)
}

// resolve creates the plan. It prints the choices that it made, unless the process inside the
// namespaces will print them.
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

// live runs the machine in this process.
func (r *runner) live(ctx context.Context) error {
	ctx, r.stop = context.WithCancelCause(ctx)
	defer r.stop(nil)
	r.catchSignals()
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

// catchSignals directs signals to the runner.
func (r *runner) catchSignals() {
	// With a handler, a write without a reader returns EPIPE instead of killing the process.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE)
	r.signals = make(chan os.Signal, 4)
	// This is never undone: a signal after the machine has stopped would then replace its exit
	// code.
	signal.Notify(r.signals, syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP)
	namespace.Ready()
}

// open opens the console, and the channel if the guest runs minivmm's own init.
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

// watch starts a goroutine that stops the machine on signals and Ctrl-A x. unwatch ends it.
func (r *runner) watch() (unwatch func()) {
	r.attached = make(chan machine, 1)
	r.shutdown = shutdown{grace: r.plan.Machine.ShutdownTimeout.Duration, stop: r.stop, log: r.log, after: time.After}
	done, ended := make(chan struct{}), make(chan struct{})
	go guard(func() {
		defer close(ended)
		r.shutdown.watch(r.signals, r.console.left, r.attached, done)
	})
	return sync.OnceFunc(func() {
		close(done)
		<-ended
	})
}

// runMachine creates the machine, runs it until it stops or ctx is done, and closes it.
func (r *runner) runMachine(ctx context.Context) (outcome vmm.Outcome, err error) {
	defer func() { err = errors.Join(err, r.end()) }()
	if err := r.start(ctx); err != nil {
		return 0, err
	}
	go guard(func() { staySmall(ctx) })
	return r.machine.Run(ctx)
}

// start creates the machine and connects it to the console, the channel and the control socket.
func (r *runner) start(ctx context.Context) (err error) {
	if err := r.claimName(); err != nil {
		return err
	}
	opt := vmm.Options{Console: r.console.out, Logf: r.logf}
	if r.channel != nil {
		// After the command has exited, only messages about the power-off follow.
		opt.Console = untilClosed{opt.Console, r.channel.ended}
		opt.Ports = []vmm.Port{{Name: channelName, Conn: r.channel.guest}}
	}
	var input Input
	if r.machine, input, err = r.build(r.plan, opt); err != nil {
		return err
	}
	if r.verbose {
		for _, w := range r.machine.Workers() {
			r.logf("worker %v", w)
		}
	}
	r.attached <- r.machine
	if r.channel != nil {
		input = r.channel.typing
	}
	r.console.Attach(input)
	if r.name == nil {
		return nil
	}
	if r.server, err = r.name.Serve(newControlled(ctx, r.machine, r.requestStop)); err != nil {
		r.logf("minivmm workers, tune, rescan and stop will not find this machine: %v", err)
	}
	return nil
}

// requestStop stops the machine as SIGTERM does, or at once if now is set. It never blocks.
func (r *runner) requestStop(now bool) {
	if now {
		r.stop(signalError{syscall.SIGTERM})
		return
	}
	select {
	case r.signals <- syscall.SIGTERM:
	default: // enough signals are pending already
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

// verdict converts a machine's outcome to run's error; cause is why it was stopped, if it was.
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

// namespacesOf returns the namespaces that the configuration requests.
func namespacesOf(cfg *config.Config) namespace.Set {
	n := cfg.Namespaces
	return namespace.Set{
		Net: string(n.Net), Mount: n.Mount, UTS: n.UTS, Hostname: string(cfg.Name),
		IPC: n.IPC, User: n.User, PID: n.PID,
	}
}

// settle sets up the configured namespaces if this process is inside them. Otherwise outside is
// true: this process fetches the guest's images on the host's network, and then calls enter.
func (r *runner) settle() (outside bool, err error) {
	set := namespacesOf(r.cfg)
	if !set.Any() {
		return false, nil
	}
	inside, err := set.Inside()
	if err != nil || !inside {
		return true, err
	}
	return false, namespace.Settle(set)
}

// enter runs the program again inside the namespaces. If that needs a child, enter returns the
// child's exit.
func (r *runner) enter() error {
	set := namespacesOf(r.cfg)
	if set.User || set.PID {
		// Check the configuration, not the plan: with other privileges, the process inside may plan
		// more queues.
		if err := (&vmm.Plan{Config: *r.cfg}).RoomForProcess(); err != nil {
			return err
		}
		keepSmall() // from here on this process only waits
	}
	code, err := namespace.Enter(set)
	switch {
	case code == exitPoweredOff:
		return err
	case err == nil:
		return quiet{childError{code, errors.New("the process in the namespaces failed")}}
	}
	return childError{code, err}
}

// shutdown stops a machine on signals. The first signal presses the power button and starts the
// grace period; a second signal, or the end of the grace period, stops the guest at once. A signal
// before the machine exists, and Ctrl-A x at any time, stop it at once.
type shutdown struct {
	grace time.Duration
	stop  context.CancelCauseFunc // with errLeft or a signalError
	log   io.Writer
	after func(time.Duration) <-chan time.Time // time.After

	pressed syscall.Signal // the signal that pressed the power button, 0 for none; owned by watch until it returns
}

// watch returns when it has stopped the machine or done is closed.
func (s *shutdown) watch(signals <-chan os.Signal, left <-chan struct{}, attached <-chan machine, done <-chan struct{}) {
	var m machine
	var graceOver <-chan time.Time
	for {
		select {
		case m = <-attached:
		case sig := <-signals:
			if m == nil {
				select { // the machine may have been attached before the signal arrived
				case m = <-attached:
				default:
				}
			}
			n, _ := sig.(syscall.Signal)
			if m == nil || s.pressed != 0 {
				s.stop(signalError{n})
				return
			}
			s.pressed = n
			fmt.Fprintf(s.log, "minivmm: %v: pressed the guest's power button; the guest is killed on a second signal or after %v\n", sig, s.grace)
			graceOver = s.after(s.grace)
			if err := m.PowerButton(); err != nil {
				fmt.Fprintf(s.log, "minivmm: power button: %v\n", err)
			}
		case <-graceOver:
			fmt.Fprintf(s.log, "minivmm: the guest did not power off within %v\n", s.grace)
			s.stop(signalError{s.pressed})
			return
		case <-left:
			s.stop(errLeft)
			return
		case <-done:
			return
		}
	}
}
