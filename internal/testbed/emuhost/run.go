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

// Death reports that the host died before its command exited.
type Death struct {
	Cause error  // the context's cause, or what is known about QEMU's exit
	Log   string // the end of the host's kernel log

	retry bool // the command did not run at all, and another start may succeed
}

func (d *Death) Error() string {
	return fmt.Sprintf("emulated host: %v; its kernel log ends with:\n%s", d.Cause, d.Log)
}

func (d *Death) Unwrap() error { return d.Cause }

// logLines is the number of kernel log lines in a Death.
const logLines = 60

// Run starts the host, runs the command and stops the host. If the host died, the error is a
// *Death. If Exit.Error is set, the command never ran, and Run returns that error. If the host dies
// before the command has started, Run restarts the host, up to Config.Restarts times, and logs each
// restart. Run is safe for concurrent use.
func (h *Host) Run(ctx context.Context, c agent.Command, streams agent.Streams) (agent.Exit, error) {
	for restart := 1; ; restart++ {
		exit, err := h.run(ctx, c, streams)
		var d *Death
		if !errors.As(err, &d) || !d.retry || restart > h.config.Restarts || ctx.Err() != nil {
			return exit, err
		}
		h.logf("the host died before its command started; restarting it (%d of %d): %v", restart, h.config.Restarts, d)
	}
}

// run starts the host once.
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
		c.Argv = chownCache(h.cache, c.Argv)
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
			d.retry = d.retry && !s.Started()
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

// chownCache wraps a command, which runs as root in the host. minivmm refuses a cache that belongs
// to another user, so the wrapper first gives the builder's cache folder, and every folder above
// it, to root. This changes only the host's layer in memory.
func chownCache(cache string, argv []string) []string {
	script := `d=$1; shift; while [ "$d" != / ]; do chown -h 0:0 "$d"; d=$(dirname "$d"); done; exec "$@"`
	return append([]string{"/bin/sh", "-c", script, "sh", cache}, argv...)
}

// socketPair returns the two ends of the channel. The end named ours is in Go's poller, so that
// Close interrupts a Read. The caller must close both ends.
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
	ended chan error // receives the result of waiting for QEMU, then is closed
	log   *kernelLog
	said  *kernelLog // QEMU's own messages
}

// start starts QEMU and passes it one end of the channel. QEMU is killed when ctx is done or this
// process dies. The caller must call stop.
func (h *Host) start(ctx context.Context, channel *os.File) (*machine, error) {
	ctx, kill := context.WithCancel(ctx)
	m := &machine{kill: kill, ended: make(chan error, 1), log: &kernelLog{}, said: &kernelLog{}}
	cmd := exec.CommandContext(ctx, h.qemu.Binary, h.arguments()...)
	cmd.Stdout, cmd.Stderr = m.log, m.said
	cmd.ExtraFiles = []*os.File{channel}
	// Control-C on a terminal goes to this process only, which then stops QEMU. The kernel sends
	// the death signal when the thread that started QEMU exits (prctl(2), PR_SET_PDEATHSIG), so a
	// goroutine keeps that thread until QEMU exits.
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

// stop kills QEMU and waits until it has exited.
func (m *machine) stop() {
	m.kill()
	for range m.ended {
	}
}

// death explains why the channel broke. QEMU closes the channel on exit, so death waits up to two
// seconds for QEMU to exit.
func (m *machine) death(broken error) *Death {
	var err error
	select {
	case err = <-m.ended:
	case <-time.After(2 * time.Second):
		return &Death{Cause: fmt.Errorf("channel broken: %w", broken), Log: m.log.tail(logLines), retry: true}
	}
	cause := errors.New("QEMU exited before the command")
	switch {
	case m.log.contains("Kernel panic"):
		cause = errors.New("kernel panic")
	case m.said.contains("Triple fault"):
		cause = errors.New("triple fault")
	case err != nil:
		cause = fmt.Errorf("QEMU: %w: %s", err, m.said.tail(10))
	}
	// QEMU exits with a status if it refuses to start. It would refuse again after a restart.
	var exited *exec.ExitError
	refused := errors.As(err, &exited) && exited.Exited()
	return &Death{Cause: cause, Log: m.log.tail(logLines), retry: !refused}
}
