package cgroup

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// fakeManager creates scopes in the model.
type fakeManager struct {
	*model
	taken   []string // units that exist
	refuses error
	lost    bool // reports success but does not move the process
	asked   []string
}

func (f *fakeManager) startScope(unit, slice string) (string, error) {
	f.asked = append(f.asked, slice+"/"+unit)
	switch {
	case f.refuses != nil:
		return "", f.refuses
	case slices.Contains(f.taken, unit):
		return "", fmt.Errorf("StartTransientUnit %s: %w", unit, fs.ErrExist)
	case f.lost:
		return "/session.scope", nil
	}
	if slice == "" {
		slice = "default.slice"
	}
	dir := mnt + "/" + slice
	f.add(dir, f.all[mnt].control...)
	f.add(dir + "/" + unit)
	f.attrs[dir+"/"+unit+" trusted.delegate"] = "1"
	for tid := range f.threads {
		f.threads[tid] = dir + "/" + unit
	}
	return "/" + slice + "/" + unit, nil
}

// TestCgroupUnderSystemd: under systemd, the cgroup is one that systemd delegated already, or a
// scope that it is asked for.
func TestCgroupUnderSystemd(t *testing.T) {
	const stat = "7 (mini) vmm) S 1 7 7 %d 7 4194304"
	for _, c := range []struct {
		name, home string
		uid        int
		attr       string
		tty        int
		taken      []string
		asked      string // slice and unit
		path       string
	}{
		{"delegated to root", "/system.slice/run-1.scope", 0, "/system.slice/run-1.scope trusted.delegate", 0, nil, "", "/system.slice/run-1.scope/minivmm.web"},
		{"delegated to a user", "/u.slice/run-1.scope", 1000, "/u.slice/run-1.scope user.delegate", 0, nil, "", "/u.slice/run-1.scope/minivmm.web"},
		{"a service that has it", "/system.slice/vm.service", 0, "/system.slice/vm.service trusted.delegate", 0, nil, "", "/system.slice/vm.service/minivmm.web"},
		{"in a cgroup of a unit that has it", "/system.slice/vm.service/a", 0, "/system.slice/vm.service trusted.delegate", 0, nil, "", "/system.slice/vm.service/a/minivmm.web"},
		{"root's session", "/user.slice/user-0.slice/session-1.scope", 0, "", 5, nil, "user-0.slice/minivmm-web.scope", "/user-0.slice/minivmm-web.scope/minivmm.web"},
		{"a user's session", "/user.slice/user-1000.slice/session-1.scope", 1000, "", 5, nil, "/minivmm-web.scope", "/default.slice/minivmm-web.scope/minivmm.web"},
		{"a user's unit that its manager keeps", "/user.slice/user-1000.slice/user@1000.service/app.slice/term.scope", 1000, "/user.slice/user-1000.slice/user@1000.service user.delegate", 5, nil,
			"app.slice/minivmm-web.scope", "/app.slice/minivmm-web.scope/minivmm.web"},
		{"a login without a session", "/system.slice/getty@tty1.service", 0, "", 1025, nil, "system.slice/minivmm-web.scope", "/system.slice/minivmm-web.scope/minivmm.web"},
		{"a second machine of the name", "/user.slice/user-0.slice/session-1.scope", 0, "", 5, []string{"minivmm-web.scope", "minivmm-web.2.scope"},
			"user-0.slice/minivmm-web.3.scope", "/user-0.slice/minivmm-web.3.scope/minivmm.web"},
	} {
		m := newModel(c.home)
		m.readers = map[string]string{"/proc/self/stat": fmt.Sprintf(stat, c.tty)}
		if c.attr != "" {
			m.attrs[mnt+c.attr] = "1"
		} else {
			m.all[mnt+c.home].others = "77"
		}
		f := &fakeManager{model: m, taken: c.taken}
		h := m.host(c.home, c.uid, true)
		h.startScope = f.startScope
		g, err := h.make(everything)
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		asked := ""
		if len(f.asked) > 0 {
			asked = f.asked[len(f.asked)-1]
		}
		if asked != c.asked || len(f.asked) > 0 && len(f.asked) != len(c.taken)+1 || g.Path() != mnt+c.path || g.Scope() != path.Base("/"+c.asked) && c.asked != "" || c.asked == "" && g.Scope() != "" {
			t.Errorf("%s: asked for %q, got %s in %q", c.name, f.asked, g.Path(), g.Scope())
		}
		before := m.threads[1]
		if err := g.Close(); err != nil || m.exists(mnt+c.path) || m.threads[1] != path.Dir(mnt+c.path) {
			t.Errorf("%s: %v; threads were in %s and are in %v", c.name, err, before, m.threads)
		}
	}
}

