package vmm

import (
	"fmt"
	"runtime"
	"sync"

	"golang.org/x/sys/unix"

	"minivmm/vhost"
)

const (
	// plenty of room for tasks: no limit is near.
	plenty = 1024

	// blocked bounds the goroutines of this program that are in a system call at the
	// same time, each with a thread: 32 of the disks served in process, the console's and the rest.
	blocked = 48
)

// reserveThreads makes ahead all threads that the Go runtime will want for a
// machine, if there is a limit of tasks that it could meet: a thread that the
// kernel refuses ends the program ("failed to create new OS thread"), and there is no
// way to be asked first. Threads that are idle are kept by the runtime for good.
//
// What is made after this are the kernel's workers, whose absence is an error.
func (p *Plan) reserveThreads() error {
	// A machine without limits of its own is asked about the host's.
	room, tightest := vhost.RoomForTasks(plenty)
	if p.Limits.PIDsMax == 0 && p.Rlimits.NProc == 0 && room >= plenty {
		return nil
	}
	n := p.threads()
	if err := enough(n, room, tightest); err != nil {
		return err
	}
	var ready, done sync.WaitGroup
	release := make(chan struct{})
	ready.Add(n)
	for range n {
		done.Go(func() {
			runtime.LockOSThread() // so that the next one needs another
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

func enough(n int, room uint64, tightest string) error {
	if room >= uint64(n) {
		return nil
	}
	return fmt.Errorf("minivmm needs up to %d threads more for this machine, and the host lets it have %d: %w (%s)", n, room, unix.EAGAIN, tightest)
}

// enoughForWorkers says why there is no room for so many workers more while the machine runs: each is made from
// a thread that ends then, and the Go runtime may make another in its place.
func enoughForWorkers(n int) error {
	const spare = 4
	n = 2*n + spare
	room, tightest := vhost.RoomForTasks(uint64(n))
	return enough(n, room, tightest)
}

// RoomForProcess says why there are too few threads left on this host for another
// process that runs the machine. In a pid namespace of its own, that process could not
// count what others have of the same limits.
func (p *Plan) RoomForProcess() error {
	const begins = 16 // threads of a Go program before it knows what to do
	room, tightest := vhost.RoomForTasks(plenty)
	return enough(p.threads()+begins, room, tightest)
}

// threads is how many threads of the Go runtime's a machine wants at most, beside those that are
// busy now: each vCPU's; the ones that ask for a worker, which end with that; those in system calls;
// and those that run Go.
func (p *Plan) threads() int {
	n := p.Machine.VCPUs + blocked + runtime.GOMAXPROCS(0)
	for _, d := range p.devices() {
		n += d.workers
	}
	return n
}
