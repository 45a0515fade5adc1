package e2e

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"minivmm/internal/testbed/clitest"
	"minivmm/internal/testbed/testenv"
	"minivmm/internal/testbed/vmmtest"
)

const limitsText = `[[net]]
tap = "mvmlim0"
[limits]
cpu_max     = "150%%"
cpu_weight  = 50
cpuset      = "0"
memory_max  = "600M"
memory_high = "500M"
pids_max    = 300
vcpu_share  = 200
io_share    = 50
[rlimits]
nofile = 500
[namespaces]
net = %q
uts = true
`

// TestAMachineInItsLimitsAndNamespaces inspects a running machine from the host: its cgroup, the
// place of each thread, the accounting, and its namespaces, in one of which its tap was created
// beforehand. Then it kills the machine; the next start must remove what it left behind, and leave
// nothing behind itself.
func TestAMachineInItsLimitsAndNamespaces(t *testing.T) {
	testenv.Need(t, "vhost-net", "root")
	leavesNothing(t)
	group := rootCgroup(t) + "/minivmm.machine"
	name := fmt.Sprintf("mvmtest%d", os.Getpid())
	netns := clitest.NetNS(t, name)
	inNetNS(t, name, "ip", "tuntap", "add", "mvmlim0", "mode", "tap")
	control := readFile(t, filepath.Dir(group)+"/cgroup.subtree_control")
	text := fmt.Sprintf(limitsText, name)
	threads := threadWorkers(t)

	m := prepare(t, "", text)
	m.cmd.Args = append(m.cmd.Args, "--verbose")
	m.start()
	m.expect(`next\?`)
	pid := m.cmd.Process.Pid
	for file, want := range map[string]string{
		"/cpu.max": "150000 100000", "/cpu.weight": "50", "/cpuset.cpus": "0", "/memory.max": strconv.Itoa(600 << 20), "/memory.high": strconv.Itoa(500 << 20),
		"/pids.max": "300", "/vcpu/cpu.weight": "200", "/io/cpu.weight": "50", "/cgroup.type": "domain threaded", "/vcpu/cgroup.type": "threaded", "/cgroup.threads": "",
	} {
		if got := strings.TrimSpace(readFile(t, group+file)); got != want {
			t.Errorf("%s contains %q, want %q", file, got, want)
		}
	}
	worker := regexp.MustCompile(`worker net0 \(receive, transmit\): (?:kernel )?thread (\d+)`).FindStringSubmatch(m.log.String())
	if worker == nil {
		t.Fatalf("no worker in %q", m.log)
	}
	tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/[0-9]*", pid))
	if err != nil {
		t.Fatal(err)
	}
	if !threads {
		tasks = append(tasks, "/proc/"+worker[1])
	}
	in := map[string]int{}
	for _, task := range tasks {
		comm, cgroup := strings.TrimSpace(readFile(t, task+"/comm")), lastField(t, task+"/cgroup", "0::")
		in[cgroup]++
		if cpus := lastField(t, task+"/status", "Cpus_allowed_list:"); cpus != "0" && (threads || filepath.Base(task) != worker[1]) {
			t.Errorf("thread %s may run on %s", comm, cpus)
		}
		isWorker := strings.HasPrefix(comm, "vhost-")
		if isWorker && cgroup != "/minivmm.machine/io" || strings.HasPrefix(comm, "kvm-nx") && threads && cgroup != "/minivmm.machine/vcpu" {
			t.Errorf("thread %s is in cgroup %s", comm, cgroup)
		}
		for ns, own := range map[string]bool{"net": true, "uts": true, "mnt": false, "pid": false} {
			if isWorker && !threads {
				continue // a kernel thread is in the host's namespaces
			}
			link, _ := os.Readlink(task + "/ns/" + ns)
			ours, _ := os.Readlink("/proc/self/ns/" + ns)
			if (link != ours) != own || ns == "net" && link != netns {
				t.Errorf("thread %s: %s, ours %s, the named one %s", comm, link, ours, netns)
			}
		}
	}
	// One vCPU, and KVM's own thread if it is a thread of the process.
	if n := in["/minivmm.machine/vcpu"]; n < 1 || n > 2 || in["/minivmm.machine/io"] < 5 || len(in) != 2 {
		t.Errorf("threads are in cgroups %v", in)
	}
	// Before Linux 6.4 the kernel attaches its own threads, the worker's and KVM's, to their
	// creators' cgroups.
	procs := strings.Fields(readFile(t, group+"/cgroup.procs"))
	if !slices.Contains(procs, strconv.Itoa(pid)) || threads && len(procs) != 1 || !threads && !slices.Contains(procs, worker[1]) {
		t.Errorf("the cgroup has processes %v, the machine is %d, its worker %s", procs, pid, worker[1])
	}
	counted := len(strings.Fields(readFile(t, group+"/vcpu/cgroup.threads") + readFile(t, group+"/io/cgroup.threads")))
	if got := strings.TrimSpace(readFile(t, group+"/pids.current")); got != strconv.Itoa(counted) || threads && counted != len(tasks) {
		t.Errorf("pids.current is %s, with %d threads in the cgroups and %d of the process: %v", got, counted, len(tasks), in)
	}
	if mem, _ := strconv.Atoi(strings.TrimSpace(readFile(t, group+"/memory.current"))); mem < 32<<20 {
		t.Errorf("memory.current is %d: the guest's memory is not included", mem)
	}
	if limits := readFile(t, fmt.Sprintf("/proc/%d/limits", pid)); !regexp.MustCompile(`Max open files +500 +500 `).MatchString(limits) {
		t.Errorf("limits are\n%s", limits)
	}
	uts := fmt.Sprintf("--uts=/proc/%d/ns/uts", pid)
	if host := output(t, "nsenter", uts, "hostname"); host != "machine" {
		t.Errorf("the host name is %q", host)
	}

	// The second machine removes what the first one left behind when it stops.
	second := prepare(t, "", "[limits]\npids_max = 300\n")
	second.cmd.Args = append(second.cmd.Args, "--name", "second")
	second.start()
	second.expect(`next\?`)
	others := filepath.Dir(group) + "/minivmm.second"
	if got := strings.Fields(readFile(t, others+"/cgroup.procs")); !slices.Contains(got, strconv.Itoa(second.cmd.Process.Pid)) {
		t.Errorf("the second machine's cgroup has %q", got)
	}

	m.signal(syscall.SIGKILL)
	m.exits(-1)
	if _, err := os.Stat(group + "/vcpu"); err != nil {
		t.Errorf("%v: there is nothing to recover", err)
	}
	second.order("end poweroff", vmmtest.OK)
	second.exits(0)
	for _, left := range []string{group, others} {
		if _, err := os.Stat(left); !os.IsNotExist(err) {
			t.Errorf("%s still exists: %v", left, err)
		}
	}
	if now := readFile(t, filepath.Dir(group)+"/cgroup.subtree_control"); now != control {
		t.Errorf("controllers were %q before and are %q after", control, now)
	}
}

