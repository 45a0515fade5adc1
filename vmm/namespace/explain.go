package namespace

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// explain adds the meaning of the kernel's error, and advice.
func (s Set) explain(op string, err error) error {
	err = fmt.Errorf("namespaces (%s): %s: %w", strings.Join(s.names(), ", "), op, err)
	switch {
	case errors.Is(err, unix.ENOSPC):
		return fmt.Errorf("%w (%s)", err, s.limits("/proc"))
	case errors.Is(err, fs.ErrPermission) && !s.User:
		return fmt.Errorf("%w (requires CAP_SYS_ADMIN: run as root, or set namespaces.user = true)", err)
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("%w (this host does not allow its users to create user namespaces: see sysctl kernel.unprivileged_userns_clone and kernel.apparmor_restrict_unprivileged_userns)", err)
	}
	return err
}

// limits names the kinds whose limit is reached, with the figures, or all kinds if none appears to
// be at its limit. The use is counted in /proc: only namespaces that contain a process.
func (s Set) limits(proc string) string {
	var all, reached []string
	for _, k := range kinds {
		if s.flags()&k.flag == 0 {
			continue
		}
		b, err := os.ReadFile(proc + "/sys/user/" + k.limit)
		if err != nil {
			continue
		}
		var limit int
		if n, _ := fmt.Sscan(string(b), &limit); n != 1 {
			continue
		}
		used := map[string]bool{}
		links, _ := filepath.Glob(proc + "/[0-9]*/ns/" + k.name)
		for _, l := range links {
			if to, err := os.Readlink(l); err == nil {
				used[to] = true
			}
		}
		// The first of each kind is the kernel's own and counts for no user.
		figure := fmt.Sprintf("user.%s is %d: the host has %d of them that contain processes", k.limit, limit, len(used))
		if all = append(all, figure); len(used) > limit {
			reached = append(reached, figure)
		}
	}
	if len(reached) > 0 {
		return strings.Join(reached, "; ")
	}
	return "a limit on namespaces is reached: " + strings.Join(all, "; ")
}
