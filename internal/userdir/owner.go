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

// CheckOwner returns an error if another user controls the path: if the path belongs to a user
// other than the effective user and root or, for root as the effective user, if a folder or link on
// the way to it does. The error matches os.ErrPermission. This matters because su and sudo can pass
// root environment variables that name another user's folders. Ordinary users may share parent
// folders with a group.
//
// A path that does not exist is not an error: the user who creates it owns it.
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

// trusted reports whether a user is euid or root. In a user namespace, root of the host has the
// same overflow uid as every other unmapped user.
func trusted(uid, euid int) bool {
	const overflow = 65534 // /proc/sys/kernel/overflowuid
	_, initial := procfs.RealUserAbove()
	return uid == euid || uid == 0 || !initial && uid == overflow
}
