package procfs

import (
	"errors"
	"fmt"
	"os"
	"path"
	"slices"
	"strings"
)

// UnifiedCgroup returns the path of the version 2 cgroup, such as "/a/b". text is the content of
// /proc/PID/cgroup. The path is "" if text names no version 2 cgroup.
func UnifiedCgroup(text string) string {
	for line := range strings.Lines(text) {
		if p, ok := strings.CutPrefix(line, "0::"); ok {
			return strings.TrimSuffix(p, "\n")
		}
	}
	return ""
}

// FindCgroup finds a cgroup that UnifiedCgroup returned. It returns the mount point of the version
// 2 hierarchy that contains the cgroup, and the cgroup's path below this mount point, "/" or
// "/a/b". The mount point is usually /sys/fs/cgroup, or /sys/fs/cgroup/unified if both versions are
// mounted. If there is no such mount point, the error is ErrUnsupported.
func FindCgroup(cgroup string) (mount, below string, err error) {
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return "", "", err
	}
	return findCgroup(string(mounts), cgroup)
}

func findCgroup(mountinfo, cgroup string) (mount, below string, err error) {
	if cgroup == "" {
		return "", "", fmt.Errorf("this host has no cgroup version 2 hierarchy: %w", errors.ErrUnsupported)
	}
	mount, below, ok := findMount(mountinfo, cgroup, "cgroup2", "")
	if !ok {
		err = fmt.Errorf("no mounted cgroup version 2 hierarchy contains %s: %w", cgroup, errors.ErrUnsupported)
	}
	return mount, below, err
}

// FindController is like FindCgroup, but finds the cgroup that is used for a controller. text is
// the content of /proc/PID/cgroup. The cgroup is in the controller's version 1 hierarchy if there
// is one, or else in the version 2 hierarchy, which may lack the controller.
func FindController(controller, text string) (mount, below string, err error) {
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return "", "", err
	}
	return findController(string(mounts), controller, text)
}

func findController(mountinfo, controller, text string) (mount, below string, err error) {
	for line := range strings.Lines(text) {
		// ID:CONTROLLERS:PATH
		f := strings.SplitN(strings.TrimSuffix(line, "\n"), ":", 3)
		if len(f) < 3 || !has(f[1], controller) {
			continue
		}
		if mount, below, ok := findMount(mountinfo, f[2], "cgroup", controller); ok {
			return mount, below, nil
		}
	}
	return findCgroup(mountinfo, UnifiedCgroup(text))
}

// has reports whether a comma-separated list contains a word.
func has(list, word string) bool { return slices.Contains(strings.Split(list, ","), word) }

// findMount finds the first mount in which the cgroup is visible. The mount must have the file
// system type given by system. Unless option is "", the mount must also have this option.
func findMount(mountinfo, cgroup, system, option string) (mount, below string, ok bool) {
	unescape := strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`).Replace
	for line := range strings.Lines(mountinfo) {
		// 31 23 0:27 ROOT MOUNT OPTIONS... - TYPE SOURCE OPTIONS
		before, after, _ := strings.Cut(line, " - ")
		f, kind := strings.Fields(before), strings.Fields(after)
		if len(f) < 5 || len(kind) == 0 || kind[0] != system || option != "" && !has(kind[len(kind)-1], option) {
			continue
		}
		// A mount may contain only a part of the hierarchy.
		root := unescape(f[3])
		below, ok := strings.CutPrefix(cgroup, strings.TrimSuffix(root, "/"))
		if !ok || below != "" && below[0] != '/' {
			continue
		}
		return unescape(f[4]), path.Clean("/" + below), true
	}
	return "", "", false
}
