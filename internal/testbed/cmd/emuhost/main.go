// Command emuhost runs commands in an emulated host that has KVM, vhost and LIO. It also provides
// kernels for guests. See docs/testing.md.
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

// The launcher's own exit statuses; 124 and 125 have the same meaning as for timeout(1). If a
// signal stops the launcher, its exit status is 128 plus the signal's number. Every other exit
// status is that of the command.
const (
	statusUsage   = 2
	statusTimeout = 124
	statusFailed  = 125
)

const usage = `usage: emuhost COMMAND

  run [FLAGS] [--] PROGRAM [ARGS]   run a program in the emulated host
  exec [FLAGS] TESTBINARY [ARGS]    the same for "go test -exec"
  kernel NAME                       print the paths of a kernel and its modules: 6.12, 6.1, 6.12-cloud, 6.1-cloud
  probe                             print where "exec -auto" would run tests, and why
  prepare                           fetch and build everything now
  update                            make the next start look for new versions

"emuhost COMMAND -h" lists the flags.
`

// statusError carries an exit status.
type statusError struct {
	status int
	err    error // if nil, nothing is printed
}

func (e *statusError) Error() string { return fmt.Sprint(e.err) }
func (e *statusError) Unwrap() error { return e.err }

func main() {
	ctx, cancel := context.WithCancelCause(context.Background())
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	go func() { cancel(interrupted{(<-signals).(syscall.Signal)}) }()
	err := dispatch(ctx, os.Args[1:])
	os.Exit(report(ctx, os.Stderr, err))
}

// interrupted is the cause (context.Cause) of a context that was canceled by a signal.
type interrupted struct{ sig syscall.Signal }

func (i interrupted) Error() string { return i.sig.String() }

// flagged stands in place of a number of arguments, for a command that has flags and checks its
// arguments itself.
const flagged = -1

var commands = map[string]struct {
	args int
	run  func(context.Context, *cache.Cache, []string) error
}{
	"run":     {flagged, run},
	"exec":    {flagged, execTest},
	"kernel":  {1, printKernel},
	"probe":   {0, printChoice},
	"prepare": {0, prepare},
	"update":  {0, update},
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
	if args[0] == "-h" || args[0] == "--help" || args[0] == "help" {
		_, err := io.WriteString(os.Stdout, usage)
		return err
	}
	command, ok := commands[args[0]]
	switch given := args[1:]; {
	case !ok:
		return &statusError{statusUsage, fmt.Errorf("unknown command %q\n%s", args[0], usage)}
	case command.args != flagged && len(given) != command.args:
		err := fmt.Errorf("%s: %d arguments, want %d\n%s", args[0], len(given), command.args, usage)
		return &statusError{statusUsage, err}
	default:
		return command.run(ctx, c, given)
	}
}

// report prints err and returns the exit status. It does not print an error that a signal caused or
// that only carries an exit status.
func report(ctx context.Context, w io.Writer, err error) int {
	status := statusFailed
	var (
		s *statusError
		i interrupted
		t timedOut
	)
	switch {
	case err == nil:
		return 0
	case errors.As(err, &s):
		status, err = s.status, s.err
	case errors.As(context.Cause(ctx), &i):
		return 128 + int(i.sig)
	case errors.As(err, &t):
		status = statusTimeout
	}
	if err != nil {
		fmt.Fprintf(w, "emuhost: %v\n", err)
	}
	return status
}
