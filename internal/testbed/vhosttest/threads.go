package vhosttest

import (
	"runtime"
	"sync"
)

// SpareThreads has Go make n threads and leaves them idle. Go dies when it
// cannot make a thread, so a process that is about to be held at a limit needs
// some ahead.
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
