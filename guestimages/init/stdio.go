package main

import (
	"encoding/binary"
	"os"
	"strconv"
	"sync"

	"golang.org/x/sys/unix"

	"minivmm/guestimages/agent"
)

// stdio holds both ends of a command's standard files.
type stdio struct {
	theirs [3]*os.File
	in     *os.File
	out    map[agent.Kind]*os.File
	tty    *os.File // the master end; nil for pipes
}

// newStdio creates three pipes or one pseudo terminal.
func newStdio(t *agent.Terminal) (*stdio, error) {
	if t != nil {
		return newTerminal(*t)
	}
	s := &stdio{out: map[agent.Kind]*os.File{}}
	var err error
	if s.theirs[0], s.in, err = os.Pipe(); err != nil {
		return nil, err
	}
	for i, kind := range []agent.Kind{agent.KindStdout, agent.KindStderr} {
		r, w, err := os.Pipe()
		if err != nil {
			return nil, err
		}
		s.theirs[i+1], s.out[kind] = w, r
	}
	return s, nil
}

func newTerminal(t agent.Terminal) (*stdio, error) {
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		return nil, err
	}
	n, err := unix.IoctlGetInt(int(master.Fd()), unix.TIOCGPTN)
	if err != nil {
		return nil, os.NewSyscallError("TIOCGPTN", err)
	}
	if err := unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		return nil, os.NewSyscallError("TIOCSPTLCK", err)
	}
	slave, err := os.OpenFile("/dev/pts/"+strconv.Itoa(n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		return nil, err
	}
	s := &stdio{
		theirs: [3]*os.File{slave, slave, slave},
		in:     master,
		out:    map[agent.Kind]*os.File{agent.KindStdout: master},
		tty:    master,
	}
	s.resize(t.Rows, t.Cols)
	return s, nil
}

func (s *stdio) resize(rows, cols uint16) {
	if s.tty != nil {
		// If the kernel refuses the size, the old one stays, as on any terminal.
		_ = unix.IoctlSetWinsize(int(s.tty.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: rows, Col: cols})
	}
}

// endInput sends end of file: it closes a pipe, and sends control-D to a terminal.
func (s *stdio) endInput() {
	if s.tty == nil {
		s.in.Close()
		return
	}
	_, _ = s.in.Write([]byte{'D' & 0x1f})
}

// closeTheirs closes this process's copies of the command's ends, so that the output ends with the
// command.
func (s *stdio) closeTheirs() {
	for _, f := range s.theirs {
		f.Close()
	}
}

// input passes standard input on. It buffers what the command has not read yet: at most
// agent.Window bytes, because the launcher sends no more.
type input struct {
	conn *agent.Conn
	s    *stdio

	mu    sync.Mutex
	cond  *sync.Cond
	queue [][]byte // guarded by mu
	ended bool     // guarded by mu
}

func newInput(conn *agent.Conn, s *stdio) *input {
	i := &input{conn: conn, s: s}
	i.cond = sync.NewCond(&i.mu)
	return i
}

func (i *input) add(b []byte) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.queue = append(i.queue, b)
	i.cond.Signal()
}

func (i *input) end() {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.ended = true
	i.cond.Signal()
}

// next waits for bytes; ok is false at the end of input.
func (i *input) next() (b []byte, ok bool) {
	i.mu.Lock()
	defer i.mu.Unlock()
	for len(i.queue) == 0 && !i.ended {
		i.cond.Wait()
	}
	if len(i.queue) == 0 {
		return nil, false
	}
	b = i.queue[0]
	i.queue = i.queue[1:]
	return b, true
}

// run writes to the command until the input ends. If the command no longer reads, run discards the
// bytes, as a closed pipe does.
func (i *input) run() {
	defer i.s.endInput()
	for {
		b, ok := i.next()
		if !ok {
			return
		}
		_, _ = i.s.in.Write(b)
		var taken [4]byte
		binary.BigEndian.PutUint32(taken[:], uint32(len(b)))
		if i.conn.Send(agent.KindStdinTaken, taken[:]) != nil {
			return
		}
	}
}
