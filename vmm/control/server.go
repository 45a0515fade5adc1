// Package control lets other programs find a running machine and send requests to it, through a
// Unix socket: one request and one response per connection.
//
// [Claim] claims a name for a machine and [Name.Serve] serves the socket of that name, for a
// [Machine] that handles the requests. Clients use [Call] and [Find].
//
// # Places
//
// The socket of machine NAME is NAME.sock in the first directory that can be created: for root
// /run/minivmm; for others $XDG_RUNTIME_DIR/minivmm, /run/user/UID/minivmm or /tmp/minivmm-UID. In
// a user namespace, UID is the user who created it. Directories have mode 0700 and must belong to
// the user; sockets have mode 0600. So only the user and root can connect.
//
// A running machine holds a lock (flock(2)) on NAME.lock next to the socket and in each of the
// other directories that exist, so that a machine started with another environment cannot have the
// same name. A machine that was killed leaves both files behind, which the next machine with that
// name replaces. A stale socket refuses connections, so clients recognize it.
//
// # Protocol
//
// A connection carries one request and one response, each a JSON object on one line ([Request] and
// [Response]; docs/operating.md has examples):
//
//	{"version":1,"command":"stop","now":true}    {"version":1}
//	{"version":1,"command":"dance"}              {"version":1,"error":"unknown command \"dance\": ..."}
//
// Unknown keys in a request are errors; clients ignore unknown keys in a response, so that
// responses can grow within a version. A request is at most 4 KiB and must arrive within 5 s.
//
// Until a client connects, a served name costs two files, two descriptors and a goroutine in
// accept. At most 8 connections are served at a time; further ones wait. Close closes them all.
package control

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"minivmm/internal/task"
	"minivmm/vmm/account"
	"minivmm/vmm/config"
)

// Version is the protocol version.
const Version = 1

// Request is what a client sends.
type Request struct {
	Version int            `json:"version"`
	Command string         `json:"command"`
	Now     bool           `json:"now,omitempty"`  // stop: kill the guest without pressing its power button
	Tune    *config.Tuning `json:"tune,omitempty"` // tune: what to change
}

// The commands.
const (
	CommandAbout   = "about"
	CommandWorkers = "workers"
	CommandStop    = "stop"
	CommandTune    = "tune"
	CommandRescan  = "rescan"
)

var commands = []string{CommandAbout, CommandWorkers, CommandStop, CommandTune, CommandRescan}

// Response is what the server sends.
type Response struct {
	Version int                `json:"version"`
	Error   string             `json:"error,omitempty"`
	Misfit  bool               `json:"misfit,omitempty"` // the error is a *config.MisfitError
	About   *account.Machine   `json:"about,omitempty"`
	Workers *account.Report    `json:"workers,omitempty"`
	Disks   []account.DiskSize `json:"disks,omitempty"`
}

const (
	maxRequest  = 4 << 10
	maxResponse = 16 << 20
)

var errLong = errors.New("line longer")

// readLine reads up to a newline, at most max bytes including the newline.
func readLine(r io.Reader, max int64) ([]byte, error) {
	line, err := bufio.NewReader(io.LimitReader(r, max)).ReadBytes('\n')
	switch {
	case err == nil:
		return line[:len(line)-1], nil
	case err == io.EOF && int64(len(line)) == max:
		return nil, fmt.Errorf("%w than %d bytes", errLong, max)
	case err == io.EOF && len(line) > 0:
		return nil, io.ErrUnexpectedEOF
	}
	return nil, err
}

// parseRequest parses and validates a request.
func parseRequest(line []byte) (Request, error) {
	d := json.NewDecoder(bytes.NewReader(line))
	d.DisallowUnknownFields()
	var r Request
	if err := d.Decode(&r); err != nil {
		return Request{}, fmt.Errorf("request: %w", err)
	}
	if _, err := d.Token(); err != io.EOF {
		return Request{}, errors.New("request: more than one value on the line")
	}
	switch {
	case r.Version != Version:
		return Request{}, fmt.Errorf("unsupported version %d: want %d", r.Version, Version)
	case !slices.Contains(commands, r.Command):
		return Request{}, fmt.Errorf("unknown command %q: want one of %s", r.Command, strings.Join(commands, ", "))
	case r.Now && r.Command != CommandStop:
		return Request{}, fmt.Errorf("key now is only valid for stop, not for %s", r.Command)
	case (r.Tune != nil) != (r.Command == CommandTune):
		return Request{}, errors.New("key tune is required for tune and invalid for other commands")
	}
	return r, nil
}

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
	path := filepath.Join(n.dir, n.name+socketSuffix)
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
	s.tasks = task.New(func(error) {}) // do reports its panics; any other closes one connection
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
	// Close the listener first, so that a client whose connection is closed is refused when it
	// tries again.
	err := s.listener.Close()
	return errors.Join(err, s.tasks.Stop())
}
