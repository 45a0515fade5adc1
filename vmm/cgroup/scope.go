package cgroup

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// makeUnderSystemd uses the process's cgroup if systemd delegated it, or else asks for a scope.
func (h host) makeUnderSystemd(cfg Config) (*Group, error) {
	base := path.Join(h.mount, h.home)
	if h.delegated(base) {
		return h.makeBelow(base, cfg)
	}
	// The author of a service expects that its limits hold and that stopping it stops all of it. A
	// process with a terminal belongs to a person, who logged in at getty or sshd without a
	// session.
	if unit := path.Base(h.home); strings.HasSuffix(unit, ".service") && !h.terminal() {
		user := ""
		if strings.Contains(h.home, "/user@") {
			user = "--user "
		}
		return nil, fmt.Errorf("%s: cgroup %s belongs to a service, and systemd has not delegated it to the service: %w (systemctl %sedit %s: [Service] Delegate=yes)",
			keys(cfg.settings()), base, fs.ErrPermission, user, unit)
	}
	if err := h.enterScope(cfg.Name); err != nil {
		return nil, fmt.Errorf("%s: %w", keys(cfg.settings()), err)
	}
	return h.makeBelow(path.Join(h.mount, h.home), cfg)
}

// enterScope moves the process into a scope with a free name. The scope becomes its home.
func (h *host) enterScope(name string) error {
	slice := sliceOf(h.home, h.uid)
	for n := 1; n <= mostNames; n++ {
		unit := "minivmm-" + numbered(name, n) + ".scope"
		home, err := h.startScope(unit, slice)
		switch {
		case errors.Is(err, fs.ErrExist):
			continue
		case err != nil:
			return err
		case path.Base(home) != unit:
			return fmt.Errorf("systemd created %s, but this process is in cgroup %s: %w", unit, home, unix.ESRCH)
		}
		h.home, h.scope = home, unit
		return nil
	}
	return fmt.Errorf("scopes minivmm-%s.scope to minivmm-%s.%d.scope: %w", name, name, mostNames, fs.ErrExist)
}

// sliceOf returns the slice that contains home, by the name that uid's manager uses for it. A scope
// in that slice keeps its limits. sliceOf returns "" if the manager has no slice there.
func sliceOf(home string, uid int) string {
	before, below, found := strings.Cut(home+"/", "/user@")
	if uid != 0 {
		own, rest, ok := strings.Cut(below, ".service/")
		if !found || !ok || own != strconv.Itoa(uid) {
			return ""
		}
		before = rest
	}
	slice := ""
	for unit := range strings.SplitSeq(before, "/") {
		if strings.HasSuffix(unit, ".slice") {
			slice = unit
		}
	}
	return slice
}

// terminal reports whether the process has a controlling terminal: tty_nr of proc_pid_stat(5).
func (h host) terminal() bool {
	stat, err := h.read("/proc/self/stat")
	f := strings.Fields(stat[strings.LastIndexByte(stat, ')')+1:])
	return err == nil && len(f) > 4 && f[4] != "0"
}

// Scope returns the unit that systemd created for this process, like minivmm-web.scope, or "".
func (g *Group) Scope() string { return g.scope }

// usable returns an error that names what a cgroup below base lacks.
func (h host) usable(base string, cfg Config) error {
	have, err := h.read(base + "/cgroup.controllers")
	if err != nil {
		return fmt.Errorf("%s: %w", keys(cfg.settings()), err)
	}
	// The root has no type.
	if kind, err := h.read(base + "/cgroup.type"); err == nil && kind != "domain" {
		return fmt.Errorf("%s: cgroup %s has type %q, but the parent of a machine's cgroup must have type \"domain\": %w", keys(cfg.settings()), base, kind, errors.ErrUnsupported)
	}
	for _, c := range each(cfg.settings(), Setting.controller) {
		if !slices.Contains(strings.Fields(have), c) {
			need := slices.DeleteFunc(cfg.settings(), func(s Setting) bool { return s.controller() != c })
			return fmt.Errorf("%s: requires the %s controller, but cgroup %s has only %q: %w (%s)",
				keys(need), c, base, have, errors.ErrUnsupported, h.delegateHint(c))
		}
	}
	return nil
}

// delegated reports whether systemd delegated the unit that base is in. The search ends at the
// first unit: systemd delegates a whole subtree to a user's manager, but each unit in that subtree
// is delegated only if the manager does so.
func (h host) delegated(base string) bool {
	for dir := base; len(dir) >= len(h.mount); dir = path.Dir(dir) {
		// The first attribute is for root, the second is readable by every user.
		if h.xattr(dir, "trusted.delegate") == "1" || h.xattr(dir, "user.delegate") == "1" {
			return true
		}
		if dir == h.mount || isUnit(dir) {
			break
		}
	}
	return false
}

// isUnit reports whether a cgroup has the name of a systemd unit.
func isUnit(name string) bool {
	return slices.Contains([]string{".scope", ".service", ".slice"}, path.Ext(name))
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
		return fmt.Errorf("%s: cgroup %s contains %s, and a cgroup that contains processes cannot limit its children: %w (%s)", keys(cfg.settings()), g.base, others, err, g.ownCgroup())
	case errors.Is(err, fs.ErrPermission), errors.Is(err, unix.EROFS):
		return fmt.Errorf("%s: this user may not change cgroup %s: %w (%s)", keys(cfg.settings()), g.base, err, g.ownCgroup())
	}
	return fmt.Errorf("%s: %w", keys(cfg.settings()), err)
}
