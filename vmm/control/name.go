package control

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"

	"minivmm/internal/flock"
	"minivmm/internal/userdir"
)

// Name is a machine's name, which no other machine of this user has until Close.
type Name struct {
	name  string
	dir   string     // of the socket
	locks []*os.File // flocked, one in each of the user's folders
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
func Claim(name string) (*Name, error) { return claim(userdir.Runtime(), name) }

func claim(candidates []string, name string) (*Name, error) {
	if err := checkName(name); err != nil {
		return nil, err
	}
	dir, err := userdir.Make(candidates)
	if err != nil {
		return nil, fmt.Errorf("no folder for the machine's control socket: %w", err)
	}
	n := &Name{name: name, dir: dir}
	// In one order for all, so that of two which begin at once one has all that both want.
	for _, d := range slices.Sorted(slices.Values(candidates)) {
		// A machine that was begun with other variables, or before its user had a session, may have its socket there.
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
			if resp, pid, err := callName(candidates, name, Request{Command: CommandAbout}); err == nil && resp.About != nil {
				taken.PID = cmp.Or(pid, resp.About.PID)
			}
			return nil, errors.Join(taken, n.Close())
		case d == dir:
			return nil, errors.Join(err, n.Close())
		}
	}
	return n, nil
}

// lockFile makes and locks a file: EWOULDBLOCK if another has it.
func lockFile(path string) (*os.File, error) {
	for {
		f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW, 0o600)
		if err != nil {
			return nil, err
		}
		if err := flock.Try(f); err != nil {
			return nil, errors.Join(err, f.Close())
		}
		// Who had the name may have removed the file after we opened it: then our lock is on nothing.
		if current(f) {
			return f, nil
		}
		f.Close()
	}
}

// current says whether a file is still the one with its name.
func current(f *os.File) bool {
	ours, err1 := f.Stat()
	named, err2 := os.Lstat(f.Name())
	return err1 == nil && err2 == nil && os.SameFile(ours, named)
}

func (n *Name) socketPath() string { return filepath.Join(n.dir, n.name+socketSuffix) }

const (
	lockSuffix   = ".lock"
	socketSuffix = ".sock"
)

// String is the name.
func (n *Name) String() string { return n.name }

// Close gives the name back. Its server was closed before. A file may be gone, in
// a folder that somebody tidies, and the name another machine's by now.
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

// checkName holds names to what makes one file name and nothing else.
func checkName(name string) error {
	ok := name != "" && len(name) <= 64 && name[0] != '-'
	for _, c := range []byte(name) {
		ok = ok && (c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c == '-')
	}
	if !ok {
		return fmt.Errorf("machine name %q: not 1 to 64 of a-z, 0-9 and -: %w", name, os.ErrInvalid)
	}
	return nil
}
