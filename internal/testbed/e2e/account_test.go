package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"minivmm/internal/testbed/testenv"
	"minivmm/internal/testbed/vmmtest"
	"minivmm/vmm/account"
)

// TestARunningMachineSaysWhatItCosts has a guest in a cgroup of its own send and write, queries its
// workers, and compares the answer with the figures of the host and the guest. Then it stops the
// guest by its name.
func TestARunningMachineSaysWhatItCosts(t *testing.T) {
	testenv.Need(t, "vhost-net", "vhost-scsi", "root")
	leavesNothing(t)
	const name, sentKiB, writtenMiB = "accounted", 2048, 8
	dir, cgroup := newCgroup(t)
	m := prepare(t, "", "[[net]]\naddress = '10.98.9.1/24'\n[[disk]]\npath = 'disk.img'\nserial = '"+killSerial+"'\n", "10.98.9.2/24", "10.98.9.1:7700")
	m.cmd.Args = append(m.cmd.Args, "--name", name)
	m.cmd.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(dir.Fd())}
	m.start()
	order := takeOrders(t, m, "10.98.9.1:7700")
	order(fmt.Sprintf("send %d", sentKiB), strings.Repeat("x", sentKiB<<10))
	order(fmt.Sprintf("fill %d", writtenMiB), fmt.Sprintf("filled %d", writtenMiB))

	usage := func() uint64 {
		c, err := account.ReadCgroup(cgroup)
		if err != nil {
			t.Fatal(err)
		}
		return c.CPU
	}
	before, processBefore := usage(), processCPU(t, m.cmd.Process.Pid)
	out := ask(t, 0, "workers", name, "--json")
	after, processAfter := usage(), processCPU(t, m.cmd.Process.Pid)
	var r account.Report
	if err := json.Unmarshal([]byte(out), &r); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	pid := m.cmd.Process.Pid
	if r.Machine.Name != name || r.Machine.PID != pid || r.Machine.VCPUs != 1 || r.Machine.Memory != 256<<20 || len(r.Missing) > 0 {
		t.Errorf("machine %+v, missing %q", r.Machine, r.Missing)
	}
	checkThreads(t, &r, cgroup)
	all, kthreads := r.Sum()
	within(t, "the roles' sum and the cgroup's CPU time", all, before, after)
	within(t, "the threads' sum and the process's CPU time", all-kthreads, processBefore, processAfter)
	if ended := r.Roles[len(r.Roles)-1]; ended.Kind != account.Ended {
		t.Errorf("the last role is %+v", ended)
	}

	if len(r.Disks) != 1 || r.Disks[0].ID != "disk0" || r.Disks[0].WriteMiB != writtenMiB || r.Disks[0].Commands < writtenMiB {
		t.Errorf("disks %+v, want %d MiB written", r.Disks, writtenMiB)
	}
	for _, q := range r.Queues {
		vhost := q.Device == "net0" || q.Device == "scsi0"
		if q.Fill < 0 || q.Fill > q.Size || vhost && (!q.Live || q.Kicks == nil) {
			t.Errorf("queue %+v", q)
		}
		busy := q.Device == "net0" && q.Index == 1 || q.Device == "scsi0" && q.Index == 2
		if busy && (*q.Kicks == 0 || q.Done == 0 || q.Fill != 0) {
			t.Errorf("queue %+v: want it used, and idle now", q)
		}
		if receive := q.Device == "net0" && q.Index == 0; receive && q.Fill < q.Size/2 {
			t.Errorf("queue %+v: want it full of buffers", q)
		}
	}
	if k := r.KVM; len(k.VCPUs) != 1 || k.VCPUs[0]["exits"] <= k.VCPUs[0]["mmio_exits"] || k.VCPUs[0]["mmio_exits"] == 0 ||
		len(k.UserExits) != 1 || k.UserExits[0] < k.VCPUs[0]["mmio_exits"] || k.VM["pages_4k"]+k.VM["pages_2m"] == 0 {
		t.Errorf("KVM's counters %+v", k)
	}
	if c := r.Cgroup; c == nil || c.Path != cgroup || c.CPU < before || c.CPU > after {
		t.Errorf("cgroup %+v, want %s with %d to %d ns", c, cgroup, before, after)
	}
	if mem := r.Memory; mem.Resident < 16<<20 || mem.Resident > 512<<20 || len(mem.NotCharged) != 2 || mem.NotCharged[1].Bytes < 20<<20 {
		t.Errorf("memory %+v", mem)
	}

	table := ask(t, 0, "workers", name)
	for _, word := range []string{"vcpu 0", "net0", "scsi0", "kvm", "minivmm", "receive, transmit", cgroup, "not charged: about"} {
		if !strings.Contains(table, word) {
			t.Errorf("%q is not in\n%s", word, table)
		}
	}
	if list := ask(t, 0, "list"); !strings.Contains(list, name) || !strings.Contains(list, strconv.Itoa(pid)) {
		t.Errorf("list prints %q", list)
	}
	if err := connectAs(nobody, "/run/minivmm/"+name+".sock"); !errors.Is(err, unix.EACCES) {
		t.Errorf("another user connects: %v", err)
	}
	again := realProgram(t, "run", "machine.toml", "--name", name)
	again.Dir = m.cmd.Dir
	if text, err := again.CombinedOutput(); again.ProcessState.ExitCode() != exitBusy || !strings.Contains(string(text), fmt.Sprintf("process %d", pid)) {
		t.Errorf("a second machine of the name: %v, %s", err, text)
	}
	checkTune(t, name)
	image := filepath.Join(m.cmd.Dir, "disk.img")
	if said := ask(t, 0, "rescan", name); said != "" {
		t.Errorf("rescan of an unchanged disk prints %q", said)
	}
	if err := os.Truncate(image, 96<<20); err != nil {
		t.Fatal(err)
	}
	if said := ask(t, 0, "rescan", name); !strings.HasPrefix(said, "disk0: 96M, ") {
		t.Errorf("rescan prints %q", said)
	}

	order("button", "at the button")
	watch := realProgram(t, "workers", name, "--watch", "0.5")
	var watched vmmtest.Transcript = *vmmtest.NewTranscript()
	watch.Stdout, watch.Stderr = &watched, &watched
	if err := watch.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := watched.Expect(`CPU %(.|\n)*all +\d+ threads +\d+\.\d`); err != nil {
		t.Errorf("watching: %v: %s", err, &watched)
	}
	ask(t, 0, "stop", name)
	if _, err := os.Stat(fmt.Sprintf("/proc/%d/task", pid)); err == nil && !zombie(pid) {
		t.Error("stop returned while the machine was still running")
	}
	m.exits(0)
	m.says("pressed the guest's power button")
	if err := watch.Wait(); err != nil {
		t.Errorf("watching a machine that exits: %v", err)
	}
	if cpu := m.cmd.ProcessState.UserTime() + m.cmd.ProcessState.SystemTime(); uint64(cpu) < r.Process.CPU {
		t.Errorf("wait4 reports %d ns of CPU time, and the machine reported %d", cpu, r.Process.CPU)
	}
	ask(t, exitNoMachine, "stop", name)
	if left, _ := filepath.Glob("/run/minivmm/" + name + ".*"); len(left) > 0 {
		t.Errorf("%v still exist", left)
	}
}

