package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
	"golang.org/x/term"

	"minivmm/vmm/config"
)

// Input is the guest's end of the console's input, such as the receiver of a serial port.
//
// Feed consumes as many bytes from the start of p as fit now, and returns their number. It never
// blocks and does not retain p. After a Feed that did not consume all of p, Ready's channel
// receives a value when there is room again. The channel holds at most one value, and a value may
// be spurious. One goroutine calls both methods.
type Input interface {
	Feed(p []byte) (n int)
	Ready() <-chan struct{}
}

const (
	flushTime = 2 * time.Second // how long Close waits for pending output
	typeAhead = 64 << 10        // typed bytes buffered for the guest; further ones are dropped
)

// console is the host's end of the guest's console, for its output and its input.
//
// On a terminal, keys go to the guest byte by byte, except for the commands of escaper. If stdin is
// not a terminal, its data goes to the guest unchanged, as fast as the guest reads it. The end of
// stdin does not stop the machine.
type console struct {
	out   io.Writer     // for the guest's output; its Write never blocks
	left  chan struct{} // receives a value when the user presses Ctrl-A x
	ring  *ring         // nil for the null console
	file  *logFile
	stdin *os.File // nil when there is no input

	restore func() // ends raw mode; nil if the terminal is not in raw mode
	attach  chan Input
	quit    chan struct{} // closed by Close
	quitR   *os.File      // for poll: readable once Close has closed quitW
	quitW   *os.File
	wg      sync.WaitGroup
}

// inputEnder is an Input that must learn when the input has ended. End may be called more than
// once.
type inputEnder interface{ End() }

// openConsole starts the console, which runs until Close. It reads stdin if the console is on
// stdio, or if typed is set because stdin goes to a command in the guest. If raw is set, it puts a
// terminal into raw mode, so that all keys except the commands of escaper reach the guest.
func openConsole(cfg config.Console, stdin *os.File, stdout io.Writer, typed, raw bool) (_ *console, err error) {
	c := &console{left: make(chan struct{}, 1), attach: make(chan Input, 1), quit: make(chan struct{})}
	switch cfg.Mode {
	case config.ConsoleNull:
		c.out = io.Discard
	case config.ConsoleFile:
		if c.file, err = openLog(string(cfg.Path), int64(cfg.Size)); err != nil {
			return nil, fmt.Errorf("console: %w", err)
		}
		c.ring = newRing(c.file, ringSize)
		c.out = c.ring
	case config.ConsoleStdio:
		c.ring = newRing(stdout, ringSize)
		c.out = c.ring
		typed = true
	}
	if !typed {
		return c, nil
	}
	if c.quitR, c.quitW, err = os.Pipe(); err != nil {
		return nil, errors.Join(fmt.Errorf("console: %w", err), c.Close())
	}
	c.stdin = stdin
	terminal := term.IsTerminal(int(stdin.Fd()))
	if terminal && !inForeground(int(stdin.Fd())) {
		return c, nil // reading would stop the whole process (SIGTTIN)
	}
	terminal = terminal && raw
	if terminal {
		if c.restore, err = takeTerminal(int(stdin.Fd())); err != nil {
			return nil, errors.Join(fmt.Errorf("console: %w", err), c.Close())
		}
	}
	keys := make(chan []byte)
	c.wg.Add(2)
	go guard(func() {
		defer c.wg.Done()
		c.read(keys)
	})
	go guard(func() {
		defer c.wg.Done()
		c.feed(keys, terminal)
	})
	return c, nil
}

// inForeground reports whether this process may read from a terminal. A process may always read
// from a terminal that is not its controlling terminal.
func inForeground(fd int) bool {
	group, err := unix.IoctlGetInt(fd, unix.TIOCGPGRP)
	return err != nil || group == unix.Getpgrp()
}

// crlf converts line ends for a terminal in raw mode.
type crlf struct{ w io.Writer }

func (c crlf) Write(p []byte) (int, error) {
	if _, err := c.w.Write(bytes.ReplaceAll(p, []byte("\n"), []byte("\r\n"))); err != nil {
		return 0, err
	}
	return len(p), nil
}

// Log returns a writer to the given log. It converts line ends if the terminal is in raw mode.
func (c *console) Log(log io.Writer) io.Writer {
	if c.restore == nil {
		return log
	}
	return crlf{log}
}

// Attach sets the guest's end of the input. It is called once. Keys typed before are buffered.
func (c *console) Attach(in Input) { c.attach <- in }

