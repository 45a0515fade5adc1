package flock

import (
	"context"
	"errors"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// Try takes an exclusive flock(2) on an open file. The kernel releases the lock when the last
// descriptor of this open file is closed, also when the process is killed. The error matches
// unix.EWOULDBLOCK while another open file has the lock.
func Try(f *os.File) error { return try(f, unix.LOCK_EX) }

// TryShared is like Try, for a lock that any number of processes can share.
func TryShared(f *os.File) error { return try(f, unix.LOCK_SH) }

func try(f *os.File, how int) error {
	for {
		err := unix.Flock(int(f.Fd()), how|unix.LOCK_NB)
		if err == nil {
			return nil
		}
		if err != unix.EINTR {
			return &os.PathError{Op: "flock", Path: f.Name(), Err: err}
		}
	}
}

// Wait is like Try, but waits for the lock until ctx is done, and then returns ctx.Err(). It polls,
// because a blocked flock(2) would hold a thread that nothing can interrupt.
func Wait(ctx context.Context, f *os.File) error {
	for pause := time.Millisecond; ; pause = min(2*pause, 20*time.Millisecond) {
		if err := Try(f); !errors.Is(err, unix.EWOULDBLOCK) {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(pause):
		}
	}
}