// checkTune changes the settings of net0's worker, and checks that no other worker changes.
func checkTune(t *testing.T, name string) {
	t.Helper()
	ask(t, 0, "tune", name, "--device", "net0", "--affinity", "1", "--nice", "3", "--busy-poll", "20us")
	var r account.Report
	if err := json.Unmarshal([]byte(ask(t, 0, "workers", name, "--json")), &r); err != nil {
		t.Fatal(err)
	}
	for _, th := range r.Threads {
		if th.Kind != account.Worker {
			continue
		}
		if tuned := th.Role == "net0"; (th.CPUs == "1") != tuned || (th.Nice == 3) != tuned {
			t.Errorf("%s after net0 was tuned: CPUs %s, nice %d", th.Role, th.CPUs, th.Nice)
		}
	}
	if said := ask(t, exitUsage, "tune", name, "--device", "net7", "--nice", "1"); said != "" {
		t.Errorf("tuning a missing device prints %q", said)
	}
	ask(t, 0, "tune", name, "--count", "shared") // already set
	ask(t, exitUsage, "tune", name)
	ask(t, exitUsage, "tune", name, "--affinity", "x")
	ask(t, exitUsage, "tune", name, "--count", "0")
	ask(t, exitUsage, "tune", name, "--queues", "2")
}

