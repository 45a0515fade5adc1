package cgroup

import (
	"errors"
	"fmt"
	"os"
	"path"
	"strings"
)

// host is what this package must know of the host and of the process.
type host struct {
	files
	mount   string // of the version 2 hierarchy
	home    string // the process's cgroup below it: "/" or "/a/b"
	uid     int
	systemd bool // it manages the hierarchy
	manager manager
	scope   string // the unit that the manager made; "" if none
}

// findHost looks at the process's /proc.
func findHost() (host, error) {
	h := host{files: kernel{}, uid: os.Geteuid()}
	if ids, err := h.read("/proc/self/uid_map"); err == nil && h.uid == 0 {
		h.uid = outerRoot(ids)
	}
	mounts, err := h.read("/proc/self/mountinfo")
	if err != nil {
		return h, err
	}
	own, err := h.read("/proc/self/cgroup")
	if err != nil {
		return h, err
	}
	h.systemd = h.exists("/run/systemd/system") // sd_booted(3)
	h.mount, h.home, err = locate(mounts, own)
	return h, err
}

// outerRoot is who the root of this user namespace is in the one above, by
// uid_map (user_namespaces(7)): only the host's own root may do what it likes in the hierarchy.
func outerRoot(uidMap string) (uid int) {
	for line := range strings.Lines(uidMap) {
		var here, there, length int
		if n, _ := fmt.Sscan(line, &here, &there, &length); n == 3 && here == 0 {
			return there
		}
	}
	return 0
}

// locate finds the mount of the version 2 hierarchy in mountinfo, and the
// process's place in what is mounted there.
func locate(mountinfo, own string) (mount, home string, err error) {
	for line := range strings.Lines(own) {
		if p, ok := strings.CutPrefix(line, "0::"); ok {
			home = strings.TrimSuffix(p, "\n")
		}
	}
	if home == "" {
		return "", "", fmt.Errorf("this kernel has no cgroup version 2: %w", errors.ErrUnsupported)
	}
	for line := range strings.Lines(mountinfo) {
		// 31 23 0:27 ROOT MOUNT OPTIONS... - TYPE SOURCE OPTIONS
		before, after, _ := strings.Cut(line, " - ")
		f, kind := strings.Fields(before), strings.Fields(after)
		if len(f) < 5 || len(kind) == 0 || kind[0] != "cgroup2" {
			continue
		}
		// What is mounted may be a part of the hierarchy.
		root := unescape(f[3])
		below, ok := strings.CutPrefix(home, strings.TrimSuffix(root, "/"))
		if !ok || below != "" && below[0] != '/' {
			continue
		}
		return unescape(f[4]), path.Clean("/" + below), nil
	}
	return "", "", fmt.Errorf("no cgroup version 2 is mounted that this process is in, and version 1 has no such limits: %w"+
		" (boot with systemd.unified_cgroup_hierarchy=1, or mount -t cgroup2 none /sys/fs/cgroup)", errors.ErrUnsupported)
}

// unescape undoes mountinfo's octal escapes.
func unescape(s string) string {
	return strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`).Replace(s)
}
