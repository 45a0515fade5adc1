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

// A manager is systemd: the host's for root, the user's own for others.
type manager interface {
	// startScope has a scope made, in the slice if it is not "", with this process in it and
	// delegated to its user. It returns where the process then is. A unit that exists is fs.ErrExist.
	startScope(unit, slice string) (home string, err error)
}

// makeUnderSystemd uses the cgroup that the process was started in if systemd
// gave it away, and else asks for a scope.
func (h host) makeUnderSystemd(cfg Config) (*Group, error) {
	base := path.Join(h.mount, h.home)
	if h.delegated(base) {
		return h.makeBelow(base, cfg)
	}
	// Whoever wrote a service expects its limits to hold and its end to end all of it. A terminal is
	// for a person, whom getty or sshd let in without a session.
	if unit := path.Base(h.home); strings.HasSuffix(unit, ".service") && !h.terminal() {
		return nil, fmt.Errorf("%s: cgroup %s is of a service to which systemd has not delegated it: %w (%s)", keys(cfg), base, fs.ErrPermission, h.serviceHint(unit))
	}
	if err := h.enterScope(cfg.Name); err != nil {
		return nil, fmt.Errorf("%s: %w", keys(cfg), err)
	}
	return h.makeBelow(path.Join(h.mount, h.home), cfg)
}

// enterScope moves the process into a scope with a free name, which is its home from now on.
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
			return fmt.Errorf("systemd has made %s, but this process is in cgroup %s: %w", unit, home, unix.ESRCH)
		}
		h.home, h.scope = home, unit
		return nil
	}
	return fmt.Errorf("scopes minivmm-%s.scope to minivmm-%s.%d.scope: %w", name, name, mostNames, fs.ErrExist)
}

// sliceOf is the slice that holds home, as the manager of that user knows it:
// limits that were set there hold for the scope too. It is "" if the manager has
// none there; then it chooses.
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

// terminal says whether the process has one that controls it: tty_nr of proc_pid_stat(5), the
// fifth field after the name in brackets.
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

// Scope is the unit that systemd made for this process, like minivmm-web.scope; ""
// if it made none. It ends with the process.
func (g *Group) Scope() string { return g.scope }
