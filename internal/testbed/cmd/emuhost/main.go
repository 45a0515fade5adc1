// Command emuhost runs commands in an emulated host that has KVM, vhost and LIO. It also provides
// kernels and initial RAM file systems for guests. See docs/testing.md.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"minivmm/guestimages/cache"
)

// The launcher's own exit statuses, as env(1) and timeout(1) use them. All others are the
// command's.
const (
	statusUsage   = 2
	statusTimeout = 124
	statusFailed  = 125
)

const usage = `usage: emuhost COMMAND

  run [FLAGS] [--] PROGRAM [ARGS]   run a program in the emulated host
  exec [FLAGS] TESTBINARY [ARGS]    the same for "go test -exec"
  kernel NAME                       print the paths of a kernel and its modules: 6.12, 6.1, 6.12-cloud, 6.1-cloud
  initrd [FLAGS] KERNEL FILE        write an initial RAM file system for a guest
  probe                             print where "exec -auto" would run tests, and why
  prepare                           fetch and build everything now
  update                            make the next start look for new versions

"emuhost COMMAND -h" lists the flags.
`

// statusError carries an exit status.
type statusError struct {
	status int
	err    error // nil: print nothing
}

func (e *statusError) Error() string { return fmt.Sprint(e.err) }
func (e *statusError) Unwrap() error { return e.err }

func main() {
	ctx, stop := withSignals(context.Background())
	defer stop()
	err := dispatch(ctx, os.Args[1:])
	os.Exit(report(os.Stderr, err))
}

func dispatch(ctx context.Context, args []string) error {
	if len(args) == 0 {
		return &statusError{statusUsage, errors.New(usage)}
	}
	c, err := cache.Open(os.Stderr)
	if err != nil {
		return err
	}
	c.Prefix = "emuhost: "
	commands := map[string]func(context.Context, *cache.Cache, []string) error{
		"run":     run,
		"exec":    execTest,
		"kernel":  printKernel,
		"initrd":  writeInitrd,
		"probe":   printChoice,
		"prepare": prepare,
		"update":  update,
	}
	if args[0] == "-h" || args[0] == "--help" || args[0] == "help" {
		_, err := io.WriteString(os.Stdout, usage)
		return err
	}
	command, ok := commands[args[0]]
	if !ok {
		return &statusError{statusUsage, fmt.Errorf("unknown command %q\n%s", args[0], usage)}
	}
	return command(ctx, c, args[1:])
}

// report prints the error, unless it only carries a status, and returns the exit status.
func report(w io.Writer, err error) int {
	if err == nil {
		return 0
	}
	var s *statusError
	status := statusFailed
	if errors.As(err, &s) {
		status, err = s.status, s.err
	}
	if err != nil {
		fmt.Fprintf(w, "emuhost: %v\n", err)
	}
	return status
}

// interrupted is the cause of a context that a signal canceled.
type interrupted struct{ sig syscall.Signal }

func (i interrupted) Error() string { return i.sig.String() }

// withSignals returns a context that SIGINT, SIGTERM and SIGHUP cancel. The caller must call the
// returned function.
func withSignals(parent context.Context) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(parent)
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	go func() {
		select {
		case sig := <-signals:
			cancel(interrupted{sig.(syscall.Signal)})
		case <-ctx.Done():
		}
	}()
	return ctx, func() {
		signal.Stop(signals)
		cancel(nil)
	}
}