// rootCgroup returns where the root of the version 2 hierarchy is mounted. The test must be in the
// root cgroup.
func rootCgroup(t *testing.T) string {
	t.Helper()
	dir, _ := newCgroup(t)
	if own := lastField(t, "/proc/self/cgroup", "0::"); own != "/" {
		t.Fatalf("this test runs in cgroup %s: it must run in the emulated host, where tests are in the root cgroup", own)
	}
	return filepath.Dir(dir.Name())
}

// inNetNS runs a command in a named network namespace.
func inNetNS(t *testing.T, name string, command ...string) {
	t.Helper()
	output(t, "nsenter", append([]string{"--net=/run/netns/" + name}, command...)...)
}

func output(t *testing.T, command string, args ...string) string {
	t.Helper()
	out, err := exec.Command(command, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %q: %v\n%s", command, args, err, out)
	}
	return strings.TrimSpace(string(out))
}

// TestAUserHasTheKernelsNetworkInNewNamespaces uses an ordinary user who may open the devices,
// without any capability. The machine's disk is served in process. Killing the process that the
// user started kills the machine.
func TestAUserHasTheKernelsNetworkInNewNamespaces(t *testing.T) {
	testenv.Need(t, "vhost-net", "vhost-scsi", "root")
	leavesNothing(t)
	m := prepare(t, "", "[[net]]\nbackend = 'vhost'\n[[disk]]\npath = 'disk.img'\n[namespaces]\nuser = true\npid = true\nnet = 'new'\nuts = true\nipc = true\n")
	file, image := filepath.Join(m.cmd.Dir, "machine.toml"), vmmtest.Kernels(t)[0].Image
	own := filepath.Join(m.cmd.Dir, "kernel") // the user may not read the folder of the tests' kernels
	text := strings.Replace(readFile(t, file), image, own, 1)
	if err := errors.Join(os.WriteFile(own, []byte(readFile(t, image)), 0o644), os.WriteFile(file, []byte(text), 0o644), os.Chmod(file, 0o644)); err != nil {
		t.Fatal(err)
	}
	m.cmd.Args = append(m.cmd.Args, "--verbose")
	inPlaceOf(t, m.cmd, devVar+"=kvm=666 net/tun=666 vhost-net=666 vhost-scsi=666 null=666 urandom=666", fmt.Sprintf("%s=%d", uidVar, nobody), "XDG_CACHE_HOME="+m.cmd.Dir)
	m.cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS}
	m.start()
	m.expect(`next\?`)
	m.says("scsi0: disks are served in process")
	if _, err := os.Stat(fmt.Sprintf("/tmp/minivmm-%d/machine.sock", nobody)); err != nil {
		t.Errorf("the user's list does not find it: %v", err)
	}

	// The machine is the child, which has the worker.
	outer := m.cmd.Process.Pid
	tasks, err := filepath.Glob("/proc/[0-9]*/task/[0-9]*")
	if err != nil {
		t.Fatal(err)
	}
	machine := ""
	for _, task := range tasks {
		status, err := os.ReadFile(filepath.Dir(filepath.Dir(task)) + "/status")
		if err != nil || !strings.Contains(string(status), fmt.Sprintf("PPid:\t%d\n", outer)) {
			continue
		}
		machine = filepath.Dir(filepath.Dir(task))
		if uid := lastField(t, task+"/status", "Uid:"); uid != "65534\t65534\t65534\t65534" {
			t.Errorf("%s has uids %q", task, uid)
		}
		for _, ns := range []string{"user", "pid", "net", "uts", "ipc", "mnt"} {
			link, _ := os.Readlink(task + "/ns/" + ns)
			if outside, _ := os.Readlink(fmt.Sprintf("/proc/%d/ns/%s", outer, ns)); link == outside {
				t.Errorf("%s, %s: %s is not the machine's own", task, strings.TrimSpace(readFile(t, task+"/comm")), link)
			}
		}
	}
	if machine == "" {
		t.Fatal("no child found")
	}
	workers, _ := filepath.Glob(machine + "/task/*/comm")
	workers = slices.DeleteFunc(workers, func(comm string) bool { return !strings.HasPrefix(readFile(t, comm), "vhost-") })
	if want := map[bool]int{true: 1}[threadWorkers(t)]; len(workers) != want {
		t.Errorf("workers of the machine are %q, want %d", workers, want)
	}
	if links := output(t, "nsenter", "--net="+machine+"/ns/net", "ip", "-o", "link"); !strings.Contains(links, " mvm0:") {
		t.Errorf("the tap is not in the machine's network namespace, which contains %s", links)
	}
	m.signal(syscall.SIGKILL)
	m.exits(-1)
	if !clitest.Eventually(func() bool { _, err := os.Stat(machine); return err != nil }) {
		t.Errorf("%s outlived the process that was started", machine)
	}
}
