package flock

import (
	"context"
	"errors"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// Try locks an open file with flock(2) for this process alone. The kernel releases the lock when the last
// descriptor of this open file is closed, however the process ends. The error matches unix.EWOULDBLOCK while
// another open file has the lock.
func Try(f *os.File) error { return try(f, unix.LOCK_EX) }

// TryShared is Try for a lock that any number of processes may share.
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

// Wait is Try that waits for the lock until ctx ends, and then returns ctx.Err(). It polls: a blocked flock(2) would hold
// a thread that nothing can release.
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
