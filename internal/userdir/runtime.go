// Package userdir finds the folders of this process's user, and refuses those of others.
//
// Nothing is kept between two calls; any goroutine may call anything.
package userdir

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"

	"golang.org/x/sys/unix"

	"minivmm/internal/procfs"
)

// folders are where what lives as long as a user's programs can be, the best first: those of user
// above, and of uid if that is another. In a user namespace that is who began it, and who has to
// find what is in it.
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
		// Root may have come by another user's XDG_RUNTIME_DIR; ours then is refused by its owner, or is in nobody's way.
		if dir := getenv("XDG_RUNTIME_DIR"); filepath.IsAbs(dir) {
			add(dir + "/minivmm")
		}
		id := strconv.Itoa(uid)
		add("/run/user/" + id + "/minivmm")
		add("/tmp/minivmm-" + id)
	}
	return all
}

// Runtime returns the folders for what lives as long as the programs of this process's user, the
// best first: /run/minivmm for root, $XDG_RUNTIME_DIR/minivmm, /run/user/UID/minivmm and
// /tmp/minivmm-UID. They may be missing, or another user's: see Make and Private.
func Runtime() []string { return folders(procfs.UserAbove(), os.Geteuid(), os.Getenv) }

// Make makes the first folder that can be made, for this user alone, and returns it.
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
	return "", fmt.Errorf("%w (XDG_RUNTIME_DIR can name a folder of this user's own)", errors.Join(errs...))
}

// Private says why a folder is not this user's alone. In /tmp anybody may have made it.
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
		return fmt.Errorf("%s has mode %#o, which lets others in: %w (chmod 700 it)", dir, st.Mode&0o777, os.ErrPermission)
	}
	return nil
}
