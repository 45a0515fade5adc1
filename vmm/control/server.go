package control

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"sync"
	"time"

	"minivmm/internal/task"
	"minivmm/vmm/account"
	"minivmm/vmm/config"
)

// Machine is what a server tells of and does. Any goroutine may call it, until Server.Close returns.
type Machine interface {
	About() account.Machine
	Report() (*account.Report, error)
	Stop(now bool) // must not wait for the guest
	Tune(config.Tuning) error
	Rescan() ([]account.DiskSize, error)
}

// Server answers at a name's socket.
type Server struct {
	machine  Machine
	listener *net.UnixListener
	tasks    *task.Group

	mu     sync.Mutex
	conns  map[net.Conn]bool
	closed bool
}

const (
	maxConns   = 8
	patience   = 5 * time.Second // with a client that sends or takes nothing
	socketMode = 0o600
)

// Serve begins to answer. The caller closes the server, before the name and before the machine.
func (n *Name) Serve(m Machine) (*Server, error) {
	path := n.socketPath()
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("control socket: %w", err)
	}
	// Until now, the folder has kept others out.
	if err := os.Chmod(path, socketMode); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	s := &Server{machine: m, listener: l, conns: make(map[net.Conn]bool)}
	s.tasks = task.New(func(error) {}) // a bug has cut one connection; do answers what it can
	s.tasks.Go(s.accept)
	return s, nil
}

func (s *Server) accept(context.Context) error {
	free := make(chan struct{}, maxConns)
	for {
		free <- struct{}{}
		conn, err := s.listener.Accept()
		if err != nil {
			if errors.Is(err, net.ErrClosed) {
				return nil
			}
			<-free
			time.Sleep(patience / 10) // out of descriptors: others may give some back
			continue
		}
		if !s.add(conn) {
			conn.Close()
			return nil
		}
		s.tasks.Go(func(context.Context) error {
			defer func() { <-free }()
			defer s.remove(conn)
			s.answer(conn)
			return nil
		})
	}
}

// add is false once the server closes.
func (s *Server) add(conn net.Conn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.closed {
		s.conns[conn] = true
	}
	return !s.closed
}

func (s *Server) remove(conn net.Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.conns, conn)
	conn.Close()
}

// answer serves one connection. A client that goes away is its own affair.
func (s *Server) answer(conn net.Conn) {
	_ = conn.SetReadDeadline(time.Now().Add(patience))
	line, err := readLine(conn, maxRequest)
	if err != nil && !errors.Is(err, errLong) {
		return // nothing was asked
	}
	var req Request
	if err == nil {
		req, err = parseRequest(line)
	}
	resp := Response{Version: Version}
	if err == nil {
		err = s.do(req, &resp)
	}
	if err != nil {
		resp.Error = err.Error()
	}
	_ = conn.SetWriteDeadline(time.Now().Add(patience))
	_ = writeLine(conn, resp)
}

func (s *Server) do(req Request, resp *Response) (err error) {
	defer task.Catch(func(bug error) { err = bug })
	switch req.Command {
	case CommandAbout:
		about := s.machine.About()
		resp.About = &about
	case CommandWorkers:
		resp.Workers, err = s.machine.Report()
	case CommandStop:
		s.machine.Stop(req.Now)
	case CommandTune:
		err = s.machine.Tune(*req.Tune)
	case CommandRescan:
		resp.Disks, err = s.machine.Rescan()
	}
	return err
}

// Close ends all connections and removes the socket. The machine is not called any more when it returns.
func (s *Server) Close() error {
	// The listener first: who asks again because a connection was cut is to be refused.
	err := s.listener.Close()
	s.mu.Lock()
	s.closed = true
	for conn := range s.conns {
		conn.Close()
	}
	s.mu.Unlock()
	return errors.Join(err, s.tasks.Stop())
}
