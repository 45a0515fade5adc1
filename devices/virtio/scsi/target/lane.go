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
// cache; one that takes longer sends those behind it elsewhere.
type lane struct {
	noNowait atomic.Bool  // the file does not know RWF_NOWAIT
	quick    atomic.Int32 // requests in a row that took less than quickTime
}

const (
	quickTime = 100 * time.Microsecond
	quickRuns = 8
	maxIovecs = 1024 // UIO_MAXIOV
)

type mover func(bufs [][]byte, off int64, flags int) (int, error)

// run moves all of bufs. Without wait it returns errAgain where that might
// take long; then nothing is known of what was moved.
func (l *lane) run(move mover, bufs [][]byte, off int64, flags int, wait bool) error {
	if !wait {
		if flags&unix.RWF_DSYNC != 0 {
			return errAgain
		}
		if !l.noNowait.Load() {
			switch err := moveAll(move, bufs, off, flags|unix.RWF_NOWAIT); err {
			case unix.EAGAIN:
				return errAgain
			case unix.EOPNOTSUPP:
				l.noNowait.Store(true)
			default:
				return err
			}
		}
		if l.quick.Load() < quickRuns {
			return errAgain
		}
	}
	begun := time.Now()
	err := moveAll(move, bufs, off, flags)
	if time.Since(begun) >= quickTime {
		l.quick.Store(0)
	} else if l.quick.Load() < quickRuns {
		l.quick.Add(1)
	}
	return err
}

// moveAll repeats move until all of bufs is moved.
func moveAll(move mover, bufs [][]byte, off int64, flags int) error {
	for len(bufs) > 0 {
		n, err := move(bufs[:min(len(bufs), maxIovecs)], off, flags)
		switch {
		case err == unix.EINTR:
			continue
		case err != nil:
			return err
		case n <= 0:
			return errShort
		}
		off += int64(n)
		bufs = after(bufs, n)
	}
	return nil
}
