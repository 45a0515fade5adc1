package control

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"

	"golang.org/x/sys/unix"

	"minivmm/internal/flock"
	"minivmm/internal/userdir"
)

// Name is a machine's name. No other machine of this user can have it until Close.
type Name struct {
	name  string
	dir   string     // directory of the socket
	locks []*os.File // locked with flock, one in each of the user's directories
}

// TakenError reports a name that a running machine has. It matches EBUSY.
type TakenError struct {
	Name string
	PID  int // of the machine; 0 if it does not respond
}

func (e *TakenError) Error() string {
	who := "a machine that is starting or does not respond"
	if e.PID != 0 {
		who = fmt.Sprintf("process %d", e.PID)
	}
	return fmt.Sprintf("a machine named %q is already running (%s): choose another name", e.Name, who)
}

// Unwrap returns EBUSY.
func (e *TakenError) Unwrap() error { return unix.EBUSY }

// Claim claims a name until Close. It returns a [TakenError] if a running machine has it.
func Claim(name string) (*Name, error) { return claim(userdir.Runtime(), name) }

func claim(candidates []string, name string) (*Name, error) {
	if err := checkName(name); err != nil {
		return nil, err
	}
	dir, err := userdir.Make(candidates)
	if err != nil {
		return nil, fmt.Errorf("cannot create a directory for the machine's control socket: %w", err)
	}
	n := &Name{name: name, dir: dir}
	// All processes lock in the same order: of two that start at once, one gets all locks.
	for _, d := range slices.Sorted(slices.Values(candidates)) {
		// d may hold the socket of a machine that was started with another environment, or before
		// the login session.
		if userdir.Private(d) != nil {
			continue
		}
		lock, err := lockFile(filepath.Join(d, name+lockSuffix))
		switch {
		case err == nil:
			n.locks = append(n.locks, lock)
			continue
		case errors.Is(err, unix.EWOULDBLOCK):
			taken := &TakenError{Name: name}
			if resp, _, err := callName(candidates, name, Request{Command: CommandAbout}); err == nil {
				taken.PID = resp.About.PID
			}
			return nil, errors.Join(taken, n.Close())
		case d == dir:
			return nil, errors.Join(err, n.Close())
		}
	}
	return n, nil
}

// lockFile creates and locks a file. It returns EWOULDBLOCK if another process holds the lock.
func lockFile(path string) (*os.File, error) {
	for {
		f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW, 0o600)
		if err != nil {
			return nil, err
		}
		if err := flock.Try(f); err != nil {
			return nil, errors.Join(err, f.Close())
		}
		// The previous holder may have removed the file after it was opened here: try again.
		if current(f) {
			return f, nil
		}
		f.Close()
	}
}

// current reports whether an open file is still the one under its name.
func current(f *os.File) bool {
	ours, err1 := f.Stat()
	named, err2 := os.Lstat(f.Name())
	return err1 == nil && err2 == nil && os.SameFile(ours, named)
}

const (
	lockSuffix   = ".lock"
	socketSuffix = ".sock"
)

// String returns the name.
func (n *Name) String() string { return n.name }

// Close releases the name. The server must be closed before. Close removes only its own lock files:
// if something else removed one of them, another machine may have created a new one.
func (n *Name) Close() error {
	var errs []error
	for _, lock := range n.locks {
		if current(lock) {
			errs = append(errs, os.Remove(lock.Name()))
		}
		errs = append(errs, lock.Close())
	}
	return errors.Join(errs...)
}

// checkName accepts names that are exactly one file name.
func checkName(name string) error {
	if !regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,63}$`).MatchString(name) {
		return fmt.Errorf("machine name %q: want 1 to 64 characters a-z, 0-9 and -, the first not -: %w", name, os.ErrInvalid)
	}
	return nil
}
