package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
	"golang.org/x/term"

	"minivmm/vmm/config"
)

// Input is the guest's side of the console's input: a serial port's receiver.
//
// Feed takes the first n of the bytes, 0 <= n <= len(p), as many as there is room for now, keeps none of p, and never waits. After it took less
// than it was given, Ready gets a value when there is room again; the channel holds one, and may hold one without need. One goroutine calls both.
type Input interface {
	Feed(p []byte) (n int)
	Ready() <-chan struct{}
}

const (
	flushTime = 2 * time.Second // how long the last output may take to be written
	typeAhead = 64 << 10        // typed bytes that wait for the guest; beyond them typing is lost
)

// console is the host's side of the guest's console: where its output goes, and where its input comes from.
//
// On a terminal, typing goes to the guest byte by byte, except for the commands of escape.go. Otherwise (a pipe, a file, /dev/null) the input goes to the
// guest as it is, as fast as the guest takes it, and its end is just the end of input.
type console struct {
	out   io.Writer
	ring  *ring // nil for the null console
	file  *logFile
	stdin *os.File // nil when there is no input

	taken   bool   // the terminal is in raw mode until
	restore func() // is called
	left    chan struct{}
	attach  chan Input
	quit    chan struct{} // closed by Close
	quitR   *os.File      // the same for poll: its write end is closed
	quitW   *os.File
	wg      sync.WaitGroup
}

// inputEnder is an Input that is told when nothing more will come.
type inputEnder interface{ End() }

// openConsole begins the console's service; the caller closes it. Input is read for a console on stdio, and whatever the
// console is, if typed is set: then it is not the console's. raw lets a terminal's every key through.
func openConsole(cfg config.Console, stdin *os.File, stdout io.Writer, typed, raw bool) (_ *console, err error) {
	c := &console{left: make(chan struct{}, 1), attach: make(chan Input, 1), quit: make(chan struct{}), restore: func() {}}
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
		restore, err := takeTerminal(int(stdin.Fd()))
		if err != nil {
			return nil, errors.Join(fmt.Errorf("console: %w", err), c.Close())
		}
		c.taken, c.restore = true, restore
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

// inForeground reports whether this process may read from its terminal. A terminal that does not control it may be read.
func inForeground(fd int) bool {
	group, err := unix.IoctlGetInt(fd, unix.TIOCGPGRP)
	return err != nil || group == unix.Getpgrp()
}

// crlf ends lines as a terminal in raw mode needs it.
type crlf struct{ w io.Writer }

func (c crlf) Write(p []byte) (int, error) {
	if _, err := c.w.Write(bytes.ReplaceAll(p, []byte("\n"), []byte("\r\n"))); err != nil {
		return 0, err
	}
	return len(p), nil
}

// Log is log, or a writer to it that suits the terminal's raw mode.
func (c *console) Log(log io.Writer) io.Writer {
	if !c.taken {
		return log
	}
	return crlf{log}
}

// Output takes the guest's output; Write never waits.
func (c *console) Output() io.Writer { return c.out }

// Left gets a value when the user leaves.
func (c *console) Left() <-chan struct{} { return c.left }

// Attach gives the guest's side of the input, once; what was typed until then waits for it.
func (c *console) Attach(in Input) { c.attach <- in }

// Close stops input, gives the terminal back, and waits a bounded time for the output to be written. The error tells of lost output.
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
			err = fmt.Errorf("console: %d bytes of output were dropped, because their reader was too slow", lost)
		}
	}
	c.restore()
	if c.quitR != nil {
		c.quitR.Close()
	}
	if c.file != nil {
		c.file.Close()
	}
	return err
}

// read sends what comes from stdin to typed, until its end, an error, or Close. It polls, because a read of a
// terminal cannot be called off.
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
		if err == unix.EINTR || err == unix.EAGAIN {
			continue
		}
		if err != nil || n == 0 {
			return
		}
		select {
		case typed <- append([]byte(nil), buf[:n]...):
		case <-c.quit:
			return
		}
	}
}

// feed gives the guest what was typed, at the guest's pace. A terminal is read on while the guest takes nothing, for its
// commands must work then too; any other input waits.
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
