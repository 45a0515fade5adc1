package vmm_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"minivmm/internal/testbed/testenv"
	"minivmm/internal/testbed/vhosttest"
	"minivmm/internal/testbed/vmmtest"
	"minivmm/vmm"
	"minivmm/vmm/account"
	"minivmm/vmm/config"
)

// newMachine creates a machine without running it.
func newMachine(t *testing.T, more string) *vmm.VM {
	t.Helper()
	testenv.Need(t, "kvm", "vhost-net", "vhost-scsi")
	image := filepath.Join(t.TempDir(), "disk.img")
	if err := os.WriteFile(image, make([]byte, 1<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	k := vmmtest.Kernels(t)[0]
	plan := vmmtest.Plan(t, parse(t, "[boot]\nkernel = %q\n[[net]]\n[[net]]\n[[disk]]\npath = %q\n%s", vmmtest.Vmlinux(t, k), image, more))
	m, err := vmm.New(plan, vmm.Options{Console: os.Stderr, Logf: t.Logf})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := m.Close(); err != nil {
			t.Error(err)
		}
	})
	return m
}

// threadWorkers reports whether this host's workers are threads of the VMM, as they are since Linux
// 6.4.
func threadWorkers(t *testing.T) bool {
	t.Helper()
	return vhosttest.ThreadWorkers(t)
}

// TestWorkersAreTheVMs sets an affinity and a cgroup and checks each worker: its kind, its CPUs and
// its owner. Neither workers nor vCPUs have capabilities.
func TestWorkersAreTheVMs(t *testing.T) {
	testenv.Need(t, "kvm", "vhost-net", "vhost-scsi", "guests")
	cgroup := moveToCgroup(t)
	cpu := runtime.NumCPU() - 1
	m := newMachine(t, fmt.Sprintf("[workers]\naffinity = \"%d\"\n", cpu))
	workers := m.Workers()
	var devices []string
	for _, w := range workers {
		t.Log(w)
		devices = append(devices, w.Device)
		if w.Kthread == threadWorkers(t) || w.TID == 0 {
			t.Errorf("%v: wrong kind for this kernel", w)
		}
		_, err := os.Stat(fmt.Sprintf("/proc/self/task/%d", w.TID))
		if thread := err == nil; thread == w.Kthread {
			t.Errorf("%v: among this process's threads: %v", w, thread)
		}
		if cpus, err := w.CPUsAllowed(); err != nil || cpus != fmt.Sprint(cpu) {
			t.Errorf("%v: CPUs %q, %v; want %d", w, cpus, err, cpu)
		}
		if cg, err := w.Cgroup(); err != nil || cg != cgroup {
			t.Errorf("%v: cgroup %q, %v; want %q", w, cg, err, cgroup)
		}
		if !w.Kthread {
			mayNothing(t, w.TID)
		}
	}
	report, err := m.Report()
	if err != nil {
		t.Fatal(err)
	}
	for _, thread := range report.Threads {
		if thread.Kind == account.VCPU {
			mayNothing(t, thread.TID)
		}
	}
	if got := strings.Join(devices, " "); got != "net0 net1 scsi0" {
		t.Errorf("workers of %s", got)
	}
	// The affinity applies only to the workers.
	var all unix.CPUSet
	if err := unix.SchedGetaffinity(0, &all); err != nil || all.Count() != runtime.NumCPU() {
		t.Errorf("this thread may run on %d CPUs, %v", all.Count(), err)
	}
}

// mayNothing checks that a thread of this process has no capabilities and can gain none.
func mayNothing(t *testing.T, tid int) {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/self/task/%d/status", tid))
	if err != nil {
		t.Fatal(err)
	}
	rights := regexp.MustCompile(`(?m)^(Cap\w+:\t0+|NoNewPrivs:\t1)$`).FindAllString(string(b), -1)
	if len(rights) != 6 { // CapInh, CapPrm, CapEff, CapBnd, CapAmb
		t.Errorf("thread %d has only %q of the 6 lines; status:\n%s", tid, rights, b)
	}
}

