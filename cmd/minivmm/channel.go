package main

import (
	"io"
	"net"
	"os"
	"os/signal"
	"syscall"
	"time"

	"golang.org/x/term"

	"minivmm/guestimages/agent"
	"minivmm/vmm"
)

// channelName is the virtio-serial port on which minivmm's own init receives the command to run.
const channelName = "minivmm"

// channel is the host's end of a command in the guest: its standard streams and its exit.
type channel struct {
	guest    net.Conn // the end of the port that the machine gets
	typing   *typing  // the command's standard input
	terminal bool     // the command has a terminal

	near    net.Conn
	session *agent.Session
	ended   chan struct{}
	winch   chan os.Signal
	exit    agent.Exit // valid once ended is closed
	err     error      // valid once ended is closed; why exit is missing
}

// openChannel prepares to run argv in the guest, or the guest's default command if argv is empty.
// If stdin and stdout are terminals, the command gets a terminal too.
func openChannel(argv []string, stdin, stdout *os.File, stderr io.Writer) *channel {
	c := &channel{typing: &typing{queue: newQueue(typeAhead), ready: make(chan struct{}, 1)}, ended: make(chan struct{})}
	c.near, c.guest = net.Pipe()
	command := agent.Command{Argv: argv}
	streams := agent.Streams{Stdin: c.typing, Stdout: stdout, Stderr: stderr, Go: func(f func()) { go guard(f) }}
	if size, ok := terminalSize(stdin, stdout); ok {
		resized := make(chan agent.Terminal)
		if t := os.Getenv("TERM"); t != "" {
			command.Env = []string{"TERM=" + t}
		}
		command.Terminal, streams.Resize, c.terminal = &size, resized, true
		c.winch = make(chan os.Signal, 1)
		signal.Notify(c.winch, syscall.SIGWINCH)
		go guard(func() {
			for range c.winch {
				if size, ok := terminalSize(stdin, stdout); ok {
					select {
					case resized <- size:
					case <-c.ended:
					}
				}
			}
		})
	}
	c.session = agent.NewSession(c.near, command, streams)
	return c
}

// terminalSize returns the size of the terminal; ok is false unless both files are terminals.
func terminalSize(stdin, stdout *os.File) (_ agent.Terminal, ok bool) {
	if !term.IsTerminal(int(stdin.Fd())) || !term.IsTerminal(int(stdout.Fd())) {
		return agent.Terminal{}, false
	}
	cols, rows, err := term.GetSize(int(stdout.Fd()))
	return agent.Terminal{Rows: uint16(rows), Cols: uint16(cols)}, err == nil
}

// run copies data to and from the command until the command exits. If the copying fails, run calls
// broken with the error.
func (c *channel) run(broken func(error)) {
	defer close(c.ended)
	if c.exit, c.err = c.session.Run(); c.err != nil {
		broken(c.err)
	}
}

// untilClosed passes writes on to w until the channel closed is closed, and discards later writes.
type untilClosed struct {
	w      io.Writer
	closed <-chan struct{}
}

func (u untilClosed) Write(p []byte) (int, error) {
	select {
	case <-u.closed:
		return len(p), nil
	default:
		return u.w.Write(p)
	}
}

// close ends run. It must be called after the machine has stopped. It waits for a slow reader of
// the command's output, but not longer than patience. If run has not returned by then, its
// goroutine remains until the process exits.
func (c *channel) close(patience time.Duration) {
	c.near.Close()
	c.typing.End()
	select {
	case <-c.ended:
	case <-time.After(patience):
	}
	c.session.Close()
	if c.winch != nil {
		signal.Stop(c.winch)
		close(c.winch)
	}
}

// result converts the outcome of a machine that stopped on its own to the error that runner.run
// returns. pressed is the signal that pressed the machine's power button, or 0. minivmm's init
// powers off only after it has reported the command's exit. If the guest powers off earlier, a
// program in the guest requested it.
func (c *channel) result(outcome vmm.Outcome, pressed syscall.Signal) error {
	started, finished := false, false
	select {
	case <-c.ended:
		started, finished = c.session.Started(), c.err == nil
		// Other errors only mean that the machine has stopped.
		if !finished && !isAny(c.err, io.EOF, io.ErrUnexpectedEOF, io.ErrClosedPipe) {
			return stopError(channelError{c.err})
		}
	default: // close has given up waiting for a slow reader
	}
	switch {
	case finished && outcome != vmm.PoweredOff:
		return quiet{outcomeError{outcome}}
	case finished && c.exit.Error != "":
		return commandError{c.exit}
	case finished && c.exit.Code() == 0:
		return nil
	case finished:
		return quiet{commandError{c.exit}}
	case outcome == vmm.PoweredOff && pressed != 0:
		return quiet{signalError{pressed}}
	case outcome == vmm.PoweredOff && started:
		return nil
	}
	return cutShortError{outcomeError{outcome}}
}
