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

// explain adds to the kernel's errors what they mean.
func (s Set) explain(op string, err error) error {
	err = fmt.Errorf("namespaces (%s): %s: %w", strings.Join(s.names(), ", "), op, err)
	switch {
	case errors.Is(err, unix.ENOSPC):
		return fmt.Errorf("%w (%s)", err, s.limits("/proc"))
	case errors.Is(err, fs.ErrPermission) && !s.User:
		return fmt.Errorf("%w (needs CAP_SYS_ADMIN: be root, or set namespaces.user = true)", err)
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("%w (this host lets its users have no user namespace: see sysctl kernel.unprivileged_userns_clone and kernel.apparmor_restrict_unprivileged_userns)", err)
	}
	return err
}

// limits names the kinds whose limit is reached, with the figures, or all if none seems so.
// The use is what proc shows: namespaces that a process is in.
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
		// The first of each kind is the kernel's own, and no user's.
		figure := fmt.Sprintf("user.%s %d: the host has %d of them with processes in", k.limit, limit, len(used))
		if all = append(all, figure); len(used) > limit {
			reached = append(reached, figure)
		}
	}
	if len(reached) > 0 {
		return strings.Join(reached, "; ")
	}
	return "a limit of namespaces is reached: " + strings.Join(all, "; ")
}
