package main

import (
	"errors"
	"io"
	"net"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"golang.org/x/term"

	"minivmm/guestimages/agent"
	"minivmm/vmm"
)

// channelName is the virtio-serial port by which the init of minivmm's own guests gets its command.
const channelName = "minivmm"

// channel is this end of a command in a guest: where its files go, and how it ended.
type channel struct {
	guest    net.Conn // the machine's end of the port
	typing   *typing  // the command's standard input
	terminal bool     // it has one

	near    net.Conn
	session *agent.Session
	ended   chan struct{}
	winch   chan os.Signal
	exit    agent.Exit // valid once ended is closed
	err     error      // the same; why there is no exit
}

// openChannel prepares to run argv in the guest, or what the guest has for an empty one. On a terminal the command gets one
// too.
func openChannel(argv []string, stdin, stdout *os.File, stderr io.Writer) *channel {
	c := &channel{typing: newTyping(), ended: make(chan struct{})}
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

// terminalSize is ok where both files are a terminal.
func terminalSize(stdin, stdout *os.File) (agent.Terminal, bool) {
	if !term.IsTerminal(int(stdin.Fd())) || !term.IsTerminal(int(stdout.Fd())) {
		return agent.Terminal{}, false
	}
	cols, rows, err := term.GetSize(int(stdout.Fd()))
	return agent.Terminal{Rows: uint16(rows), Cols: uint16(cols)}, err == nil
}

// run passes everything between this process's files and the command, until it ends; broken is called when it cannot.
func (c *channel) run(broken func(error)) {
	defer close(c.ended)
	if c.exit, c.err = c.session.Run(); c.err != nil {
		broken(c.err)
	}
}

// console passes the guest's console on to w until the command has ended: then there is nothing to say but the power-off.
func (c *channel) console(w io.Writer) io.Writer { return untilClosed{w, c.ended} }

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

// close ends what run does, which must have been called, after the machine. Who does not take the command's output is waited
// for that long, and then left to the end of the process.
func (c *channel) close(patience time.Duration) {
	c.near.Close()
	c.typing.End()
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case <-c.ended:
	case <-timer.C:
	}
	c.session.Close()
	if c.winch != nil {
		signal.Stop(c.winch)
		close(c.winch)
	}
}

// result is the end of a machine that ended by itself; pressed is the signal that pressed its power
// button.
func (c *channel) result(outcome vmm.Outcome, pressed syscall.Signal) error {
	finished := false
	select {
	case <-c.ended:
		finished = c.err == nil
		if !finished && !hungUp(c.err) {
			return stopError(channelError{c.err})
		}
	default:
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
	}
	return cutShortError{outcomeError{outcome}}
}

// hungUp says that an error of the session is the machine's end.
func hungUp(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.ErrClosedPipe)
}

// typing takes what the console feeds it, and is read by a channel.
type typing struct {
	mu    sync.Mutex
	cond  *sync.Cond
	buf   []byte // guarded by mu
	ended bool   // guarded by mu
	ready chan struct{}
}

func newTyping() *typing {
	t := &typing{ready: make(chan struct{}, 1)}
	t.cond = sync.NewCond(&t.mu)
	return t
}

// Feed and Ready are Input's.
func (t *typing) Feed(p []byte) int {
	t.mu.Lock()
	defer t.mu.Unlock()
	n := min(len(p), typeAhead-len(t.buf))
	t.buf = append(t.buf, p[:n]...)
	t.cond.Signal()
	return n
}

func (t *typing) Ready() <-chan struct{} { return t.ready }

// End says that nothing more will be fed.
func (t *typing) End() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.ended = true
	t.cond.Signal()
}

// Read is io.Reader's: it waits for bytes or the end.
func (t *typing) Read(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for len(t.buf) == 0 && !t.ended {
		t.cond.Wait()
	}
	if len(t.buf) == 0 {
		return 0, io.EOF
	}
	n := copy(p, t.buf)
	t.buf = append(t.buf[:0], t.buf[n:]...)
	select {
	case t.ready <- struct{}{}:
	default:
	}
	return n, nil
}
