package control

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// Name is a machine's name, which no other machine of this user has until Close.
type Name struct {
	name string
	dir  string
	lock *os.File // flocked
}

// TakenError is a name that a running machine has. It matches EBUSY.
type TakenError struct {
	Name string
	PID  int // of the machine; 0 if it does not answer
}

func (e *TakenError) Error() string {
	who := "a machine that is just starting, or does not answer"
	if e.PID != 0 {
		who = fmt.Sprintf("process %d", e.PID)
	}
	return fmt.Sprintf("a machine named %q is running already, %s: give this one another name", e.Name, who)
}

// Unwrap is EBUSY.
func (e *TakenError) Unwrap() error { return unix.EBUSY }

// Claim takes a name. The error is a [TakenError] if a running machine has it. The caller closes it.
func Claim(name string) (*Name, error) { return claim(myFolders(), name) }

func claim(candidates []string, name string) (*Name, error) {
	if err := checkName(name); err != nil {
		return nil, err
	}
	dir, err := makeFolder(candidates)
	if err != nil {
		return nil, fmt.Errorf("no folder for the machine's control socket (XDG_RUNTIME_DIR can name one of this user's own): %w", err)
	}
	n := &Name{name: name, dir: dir}
	for {
		if n.lock, err = os.OpenFile(n.lockPath(), os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW, 0o600); err != nil {
			return nil, err
		}
		err := unix.Flock(int(n.lock.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == unix.EWOULDBLOCK {
			n.lock.Close()
			taken := &TakenError{Name: name}
			if m, err := ask(n.socketPath()); err == nil {
				taken.PID = m.PID
			}
			return nil, taken
		}
		if err != nil {
			n.lock.Close()
			return nil, &os.PathError{Op: "flock", Path: n.lockPath(), Err: err}
		}
		// Who had the name may have removed the file after we opened it: then our lock is on nothing.
		if n.current() {
			return n, nil
		}
		n.lock.Close()
	}
}

// current says whether the locked file is still the one with the name.
func (n *Name) current() bool {
	ours, err1 := n.lock.Stat()
	named, err2 := os.Lstat(n.lockPath())
	return err1 == nil && err2 == nil && os.SameFile(ours, named)
}

func (n *Name) lockPath() string   { return filepath.Join(n.dir, n.name+lockSuffix) }
func (n *Name) socketPath() string { return filepath.Join(n.dir, n.name+socketSuffix) }

const (
	lockSuffix   = ".lock"
	socketSuffix = ".sock"
)

// String is the name.
func (n *Name) String() string { return n.name }

// Close gives the name back. Its server was closed before. The file may be gone, in
// a folder that somebody tidies, and the name another machine's by now.
func (n *Name) Close() error {
	var err error
	if n.current() {
		err = os.Remove(n.lockPath())
	}
	return errors.Join(err, n.lock.Close())
}
