package target

import (
	"os"

	"golang.org/x/sys/unix"

	"minivmm/internal/diskimage"
)

// Store holds the blocks of a logical unit. Its methods must be safe for concurrent use. Errors are
// errno values, wrapped or not.
type Store interface {
	// ReadV and WriteV move bytes as preadv2 and pwritev2 do, with the same flags: RWF_NOWAIT may
	// return EAGAIN or EOPNOTSUPP, and RWF_DSYNC makes the write durable.
	ReadV(bufs [][]byte, off int64, flags int) (int, error)
	WriteV(bufs [][]byte, off int64, flags int) (int, error)
	// Sync makes all completed writes durable.
	Sync() error
	// Punch makes the n bytes at off read as zero and deallocates them. Zero makes the n bytes at
	// off read as zero and keeps them allocated. Either method may return EOPNOTSUPP.
	Punch(off, n int64) error
	Zero(off, n int64) error
	// Discard deallocates the n bytes at off. Their contents are undefined afterwards.
	Discard(off, n int64) error
	// Size returns the current size in bytes. Another process may change the size.
	Size() (int64, error)
	Close() error
}

// file is a Store over an open file or block device.
type file struct{ f *os.File }

// NewFile returns a Store over a file or a block device. fallocate(2) works the same on both. The
// Store owns f, which must not be registered with Go's poller.
func NewFile(f *os.File) Store { return file{f} }

func (s file) fd() int { return int(s.f.Fd()) }

func (s file) ReadV(bufs [][]byte, off int64, flags int) (int, error) {
	return vector(unix.SYS_PREADV2, s.fd(), bufs, off, flags)
}

func (s file) WriteV(bufs [][]byte, off int64, flags int) (int, error) {
	return vector(unix.SYS_PWRITEV2, s.fd(), bufs, off, flags)
}

func (s file) Sync() error { return retry(func() error { return unix.Fdatasync(s.fd()) }) }

func (s file) Punch(off, n int64) error { return s.allocate(unix.FALLOC_FL_PUNCH_HOLE, off, n) }

func (s file) Zero(off, n int64) error { return s.allocate(unix.FALLOC_FL_ZERO_RANGE, off, n) }

func (s file) allocate(mode uint32, off, n int64) error {
	return retry(func() error { return unix.Fallocate(s.fd(), mode|unix.FALLOC_FL_KEEP_SIZE, off, n) })
}

func (s file) Discard(off, n int64) error {
	return retry(func() error { return discard(s.fd(), uint64(off), uint64(n)) })
}

// Size returns the size of the file or block device.
func (s file) Size() (int64, error) {
	size, _, err := diskimage.Size(s.f)
	return int64(size), err
}

func (s file) Close() error { return s.f.Close() }

// retry calls the function do, and repeats the call whenever a signal interrupts it. Go's runtime
// sends such signals to its own threads.
func retry(do func() error) error {
	for {
		if err := do(); err != unix.EINTR {
			return err
		}
	}
}
