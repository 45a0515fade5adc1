package main

import (
	"encoding/binary"
	"os"
	"slices"
	"strconv"

	"golang.org/x/sys/unix"

	"minivmm/guestimages/agent"
)

// stdio holds both ends of a command's standard files.
type stdio struct {
	theirs [3]*os.File
	in     *os.File
	out    map[agent.Kind]*os.File
	tty    *os.File // the master end; nil for pipes

	// The channel input has one slot. The slot holds the bytes that feed has not taken yet, at
	// most agent.Window of them.
	input chan []byte
	ended bool
}

// newStdio creates three pipes or one pseudo terminal.
func newStdio(t *agent.Terminal) (*stdio, error) {
	if t != nil {
		return newTerminal(*t)
	}
	s := &stdio{out: map[agent.Kind]*os.File{}, input: make(chan []byte, 1)}
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
		input:  make(chan []byte, 1),
	}
	s.resize(t.Rows, t.Cols)
	return s, nil
}

func (s *stdio) resize(rows, cols uint16) {
	if s.tty != nil {
		// If the kernel refuses the size, the terminal keeps its old size.
		_ = unix.IoctlSetWinsize(int(s.tty.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: rows, Col: cols})
	}
}

// closeTheirs closes this process's copies of the command's files, so that the output ends when the
// command's processes have ended.
func (s *stdio) closeTheirs() {
	for _, f := range s.theirs {
		f.Close()
	}
}

// addInput queues standard input for feed. Only one goroutine may call addInput and endInput.
func (s *stdio) addInput(b []byte) {
	if s.ended {
		return
	}
	select {
	case more := <-s.input:
		b = append(more, b...)
	default:
	}
	s.input <- b // there is room: nobody else sends
}

// endInput ends the standard input.
func (s *stdio) endInput() {
	if !s.ended {
		s.ended = true
		close(s.input)
	}
}

// feed writes queued input to the command and reports each part as taken, until the input ends.
// Then it sends end of file: it closes a pipe, and sends control-D to a terminal. If the command no
// longer reads, feed discards the bytes, as a closed pipe does.
func (s *stdio) feed(conn *agent.Conn) {
	for b := range s.input {
		for part := range slices.Chunk(b, agent.MaxData) {
			_, _ = s.in.Write(part)
			if conn.Send(agent.KindStdinTaken, binary.BigEndian.AppendUint32(nil, uint32(len(part)))) != nil {
				return
			}
		}
	}
	if s.tty == nil {
		s.in.Close()
		return
	}
	_, _ = s.in.Write([]byte{'D' & 0x1f})
}
