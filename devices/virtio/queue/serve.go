package queue

import (
	"context"
	"errors"
	"os"
	"time"

	"minivmm/devices/guestmem"
	"minivmm/devices/virtio"
)

// wantKicks asks for a notification of the next chain that the driver makes
// available, and says whether there is one already (virtio 1.2 §2.7.10).
func (q *Queue) wantKicks() (already bool) {
	if q.eventIdx {
		guestmem.Store16(q.used, q.availEvnt, q.nextAvail)
	} else {
		guestmem.Store16(q.used, flagsOff, 0)
	}
	// A driver looks at our wish after it stored avail.idx, so we look at
	// avail.idx after we stored our wish: one of us sees the other.
	return guestmem.Load16(q.avail, idxOff) != q.nextAvail
}

// noKicks takes the wish back. With event indexes the one that has passed says
// so already.
func (q *Queue) noKicks() {
	if !q.eventIdx {
		guestmem.Store16(q.used, flagsOff, usedNoNotify)
	}
}

// Wait returns nil once the driver has made a chain available, or when it may
// have; ctx's error when ctx ends.
func (q *Queue) Wait(ctx context.Context) error {
	if err := q.latched(); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if done := ctx.Done(); q.waitedFor != done {
		q.waitedFor = done
		q.kick.SetReadDeadline(time.Time{})
		context.AfterFunc(ctx, func() { q.kick.SetReadDeadline(time.Unix(1, 0)) })
	}
	q.looked = false
	err := q.kickConn.Read(q.asleep)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if errors.Is(err, os.ErrDeadlineExceeded) { // one that an earlier ctx set late
		err = q.kick.SetReadDeadline(time.Time{})
	}
	if err != nil {
		return q.fail("%w", err)
	}
	q.noKicks()
	return nil
}

// awake says whether a Wait is over. It is asked when every kick from now on will
// be heard, which makes it the time to look at the ring, and again after a kick.
// The eventfd is not read: its count is how often the driver kicked, and a poller
// that tells of edges needs no more.
func (q *Queue) awake(uintptr) bool {
	if q.looked {
		return true
	}
	q.looked = true
	return q.wantKicks()
}

// Serve gives every chain to do, one at a time, and back to the driver with
// the bytes that do wrote, until ctx ends (then it returns ctx's error), do
// fails, or the driver breaks the ring. It looks at the ring before it waits:
// what became available before a kick could be heard is served.
func (q *Queue) Serve(ctx context.Context, do func(*Chain) (written uint32, err error)) error {
	var c Chain
	for {
		// A driver that keeps the ring full must not keep us from stopping.
		if err := ctx.Err(); err != nil {
			return err
		}
		ok, err := q.Next(&c)
		if err != nil {
			return err
		}
		if !ok {
			if err := q.Wait(ctx); err != nil {
				return err
			}
			continue
		}
		written, err := do(&c)
		if err != nil {
			return q.fail("%w", err)
		}
		if err := q.Done(&c, written); err != nil {
			return err
		}
		if err := q.Signal(); err != nil {
			return err
		}
	}
}

// Start opens q and has the frontend run serve on it in a goroutine, until the
// activation ends.
func Start(a virtio.Activation, q virtio.Queue, serve func(context.Context, *Queue) error) error {
	o, err := Open(a.Memory, q, a.Features)
	if err != nil {
		return err
	}
	a.Go(func(ctx context.Context) error {
		defer o.Close()
		return serve(ctx, o)
	})
	return nil
}

// Each is a serve for [Start] that gives every chain to do: see [Queue.Serve].
func Each(do func(*Chain) (written uint32, err error)) func(context.Context, *Queue) error {
	return func(ctx context.Context, q *Queue) error { return q.Serve(ctx, do) }
}