// Close stops input, waits up to flushTime for output, and restores the terminal.
func (c *console) Close() error {
	close(c.quit)
	if c.quitW != nil {
		c.quitW.Close()
	}
	c.wg.Wait()
	var err error
	if c.ring != nil {
		if lost, cause := c.ring.Close(flushTime); cause != nil {
			err = fmt.Errorf("console: %d bytes of output were lost: %w", lost, cause)
		} else if lost > 0 {
			err = fmt.Errorf("console: %d bytes of output were dropped: the reader was too slow", lost)
		}
	}
	if c.restore != nil {
		c.restore()
	}
	if c.quitR != nil {
		c.quitR.Close()
	}
	if c.file != nil {
		c.file.Close()
	}
	return err
}

// read sends input from stdin to the channel typed, until end of file, an error or Close. It polls,
// because a blocked read of a terminal cannot be cancelled.
func (c *console) read(typed chan<- []byte) {
	defer close(typed)
	fd := int(c.stdin.Fd())
	buf := make([]byte, 4096)
	for {
		fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}, {Fd: int32(c.quitR.Fd()), Events: unix.POLLIN}}
		if _, err := unix.Poll(fds, -1); err == unix.EINTR {
			continue
		} else if err != nil || fds[1].Revents != 0 {
			return
		}
		n, err := unix.Read(fd, buf)
		switch {
		case err == unix.EINTR || err == unix.EAGAIN:
			continue
		case err != nil || n == 0:
			return
		}
		select {
		case typed <- bytes.Clone(buf[:n]):
		case <-c.quit:
			return
		}
	}
}

// feed passes typed input to the guest at the guest's pace. While the guest accepts no input, feed
// continues to read from a terminal, so that the escape commands work. It does not read from any
// other stdin during that time.
func (c *console) feed(typed <-chan []byte, terminal bool) {
	var (
		esc     escaper
		in      Input
		ready   <-chan struct{}
		pending []byte
	)
	for {
		source := typed
		if !terminal && len(pending) > 0 {
			source = nil
		}
		select {
		case p, ok := <-source:
			switch {
			case !ok:
				typed = nil
			case terminal:
				pending = esc.filter(pending, p, c.command)
				pending = pending[:min(len(pending), typeAhead)]
			default:
				pending = p
			}
		case in = <-c.attach:
			ready = in.Ready()
		case <-ready:
		case <-c.quit:
			return
		}
		for in != nil && len(pending) > 0 {
			n := in.Feed(pending)
			if n == 0 {
				break
			}
			pending = pending[n:]
		}
		if len(pending) == 0 {
			pending = nil
			if e, ok := in.(inputEnder); ok && typed == nil {
				e.End()
			}
		}
	}
}

func (c *console) command(key byte) {
	if key == 'h' {
		io.WriteString(c.out, escapeHelp)
		return
	}
	select {
	case c.left <- struct{}{}:
	default:
	}
}

// escape is Ctrl-A, the key that starts a command to minivmm, as in QEMU and kvmtool.
const escape = 0x01

// escaper finds commands in typed input.
type escaper struct{ armed bool }

// filter appends those bytes of the typed input that go to the guest to out, and returns the
// result. It calls command with the key of each command in the input. A key that is not a command
// goes to the guest together with its Ctrl-A.
func (e *escaper) filter(out, typed []byte, command func(key byte)) []byte {
	for _, c := range typed {
		switch {
		case !e.armed && c == escape:
			e.armed = true
			continue
		case !e.armed:
			out = append(out, c)
		case c == escape:
			out = append(out, escape)
		case c == 'x' || c == 'h':
			command(c)
		default:
			out = append(out, escape, c)
		}
		e.armed = false
	}
	return out
}

const escapeHelp = "\r\n" +
	"Ctrl-A x       kill the machine\r\n" +
	"Ctrl-A Ctrl-A  send Ctrl-A to the guest\r\n" +
	"Ctrl-A h       print this help\r\n"

// restoreTerminal points to the function that ends raw mode. It is nil outside raw mode.
var restoreTerminal atomic.Pointer[func()]

// takeTerminal puts the terminal into raw mode. Any goroutine may call restore to end raw mode.
func takeTerminal(fd int) (restore func(), err error) {
	state, err := term.MakeRaw(fd)
	if err != nil {
		return nil, fmt.Errorf("raw mode: %w", err)
	}
	restore = sync.OnceFunc(func() {
		restoreTerminal.Store(nil)
		term.Restore(fd, state)
	})
	restoreTerminal.Store(&restore)
	return restore, nil
}

// guard calls f, and restores the terminal if f panics. Every goroutine of this program runs inside
// guard, because a panic ends the process without the deferred calls of other goroutines.
func guard(f func()) {
	panicked := true
	defer func() {
		if restore := restoreTerminal.Load(); panicked && restore != nil {
			(*restore)()
		}
	}()
	f()
	panicked = false
}
