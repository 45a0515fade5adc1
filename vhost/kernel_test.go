package vhost

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"reflect"
	"runtime"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"minivmm/internal/procfs"
	"minivmm/internal/testbed/testenv"
	"minivmm/internal/testbed/vhosttest"
)

func lockThread(t *testing.T) {
	t.Helper()
	runtime.LockOSThread()
	t.Cleanup(runtime.UnlockOSThread)
}

func hasThreadWorkers(t *testing.T) bool {
	t.Helper()
	return vhosttest.ThreadWorkers(t)
}

func TestSetOwnerFindsTheWorker(t *testing.T) {
	n := needNet(t)
	lockThread(t)
	w, err := n.SetOwnerHere()
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%+v", w)
	if want := fmt.Sprintf("vhost-%d", unix.Gettid()); w.Comm != want {
		t.Errorf("name %q, want %q", w.Comm, want)
	}
	if w.TID == 0 || w.Kthread == hasThreadWorkers(t) {
		t.Errorf("worker %+v", w)
	}
	own, err := os.ReadFile("/proc/thread-self/cgroup")
	if err != nil {
		t.Fatal(err)
	}
	if cg, err := w.Cgroup(); err != nil || cg != procfs.UnifiedCgroup(string(own)) {
		t.Errorf("cgroup %q, %v; this thread has %q", cg, err, own)
	}
	if err := w.SetAffinity([]int{0}); err != nil {
		t.Error(err)
	}
	if cpus, err := w.CPUsAllowed(); err != nil || cpus != "0" {
		t.Errorf("cpus %q, %v; want 0", cpus, err)
	}
	if err := w.SetAffinity([]int{1 << 20}); !errors.Is(err, unix.EINVAL) {
		t.Errorf("invalid CPU: %v", err)
	}
	if _, err := n.SetOwnerHere(); !errors.Is(err, unix.EBUSY) {
		t.Errorf("second call: %v, want EBUSY", err)
	}
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}
	if !w.Kthread {
		waitGone(t, w)
	}
}

// waitGone waits until the task of a stopped worker is gone. vhost_task_stop only waits until the
// worker's function returns; the thread exits later (kernel/vhost_task.c).
func waitGone(t *testing.T, w Worker) {
	t.Helper()
	dir, err := w.path()
	if err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(2 * time.Minute); ; runtime.Gosched() {
		if _, err := os.Stat(dir); errors.Is(err, os.ErrNotExist) {
			return
		} else if err != nil || time.Now().After(deadline) {
			t.Fatalf("worker %+v still exists after it was stopped: %v", w, err)
		}
	}
}

// TestSchedulingOfAWorkerChanges sets each policy and then the default, also for a kernel thread.
func TestSchedulingOfAWorkerChanges(t *testing.T) {
	n := needNet(t)
	w, err := n.SetOwnerHere()
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range []Sched{
		{Policy: Batch, Nice: 5}, {Policy: Other, Nice: -3}, {Policy: Idle}, {Policy: FIFO, Priority: 2}, {Policy: RR, Priority: 1}, {},
	} {
		if err := w.SetSched(s); err != nil {
			t.Errorf("%v: %v", s, err)
		} else if got, err := w.Sched(); err != nil || got != s {
			t.Errorf("%+v, %v; want %+v", got, err, s)
		}
	}
	for _, s := range []Sched{{Policy: FIFO}, {Policy: FIFO, Priority: 100}, {Priority: 1}, {Policy: 77}} {
		if err := w.SetSched(s); !errors.Is(err, unix.EINVAL) {
			t.Errorf("%+v: %v, want EINVAL", s, err)
		}
	}
	if err := n.SetVringBusyloopTimeout(NetRX, 50); err != nil {
		t.Errorf("busy loop: %v", err)
	}
}

func TestWorkerInheritsTheThreadsAffinity(t *testing.T) {
	n := needNet(t)
	lockThread(t)
	var old, one unix.CPUSet
	if err := unix.SchedGetaffinity(0, &old); err != nil {
		t.Fatal(err)
	}
	one.Set(0)
	if err := unix.SchedSetaffinity(0, &one); err != nil {
		t.Fatal(err)
	}
	w, err := n.SetOwnerHere()
	unix.SchedSetaffinity(0, &old)
	if err != nil {
		t.Fatal(err)
	}
	cpus, err := w.CPUsAllowed()
	if err != nil {
		t.Fatal(err)
	}
	// A kernel thread, before Linux 6.4, inherits nothing.
	if inherited := cpus == "0"; inherited != hasThreadWorkers(t) && runtime.NumCPU() > 1 {
		t.Errorf("cpus %q, calling thread 0; a thread of this process: %v", cpus, hasThreadWorkers(t))
	}
}

