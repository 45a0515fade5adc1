package e2e

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"minivmm/internal/testbed/clitest"
	"minivmm/internal/testbed/testenv"
)

const throttledText = `[limits]
cpu_max = "400%"
cpuset  = "0"
[[net]]
backend = "vhost"
tap     = "mvmlim1"
[[disk]]
path    = "iperf3.img"
backend = "inprocess"
`

// spell is what a machine did during an interval.
type spell struct {
	wall       time.Duration
	cpu, other time.Duration // used by the cgroup of the process, and by the machine's first cgroup
	sentBytes  uint64        // sent by the guest
}

func (s spell) plus(o spell) spell {
	return spell{s.wall + o.wall, s.cpu + o.cpu, s.other + o.other, s.sentBytes + o.sentBytes}
}

// share is a share of one CPU.
func (s spell) share() float64 { return (s.cpu + s.other).Seconds() / s.wall.Seconds() }

func (s spell) rate() float64 { return float64(s.sentBytes) / s.wall.Seconds() }

func (s spell) String() string {
	return fmt.Sprintf("%.1f %% and %.1f %% of a CPU, %.0f Mbit/s in %v", 100*s.cpu.Seconds()/s.wall.Seconds(), 100*s.other.Seconds()/s.wall.Seconds(), s.rate()*8/1e6, s.wall)
}

