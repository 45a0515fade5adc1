package agent

import (
	"cmp"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"syscall"
)

// Streams connect a command to the host: standard files, terminal sizes and signals.
type Streams struct {
	Stdin  io.Reader // nil: empty. A Read in progress when Run returns is not interrupted
	Stdout io.Writer // nil: discarded. A writer that blocks blocks only the command
	Stderr io.Writer // nil: discarded. Unused if the command has a terminal

	Resize  <-chan Terminal  // new sizes of the terminal
	Signals <-chan os.Signal // passed on to the command

	Go func(f func()) // starts each goroutine of the session; nil: the go statement
}

// Session is the host's end of the channel.
type Session struct {
	conn    *Conn
	command Command
	streams Streams
	closed  chan struct{}
	taken   chan int // from Run to sendInput, one slot: how many bytes of input were consumed
	started bool     // belongs to Run until it returns
}

// NewSession returns a session over rw. It sends nothing yet. The caller closes rw after the
// session.
func NewSession(rw io.ReadWriter, c Command, streams Streams) *Session {
	streams.Stdout, streams.Stderr = cmp.Or(streams.Stdout, io.Discard), cmp.Or(streams.Stderr, io.Discard)
	if streams.Go == nil {
		streams.Go = func(f func()) { go f() }
	}
	return &Session{
		conn: NewConn(rw), command: c, streams: streams, closed: make(chan struct{}), taken: make(chan int, 1),
	}
}

// Close stops the session's goroutines, except for a Read of standard input.
func (s *Session) Close() {
	close(s.closed)
}

// Started reports whether the command's process was about to start. It must be called after Run. If
// it returns false, no part of the command ran, and its standard input was not read.
func (s *Session) Started() bool { return s.started }

// Run sends the command and waits for its exit. It sends the input as soon as the command's process
// starts, and writes the output to the session's Streams. An error comes from the channel or from
// an output writer.
func (s *Session) Run() (Exit, error) {
	if err := s.conn.SendJSON(KindRun, s.command); err != nil {
		return Exit{}, err
	}
	for {
		kind, payload, err := s.conn.Receive()
		if err != nil {
			return Exit{}, err
		}
		switch kind {
		case KindStart:
			if !s.started {
				s.started = true
				s.streams.Go(s.sendInput)
				s.streams.Go(s.sendEvents)
			}
		case KindStdout:
			_, err = s.streams.Stdout.Write(payload)
		case KindStderr:
			_, err = s.streams.Stderr.Write(payload)
		case KindStdinTaken:
			if len(payload) == 4 {
				s.give(binary.BigEndian.Uint32(payload))
			}
		case KindExit:
			exit, err := parseExit(payload)
			if err != nil {
				return Exit{}, err
			}
			// A VM that has exited by now needs no answer.
			_ = s.conn.Send(KindExitTaken, nil)
			return exit, nil
		}
		if err != nil {
			return Exit{}, err
		}
	}
}

// parseExit accepts only values that wait(2) can report about a process, because the VM may send
// anything.
func parseExit(payload []byte) (Exit, error) {
	var exit Exit
	if err := json.Unmarshal(payload, &exit); err != nil {
		return Exit{}, fmt.Errorf("exit message: %w", err)
	}
	if exit.Status < 0 || exit.Status > 255 || exit.Signal < 0 || exit.Signal > 127 {
		return Exit{}, fmt.Errorf("exit message: status %d, signal %d", exit.Status, exit.Signal)
	}
	return exit, nil
}

// give passes the number n of consumed bytes on to sendInput. It adds the earlier bytes that
// sendInput has not taken yet, and limits the sum to Window.
func (s *Session) give(n uint32) {
	sum := int(n)
	select {
	case more := <-s.taken:
		sum += more
	default:
	}
	s.taken <- min(sum, Window) // does not block: no other goroutine sends
}

// sendInput sends the data of standard input, and then a KindStdinEnd frame.
func (s *Session) sendInput() {
	buf := make([]byte, MaxData)
	credit := Window
	for s.streams.Stdin != nil {
		n, err := s.streams.Stdin.Read(buf)
		for p := buf[:n]; len(p) > 0; {
			if credit == 0 {
				select {
				case <-s.closed:
					return
				case credit = <-s.taken:
				}
			}
			m := min(len(p), credit)
			if s.conn.Send(KindStdin, p[:m]) != nil {
				return
			}
			credit, p = credit-m, p[m:]
		}
		if err != nil {
			break
		}
	}
	// If the channel is broken, Run fails too.
	_ = s.conn.Send(KindStdinEnd, nil)
}

// sendEvents sends terminal sizes and signals until the session closes.
func (s *Session) sendEvents() {
	for {
		var err error
		select {
		case <-s.closed:
			return
		case t := <-s.streams.Resize:
			payload := binary.BigEndian.AppendUint16(nil, t.Rows)
			err = s.conn.Send(KindResize, binary.BigEndian.AppendUint16(payload, t.Cols))
		case sig := <-s.streams.Signals:
			err = s.conn.Send(KindSignal, []byte{byte(sig.(syscall.Signal))})
		}
		if err != nil {
			return
		}
	}
}
