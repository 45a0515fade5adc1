package cgroup

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// manager is a systemd manager: the system's for root, the user's own for other users.
type manager interface {
	// startScope asks for a scope that contains this process and is delegated to its user;
	// slice "" leaves the choice of the slice to systemd. It returns the process's new cgroup.
	// If the unit exists already, the error matches fs.ErrExist.
	startScope(unit, slice string) (home string, err error)
}

// makeUnderSystemd uses the cgroup in which the process was started if systemd delegated it, and
// asks for a scope otherwise.
func (h host) makeUnderSystemd(cfg Config) (*Group, error) {
	base := path.Join(h.mount, h.home)
	if h.delegated(base) {
		return h.makeBelow(base, cfg)
	}
	// The author of a service expects that its limits hold and that stopping it stops all of
	// it. A terminal is for a person, whom getty or sshd let in without a session.
	if unit := path.Base(h.home); strings.HasSuffix(unit, ".service") && !h.terminal() {
		return nil, fmt.Errorf("%s: cgroup %s belongs to a service, and systemd has not delegated it to the service: %w (%s)", keys(cfg), base, fs.ErrPermission, h.serviceHint(unit))
	}
	if err := h.enterScope(cfg.Name); err != nil {
		return nil, fmt.Errorf("%s: %w", keys(cfg), err)
	}
	return h.makeBelow(path.Join(h.mount, h.home), cfg)
}

// enterScope moves the process into a scope with a free name. The scope becomes its home.
func (h *host) enterScope(name string) error {
	slice := sliceOf(h.home, h.uid)
	for n := 1; n <= mostNames; n++ {
		unit := "minivmm-" + name
		if n > 1 {
			unit += "." + strconv.Itoa(n)
		}
		unit += ".scope"
		home, err := h.manager.startScope(unit, slice)
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

// sliceOf returns the slice that contains home, by the name that uid's manager has for it. The
// limits of that slice then apply to the scope too. It returns "" if the manager has no slice
// there; the manager then chooses one.
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

// terminal reports whether the process has a controlling terminal: tty_nr of proc_pid_stat(5), the
// fifth field after the name in parentheses.
func (h host) terminal() bool {
	stat, err := h.read("/proc/self/stat")
	f := strings.Fields(stat[strings.LastIndexByte(stat, ')')+1:])
	return err == nil && len(f) > 4 && f[4] != "0"
}

func (h host) serviceHint(unit string) string {
	user := ""
	if strings.Contains(h.home, "/user@") {
		user = "--user "
	}
	return fmt.Sprintf("systemctl %sedit %s: [Service] Delegate=yes", user, unit)
}

// Scope returns the unit that systemd created for this process, like minivmm-web.scope, or "". The
// unit stops with the process.
func (g *Group) Scope() string { return g.scope }
