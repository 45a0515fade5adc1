package control

import (
	"cmp"
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

	"golang.org/x/sys/unix"

	"minivmm/internal/userdir"
	"minivmm/vmm/account"
	"minivmm/vmm/config"
)

// clientPatience limits the wait for a response: a machine may be waiting for a device's reset.
const clientPatience = 10 * time.Second

// NotRunningError reports a name that no running machine has. It matches fs.ErrNotExist.
type NotRunningError struct {
	Name    string   // "" for any
	Running []string // the names of the running machines
}

func (e *NotRunningError) Error() string {
	if e.Name == "" {
		return "no machine is running"
	}
	text := fmt.Sprintf("no machine named %q is running", e.Name)
	if len(e.Running) > 0 {
		text += " (running: " + strings.Join(e.Running, ", ") + ")"
	}
	return text
}

// Unwrap returns fs.ErrNotExist.
func (e *NotRunningError) Unwrap() error { return fs.ErrNotExist }

// Found is a machine that is running, or whose socket at least accepts connections.
type Found struct {
	Name  string
	About account.Machine
	Err   error // why it does not respond; nil if it does
}

// Find returns this user's running machines, sorted by name.
func Find() []Found { return find(userdir.Runtime()) }

func find(candidates []string) []Found {
	var all []Found
	for _, dir := range candidates {
		if userdir.Private(dir) != nil {
			continue
		}
		paths, _ := filepath.Glob(filepath.Join(dir, "*"+socketSuffix))
		for _, path := range paths {
			resp, _, err := call(path, Request{Command: CommandAbout})
			f := Found{Name: strings.TrimSuffix(filepath.Base(path), socketSuffix), Err: err}
			if err == nil {
				f.About = *resp.About
			}
			if !stale(err) {
				all = append(all, f)
			}
		}
	}
	slices.SortFunc(all, func(a, b Found) int { return strings.Compare(a.Name, b.Name) })
	return all
}

// stale reports whether err means that no process serves the socket.
func stale(err error) bool {
	return errors.Is(err, unix.ECONNREFUSED) || errors.Is(err, fs.ErrNotExist)
}

// cut reports whether err means that the connection was closed without a response.
func cut(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, unix.ECONNRESET) || errors.Is(err, unix.EPIPE)
}

// Call sends a request to the machine with that name. It returns the response and the ID of the
// process that sent it, 0 if that process is not visible in this PID namespace. Call sets
// req.Version. A response to CommandAbout has About, and one to CommandWorkers has Workers.
func Call(name string, req Request) (_ *Response, pid int, err error) {
	return callName(userdir.Runtime(), name, req)
}

func callName(candidates []string, name string, req Request) (*Response, int, error) {
	if err := checkName(name); err != nil {
		return nil, 0, err
	}
	for _, dir := range candidates {
		if userdir.Private(dir) != nil {
			continue
		}
		path := filepath.Join(dir, name+socketSuffix)
		resp, pid, err := call(path, req)
		if cut(err) { // the machine is stopping; a second attempt is refused
			resp, pid, err = call(path, req)
		}
		if stale(err) {
			continue
		}
		if err != nil {
			err = fmt.Errorf("machine %s: %w", name, err)
		}
		return resp, pid, err
	}
	missing := &NotRunningError{Name: name}
	for _, f := range find(candidates) {
		missing.Running = append(missing.Running, f.Name)
	}
	return nil, 0, missing
}

func call(path string, req Request) (*Response, int, error) {
	conn, err := net.DialTimeout("unix", path, clientPatience)
	if err != nil {
		return nil, 0, err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(clientPatience)); err != nil {
		return nil, 0, err
	}
	pid := peer(conn)
	req.Version = Version
	if err := json.NewEncoder(conn).Encode(req); err != nil {
		return nil, pid, err
	}
	line, err := readLine(conn, maxResponse)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		err = fmt.Errorf("process %d did not answer within %v: %w", pid, clientPatience, err)
	}
	if err != nil {
		return nil, pid, err
	}
	var resp Response
	switch err := json.Unmarshal(line, &resp); {
	case err != nil:
		return nil, pid, fmt.Errorf("response: %w", err)
	case resp.Version != Version:
		return nil, pid, fmt.Errorf("it uses protocol version %d, this minivmm uses %d", resp.Version, Version)
	case resp.Misfit:
		return nil, pid, &config.MisfitError{Problem: resp.Error}
	case resp.Error != "":
		return nil, pid, errors.New(resp.Error)
	case req.Command == CommandAbout && resp.About == nil, req.Command == CommandWorkers && resp.Workers == nil:
		return nil, pid, fmt.Errorf("the response to %s has no result", req.Command)
	}
	// A machine in a PID namespace does not know the ID that its process has outside.
	if resp.About != nil {
		resp.About.PID = cmp.Or(pid, resp.About.PID)
	}
	if resp.Workers != nil {
		resp.Workers.Machine.PID = cmp.Or(pid, resp.Workers.Machine.PID)
	}
	return &resp, pid, nil
}

// peer returns the process ID of the other end, 0 if that process is not in this PID namespace.
func peer(conn net.Conn) int {
	pid := 0
	if raw, err := conn.(*net.UnixConn).SyscallConn(); err == nil {
		_ = raw.Control(func(fd uintptr) {
			if cred, err := unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED); err == nil {
				pid = int(cred.Pid)
			}
		})
	}
	return pid
}
