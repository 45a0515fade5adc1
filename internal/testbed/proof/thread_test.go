package proof

import (
	"os"
	"runtime"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"minivmm/vhost"
)

func isThread(t *testing.T, m mode) string {
	p := startOwner(t, m, 0)
	w := p.own(vhost.NetPath)
	const ppidField, kthreadd = 4, 2
	flags := statNumber(t, w.dir, flagsField)
	switch user, kthread := flags&pfUserWorker != 0, flags&pfKthread != 0; {
	case w.isThread() && user && !kthread:
		return ""
	case !w.isThread() && kthread && statNumber(t, w.dir, ppidField) == kthreadd:
		return "a child of kthreadd"
	}
	t.Fatalf("%+v has flags %#x", w, flags)
	return ""
}

func sharesMemory(t *testing.T, m mode) string {
	p := startOwner(t, m, 0)
	w := p.own(vhost.NetPath)
	if sameMemory(t, w.tid, os.Getpid()) {
		t.Fatal("the worker is in the test's address space")
	}
	if !sameMemory(t, w.tid, w.pid) {
		return "another address space"
	}
	return ""
}

func sameMemory(t *testing.T, a, b int) bool {
	t.Helper()
	const kcmpVM = 1 // KCMP_VM (linux/kcmp.h)
	differs, _, errno := unix.Syscall6(unix.SYS_KCMP, uintptr(a), uintptr(b), kcmpVM, 0, 0, 0)
	if errno != 0 {
		t.Fatal(os.NewSyscallError("kcmp", errno))
	}
	return differs == 0
}

func holdsNoFiles(t *testing.T, m mode) string {
	p := startOwner(t, m, 0)
	w := p.own(vhost.NetPath)
	files := func(dir string) int {
		entries, err := os.ReadDir(dir + "/fd")
		if err != nil {
			t.Fatal(err)
		}
		return len(entries)
	}
	if files(w.leaderDir()) == 0 {
		t.Fatal("the owner has no descriptors either")
	}
	if files(w.dir) > 0 {
		return "it has descriptors"
	}
	return ""
}

// spareThreads makes Go create n threads and leaves them idle. Go crashes if it cannot create a
// thread, so a process that is about to reach a limit needs spare threads.
func spareThreads(n int) {
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
