package vmm

import (
	"fmt"
	"runtime"
	"sync"

	"golang.org/x/sys/unix"

	"minivmm/vhost"
)

const (
	// plenty is a number of tasks: if the limits have room for this many more tasks, no limit is
	// near.
	plenty = 1024

	// blocked is the maximum number of goroutines that are in a system call at the same time, each
	// on its own thread: 32 for disks served in process, and 16 for the console and others.
	blocked = 48
)

// reserveThreads creates in advance all threads that the Go runtime will need for a machine, if the
// machine could reach a limit on tasks. When the kernel refuses a thread, the program crashes
// ("failed to create new OS thread"), and the runtime offers no way to check in advance. The
// runtime keeps idle threads forever.
//
// Only the kernel's workers are created later. If one cannot be created, the caller gets an error.
func (p *Plan) reserveThreads() error {
	// For a machine without its own limits, check the host's.
	if room, _ := vhost.RoomForTasks(plenty); p.Limits.PIDsMax == 0 && p.Rlimits.NProc == 0 && room >= plenty {
		return nil
	}
	n := p.threads()
	if err := enough(n); err != nil {
		return err
	}
	var ready, done sync.WaitGroup
	release := make(chan struct{})
	ready.Add(n)
	for range n {
		done.Go(func() {
			runtime.LockOSThread() // so that the next goroutine needs another thread
			defer runtime.UnlockOSThread()
			ready.Done()
			<-release
		})
	}
	ready.Wait()
	close(release)
	done.Wait()
	return nil
}

// enough returns an error if the host allows fewer than n more tasks.
func enough(n int) error {
	room, tightest := vhost.RoomForTasks(uint64(n))
	if room >= uint64(n) {
		return nil
	}
	return fmt.Errorf("minivmm needs up to %d more threads for this machine, and the host allows %d: %w (%s)", n, room, unix.EAGAIN, tightest)
}

// enoughForWorkers returns an error if there is no room for n more workers while the machine runs:
// each worker is created by a thread that then exits, and the Go runtime may replace this thread.
func enoughForWorkers(n int) error {
	const spare = 4
	return enough(2*n + spare)
}

// RoomForProcess returns an error if the host allows too few more threads for another process that
// runs the machine. In a new pid namespace that process cannot check this itself, because it cannot
// count the tasks outside the namespace, which share its limits.
func (p *Plan) RoomForProcess() error {
	const startup = 16 // threads of a Go program while it starts
	return enough(p.threads() + startup)
}

// threads returns how many threads of the Go runtime a machine needs at most, besides the threads
// that are busy now: one for each vCPU; those that create workers, which exit afterwards; those in
// system calls; and those that run Go code.
func (p *Plan) threads() int {
	n := p.Machine.VCPUs + blocked + runtime.GOMAXPROCS(0)
	for _, d := range p.devices() {
		n += d.workers
	}
	return n
}