// checkThreads compares the threads with /proc: it checks that every role exists, with the expected
// properties.
func checkThreads(t *testing.T, r *account.Report, cgroup string) {
	t.Helper()
	threadWorkers := threadWorkers(t)
	seen := map[string]int{}
	for _, th := range r.Threads {
		seen[th.Role]++
		task := fmt.Sprintf("/proc/%d/task/%d", r.Machine.PID, th.TID)
		if th.Kthread {
			task = fmt.Sprintf("/proc/%d", th.TID)
		}
		if th.Kthread != (!threadWorkers && (th.Kind == account.Worker || th.Kind == account.KVM)) {
			t.Errorf("%+v: wrong kind for this kernel", th)
		}
		comm, err := os.ReadFile(task + "/comm")
		if errors.Is(err, os.ErrNotExist) && th.Kind == account.Minivmm {
			continue // Go may stop a thread
		}
		if err != nil || strings.TrimSpace(string(comm)) != th.Comm {
			t.Errorf("%+v: named %q, %v", th, comm, err)
		}
		if th.Cgroup != cgroup || th.CPUs == "" || th.Policy != "other" || th.State == "gone" || th.State == "" {
			t.Errorf("%+v, want it in %s", th, cgroup)
		}
		if th.CPU == 0 && th.Kind != account.Minivmm || th.User+th.System > th.CPU+20e6 {
			t.Errorf("%+v: CPU time", th)
		}
	}
	for role, least := range map[string]int{"vcpu 0": 1, "net0": 1, "scsi0": 1, "kvm": 1, "minivmm": 2} {
		if n := seen[role]; n < least || least == 1 && n > 1 {
			t.Errorf("%d threads of role %s in %+v", n, role, r.Threads)
		}
	}
	if len(seen) != 5 {
		t.Errorf("roles %v", seen)
	}
}

// processCPU returns the CPU time of a process, including threads that have exited, as the host
// reports it: fields 14 and 15 of stat (proc(5)).
func processCPU(t *testing.T, pid int) (ns uint64) {
	t.Helper()
	stat := readFile(t, fmt.Sprintf("/proc/%d/stat", pid))
	for _, field := range strings.Fields(stat[strings.LastIndexByte(stat, ')')+1:])[11:13] {
		ticks, err := strconv.ParseUint(field, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		ns += ticks * 10e6
	}
	return ns
}

// within fails the test if n is more than 2 % outside of low to high.
func within(t *testing.T, what string, n, low, high uint64) {
	t.Helper()
	t.Logf("%s: %d ns, want %d to %d", what, n, low, high)
	if n < low-low/50 || n > high+high/50 {
		t.Errorf("%s: %d ns, want %d to %d within 2 %%", what, n, low, high)
	}
}

// ask runs the real program and returns its output.
func ask(t *testing.T, code int, args ...string) string {
	t.Helper()
	cmd := realProgram(t, args...)
	out, err := cmd.Output()
	if got := cmd.ProcessState.ExitCode(); got != code {
		var exit *exec.ExitError
		errors.As(err, &exit)
		t.Fatalf("minivmm %q: exit code %d, want %d: %v, %s", args, got, code, err, exit.Stderr)
	}
	return string(out)
}

// connectAs tries a socket as another user.
func connectAs(uid int, path string) error {
	tried := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked: only this thread has the other user's id
		if _, _, e := unix.Syscall(unix.SYS_SETRESUID, uintptr(uid), uintptr(uid), uintptr(uid)); e != 0 {
			tried <- e
			return
		}
		fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err == nil {
			err = unix.Connect(fd, &unix.SockaddrUnix{Name: path})
			unix.Close(fd)
		}
		tried <- err
	}()
	return <-tried
}

// zombie reports whether a process has exited and its parent has not waited for it yet.
func zombie(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err == nil && strings.Contains(string(stat), ") Z ")
}
