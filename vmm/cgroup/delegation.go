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

// usable returns an error that names what a cgroup below base lacks.
func (h host) usable(base string, cfg Config) error {
	have, err := h.read(base + "/cgroup.controllers")
	if err != nil {
		return fmt.Errorf("%s: %w", keys(cfg), err)
	}
	// The root has no type.
	if kind, err := h.read(base + "/cgroup.type"); err == nil && kind != "domain" {
		return fmt.Errorf("%s: cgroup %s has type %q, but the parent of a machine's cgroup must have type \"domain\": %w", keys(cfg), base, kind, errors.ErrUnsupported)
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
		return fmt.Errorf("%s: requires the %s controller, but cgroup %s has only %q: %w (%s)",
			strings.Join(need, ", "), c, base, have, errors.ErrUnsupported, h.delegateHint(c))
	}
	return nil
}

// delegated reports whether systemd delegated the unit that base is in. The search ends at the
// first unit: a user's manager has all that it manages delegated to it, and decides itself whether
// to delegate a unit further.
func (h host) delegated(base string) bool {
	for dir := base; len(dir) >= len(h.mount); dir = path.Dir(dir) {
		// The first attribute is for root, the second is readable by every user.
		if h.xattr(dir, "trusted.delegate") == "1" || h.xattr(dir, "user.delegate") == "1" {
			return true
		}
		if dir == h.mount || slices.Contains([]string{".scope", ".service", ".slice"}, path.Ext(dir)) {
			break
		}
	}
	return false
}

// ownCgroup returns the advice on how to get a cgroup that minivmm has to itself.
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
	return fmt.Sprintf("write +%s to cgroup.subtree_control of each parent cgroup; a controller that is mounted as version 1, or not built into the kernel, is not available", controller)
}

// explain adds the meaning of the kernel's error, and advice.
func (g *Group) explain(err error, cfg Config) error {
	switch {
	case errors.Is(err, unix.EBUSY):
		others := "other processes"
		if pids, rerr := g.read(g.base + "/cgroup.procs"); rerr == nil && pids != "" {
			others = "processes " + strings.Join(strings.Fields(pids), ", ")
		}
		return fmt.Errorf("%s: cgroup %s contains %s, and a cgroup that contains processes cannot limit its children: %w (%s)", keys(cfg), g.base, others, err, g.ownCgroup())
	case errors.Is(err, fs.ErrPermission), errors.Is(err, unix.EROFS):
		return fmt.Errorf("%s: this user may not change cgroup %s: %w (%s)", keys(cfg), g.base, err, g.ownCgroup())
	}
	return fmt.Errorf("%s: %w", keys(cfg), err)
}
