package cgroup

import (
	"errors"
	"io/fs"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

var everything = Config{
	Name: "web",
	Settings: []Setting{
		{"limits.cpu_max", "cpu.max", "150000 100000"},
		{"limits.memory_max", "memory.max", "1073741824"},
		{"limits.pids_max", "pids.max", "100"},
	},
	VCPU: []Setting{{"limits.vcpu_share", "cpu.weight", "200"}},
	IO:   []Setting{{"limits.io_share", "cpu.weight", "50"}},
}

var justCPU = Config{Name: "web", Settings: []Setting{{"limits.cpu_max", "cpu.max", "150000 100000"}}}

func (m *model) host(home string, uid int, systemd bool) host {
	return host{files: m, mount: mnt, home: home, uid: uid, systemd: systemd}
}

// TestLifeOfAGroup checks each thread's place and each setting, in a cgroup of the process's own
// and in the root, and that Close restores the initial state.
func TestLifeOfAGroup(t *testing.T) {
	for _, home := range []string{"/", "/vm.scope", "/user.slice/vm.scope"} {
		m := newModel(home)
		if home == "/" {
			m.all[mnt].others = "1 2 3" // the root may contain processes
		}
		before := m.state()
		g, err := m.host(home, 0, false).make(everything)
		if err != nil {
			t.Fatalf("%s: %v", home, err)
		}
		dir := strings.TrimSuffix(mnt+home, "/") + "/minivmm.web"
		if g.Path() != dir {
			t.Errorf("%s: path %s", home, g.Path())
		}
		if m.threads[1] != dir+"/io" || m.threads[2] != dir+"/io" {
			t.Errorf("%s: threads are in %v", home, m.threads)
		}
		if err := g.EnterVCPU(); err != nil {
			t.Error(err)
		}
		if m.threads[1] != dir+"/vcpu" || m.threads[2] != dir+"/io" {
			t.Errorf("%s: after EnterVCPU the threads are in %v", home, m.threads)
		}
		for file, want := range map[string]string{"/cpu.max": "150000 100000", "/memory.max": "1073741824", "/pids.max": "100", "/vcpu/cpu.weight": "200", "/io/cpu.weight": "50"} {
			d, f, _ := cutLast(dir + file)
			if got := m.all[d].settings[f]; got != want {
				t.Errorf("%s: %s contains %q", home, file, got)
			}
		}
		m.all[dir+"/vcpu"].dead, m.all[dir].dead = 3, 2
		if err := g.Close(); err != nil {
			t.Errorf("%s: %v", home, err)
		}
		if after := m.state(); after != before {
			t.Errorf("%s: before\n%s\nafter\n%s", home, before, after)
		}
	}
}

func cutLast(p string) (dir, file string, ok bool) {
	i := strings.LastIndexByte(p, '/')
	return p[:i], p[i+1:], true
}

// TestEveryStepMayFail lets each operation fail in turn and checks that everything is undone,
// unless the undoing itself failed.
func TestEveryStepMayFail(t *testing.T) {
	for failing := 1; ; failing++ {
		m := newModel("/vm.scope")
		before := m.state()
		m.left = failing
		g, err := m.host("/vm.scope", 1000, false).make(everything)
		if err == nil {
			if failing < 10 {
				t.Errorf("want more than %d steps", failing)
			}
			return
		}
		if g != nil || !errors.Is(err, unix.EIO) || !strings.Contains(err.Error(), "limits.") && !strings.Contains(err.Error(), mnt) {
			t.Errorf("step %d: %v, %v", failing, g, err)
		}
		if after := m.state(); after != before {
			t.Errorf("step %d, %s: before\n%s\nafter\n%s", failing, m.log[failing-1], before, after)
		}
	}
}

// TestRefusals checks each refusal, and that it leaves nothing behind.
func TestRefusals(t *testing.T) {
	for _, c := range []struct {
		name    string
		home    string
		uid     int
		systemd bool
		change  func(*model)
		cfg     Config
		is      error
		want    string
	}{
		{name: "other processes", home: "/session.scope", uid: 1000, change: func(m *model) { m.all[mnt+"/session.scope"].others = "77\n78" }, cfg: justCPU, is: unix.EBUSY,
			want: "limits.cpu_max: cgroup /cg/session.scope contains processes 77, 78, and a cgroup that contains processes cannot limit its children: write /cg/session.scope/cgroup.subtree_control: device or resource busy"},
		{name: "not writable", home: "/a", uid: 1000, change: func(m *model) { m.denied = mnt }, cfg: justCPU, is: fs.ErrPermission,
			want: "limits.cpu_max: this user may not change cgroup /cg/a: mkdir /cg/a/minivmm.web: permission denied (run minivmm in a cgroup of its own"},
		{name: "a controller is missing", home: "/a", uid: 1000, change: func(m *model) { m.all[mnt].control = []string{"cpu", "pids"} }, cfg: everything, is: errors.ErrUnsupported,
			want: "limits.memory_max: requires the memory controller, but cgroup /cg/a has only \"cpu pids\""},
		{name: "a controller is missing under systemd", home: "/a", uid: 1000, systemd: true, change: func(m *model) {
			m.all[mnt].control = []string{"memory", "pids"}
			m.attrs[mnt+"/a user.delegate"] = "1"
		}, cfg: everything, is: errors.ErrUnsupported,
			want: "limits.cpu_max, limits.vcpu_share, limits.io_share: requires the cpu controller, but cgroup /cg/a has only \"memory pids\": unsupported operation (as root, systemctl edit user@.service: [Service] Delegate=cpu cpuset io memory pids;"},
		{name: "threaded", home: "/a/t", uid: 1000, change: func(m *model) { m.all[mnt+"/a/t"].kind = "threaded" }, cfg: justCPU, is: errors.ErrUnsupported,
			want: "limits.cpu_max: cgroup /cg/a/t has type \"threaded\""},
		{name: "a file the kernel lacks", home: "/a", uid: 1000, cfg: Config{Name: "web", Settings: []Setting{{"limits.io_weight", "io.weight", "50"}}}, is: errors.ErrUnsupported,
			want: "limits.io_weight: this kernel does not have /cg/a/minivmm.web/io.weight"},
		{name: "a value the kernel refuses", home: "/a", uid: 1000, cfg: Config{Name: "web", Settings: []Setting{{"limits.io", "io.max", "bad"}}}, is: unix.EINVAL,
			want: "limits.io: write \"bad\" to /cg/a/minivmm.web/io.max: write /cg/a/minivmm.web/io.max: invalid argument"},
	} {
		m := newModel(c.home)
		if c.change != nil {
			c.change(m)
		}
		before := m.state()
		_, err := m.host(c.home, c.uid, c.systemd).make(c.cfg)
		if err == nil || !errors.Is(err, c.is) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v\nwant %s", c.name, err, c.want)
		}
		if after := m.state(); after != before {
			t.Errorf("%s: before\n%s\nafter\n%s", c.name, before, after)
		}
	}
}