func TestOwnersAtTheSameTimeFindTheirOwnWorkers(t *testing.T) {
	const each = 8
	var mu sync.Mutex
	seen := make(map[int]bool)
	var wg sync.WaitGroup
	for range each {
		n := needNet(t)
		wg.Go(func() {
			runtime.LockOSThread()
			defer runtime.UnlockOSThread()
			w, err := n.SetOwnerHere()
			mu.Lock()
			defer mu.Unlock()
			if err != nil || w.Comm != fmt.Sprintf("vhost-%d", unix.Gettid()) || seen[w.TID] {
				t.Errorf("thread %d: %+v, %v", unix.Gettid(), w, err)
			}
			seen[w.TID] = true
		})
	}
	wg.Wait()
}

func TestSignalsDoNotDisturbSetOwner(t *testing.T) {
	needNet(t)
	lockThread(t)
	tid, done := unix.Gettid(), make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			select {
			case <-done:
				return
			default:
				unix.Tgkill(os.Getpid(), tid, unix.SIGURG)
			}
		}
	})
	for range 20 {
		n, err := OpenNet()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := n.SetOwnerHere(); err != nil {
			t.Error(err)
		}
		n.Close()
	}
	close(done)
	wg.Wait()
}

func TestKthreadModeAddsNoThread(t *testing.T) {
	n := needNet(t)
	err := n.SetForkFromOwner(false)
	switch only := errors.Is(err, errors.ErrUnsupported); { // the kernel has one mode only
	case only && hasThreadWorkers(t):
		testenv.NeedNil(t, "kthread-mode", err)
	case !only && err != nil:
		t.Fatal(err)
	}
	lockThread(t)
	before, err := procfs.TaskIDs("/proc/self/task")
	if err != nil {
		t.Fatal(err)
	}
	if err := n.withSignalsBlocked(n.SetOwner); err != nil {
		t.Fatal(err)
	}
	after, err := readTasks("/proc/self/task")
	if err != nil {
		t.Fatal(err)
	}
	if w, err := newWorkerTask(before, after, unix.Gettid()); !errors.Is(err, errNoWorker) {
		t.Errorf("found %+v, %v; want no worker", w, err)
	}
	all, err := readTasks("/proc")
	if err != nil {
		t.Fatal(err)
	}
	if w := kthreadWorker(all, unix.Gettid()); w.TID == 0 {
		t.Error("found no kernel thread")
	}
}

func TestAnEndpointNeedsMemory(t *testing.T) {
	s := needScsi(t)
	if err := s.SetOwner(); err != nil {
		t.Fatal(err)
	}
	if err := s.setEndpoint("naa.nobody"); !errors.Is(err, unix.EFAULT) {
		t.Errorf("endpoint without memory: %v, want EFAULT", err)
	}
}

