package control

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"

	"golang.org/x/sys/unix"
)

// folders are where sockets can be, the best first.
func folders(uid int, getenv func(string) string) []string {
	id := strconv.Itoa(uid)
	var all []string
	if uid == 0 {
		all = append(all, "/run/minivmm")
	}
	// Root may have come by another user's XDG_RUNTIME_DIR; ours then is refused by its owner, or is in nobody's way.
	if dir := getenv("XDG_RUNTIME_DIR"); filepath.IsAbs(dir) {
		all = append(all, filepath.Join(dir, "minivmm"))
	}
	all = append(all, "/run/user/"+id+"/minivmm", "/tmp/minivmm-"+id)
	return slices.Compact(all)
}

// myFolders are those of this process's user.
func myFolders() []string { return folders(os.Geteuid(), os.Getenv) }

// makeFolder makes the first folder that can be made, for this user alone.
func makeFolder(candidates []string) (string, error) {
	var errs []error
	for _, dir := range candidates {
		err := os.Mkdir(dir, 0o700)
		if err == nil || errors.Is(err, os.ErrExist) {
			err = private(dir)
		}
		if err == nil {
			return dir, nil
		}
		errs = append(errs, err)
	}
	return "", errors.Join(errs...)
}

// private says why a folder is not this user's alone. In /tmp anybody may have made it.
func private(dir string) error {
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
		return fmt.Errorf("%s has mode %#o, which lets others in: %w (chmod 700 it)", dir, st.Mode&0o777, os.ErrPermission)
	}
	return nil
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
