package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"time"

	"minivmm/internal/task"
	"minivmm/vmm/account"
	"minivmm/vmm/config"
)

// Machine handles the requests, from several goroutines, until Server.Close returns.
type Machine interface {
	About() account.Machine
	Report() (*account.Report, error)
	Stop(now bool) // must not wait for the guest
	Tune(config.Tuning) error
	Rescan() ([]account.DiskSize, error)
}

// Server serves the socket of a name.
type Server struct {
	machine  Machine
	listener *net.UnixListener
	tasks    *task.Group
}

const (
	maxConns = 8
	patience = 5 * time.Second // for a client that sends or reads nothing
)

// Serve starts a server on the name's socket. It must be closed before the name and the machine.
func (n *Name) Serve(m Machine) (*Server, error) {
	path := n.socketPath()
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("control socket: %w", err)
	}
	// Until now the mode of the directory has kept others out.
	if err := os.Chmod(path, 0o600); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	s := &Server{machine: m, listener: l}
	s.tasks = task.New(func(error) {}) // a panic has closed one connection; do reports those it can
	s.tasks.Go(s.accept)
	return s, nil
}

func (s *Server) accept(context.Context) error {
	free := make(chan struct{}, maxConns)
	for {
		free <- struct{}{}
		conn, err := s.listener.Accept()
		switch {
		case errors.Is(err, net.ErrClosed):
			return nil
		case err != nil:
			<-free
			time.Sleep(patience / 10) // out of descriptors: wait until some are closed
			continue
		}
		s.tasks.Go(func(ctx context.Context) error {
			defer func() { <-free }()
			defer conn.Close()
			defer context.AfterFunc(ctx, func() { conn.Close() })()
			s.answer(conn)
			return nil
		})
	}
}

// answer serves one connection. Errors of a client that goes away are ignored.
func (s *Server) answer(conn net.Conn) {
	_ = conn.SetReadDeadline(time.Now().Add(patience))
	line, err := readLine(conn, maxRequest)
	if err != nil && !errors.Is(err, errLong) {
		return // there is no request
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
		var misfit *config.MisfitError
		resp.Error, resp.Misfit = err.Error(), errors.As(err, &misfit)
	}
	_ = conn.SetWriteDeadline(time.Now().Add(patience))
	_ = json.NewEncoder(conn).Encode(resp)
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

// Close closes all connections and removes the socket. The machine is not called after it returns.
func (s *Server) Close() error {
	// The listener first: a client that tries again after its connection was closed is refused.
	err := s.listener.Close()
	return errors.Join(err, s.tasks.Stop())
}
