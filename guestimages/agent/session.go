package agent

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"sync"
	"syscall"
)

// Streams are the host's ends of a command: its standard files, terminal sizes and signals.
type Streams struct {
	Stdin  io.Reader // nil: empty. A Read in progress when Run returns is not interrupted
	Stdout io.Writer // nil: discarded. A writer that blocks blocks only the command
	Stderr io.Writer // unused if the command has a terminal

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

	started bool // belongs to Run until it returns

	mu     sync.Mutex
	cond   *sync.Cond
	credit int  // guarded by mu: bytes of standard input that may be sent, at most Window
	over   bool // guarded by mu
}

// NewSession returns a session over rw. The caller closes rw after the session. Nothing is sent
// yet.
func NewSession(rw io.ReadWriter, c Command, streams Streams) *Session {
	s := &Session{conn: NewConn(rw), command: c, streams: streams, closed: make(chan struct{}), credit: Window}
	s.cond = sync.NewCond(&s.mu)
	return s
}

// Close stops the session's goroutines, except for a Read of standard input.
func (s *Session) Close() {
	close(s.closed)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.over = true
	s.cond.Signal()
}

// Started reports, after Run, whether the command's process was about to start. If not, none of it
// ran and none of its standard input was read.
func (s *Session) Started() bool { return s.started }

// Run sends the command, and its input when its process starts, and passes its output on until its
// exit arrives. An error comes from the channel or from an output writer.
func (s *Session) Run() (Exit, error) {
	if err := s.conn.SendJSON(KindRun, s.command); err != nil {
		return Exit{}, err
	}
	start := s.streams.Go
	if start == nil {
		start = func(f func()) { go f() }
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
				start(s.sendInput)
				start(s.sendEvents)
			}
		case KindStdout:
			err = writeTo(s.streams.Stdout, payload)
		case KindStderr:
			err = writeTo(s.streams.Stderr, payload)
		case KindStdinTaken:
			if len(payload) == 4 {
				s.give(binary.BigEndian.Uint32(payload))
			}
		case KindExit:
			exit, err := parseExit(payload)
			if err != nil {
				return Exit{}, err
			}
			// A machine that is gone by now needs no answer.
			_ = s.conn.Send(KindExitTaken, nil)
			return exit, nil
		}
		if err != nil {
			return Exit{}, err
		}
	}
}

// parseExit accepts only what wait(2) can report about a process: the machine may send anything.
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

func writeTo(w io.Writer, p []byte) error {
	if w == nil {
		return nil
	}
	_, err := w.Write(p)
	return err
}

// give adds the bytes that the command reports as consumed to the credit, limited to what was sent.
func (s *Session) give(n uint32) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.credit += min(int(n), Window-s.credit)
	s.cond.Signal()
}

// take waits for credit and takes up to n bytes of it. It returns 0 when the session is over.
func (s *Session) take(n int) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	for s.credit == 0 && !s.over {
		s.cond.Wait()
	}
	if s.over {
		return 0
	}
	n = min(n, s.credit)
	s.credit -= n
	return n
}

// sendInput sends standard input and its end.
func (s *Session) sendInput() {
	buf := make([]byte, MaxData)
	for s.streams.Stdin != nil {
		n, err := s.streams.Stdin.Read(buf)
		for p := buf[:n]; len(p) > 0; {
			m := s.take(len(p))
			if m == 0 || s.conn.Send(KindStdin, p[:m]) != nil {
				return
			}
			p = p[m:]
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
			err = s.conn.Send(KindSignal, []byte{signalNumber(sig)})
		}
		if err != nil {
			return
		}
	}
}

func signalNumber(sig os.Signal) byte {
	n, ok := sig.(syscall.Signal)
	if !ok {
		return byte(syscall.SIGTERM)
	}
	return byte(n)
}