// TestRefusalsUnderSystemd checks each refusal.
func TestRefusalsUnderSystemd(t *testing.T) {
	for _, c := range []struct {
		name, home string
		change     func(*fakeManager)
		is         error
		want       string
	}{
		{"a service", "/system.slice/vm.service", nil, fs.ErrPermission,
			"limits.cpu_max: cgroup /cg/system.slice/vm.service belongs to a service, and systemd has not delegated it to the service: permission denied (systemctl edit vm.service: [Service] Delegate=yes)"},
		{"a user's service", "/user.slice/user@1.service/app.slice/vm.service", nil, fs.ErrPermission, "(systemctl --user edit vm.service: [Service] Delegate=yes)"},
		{"no manager", "/session.scope", func(f *fakeManager) { f.refuses = unix.ECONNREFUSED }, unix.ECONNREFUSED, "limits.cpu_max: connection refused"},
		{"all names taken", "/session.scope", func(f *fakeManager) {
			for n := range mostNames {
				f.taken = append(f.taken, fmt.Sprintf("minivmm-web.%d.scope", n+1), "minivmm-web.scope")
			}
		}, fs.ErrExist, "limits.cpu_max: scopes minivmm-web.scope to minivmm-web.1000.scope: file already exists"},
		{"not moved", "/session.scope", func(f *fakeManager) { f.lost = true }, unix.ESRCH, "limits.cpu_max: systemd created minivmm-web.scope, but this process is in cgroup /session.scope"},
		{"a controller is missing", "/session.scope", func(f *fakeManager) { f.all[mnt].control = []string{"memory", "pids"} }, errors.ErrUnsupported,
			"limits.cpu_max: requires the cpu controller, but cgroup /cg/default.slice/minivmm-web.scope has only \"memory pids\""},
		{"delegated, with others in it", "/a.scope", func(f *fakeManager) {
			f.attrs[mnt+"/a.scope trusted.delegate"] = "1"
			f.all[mnt+"/a.scope"].others = "77"
		}, unix.EBUSY, "contains processes 77"},
	} {
		m := newModel(c.home)
		m.readers = map[string]string{"/proc/self/stat": "7 (minivmm) S 1 7 7 0 -1"}
		f := &fakeManager{model: m}
		if c.change != nil {
			c.change(f)
		}
		h := m.host(c.home, 0, true)
		h.startScope = f.startScope
		_, err := h.make(justCPU)
		if err == nil || !errors.Is(err, c.is) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v\nwant %s", c.name, err, c.want)
		}
	}
}

func TestSliceOf(t *testing.T) {
	for _, c := range []struct {
		home string
		uid  int
		want string
	}{
		{"/user.slice/user-0.slice/session-1.scope", 0, "user-0.slice"},
		{"/user.slice/user-0.slice/user@0.service/app.slice/a.scope", 0, "user-0.slice"},
		{"/system.slice/ssh.service", 0, "system.slice"},
		{"/init.scope", 0, ""},
		{"/", 0, ""},
		{"/user.slice/user-7.slice/session-1.scope", 7, ""},
		{"/user.slice/user-7.slice/user@7.service/app.slice/app-x.slice/a.scope", 7, "app-x.slice"},
		{"/user.slice/user-7.slice/user@7.service/init.scope", 7, ""},
		{"/user.slice/user-8.slice/user@8.service/app.slice/a.scope", 7, ""},
		{"/user.slice/user-7.slice/user@7.service", 7, ""},
	} {
		if got := sliceOf(c.home, c.uid); got != c.want {
			t.Errorf("%s, user %d: %q, want %q", c.home, c.uid, got, c.want)
		}
	}
}