// TestRootGoesElsewhere: without systemd, root uses the root of the hierarchy if the cgroup of the
// shell that started it cannot be used, and comes back.
func TestRootGoesElsewhere(t *testing.T) {
	m := newModel("/shell")
	m.all[mnt+"/shell"].others = "77"
	before := m.state()
	g, err := m.host("/shell", 0, false).make(everything)
	if err != nil {
		t.Fatal(err)
	}
	if g.Path() != mnt+"/minivmm.web" || m.threads[2] != mnt+"/minivmm.web/io" {
		t.Errorf("path %s, threads in %v", g.Path(), m.threads)
	}
	if err := g.Close(); err != nil {
		t.Error(err)
	}
	if after := m.state(); after != before {
		t.Errorf("before\n%s\nafter\n%s", before, after)
	}
}

// TestSystemdDelegates: a delegated unit above the process's own cgroup is enough.
func TestSystemdDelegates(t *testing.T) {
	for _, attr := range []string{"/a/b trusted.delegate", "/a user.delegate"} {
		m := newModel("/a/b")
		m.attrs[mnt+attr] = "1"
		g, err := m.host("/a/b", 1000, true).make(everything)
		if err != nil {
			t.Errorf("%s: %v", attr, err)
			continue
		}
		if err := g.Close(); err != nil {
			t.Error(err)
		}
	}
}

