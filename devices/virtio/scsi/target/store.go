package target

import (
	"os"

	"golang.org/x/sys/unix"

	"minivmm/internal/diskimage"
)

// Store is where a logical unit's blocks are. Any number of goroutines use it.
// Errors are errno values, wrapped or not.
type Store interface {
	// ReadV and WriteV move bytes as preadv2 and pwritev2 do, with their
	// flags: RWF_NOWAIT may be EAGAIN or EOPNOTSUPP, and RWF_DSYNC makes
	// the write durable.
	ReadV(bufs [][]byte, off int64, flags int) (int, error)
	WriteV(bufs [][]byte, off int64, flags int) (int, error)
	// Sync makes durable what was written before.
	Sync() error
	// Punch makes n bytes read as zero and gives their room back; Zero makes
	// them read as zero and keeps it. Either may be EOPNOTSUPP.
	Punch(off, n int64) error
	Zero(off, n int64) error
	// Discard gives the room of n bytes back, which then read as anything.
	Discard(off, n int64) error
	// Size is how many bytes there are now: someone else may change it.
	Size() (int64, error)
	Close() error
}

// file is a Store over an open file or block device.
type file struct{ f *os.File }

// NewFile makes a Store of a file, or of a block device, whose fallocate(2)
// does the same as a file's. It takes f, which must not be with Go's poller.
func NewFile(f *os.File) Store { return file{f} }

func (s file) fd() int { return int(s.f.Fd()) }

func (s file) ReadV(bufs [][]byte, off int64, flags int) (int, error) {
	return vector(unix.SYS_PREADV2, s.fd(), bufs, off, flags)
}

func (s file) WriteV(bufs [][]byte, off int64, flags int) (int, error) {
	return vector(unix.SYS_PWRITEV2, s.fd(), bufs, off, flags)
}

func (s file) Sync() error { return retry(func() error { return unix.Fdatasync(s.fd()) }) }

func (s file) Punch(off, n int64) error {
	return retry(func() error {
		return unix.Fallocate(s.fd(), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, off, n)
	})
}

func (s file) Zero(off, n int64) error {
	return retry(func() error {
		return unix.Fallocate(s.fd(), unix.FALLOC_FL_ZERO_RANGE|unix.FALLOC_FL_KEEP_SIZE, off, n)
	})
}

func (s file) Discard(off, n int64) error {
	return retry(func() error { return discard(s.fd(), uint64(off), uint64(n)) })
}

// Size is that of a file or a block device.
func (s file) Size() (int64, error) {
	size, _, err := diskimage.Size(s.f)
	return int64(size), err
}

func (s file) Close() error { return s.f.Close() }

// retry repeats what a signal interrupted: Go's runtime sends itself some.
func retry(do func() error) error {
	for {
		if err := do(); err != unix.EINTR {
			return err
		}
	}
}
