package cgroup

import (
	"errors"
	"fmt"

	"minivmm/internal/procfs"
)

// host is what this package knows about the host and about the process.
type host struct {
	files
	mount   string // the mount point of the version 2 hierarchy
	home    string // the process's cgroup below it: "/" or "/a/b"
	uid     int
	systemd bool // systemd manages the hierarchy
	manager manager
	scope   string // the unit that the manager made; "" if none
}

// findHost reads /proc of this process.
func findHost() (host, error) {
	// Only the host's own root may use the whole hierarchy.
	h := host{files: kernel{}, uid: procfs.UserAbove()}
	own, err := h.read("/proc/self/cgroup")
	if err != nil {
		return h, err
	}
	h.systemd = h.exists("/run/systemd/system") // sd_booted(3)
	if h.mount, h.home, err = procfs.FindCgroup(procfs.UnifiedCgroup(own)); errors.Is(err, errors.ErrUnsupported) {
		err = fmt.Errorf("%w, and cgroup version 1 has no such limits (boot with systemd.unified_cgroup_hierarchy=1, or mount -t cgroup2 none /sys/fs/cgroup)", err)
	}
	return h, err
}
