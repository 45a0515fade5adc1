package cgroup

import (
	"errors"
	"slices"
	"strconv"
	"strings"
)

// prefix starts the name of every cgroup that this package creates.
const prefix = "minivmm."

// isOurs reports whether name is one that enter gives.
func isOurs(name string) bool {
	rest, ok := strings.CutPrefix(name, prefix)
	machine, number, numbered := strings.Cut(rest, ".")
	if _, err := strconv.ParseUint(number, 10, 31); numbered && err != nil {
		return false
	}
	if !numbered && slices.Contains([]string{"slice", "service", "scope"}, machine) {
		return false // a unit of systemd's
	}
	return ok && machine != "" && strings.Trim(machine, "abcdefghijklmnopqrstuvwxyz0123456789-") == ""
}

// recover removes the cgroups that killed processes left in base. The kernel refuses to remove
// cgroups that contain processes.
func (h host) recover(base string) {
	names, err := h.list(base)
	if err != nil {
		return // creating one reports the cause
	}
	for _, name := range names {
		if !isOurs(name) {
			continue
		}
		dir := base + "/" + name
		if events, err := h.read(dir + "/cgroup.events"); err != nil || !strings.Contains(events+"\n", "populated 0\n") {
			continue
		}
		_ = errors.Join(h.rmdir(dir+"/"+vcpuChild), h.rmdir(dir+"/"+ioChild), h.rmdir(dir))
	}
}
