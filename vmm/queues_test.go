package vmm_test

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"minivmm/devices/virtio/virtiotest"
	"minivmm/internal/testbed/testenv"
	"minivmm/internal/testbed/vmmtest"
	"minivmm/vmm"
	"minivmm/vmm/config"
)

// streamBytes is how many bytes each stream of queuesScenario sends and receives back.
const streamBytes = 64 << 10

// echo sends the data of every connection back.
func echo(l net.Listener) {
	for {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		go func() {
			io.Copy(conn, io.LimitReader(conn, streamBytes))
			conn.Close()
		}()
	}
}

// cpuTime returns how long a worker has run.
func cpuTime(t *testing.T, w vmm.Worker) (d time.Duration) {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/schedstat", w.TID))
	if err == nil {
		_, err = fmt.Sscan(string(b), (*int64)(&d))
	}
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// TestQueuesAndTheirWorkers runs a guest with 4 CPUs, 2 queue pairs and 4 request queues: each has
// its worker, all of them work, and that remains so when the guest changes its address or resets
// its devices, and when the workers are placed differently.
func TestQueuesAndTheirWorkers(t *testing.T) {
	k := vmmtest.Kernels(t)[0]
	threads := threadWorkers(t)
	before := virtiotest.TakeFootprint(t)
	t.Run("machine", func(t *testing.T) {
		by := inKernel
		by.net += "\nqueues = 2\nbusy_poll = '20us'\naffinity = '1'\n" +
			"[scsi]\nqueues = 'auto'\nqueue_size = 32\n[workers]\naffinity = '0-1'\nnice = 1\nsched = 'batch'\n"
		m := bootServing(t, serving{k, by}, "queues", 4, 1)
		go echo(m.listener)

		want := []string{"net0: receive 0, transmit 0", "net0: receive 1, transmit 1"}
		if threads {
			want = append(want, "scsi0: control, event, request 0", "scsi0: request 1", "scsi0: request 2", "scsi0: request 3")
		} else {
			want = append(want, "scsi0: control, event, requests")
		}
		workers := m.Workers()
		var got []string
		seen := map[int]bool{}
		for _, w := range workers {
			t.Log(w)
			got = append(got, w.Device+": "+w.Serves())
			if w.TID == 0 || seen[w.TID] || w.Kthread == threads {
				t.Errorf("%v: thread %d", w, w.TID)
			}
			seen[w.TID] = true
		}
		if !slices.Equal(got, want) {
			t.Fatalf("workers\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
		placed := func(device, cpus, sched string, poll time.Duration) {
			t.Helper()
			for _, w := range m.Workers() {
				if w.Device != device {
					continue
				}
				on, err := w.CPUsAllowed()
				s, err2 := w.Sched()
				if on != cpus || s.String() != sched || w.BusyPoll != poll || err != nil || err2 != nil {
					t.Errorf("%v: CPUs %s, %v, polls %v, %v %v; want %s, %s, %v", w, on, s, w.BusyPoll, err, err2, cpus, sched, poll)
				}
			}
		}
		placed("net0", "1", "batch, nice 1", 20*time.Microsecond)
		placed("scsi0", "0-1", "batch, nice 1", 0)

		// everyone checks that each worker has run.
		everyone := func(when string) {
			t.Helper()
			start := time.Now()
			defer func() { t.Logf("%s: %v", when, time.Since(start)) }()
			var ran []time.Duration
			for _, w := range workers {
				ran = append(ran, cpuTime(t, w))
			}
			m.command("streams 4", "streamed")
			m.command("reads", "have read")
			for i, w := range workers {
				if d := cpuTime(t, w); d <= ran[i] {
					t.Errorf("%s: %v did nothing: %v before, %v after", when, w, ran[i], d)
				}
			}
			m.command("report", "receive=2 transmit=2 requests=4 idle=0\\b")
		}
		everyone("at first")
		least := map[string]uint64{"net0 0": 1, "net0 1": 1, "net0 2": 1, "net0 3": 1}
		for i := range 4 {
			least[fmt.Sprintf("scsi0 %d", 2+i)] = readsPerCPU
		}
		m.sameInterrupts("at first", least)

		const mac = "02:12:34:56:78:9a"
		m.command("mac "+mac, "address set")
		everyone("with another address")
		m.command("move 1", "moved [1-9]")
		everyone("with interrupts elsewhere")
		if !knownAs("10.77.0.2", mac) {
			t.Errorf("the host's neighbour table does not have %s", mac)
		}

		nice, poll := 3, config.Duration{}
		if err := m.Tune(config.Tuning{Device: "net0", Affinity: config.CPUSet{0, 1}, Sched: config.SchedOther, Nice: &nice, BusyPoll: &poll}); err != nil {
			t.Error(err)
		}
		if err := m.Tune(config.Tuning{Affinity: config.CPUSet{0}}); err != nil {
			t.Error(err)
		}
		placed("net0", "0", "other, nice 3", 0)
		placed("scsi0", "0", "batch, nice 1", 0)
		for _, c := range []struct {
			tuning config.Tuning
			want   string
		}{
			{config.Tuning{Device: "net0", Count: 2}, `"net0" has one worker for each queue pair`},
			{config.Tuning{Device: "net7", Nice: &nice}, `"net7" is not a device with kernel workers: want one of net0, scsi0`},
			{config.Tuning{Device: "scsi0", BusyPoll: &poll}, "vhost-scsi accepts the setting but ignores it"},
			{config.Tuning{Sched: config.SchedIdle, Nice: &nice}, "nice applies to the policies other and batch"},
			{config.Tuning{Device: "net0", Affinity: config.CPUSet{1000}}, "none of the CPUs is online and allowed"},
		} {
			if err := m.Tune(c.tuning); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%+v: %v, want %s", c, err, c.want)
			}
		}
		everyone("after the change")

		checkCounts(t, m, threads, "verify 250", "verified")
		placed("scsi0", "0", "batch, nice 1", 0)
		workers = m.Workers()
		everyone("with other disk workers")

		m.command("rebind virtio_net", "rebound <nil>")
		checkCounts(t, m, threads, "rebind virtio_scsi", "rebound <nil>")
		if threads {
			checkFewFiles(t, m)
		}
		workers = m.Workers()
		everyone("in the devices' next life")
		m.sameInterrupts("in the devices' next life", least)
		placed("net0", "0", "other, nice 3", 0)
		if now := m.Workers(); len(now) != len(workers) || now[0].TID != workers[0].TID {
			t.Errorf("other workers after the reset: %v", now)
		}
		m.quit()
		if err := m.Close(); err != nil {
			t.Error(err)
		}
		if left := m.Workers(); len(left) > 0 {
			t.Errorf("workers of a closed machine: %v", left)
		}
		if err := m.Tune(config.Tuning{Nice: &nice}); err == nil {
			t.Error("workers of a closed machine can be changed")
		}
	})
	virtiotest.AwaitWorkers(t, before.Workers)
}

// checkCounts changes the number of disk workers while the guest executes a command.
func checkCounts(t *testing.T, m *trafficMachine, threads bool, command, answer string) {
	t.Helper()
	counts := []config.WorkerCount{config.CountShared, 3, config.CountPerQueue, 2, 4}
	numbers := []int{1, 3, 4, 2, 4}
	before := m.Workers()
	changes := 0
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for {
			for i, c := range counts {
				select {
				case <-stop:
					return
				default:
				}
				err := m.Tune(config.Tuning{Count: c})
				if !threads {
					if !errors.Is(err, errors.ErrUnsupported) && c != config.CountShared {
						t.Errorf("count %v: %v", c, err)
					}
					continue
				}
				var disks []string
				tids := map[int]bool{}
				for _, w := range m.Workers() {
					if cpuTime(t, w); tids[w.TID] {
						t.Errorf("%v: another worker has the same thread", w)
					}
					if tids[w.TID] = true; w.Device == "scsi0" {
						disks = append(disks, w.Serves())
					}
				}
				if err != nil || len(disks) != numbers[i] {
					t.Errorf("count %v: %v, workers for %q", c, err, disks)
				}
				changes++
			}
		}
	}()
	m.command(command, answer)
	close(stop)
	<-stopped
	if left := m.Tune(config.Tuning{Device: "scsi0", Count: config.CountPerQueue}); (left == nil) != threads {
		t.Error(left)
	}
	now := m.Workers()
	if t.Logf("%d changes of the number of disk workers during %s", changes, command); threads && changes == 0 || len(now) != len(before) {
		t.Errorf("%d changes, workers %v", changes, now)
	}
	if threads {
		virtiotest.AwaitWorkers(t, len(now))
	}
}

// checkFewFiles asks for more disk workers than there are descriptors to watch them: their number
// must not change then.
func checkFewFiles(t *testing.T, m *trafficMachine) {
	t.Helper()
	disks := func() (n int) {
		for _, w := range m.Workers() {
			if w.Device == "scsi0" {
				n++
			}
		}
		return n
	}
	if err := m.Tune(config.Tuning{Device: "scsi0", Count: config.CountShared}); err != nil {
		t.Fatal(err)
	}
	var old unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &old); err != nil {
		t.Fatal(err)
	}
	refused := 0
	for limit := uint64(3); ; limit++ {
		if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: limit, Max: old.Max}); err != nil {
			t.Fatal(err)
		}
		err := m.Tune(config.Tuning{Device: "scsi0", Count: config.CountPerQueue})
		if rerr := unix.Setrlimit(unix.RLIMIT_NOFILE, &old); rerr != nil {
			t.Fatal(rerr)
		}
		if err == nil {
			break
		}
		if now := disks(); !errors.Is(err, unix.EMFILE) || now != 1 {
			t.Fatalf("with %d files: %v; %d workers, was 1", limit, err, now)
		}
		refused++
	}
	if now := disks(); refused == 0 || now != 4 {
		t.Errorf("%d workers, want 4; refused %d times", now, refused)
	}
	virtiotest.AwaitWorkers(t, len(m.Workers()))
}

