package emuhost

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"minivmm/guestimages/agent"
)

// Death says that the host ended before its command did.
type Death struct {
	Cause error  // the context's error and cause, or what is known of QEMU's end
	Log   string // end of the host's kernel log

	again bool // nothing of the command ran, and another start may go better
}

func (d *Death) Error() string {
	return fmt.Sprintf("emulated host: %v; its kernel log ends with:\n%s", d.Cause, d.Log)
}

func (d *Death) Unwrap() error { return d.Cause }

// logLines is how much of the kernel log a Death shows.
const logLines = 60

// Run starts the host, runs the command and ends the host. Without an Exit the error is a *Death; with one, it says why the
// command never ran. A host that dies before it starts the command is started again, and the log says so.
func (h *Host) Run(ctx context.Context, c agent.Command, streams agent.Streams) (agent.Exit, error) {
	for restart := 1; ; restart++ {
		exit, err := h.run(ctx, c, streams)
		var d *Death
		if !errors.As(err, &d) || !d.again || restart > h.config.Restarts || ctx.Err() != nil {
			return exit, err
		}
		h.logf("the host died before its command started, and is started again (%d of %d): %v", restart, h.config.Restarts, d)
	}
}

// run is one start.
func (h *Host) run(ctx context.Context, c agent.Command, streams agent.Streams) (agent.Exit, error) {
	ours, theirs, err := socketPair()
	if err != nil {
		return agent.Exit{}, err
	}
	defer ours.Close()
	m, err := h.start(ctx, theirs)
	theirs.Close()
	if err != nil {
		return agent.Exit{}, err
	}
	defer m.stop()
	c.Shares = h.shares()
	if os.Geteuid() != 0 {
		c.Argv = givesRoot(h.cache, c.Argv)
	}
	s := agent.NewSession(ours, c, streams)
	defer s.Close()
	type result struct {
		exit agent.Exit
		err  error
	}
	results := make(chan result, 1)
	go func() {
		exit, err := s.Run()
		results <- result{exit, err}
	}()
	select {
	case r := <-results:
		if r.err != nil {
			d := m.death(r.err)
			d.again = d.again && !s.Started()
			return agent.Exit{}, d
		}
		if r.exit.Error != "" {
			return r.exit, fmt.Errorf("emulated host: %s", r.exit.Error)
		}
		return r.exit, nil
	case <-ctx.Done():
		return agent.Exit{}, &Death{Cause: context.Cause(ctx), Log: m.log.tail(logLines)}
	}
}

// givesRoot is a command that is root in the host, with the builder's cache, which minivmm refuses
// as another user's. So the folders on the way to it are given to root first, in the host's own
// layer.
func givesRoot(cache string, argv []string) []string {
	script := `d=$1; shift; while [ "$d" != / ]; do chown -h 0:0 "$d"; d=$(dirname "$d"); done; exec "$@"`
	return append([]string{"/bin/sh", "-c", script, "sh", cache}, argv...)
}

// socketPair returns the two ends of the channel. Ours is in Go's poller, so that Close ends a Read.
func socketPair() (ours, theirs *os.File, err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, os.NewSyscallError("socketpair", err)
	}
	if err := unix.SetNonblock(fds[0], true); err != nil {
		return nil, nil, os.NewSyscallError("fcntl", err)
	}
	return os.NewFile(uintptr(fds[0]), "channel"), os.NewFile(uintptr(fds[1]), "channel of QEMU"), nil
}

// machine is a running QEMU.
type machine struct {
	kill  context.CancelFunc
	ended chan error // gets QEMU's end, then is closed
	log   *kernelLog
	said  *kernelLog // QEMU's own messages
}

// start starts QEMU with the channel's other end. It ends with ctx, and with this process.
func (h *Host) start(ctx context.Context, channel *os.File) (*machine, error) {
	ctx, kill := context.WithCancel(ctx)
	m := &machine{kill: kill, ended: make(chan error, 1), log: &kernelLog{}, said: &kernelLog{}}
	cmd := exec.CommandContext(ctx, h.qemu.Binary, h.arguments()...)
	cmd.Stdout, cmd.Stderr = m.log, m.said
	cmd.ExtraFiles = []*os.File{channel}
	// A terminal's control-C is for this process, which then ends QEMU. The death signal comes with the death of the
	// starting thread, so a goroutine keeps that thread until QEMU ends.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	started := make(chan error)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		defer close(m.ended)
		err := cmd.Start()
		started <- err
		if err == nil {
			m.ended <- cmd.Wait()
		}
	}()
	if err := <-started; err != nil {
		kill()
		return nil, fmt.Errorf("emulated host: %w", err)
	}
	return m, nil
}

// stop ends QEMU and waits for its end.
func (m *machine) stop() {
	m.kill()
	for range m.ended {
	}
}

// death explains why the channel broke. QEMU closes it when it ends, so that is waited for, but not for long.
func (m *machine) death(broken error) *Death {
	var err error
	select {
	case err = <-m.ended:
	case <-time.After(2 * time.Second):
		return &Death{Cause: fmt.Errorf("channel broken: %w", broken), Log: m.log.tail(logLines), again: true}
	}
	cause := errors.New("QEMU ended before the command")
	switch {
	case m.log.contains("Kernel panic"):
		cause = errors.New("kernel panic")
	case m.said.contains("Triple fault"):
		cause = errors.New("triple fault")
	case err != nil:
		cause = fmt.Errorf("QEMU: %w: %s", err, m.said.tail(10))
	}
	// With an exit status QEMU refuses to start, and would again.
	var exited *exec.ExitError
	refused := errors.As(err, &exited) && exited.Exited()
	return &Death{Cause: cause, Log: m.log.tail(logLines), again: !refused}
}
