package procfs

import (
	"errors"
	"fmt"
	"os"
	"path"
	"slices"
	"strings"
)

// UnifiedCgroup picks the version 2 line of /proc/PID/cgroup: "/" or "/a/b"; "" on a host without that hierarchy.
func UnifiedCgroup(text string) string {
	for line := range strings.Lines(text) {
		if p, ok := strings.CutPrefix(line, "0::"); ok {
			return strings.TrimSuffix(p, "\n")
		}
	}
	return ""
}

// FindCgroup says where the version 2 hierarchy is mounted that has a cgroup of UnifiedCgroup's, and where the cgroup is
// below that folder, "/" or "/a/b": most often /sys/fs/cgroup, on a host with both versions /sys/fs/cgroup/unified. The
// error matches errors.ErrUnsupported if there is none.
func FindCgroup(cgroup string) (mount, below string, err error) {
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return "", "", err
	}
	return findCgroup(string(mounts), cgroup)
}

func findCgroup(mountinfo, cgroup string) (mount, below string, err error) {
	if cgroup == "" {
		return "", "", fmt.Errorf("this kernel has no cgroup version 2: %w", errors.ErrUnsupported)
	}
	mount, below, ok := findMount(mountinfo, cgroup, func(kind []string) bool { return kind[0] == "cgroup2" })
	if !ok {
		err = fmt.Errorf("no cgroup version 2 with %s in it is mounted: %w", cgroup, errors.ErrUnsupported)
	}
	return mount, below, err
}

// FindController is FindCgroup for the hierarchy that has a controller, of a task with the text of /proc/PID/cgroup: version 1 where
// it is mounted so, else version 2, whose cgroup may be without it.
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
		mount, below, ok := findMount(mountinfo, f[2], func(kind []string) bool { return kind[0] == "cgroup" && has(kind[len(kind)-1], controller) })
		if ok {
			return mount, below, nil
		}
	}
	return findCgroup(mountinfo, UnifiedCgroup(text))
}

// has says whether a list with commas has a word.
func has(list, word string) bool { return slices.Contains(strings.Split(list, ","), word) }

// findMount finds the first mount of a kind, by type, source and options, that has a cgroup in it.
func findMount(mountinfo, cgroup string, is func(kind []string) bool) (mount, below string, ok bool) {
	for line := range strings.Lines(mountinfo) {
		// 31 23 0:27 ROOT MOUNT OPTIONS... - TYPE SOURCE OPTIONS
		before, after, _ := strings.Cut(line, " - ")
		f, kind := strings.Fields(before), strings.Fields(after)
		if len(f) < 5 || len(kind) == 0 || !is(kind) {
			continue
		}
		// What is mounted may be a part of the hierarchy.
		root := unescape(f[3])
		below, ok := strings.CutPrefix(cgroup, strings.TrimSuffix(root, "/"))
		if !ok || below != "" && below[0] != '/' {
			continue
		}
		return unescape(f[4]), path.Clean("/" + below), true
	}
	return "", "", false
}

// unescape undoes mountinfo's octal escapes.
func unescape(s string) string {
	return strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`).Replace(s)
}