// TestCPUMaxThrottlesIperf3 has a guest send with iperf3, alternately with and without cpu.max on
// its cgroup. Limited, the machine (guest, kernel worker and the rest) gets the given share of a
// CPU, and iperf3's rate decreases in proportion to the CPU time; both within 15 %. iperf3 sends
// datagrams, as many as it can, because TCP's rate also depends on how fast it recovers from a
// pause. The whole machine is on one CPU, because the same work costs less if worker and guest do
// not run at the same time.
//
// Then the process is moved to another cgroup with the same limit. A worker that is a thread of the
// process moves along. A kernel thread, before Linux 6.4, stays behind: its CPU time comes on top,
// and iperf3 sends more than the share.
func TestCPUMaxThrottlesIperf3(t *testing.T) {
	testenv.Need(t, "steady-clock", "vhost-net", "root", "iperf3", "mke2fs")
	leavesNothing(t)
	const host, share = "10.71.6.1", 0.3
	const limit = "30000 100000"
	group := rootCgroup(t) + "/minivmm.machine"
	output(t, "ip", "tuntap", "add", "mvmlim1", "mode", "tap", "vnet_hdr")
	t.Cleanup(func() { output(t, "ip", "link", "del", "mvmlim1") })
	output(t, "ip", "addr", "add", host+"/24", "dev", "mvmlim1")
	output(t, "ip", "link", "set", "mvmlim1", "up")
	serveIperf3(t, host)

	m := typed(t, "machine.toml", "--name", "machine", "--memory", "256M", "--cmdline", "ip=10.71.6.2:::255.255.255.0::eth0:off", "--", "sh", "-c",
		"mkdir /m; mount -t ext4 /dev/sda /m && mount -t tmpfs none /m/tmp && mount -o bind /dev /m/dev && exec chroot /m "+iperf3Path+" -c "+host+" -u -b 0 -t 3600 --forceflush")
	if err := os.WriteFile(filepath.Join(m.cmd.Dir, "machine.toml"), []byte(throttledText), 0o600); err != nil {
		t.Fatal(err)
	}
	iperf3Disk(t, filepath.Join(m.cmd.Dir, "iperf3.img"))
	m.start()
	m.expect(`(?s)bits/sec.*bits/sec`)

	pid := strconv.Itoa(m.cmd.Process.Pid)
	in := group // the cgroup of the process
	measure := func(max string, d time.Duration) spell {
		t.Helper()
		if err := os.WriteFile(in+"/cpu.max", []byte(max), 0); err != nil {
			t.Fatal(err)
		}
		count := func() (s spell) {
			s.cpu = cgroupTime(t, in)
			if in != group {
				s.other = cgroupTime(t, group)
			}
			n, err := strconv.ParseUint(strings.TrimSpace(readFile(t, "/sys/class/net/mvmlim1/statistics/rx_bytes")), 10, 64)
			if err != nil {
				t.Fatal(err)
			}
			s.sentBytes = n
			return s
		}
		time.Sleep(200 * time.Millisecond) // two periods of the limit
		before, start := count(), time.Now()
		time.Sleep(d)
		after := count()
		return spell{time.Since(start), after.cpu - before.cpu, after.other - before.other, after.sentBytes - before.sentBytes}
	}
	off := func(got, want float64) bool { return got < want*0.85 || got > want*1.15 }

	var free, limited spell
	for range 3 {
		free = free.plus(measure("max", 400*time.Millisecond))
		limited = limited.plus(measure(limit, 800*time.Millisecond))
	}
	t.Logf("without a limit: %v; limited: %v", free, limited)
	if off(limited.share(), share) {
		t.Errorf("limited to %.0f %% of a CPU, it used %.1f %%", 100*share, 100*limited.share())
	}
	given, sent := share/free.share(), limited.rate()/free.rate()
	if given > 0.6 || off(sent, given) {
		t.Errorf("iperf3 sent %.1f %% of what it sends without a limit, want %.1f %%", 100*sent, 100*given)
	}

	other, _ := newCgroup(t)
	in = other.Name()
	if err := os.WriteFile(in+"/cgroup.procs", []byte(pid), 0); err != nil {
		t.Fatal(err)
	}
	moved := measure(limit, time.Second)
	t.Logf("moved: %v", moved)
	if got := moved.cpu.Seconds() / moved.wall.Seconds(); off(got, share) {
		t.Errorf("moved to another cgroup with the same limit, it uses %.1f %% of a CPU", 100*got)
	}
	behind, sent := moved.other.Seconds()/moved.wall.Seconds(), moved.rate()/free.rate()
	if threadWorkers(t) {
		if behind > 0.01 || off(sent, given) {
			t.Errorf("after the move to another cgroup, its worker, a thread of the process, uses %.1f %% of a CPU in the old one; iperf3 sent %.1f %% of what it sends without a limit, want %.1f %%", 100*behind, 100*sent, 100*given)
		}
	} else if behind < share/2 || sent < given*1.15 {
		t.Errorf("after the move to another cgroup, its worker, a kernel thread, uses %.1f %% of a CPU in the old one, and iperf3 sent %.1f %% of what it sends without a limit: limited as a thread would be", 100*behind, 100*sent)
	}
	m.signal(syscall.SIGKILL)
	m.exits(-1)
	if !clitest.Eventually(func() bool { return os.Remove(group) == nil }) {
		t.Errorf("%s cannot be removed", group)
	}
}

// cgroupTime returns the CPU time used in a cgroup.
func cgroupTime(t *testing.T, dir string) time.Duration {
	t.Helper()
	us, err := strconv.ParseInt(lastField(t, dir+"/cpu.stat", "usage_usec"), 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return time.Duration(us) * time.Microsecond
}

const iperf3Path = "/usr/bin/iperf3"

// iperf3Disk creates a disk with the host's iperf3 and its libraries.
func iperf3Disk(t *testing.T, file string) {
	t.Helper()
	tree := t.TempDir()
	files := []string{iperf3Path}
	for word := range strings.FieldsSeq(output(t, "ldd", iperf3Path)) {
		if strings.HasPrefix(word, "/") {
			files = append(files, word)
		}
	}
	for _, dir := range []string{"tmp", "dev"} {
		if err := os.Mkdir(filepath.Join(tree, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range files {
		to := filepath.Join(tree, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(to), 0o755), os.WriteFile(to, []byte(readFile(t, name)), 0o755)); err != nil {
			t.Fatal(err)
		}
	}
	if out, err := exec.Command("mke2fs", "-q", "-t", "ext4", "-d", tree, file, "64M").CombinedOutput(); err != nil {
		t.Fatalf("mke2fs: %v: %s", err, out)
	}
}
