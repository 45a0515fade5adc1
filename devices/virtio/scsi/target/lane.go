package target

import (
	"slices"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"minivmm/devices/virtio/queue"
)

// lane moves a unit's data in one direction. It decides which goroutine moves a request's bytes. If
// the file supports RWF_NOWAIT, a caller that must not wait makes the first attempt. If the file
// does not support RWF_NOWAIT, such a caller moves the bytes as long as recent requests were quick,
// as requests are with a page cache. One slow request may only mean that the thread lost its CPU.
// If a second slow request follows soon, a goroutine that may wait executes the next requests.
type lane struct {
	noNowait atomic.Bool  // the file does not support RWF_NOWAIT
	trust    atomic.Int32 // 0 to mostTrust: more for a quick request, less for a slow one
}

const (
	quickTime  = 100 * time.Microsecond // plus the same for each quickBytes
	quickBytes = 64 << 10
	enough     = 8 // minimum trust for moving bytes without RWF_NOWAIT in a caller that must not wait
	mostTrust  = 2 * enough
	maxIovecs  = 1024 // UIO_MAXIOV
)

type mover func(bufs [][]byte, off int64, flags int) (int, error)

// run moves the bytes of all bufs, or returns the number of moved bytes and an error. If wait is
// false, run returns errAgain when the transfer might take long. Before it returns errAgain, run
// may have moved some of the bytes.
func (l *lane) run(move mover, bufs queue.Buffers, off int64, flags int, wait bool) (moved int, err error) {
	if !wait {
		if flags&unix.RWF_DSYNC != 0 {
			return 0, errAgain
		}
		if !l.noNowait.Load() {
			switch moved, err := moveAll(move, bufs, off, flags|unix.RWF_NOWAIT); err {
			case unix.EAGAIN:
				return 0, errAgain
			case unix.EOPNOTSUPP:
				l.noNowait.Store(true)
			default:
				return moved, err
			}
		}
		if l.trust.Load() < enough {
			return 0, errAgain
		}
	}
	start := time.Now()
	moved, err = moveAll(move, bufs, off, flags)
	quick := time.Since(start) < quickTime*time.Duration(1+bufs.Len()/quickBytes)
	// Two requests that finish at the same time may count as one: trust is an estimate anyway.
	switch trust := l.trust.Load(); {
	case !quick:
		l.trust.Store(max(0, trust-enough))
	case trust < mostTrust:
		l.trust.Store(trust + 1)
	}
	return moved, err
}

// moveAll calls the function move until the bytes of all bufs are moved. On error, moved is the
// number of bytes that were moved before the error.
func moveAll(move mover, bufs queue.Buffers, off int64, flags int) (moved int, err error) {
	for total := bufs.Len(); moved < total; {
		n, err := move(bufs[:min(len(bufs), maxIovecs)], off+int64(moved), flags)
		switch {
		case err == unix.EINTR:
			continue
		case err != nil:
			return moved, err
		case n <= 0:
			return moved, errShort
		}
		if moved += n; moved < total {
			bufs = slices.Clone(bufs)
			bufs.Take(n)
		}
	}
	return moved, nil
}
