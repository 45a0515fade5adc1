package vhost

import (
	"errors"
	"fmt"
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// thread creates a thread of this process that exits when end is called.
func thread(t *testing.T) (tid int, end func()) {
	t.Helper()
	for {
		made, leave := make(chan int), make(chan struct{})
		go func() {
			runtime.LockOSThread() // not unlocked, so it exits with the goroutine
			made <- unix.Gettid()
			<-leave
		}()
		if tid := <-made; tid != unix.Getpid() {
			return tid, func() { close(leave) }
		}
		defer close(leave) // Go never exits the process's first thread; while that thread waits here, the next goroutine gets another one
	}
}

// kernelBefore reports whether the kernel is older than a version.
func kernelBefore(t *testing.T, major, minor int) bool {
	t.Helper()
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		t.Fatal(err)
	}
	var x, y int
	if _, err := fmt.Sscanf(unix.ByteSliceToString(u.Release[:]), "%d.%d", &x, &y); err != nil {
		t.Fatal(err)
	}
	return x < major || x == major && y < minor
}

func TestWatch(t *testing.T) {
	tid, end := thread(t)
	gone := make(chan error, 1)
	w, err := watchThread(tid)
	if errors.Is(err, errors.ErrUnsupported) && kernelBefore(t, 6, 9) {
		end()
		return // expected there
	}
	if err != nil {
		end()
		t.Fatal(err)
	}
	go func() { gone <- w.Wait() }()
	select {
	case err := <-gone:
		t.Errorf("a running thread is reported as exited: %v", err)
	default:
	}
	end()
	select {
	case err := <-gone:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(2 * time.Minute):
		t.Error("the exit of the thread is not reported")
	}
	if err := w.Close(); err != nil {
		t.Error(err)
	}

	tid, end = thread(t)
	if w, err = watchThread(tid); err != nil {
		t.Fatal(err)
	}
	go func() { gone <- w.Wait() }()
	if err := w.Close(); err != nil {
		t.Error(err)
	}
	end()
	if err := <-gone; err == nil {
		t.Error("Wait on a closed watch reports an exit")
	}

	if _, err := (Worker{TID: tid, Kthread: true}).Watch(); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("a kernel thread: %v", err)
	}
	if _, err := watchThread(1<<22 + 1); err == nil {
		t.Error("Watch succeeds for a thread that does not exist")
	}
}