// knownAs reports whether the host's neighbour table has the given hardware address for ip.
func knownAs(ip, mac string) bool {
	neighbours, err := netlink.NeighList(0, netlink.FAMILY_V4)
	return err == nil && slices.ContainsFunc(neighbours, func(n netlink.Neigh) bool {
		return n.IP.String() == ip && n.HardwareAddr.String() == mac
	})
}

// TestUnsupportedWorkers requests settings that this host's kernel, or any kernel, does not
// support.
func TestUnsupportedWorkers(t *testing.T) {
	testenv.Need(t, "kvm", "vhost-net", "vhost-scsi", "guests")
	image := filepath.Join(t.TempDir(), "disk.img")
	if err := os.WriteFile(image, make([]byte, 1<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	k := vmmtest.Kernels(t)[0]
	for _, c := range []struct{ more, want string }{
		{"[scsi]\nqueues = 3\nqueue_size = 32\n[workers]\ncount = 2\n", map[bool]string{false: `scsi0: workers.count "2": VHOST_NEW_WORKER /dev/vhost-scsi: `}[threadWorkers(t)]},
		{"[scsi]\nqueues = 3\nqueue_size = 32\n", ""},
		{"[scsi]\naffinity = '1000'\n", "scsi0: affinity [1000]: no such device"},
	} {
		before := virtiotest.TakeFootprint(t)
		plan := vmmtest.Plan(t, parse(t, "[boot]\nkernel = %q\n[[disk]]\npath = %q\n%s", vmmtest.Vmlinux(t, k), image, c.more))
		m, err := vmm.New(plan, vmm.Options{Console: os.Stderr, Logf: t.Logf})
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", c.more, err, c.want)
		}
		if err == nil {
			for _, w := range m.Workers() {
				t.Log(w)
			}
			if err := m.Close(); err != nil {
				t.Error(err)
			}
		}
		before.Holds(t)
	}
}
