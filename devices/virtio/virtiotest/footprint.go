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

// Footprint is what this process holds of the host.
type Footprint struct {
	Descriptors int
	Goroutines  int
	Threads     int // Go's own and vhost workers
	Workers     int // vhost's, both threads of this process and kernel threads of the host
	Resident    int // bytes, after a garbage collection
}

// TakeFootprint takes the process's footprint as it is now.
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

// What Go itself may have more of, whatever was done in between: threads that
// sat in a system call when another was needed, pages of its heap, and what the
// race detector keeps of each thread and of each word that was touched.
const (
	spareThreads  = 6
	spareResident = 6<<20 + raceDetector*48<<20
)

// Holds fails the test unless this process is back to the footprint within a
// few seconds: a goroutine or a thread that was joined may not have left yet.
// Memory counts only when the same was done before the footprint was taken, so
// it has [Footprint.HoldsMemory].
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
	now := TakeFootprint(t)
	for deadline := time.Now().Add(testenv.Patience); !ok(now) && time.Now().Before(deadline); {
		runtime.Gosched()
		now = TakeFootprint(t)
	}
	if !ok(now) {
		t.Errorf("left over: %+v, was %+v", now, f)
	}
}

// AwaitWorkers waits until there are as many workers. One that was ended is a task for a moment longer: vhost_task_stop waits for
// the end of its function, not of the thread (kernel/vhost_task.c).
func AwaitWorkers(t testing.TB, want int) {
	t.Helper()
	now := TakeFootprint(t).Workers
	for deadline := time.Now().Add(testenv.Patience); now != want && time.Now().Before(deadline); {
		runtime.Gosched()
		now = TakeFootprint(t).Workers
	}
	if now != want {
		t.Errorf("%d workers are there, want %d", now, want)
	}
}

// entries counts what is in a folder.
func entries(t testing.TB, dir string) int {
	t.Helper()
	d, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	return len(d)
}

// named counts the tasks with the name of a vhost worker.
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