// TestWhatWasLeftIsRemoved checks that the next start and the next stop remove abandoned cgroups,
// and nothing else: neither a live machine's nor one with a merely similar name.
func TestWhatWasLeftIsRemoved(t *testing.T) {
	m := newModel("/")
	left := []string{"/minivmm.web", "/minivmm.web/vcpu", "/minivmm.web/io", "/minivmm.db-1.12"}
	stay := []string{"/minivmm.live", "/minivmm.live/vcpu", "/minivmm.live/io", "/minivmm", "/minivmm.", "/minivmm.Web", "/minivmm.web.x", "/minivmm.web.1.2", "/minivmm-web", "/minivmm.own", "/minivmm.own/child"}
	for _, dir := range append(left, stay...) {
		m.add(mnt + dir)
	}
	m.all[mnt+"/minivmm.live/io"].others = "500"
	g, err := m.host("/", 0, false).make(justCPU)
	if err != nil {
		t.Fatal(err)
	}
	if g.Path() != mnt+"/minivmm.web" {
		t.Errorf("%s was used instead of the free name", g.Path())
	}
	for _, dir := range left[1:] {
		if m.exists(mnt + dir) {
			t.Errorf("%s still exists", dir)
		}
	}
	m.add(mnt + "/minivmm.later")
	if err := g.Close(); err != nil {
		t.Fatal(err)
	}
	for _, dir := range append(stay, "/minivmm.later", "/minivmm.web") {
		if want := len(dir) > 0 && dir != "/minivmm.later" && dir != "/minivmm.web"; m.exists(mnt+dir) != want {
			t.Errorf("%s: exists %v, want %v", dir, !want, want)
		}
	}
}

// TestAnotherMachineNeedsTheControllers: the first machine to stop cannot go back, and disables
// nothing.
func TestAnotherMachineNeedsTheControllers(t *testing.T) {
	m := newModel("/slice")
	g, err := m.host("/slice", 0, false).make(everything)
	if err != nil {
		t.Fatal(err)
	}
	m.add(mnt + "/slice/minivmm.web.2").others = "600"
	if err := g.Close(); err != nil {
		t.Error(err)
	}
	if want := "cpu memory pids"; strings.Join(m.all[mnt+"/slice"].control, " ") != want || m.threads[1] != g.Path() || m.threads[2] != g.Path() {
		t.Errorf("controllers %v, want %s; threads %v, want them in %s", m.all[mnt+"/slice"].control, want, m.threads, g.Path())
	}
}

// TestAnotherStartTakesWhatWasJustMade: another start removes the cgroup between this one's mkdir
// and its move.
func TestAnotherStartTakesWhatWasJustMade(t *testing.T) {
	m := newModel("/")
	taken := &taking{model: m, times: 2}
	h := m.host("/", 0, false)
	h.files = taken
	g, err := h.make(justCPU)
	if err != nil || g.Path() != mnt+"/minivmm.web.3" {
		t.Errorf("%v, %v", g, err)
	}
}

type taking struct {
	*model
	times int
}

func (f *taking) write(path, value string) error {
	if dir, ok := strings.CutSuffix(path, "/cgroup.procs"); ok && f.times > 0 {
		f.times--
		delete(f.all, dir)
	}
	return f.model.write(path, value)
}