// moveToCgroup moves this process to a new cgroup for the test and returns the cgroup's name.
func moveToCgroup(t *testing.T) string {
	t.Helper()
	home, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		t.Fatal(err)
	}
	_, back, _ := strings.Cut(strings.TrimSpace(string(home)), "0::")
	c := vhosttest.NewCgroup(t)
	t.Cleanup(func() {
		root := strings.TrimSuffix(c.Path(""), c.Name)
		if err := os.WriteFile(filepath.Join(root, back, "cgroup.procs"), fmt.Append(nil, os.Getpid()), 0); err != nil {
			t.Error(err)
		}
	})
	c.Write("cgroup.procs", "%d", os.Getpid())
	return c.Name
}

// Tests that need another process run this binary again; childEnv selects one of children.
const childEnv = "MINIVMM_TEST_CHILD"

// children are the functions that such a process can run. Their argument is the text of a
// configuration.
var children = map[string]func(config string) error{
	"namespaces": namespacesChild,
	"tasks":      tasksChild,
	"cgroups":    func(string) error { return cgroupsChild() },
}

func child(what string) int {
	if err := children[what](os.Getenv(childEnv + "_CONFIG")); err != nil {
		fmt.Println(err)
		return 1
	}
	return 0
}

// runChild runs a child with the attributes attr and a NIC for its machine.
func runChild(t *testing.T, what string, attr *syscall.SysProcAttr) {
	t.Helper()
	testenv.Need(t, "kvm", "vhost-net")
	if os.Getuid() != 0 {
		t.Fatal("must be root to start a process with other attributes")
	}
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), childEnv+"="+what,
		fmt.Sprintf("%s_CONFIG=[machine]\nmemory = \"128M\"\n[boot]\nkernel = %q\n[[net]]\n", childEnv, vmmtest.Vmlinux(t, vmmtest.Kernels(t)[0])))
	cmd.Dir = "/"
	cmd.SysProcAttr = attr
	out, err := cmd.CombinedOutput()
	if err != nil || len(out) > 0 {
		t.Errorf("%v\n%s", err, out)
	}
}

// TestWorkersAreInTheVMMsNamespaces runs a VMM in new namespaces. Its workers are in them too;
// before Linux 6.4 they are kernel threads, in the host's.
func TestWorkersAreInTheVMMsNamespaces(t *testing.T) {
	runChild(t, "namespaces", &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNET | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC | unix.CLONE_NEWNS | unix.CLONE_NEWCGROUP})
}

func namespacesChild(text string) error {
	m, err := newFromText(text)
	if err != nil {
		return err
	}
	defer m.Close()
	for _, w := range m.Workers() {
		dir := "/proc/self/task"
		if w.Kthread {
			dir = "/proc"
		}
		for _, ns := range []string{"net", "uts", "ipc", "mnt", "cgroup", "pid", "user"} {
			mine, err := os.Readlink("/proc/self/ns/" + ns)
			if err != nil {
				return err
			}
			its, err := os.Readlink(fmt.Sprintf("%s/%d/ns/%s", dir, w.TID, ns))
			if err != nil {
				return err
			}
			parents, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/%s", os.Getppid(), ns))
			if err != nil {
				return err
			}
			own := ns != "pid" && ns != "user"
			want := mine
			if w.Kthread {
				want = parents
			}
			if its != want || own == (mine == parents) {
				return fmt.Errorf("%v: %s is %s, the VMM's %s, its parent's %s", w, ns, its, mine, parents)
			}
		}
	}
	return nil
}

func newFromText(text string) (*vmm.VM, error) {
	cfg, err := config.Parse("/test.toml", []byte(text))
	if err != nil {
		return nil, err
	}
	plan, _ := vmm.Resolve(cfg)
	return vmm.New(plan, vmm.Options{Console: os.Stderr, Logf: func(string, ...any) {}})
}
