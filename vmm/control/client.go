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
)

// clientPatience is how long an answer may take: a machine whose device is being reset waits for that.
const clientPatience = 10 * time.Second

// NotRunningError is a name that no running machine has. It matches fs.ErrNotExist.
type NotRunningError struct {
	Name    string   // "" for any
	Running []string // the names of those that do run
}

func (e *NotRunningError) Error() string {
	if e.Name == "" {
		return "no machine is running"
	}
	text := fmt.Sprintf("no machine named %q is running", e.Name)
	if len(e.Running) > 0 {
		text += " (there is " + strings.Join(e.Running, ", ") + ")"
	}
	return text
}

// Unwrap is fs.ErrNotExist.
func (e *NotRunningError) Unwrap() error { return fs.ErrNotExist }

// Found is a machine that runs, or at least holds its socket.
type Found struct {
	Name  string
	About account.Machine
	Err   error // why it does not answer
}

// Find returns this user's running machines, by name.
func Find() []Found { return find(userdir.Runtime()) }

func find(candidates []string) []Found {
	var all []Found
	for _, dir := range candidates {
		if userdir.Private(dir) != nil {
			continue
		}
		paths, _ := filepath.Glob(filepath.Join(dir, "*"+socketSuffix))
		for _, path := range paths {
			f := Found{Name: strings.TrimSuffix(filepath.Base(path), socketSuffix)}
			f.About, f.Err = ask(path)
			if !stale(f.Err) {
				all = append(all, f)
			}
		}
	}
	slices.SortFunc(all, func(a, b Found) int { return strings.Compare(a.Name, b.Name) })
	return all
}

// stale says of an error that nobody serves the socket.
func stale(err error) bool {
	return errors.Is(err, unix.ECONNREFUSED) || errors.Is(err, fs.ErrNotExist)
}

// cut says of an error that a connection ended without an answer.
func cut(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, unix.ECONNRESET) || errors.Is(err, unix.EPIPE)
}

func ask(path string) (account.Machine, error) {
	resp, pid, err := call(path, Request{Command: CommandAbout})
	if err != nil {
		return account.Machine{}, err
	}
	if resp.About == nil {
		return account.Machine{}, fmt.Errorf("%s: an answer without a machine in it", path)
	}
	resp.About.PID = cmp.Or(pid, resp.About.PID) // in a pid namespace it does not know its own
	return *resp.About, nil
}

// Call sends a request to the machine of that name and returns the answer, and the process that gave it (0 if it cannot be
// seen from here). The version is filled in.
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
		if cut(err) { // the machine has ended meanwhile, and refuses now
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
	if err := writeLine(conn, req); err != nil {
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
		return nil, pid, fmt.Errorf("answer: %w", err)
	case resp.Version != Version:
		return nil, pid, fmt.Errorf("it speaks version %d, and this minivmm %d", resp.Version, Version)
	case resp.Error != "":
		return nil, pid, errors.New(resp.Error)
	}
	return &resp, pid, nil
}

// peer is the process at the other end, 0 if it is not in our pid namespace.
func peer(conn net.Conn) int {
	raw, err := conn.(*net.UnixConn).SyscallConn()
	if err != nil {
		return 0
	}
	pid := 0
	_ = raw.Control(func(fd uintptr) {
		if cred, err := unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED); err == nil {
			pid = int(cred.Pid)
		}
	})
	return pid
}
