// Package userdir finds the folders of this process's user and rejects folders of other users.
//
// The package keeps no state; all functions are safe for concurrent use.
package userdir

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"minivmm/internal/procfs"
)

// folders returns the runtime folders of two users, best folder first: the user whose ID is in
// above and, if that is another user, the user whose ID is in uid. In a user namespace, above
// belongs to the user who created the namespace and who must be able to find the files.
func folders(above, uid int, getenv func(string) string) []string {
	var all []string
	add := func(dir string) {
		if dir = filepath.Clean(dir); !slices.Contains(all, dir) {
			all = append(all, dir)
		}
	}
	for _, uid := range []int{above, uid} {
		if uid == 0 {
			add("/run/minivmm")
		}
		// Root may have inherited another user's XDG_RUNTIME_DIR. A folder named minivmm in it is
		// then either rejected because of its owner, or harmless.
		if dir := getenv("XDG_RUNTIME_DIR"); filepath.IsAbs(dir) {
			add(dir + "/minivmm")
		}
		id := strconv.Itoa(uid)
		add("/run/user/" + id + "/minivmm")
		add("/tmp/minivmm-" + id)
	}
	return all
}

// Runtime returns the runtime folders of this process's user, best folder first: /run/minivmm for
// root, $XDG_RUNTIME_DIR/minivmm, /run/user/UID/minivmm and /tmp/minivmm-UID. These folders may be
// missing or belong to another user: see Make and Private.
func Runtime() []string {
	above, _ := procfs.UserAbove(os.Geteuid())
	return folders(above, os.Geteuid(), os.Getenv)
}

// Make returns the first of the candidates that exists or can be created, and that only this user
// can access.
func Make(candidates []string) (string, error) {
	var errs []error
	for _, dir := range candidates {
		err := os.Mkdir(dir, 0o700)
		if err == nil || errors.Is(err, os.ErrExist) {
			err = Private(dir)
		}
		if err == nil {
			return dir, nil
		}
		errs = append(errs, err)
	}
	return "", fmt.Errorf("%w (set XDG_RUNTIME_DIR to a folder that belongs to this user)", errors.Join(errs...))
}

// Private returns an error if other users can access the folder. In /tmp any user could have
// created it.
func Private(dir string) error {
	var st unix.Stat_t
	if err := unix.Lstat(dir, &st); err != nil {
		return &os.PathError{Op: "lstat", Path: dir, Err: err}
	}
	switch {
	case st.Mode&unix.S_IFMT != unix.S_IFDIR:
		return &os.PathError{Op: "open", Path: dir, Err: unix.ENOTDIR}
	case int(st.Uid) != os.Geteuid():
		return fmt.Errorf("%s belongs to user %d: %w", dir, st.Uid, os.ErrPermission)
	case st.Mode&0o077 != 0:
		return fmt.Errorf("%s has mode %#o, which gives other users access: %w (run chmod 700 %[1]s)", dir, st.Mode&0o777, os.ErrPermission)
	}
	return nil
}

// CheckOwner returns an error if another user controls the path. The path must belong to the
// effective user or to root. If the effective user is root, every folder and link on the way to the
// path must belong to root too, because su and sudo can pass root environment variables that name
// another user's folders. The error matches os.ErrPermission. Ordinary users may share parent
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

// trusted reports whether uid is euid or root. In a user namespace, the host's root has the same
// overflow uid as every other unmapped user, so trusted accepts that uid.
func trusted(uid, euid int) bool {
	const overflow = 65534 // /proc/sys/kernel/overflowuid
	_, initial := procfs.UserAbove(os.Getuid())
	return uid == euid || uid == 0 || !initial && uid == overflow
}
