package userdir

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"minivmm/internal/procfs"
)

// CheckOwner says why another user decides what is found at a path: it belongs to somebody who is
// neither the effective user nor root, or, if that user is root, a folder or link on the way to it
// does. The error matches os.ErrPermission. Environment variables that name another user's folders
// reach root by su and sudo; ordinary users may share the folders above theirs with a group.
//
// What does not exist is no error: who makes it, owns it.
func CheckOwner(path string) error { return checkOwner(path, os.Geteuid()) }

func checkOwner(path string, euid int) error {
	path, err := filepath.Abs(path)
	if err != nil {
		return err
	}
	at, rest := "/", path
	for links := 0; ; {
		var st unix.Stat_t
		switch err := unix.Lstat(at, &st); {
		case errors.Is(err, unix.ENOENT):
			return nil
		case err != nil:
			return &os.PathError{Op: "lstat", Path: at, Err: err}
		case (euid == 0 || rest == "") && !trusted(int(st.Uid), euid):
			return fmt.Errorf("%s belongs to user %d: %w to user %d", at, st.Uid, os.ErrPermission, euid)
		}
		if st.Mode&unix.S_IFMT == unix.S_IFLNK {
			to, err := os.Readlink(at)
			if links++; err == nil && links > 40 {
				err = &os.PathError{Op: "readlink", Path: path, Err: unix.ELOOP}
			}
			if err != nil {
				return err
			}
			at, rest = filepath.Dir(at), to+"/"+rest
			if filepath.IsAbs(to) {
				at = "/"
			}
		}
		var next string
		for next == "" || next == "." {
			if rest == "" {
				return nil
			}
			next, rest, _ = strings.Cut(rest, "/")
		}
		at = filepath.Join(at, next)
	}
}

// trusted says whether a user is euid or root. In a user namespace root outside looks like
// everybody else from outside.
func trusted(uid, euid int) bool {
	const overflow = 65534 // /proc/sys/kernel/overflowuid
	_, initial := procfs.RealUserAbove()
	return uid == euid || uid == 0 || !initial && uid == overflow
}
