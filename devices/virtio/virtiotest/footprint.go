package virtiotest

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strings"
	"testing"
	"time"

	"minivmm/internal/testbed/testenv"
)

// Footprint is the set of host resources that this process uses.
type Footprint struct {
	Descriptors int
	Goroutines  int
	Threads     int // Go's threads and vhost workers
	Workers     int // vhost workers, both threads of this process and kernel threads of the host
	Resident    int // bytes, after a garbage collection
}

// TakeFootprint returns the current footprint of the process.
func TakeFootprint(t testing.TB) Footprint {
	t.Helper()
	debug.FreeOSMemory()
	f := Footprint{
		Descriptors: entries(t, "/proc/self/fd"),
		Goroutines:  runtime.NumGoroutine(),
		Threads:     entries(t, "/proc/self/task"),
		Workers:     named(t, "/proc/self/task/*/comm") + named(t, "/proc/[0-9]*/comm"),
	}
	statm, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		t.Fatal(err)
	}
	var total, resident int
	if _, err := fmt.Sscan(string(statm), &total, &resident); err != nil {
		t.Fatal(err)
	}
	f.Resident = resident * os.Getpagesize()
	return f
}

// Tolerances for additional resources that the Go runtime may use, whatever the test does.
// spareThreads allows for threads that were in a system call when the runtime needed another
// thread. spareResident allows for pages of the heap, and for the race detector's data about each
// thread and each accessed word.
const (
	spareThreads  = 6
	spareResident = 6<<20 + raceDetector*48<<20
)

// Holds waits until this process is back at the footprint, because a joined goroutine or thread may
// not have exited yet. After [testenv.Patience] it fails the test. Holds does not compare memory,
// because memory is comparable only if the process had done the same work before it took the
// footprint. To compare memory, call [Footprint.HoldsMemory].
func (f Footprint) Holds(t testing.TB) {
	t.Helper()
	f.holds(t, func(now Footprint) bool {
		return now.Descriptors <= f.Descriptors && now.Goroutines <= f.Goroutines &&
			now.Workers <= f.Workers && now.Threads <= f.Threads+spareThreads
	})
}

// HoldsMemory is [Footprint.Holds] for resident memory.
func (f Footprint) HoldsMemory(t testing.TB) {
	t.Helper()
	f.holds(t, func(now Footprint) bool { return now.Resident <= f.Resident+spareResident })
}

func (f Footprint) holds(t testing.TB, ok func(now Footprint) bool) {
	t.Helper()
	if now := await(t, ok); !ok(now) {
		t.Errorf("resources leaked: %+v, was %+v", now, f)
	}
}

// AwaitWorkers waits until the number of vhost workers equals the argument want. A destroyed worker
// remains a task for a short time: vhost_task_stop waits until the worker's function returns, but
// not until the worker's thread exits (kernel/vhost_task.c).
func AwaitWorkers(t testing.TB, want int) {
	t.Helper()
	if now := await(t, func(now Footprint) bool { return now.Workers == want }); now.Workers != want {
		t.Errorf("%d workers, want %d", now.Workers, want)
	}
}

// await takes footprints until the function ok accepts one, for at most [testenv.Patience]. It
// returns the last footprint.
func await(t testing.TB, ok func(now Footprint) bool) Footprint {
	now := TakeFootprint(t)
	for deadline := time.Now().Add(testenv.Patience); !ok(now) && time.Now().Before(deadline); {
		runtime.Gosched()
		now = TakeFootprint(t)
	}
	return now
}

// entries returns the number of entries in a directory.
func entries(t testing.TB, dir string) int {
	t.Helper()
	d, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	return len(d)
}

// named returns the number of comm files that match pattern and contain the name of a vhost worker.
func named(t testing.TB, pattern string) int {
	t.Helper()
	comms, err := filepath.Glob(pattern)
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, comm := range comms {
		if b, err := os.ReadFile(comm); err == nil && strings.HasPrefix(string(b), "vhost-") {
			n++
		}
	}
	return n
}
