package target

import (
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// lane is one direction of a unit's data, and decides who moves a request's
// bytes. Where the file can say that it would wait (RWF_NOWAIT), the first
// attempt is made by a caller that must not wait. Where it cannot, such a
// caller moves them if the last requests took no time, as they do in a page
// cache. One that took longer may have lost its CPU to someone else; a second
// one soon after it sends those behind them elsewhere.
type lane struct {
	noNowait atomic.Bool  // the file does not know RWF_NOWAIT
	trust    atomic.Int32 // 0 to mostTrust: more for a quick request, less for a slow one
}

const (
	quickTime  = 100 * time.Microsecond // and as much again for each quickBytes
	quickBytes = 64 << 10
	enough     = 8 // trust to move bytes here
	mostTrust  = 2 * enough
	maxIovecs  = 1024 // UIO_MAXIOV
)

type mover func(bufs [][]byte, off int64, flags int) (int, error)

// run moves all of bufs, or says how many bytes it moved. Without wait it returns
// errAgain where that might take long; then nothing is known of what was moved.
func (l *lane) run(move mover, bufs [][]byte, off int64, flags int, wait bool) (moved int, err error) {
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
	begun := time.Now()
	moved, err = moveAll(move, bufs, off, flags)
	quick := time.Since(begun) < quickTime*time.Duration(1+size(bufs)/quickBytes)
	// Two that end at the same time may count as one: it is a guess anyway.
	switch trust := l.trust.Load(); {
	case !quick:
		l.trust.Store(max(0, trust-enough))
	case trust < mostTrust:
		l.trust.Store(trust + 1)
	}
	return moved, err
}

// moveAll repeats move until all of bufs is moved, or says how many bytes were
// before the error.
func moveAll(move mover, bufs [][]byte, off int64, flags int) (moved int, err error) {
	for len(bufs) > 0 {
		n, err := move(bufs[:min(len(bufs), maxIovecs)], off+int64(moved), flags)
		switch {
		case err == unix.EINTR:
			continue
		case err != nil:
			return moved, err
		case n <= 0:
			return moved, errShort
		}
		moved += n
		bufs = after(bufs, n)
	}
	return moved, nil
}
