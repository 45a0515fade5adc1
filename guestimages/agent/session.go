package session

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"sync"
	"syscall"

	"minivmm/guestimages/plan"
	"minivmm/guestimages/wire"
)

// Session is the launcher's side of the channel.
type Session struct {
	conn   *wire.Conn
	c      Command
	closed chan struct{}

	mu     sync.Mutex
	cond   *sync.Cond
	credit int  // guarded by mu: bytes of standard input that may be sent, at most wire.Window
	over   bool // guarded by mu
}

// New returns a session over rw, which the caller closes after it. Nothing is sent yet.
func New(rw io.ReadWriter, c Command) *Session {
	s := &Session{conn: wire.New(rw), c: c, closed: make(chan struct{}), credit: wire.Window}
	s.cond = sync.NewCond(&s.mu)
	return s
}

// Close ends the session's goroutines, but for a Read of standard input.
func (s *Session) Close() {
	close(s.closed)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.over = true
	s.cond.Signal()
}

// Run sends the command and hands output on until its exit comes. An error is the channel's or that of a writer for output.
func (s *Session) Run() (plan.Exit, error) {
	command := plan.Command{Argv: s.c.Argv, Env: s.c.Env, Dir: s.c.Dir, Shares: s.c.Shares, Terminal: s.c.Terminal}
	if err := s.conn.SendJSON(wire.Run, command); err != nil {
		return plan.Exit{}, err
	}
	start := s.c.Go
	if start == nil {
		start = func(f func()) { go f() }
	}
	start(s.sendInput)
	start(s.sendEvents)
	for {
		kind, payload, err := s.conn.Receive()
		if err != nil {
			return plan.Exit{}, err
		}
		switch kind {
		case wire.Stdout:
			err = writeTo(s.c.Stdout, payload)
		case wire.Stderr:
			err = writeTo(s.c.Stderr, payload)
		case wire.StdinTaken:
			if len(payload) == 4 {
				s.give(binary.BigEndian.Uint32(payload))
			}
		case wire.Exit:
			exit, err := parseExit(payload)
			if err != nil {
				return plan.Exit{}, err
			}
			// A machine that is gone by now needs no answer.
			_ = s.conn.Send(wire.ExitTaken, nil)
			return exit, nil
		}
		if err != nil {
			return plan.Exit{}, err
		}
	}
}

// parseExit lets through what wait(2) can tell of a process: the machine may say anything.
func parseExit(payload []byte) (plan.Exit, error) {
	var exit plan.Exit
	if err := json.Unmarshal(payload, &exit); err != nil {
		return plan.Exit{}, fmt.Errorf("exit message: %w", err)
	}
	if exit.Status < 0 || exit.Status > 255 || exit.Signal < 0 || exit.Signal > 127 {
		return plan.Exit{}, fmt.Errorf("exit message: status %d, signal %d", exit.Status, exit.Signal)
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

// give adds to the credit what the command says it has taken, which cannot be more than was sent.
func (s *Session) give(n uint32) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.credit += min(int(n), wire.Window-s.credit)
	s.cond.Signal()
}

// take waits for credit and takes up to n of it; 0 when the session is over.
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
	buf := make([]byte, wire.MaxData)
	for s.c.Stdin != nil {
		n, err := s.c.Stdin.Read(buf)
		for p := buf[:n]; len(p) > 0; {
			m := s.take(len(p))
			if m == 0 || s.conn.Send(wire.Stdin, p[:m]) != nil {
				return
			}
			p = p[m:]
		}
		if err != nil {
			break
		}
	}
	// If the channel is broken, run finds out too.
	_ = s.conn.Send(wire.StdinEnd, nil)
}

// sendEvents sends terminal sizes and signals until the session closes.
func (s *Session) sendEvents() {
	for {
		var err error
		select {
		case <-s.closed:
			return
		case t := <-s.c.Resize:
			payload := binary.BigEndian.AppendUint16(nil, t.Rows)
			err = s.conn.Send(wire.Resize, binary.BigEndian.AppendUint16(payload, t.Cols))
		case sig := <-s.c.Signals:
			err = s.conn.Send(wire.Signal, []byte{signalNumber(sig)})
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
