package vhosttest

import (
	"runtime"
	"sync"
)

// SpareThreads makes Go create n threads and leaves them idle. Go crashes if it cannot create a
// thread, so a process that is about to reach a limit needs spare threads.
func SpareThreads(n int) {
	var ready, done sync.WaitGroup
	release := make(chan struct{})
	for range n {
		ready.Add(1)
		done.Go(func() {
			runtime.LockOSThread()
			defer runtime.UnlockOSThread()
			ready.Done()
			<-release
		})
	}
	ready.Wait()
	close(release)
	done.Wait()
}