func TestScsiWorkers(t *testing.T) {
	s := needScsi(t)
	lockThread(t)
	if _, err := s.SetOwnerHere(); err != nil {
		t.Fatal(err)
	}
	if err := s.SetVringBusyloopTimeout(ScsiRequest, 50); err != nil {
		t.Errorf("busy loop, which vhost-scsi ignores: %v", err)
	}
	w, err := s.NewWorkerHere()
	if !hasThreadWorkers(t) {
		if !errors.Is(err, errors.ErrUnsupported) {
			t.Errorf("second worker with kernel threads: %v, want unsupported", err)
		}
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	id := w.ID
	if dir, _ := w.path(); id == 0 || w.Kthread || w.Comm != fmt.Sprintf("vhost-%d", unix.Gettid()) {
		t.Errorf("%+v at %s", w, dir)
	}
	if again, err := s.NewWorkerHere(); err != nil || again.TID == w.TID || again.ID == id {
		t.Errorf("second worker: %+v, %v; first: %+v", again, err, w)
	} else if err := s.FreeWorker(again.ID); err != nil {
		t.Error(err)
	} else {
		waitGone(t, again)
	}
	if err := s.AttachVringWorker(ScsiRequest, id); err != nil {
		t.Fatal(err)
	}
	if err := s.FreeWorker(id); !errors.Is(err, unix.EBUSY) {
		t.Errorf("free while attached: %v, want EBUSY", err)
	}
	if err := s.AttachVringWorker(ScsiRequest, 0); err != nil {
		t.Fatal(err)
	}
	if err := s.FreeWorker(id); err != nil {
		t.Error(err)
	}
}

// ring is a split ring of 16 entries in mapped memory. base is its address as seen by the guest,
// which is this test.
type ring struct {
	mem []byte
	v   Vring
}

const (
	ringNum   = 16
	ringAvail = 0x400 // offsets in the ring's memory
	ringUsed  = 0x800
	ringData  = 0x1000
	ringBytes = 0x3000
)

func hva(b []byte) uintptr { return reflect.ValueOf(b).Pointer() }

func newRing(t *testing.T, mem []byte, index uint32) *ring {
	t.Helper()
	eventfd := func() int {
		fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { unix.Close(fd) })
		return fd
	}
	base := hva(mem)
	return &ring{mem, Vring{
		Index: index, Num: ringNum,
		Desc: base, Avail: base + ringAvail, Used: base + ringUsed,
		Kick: eventfd(), Call: eventfd(), Err: eventfd(),
	}}
}

func TestNetSendsAPacket(t *testing.T) {
	n := needNet(t)
	tap, err := vhosttest.OpenTap(t)
	testenv.NeedNil(t, "vhost-net", err)
	if _, err := n.SetOwnerHere(); err != nil {
		t.Fatal(err)
	}
	const gpa = 0x100000
	mem, err := unix.Mmap(-1, 0, 2*ringBytes, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED|unix.MAP_ANONYMOUS)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { n.Close(); unix.Munmap(mem) })
	rx, tx := newRing(t, mem[:ringBytes], NetRX), newRing(t, mem[ringBytes:], NetTX)
	err = n.Start(Setup{
		Features: 1 << 32,
		Memory:   []MemoryRegion{{GPA: gpa, SizeBytes: uint64(len(mem)), HVA: hva(mem)}},
		Vrings:   []Vring{rx.v, tx.v},
	}, tap.FD)
	if err != nil {
		t.Fatal(err)
	}
	// one descriptor: a header of 12 bytes, then an Ethernet frame
	le := binary.LittleEndian
	frame := tx.mem[ringData:][:12+60]
	copy(frame[12:], "\xff\xff\xff\xff\xff\xff\x02\x00\x00\x00\x00\x01\x88\xb5")
	le.PutUint64(tx.mem[0:], gpa+ringBytes+ringData)
	le.PutUint32(tx.mem[8:], uint32(len(frame)))
	le.PutUint16(tx.mem[ringAvail+4:], 0)
	le.PutUint16(tx.mem[ringAvail+2:], 1) // idx; the write to the eventfd orders it
	if _, err := unix.Write(tx.v.Kick, binary.NativeEndian.AppendUint64(nil, 1)); err != nil {
		t.Fatal(err)
	}
	waitReadable(t, tx.v.Call)
	if got := le.Uint16(tx.mem[ringUsed+2:]); got != 1 {
		t.Errorf("used index %d, want 1", got)
	}
	if got := tap.FromGuest(t); got != 1 {
		t.Errorf("the interface got %d packets, want 1", got)
	}
	if err := n.Stop(); err != nil {
		t.Fatal(err)
	}
	tx.v.Desc = 0xffff_8000_0000_0000
	if err := n.Start(Setup{Features: 1 << 32, Vrings: []Vring{rx.v, tx.v}}, tap.FD); !errors.Is(err, unix.EFAULT) {
		t.Errorf("start with a ring outside user space: %v, want EFAULT", err)
	}
}

func waitReadable(t *testing.T, fd int) {
	t.Helper()
	n := 0
	for deadline := time.Now().Add(3 * time.Minute); n == 0 && time.Now().Before(deadline); {
		n, _ = unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 1000)
	}
	if n < 1 {
		t.Fatal("no call signal within 20 s")
	}
}
