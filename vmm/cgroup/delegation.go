package cgroup

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// usable says what is missing for a cgroup below base.
func (h host) usable(base string, cfg Config) error {
	have, err := h.read(base + "/cgroup.controllers")
	if err != nil {
		return fmt.Errorf("%s: %w", keys(cfg), err)
	}
	// The root has no type.
	if kind, err := h.read(base + "/cgroup.type"); err == nil && kind != "domain" {
		return fmt.Errorf("%s: cgroup %s is %q, and a machine's must be below one that is \"domain\": %w", keys(cfg), base, kind, errors.ErrUnsupported)
	}
	for _, c := range controllers(cfg) {
		if slices.Contains(strings.Fields(have), c) {
			continue
		}
		var need []string
		for _, s := range slices.Concat(cfg.Settings, cfg.VCPU, cfg.IO) {
			if s.controller() == c && !slices.Contains(need, s.Key) {
				need = append(need, s.Key)
			}
		}
		return fmt.Errorf("%s: needs the %s controller, and cgroup %s has only %q: %w (%s)",
			strings.Join(need, ", "), c, base, have, errors.ErrUnsupported, h.delegateHint(c))
	}
	return nil
}

// delegated says whether systemd gave away the unit that base is in. A user's
// own manager was given all that it manages, and is asked in its turn: so a unit that was
// not given away ends the search.
func (h host) delegated(base string) bool {
	for dir := base; len(dir) >= len(h.mount); dir = path.Dir(dir) {
		// The one for root, and the one that anybody may read.
		if h.xattr(dir, "trusted.delegate") == "1" || h.xattr(dir, "user.delegate") == "1" {
			return true
		}
		if dir == h.mount || slices.Contains([]string{".scope", ".service", ".slice"}, path.Ext(dir)) {
			break
		}
	}
	return false
}

// ownCgroup is how to get a cgroup of one's own.
func (h host) ownCgroup() string {
	switch {
	case !h.systemd:
		return "run minivmm in a cgroup of its own that its user may write to"
	case h.uid == 0:
		return "systemd-run --scope -p Delegate=yes minivmm run ..."
	}
	return "systemd-run --user --scope -p Delegate=yes minivmm run ..."
}

func (h host) delegateHint(controller string) string {
	switch {
	case h.systemd && h.uid != 0:
		return "as root, systemctl edit user@.service: [Service] Delegate=cpu cpuset io memory pids; then log in again"
	case h.systemd && h.scope == "":
		return "Delegate=yes in the unit gives all controllers"
	}
	return fmt.Sprintf("write +%s to cgroup.subtree_control of the cgroups above; one that is mounted as version 1, or is not in the kernel, cannot be had", controller)
}

// explain adds to the kernel's errors what they mean.
func (g *Group) explain(err error, cfg Config) error {
	switch {
	case errors.Is(err, unix.EBUSY):
		others := "other processes"
		if pids, rerr := g.read(g.base + "/cgroup.procs"); rerr == nil && pids != "" {
			others = "processes " + strings.Join(strings.Fields(pids), ", ")
		}
		return fmt.Errorf("%s: cgroup %s has %s in it, and one with processes cannot limit those below it: %w (%s)", keys(cfg), g.base, others, err, g.ownCgroup())
	case errors.Is(err, fs.ErrPermission), errors.Is(err, unix.EROFS):
		return fmt.Errorf("%s: cgroup %s is not this user's to change: %w (%s)", keys(cfg), g.base, err, g.ownCgroup())
	}
	return fmt.Errorf("%s: %w", keys(cfg), err)
}
