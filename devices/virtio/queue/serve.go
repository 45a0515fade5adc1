package queue

import (
	"context"
	"errors"
	"os"
	"time"

	"minivmm/devices/guestmem"
	"minivmm/devices/virtio"
)

// wantKicks requests a notification for the next chain that the driver makes available. It reports
// whether a chain is already available (virtio 1.2 §2.7.10).
func (q *Queue) wantKicks() (already bool) {
	if q.eventIdx {
		guestmem.Store16(q.used, q.availEvnt, q.nextAvail)
	} else {
		guestmem.Store16(q.used, flagsOff, 0)
	}
	// A driver reads our request after it has stored avail.idx, so we read avail.idx after we have
	// stored our request: at least one side sees the other's store.
	return guestmem.Load16(q.avail, idxOff) != q.nextAvail
}

// noKicks withdraws the request of wantKicks. With event indexes, noKicks does nothing: the driver
// has already passed the event index.
func (q *Queue) noKicks() {
	if !q.eventIdx {
		guestmem.Store16(q.used, flagsOff, usedNoNotify)
	}
}

// Wait waits until the driver makes a chain available, and returns nil. It may also return nil
// without a chain. If ctx is done, it returns ctx's error.
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
	q.checked = false
	err := q.kickConn.Read(q.mayReturn)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if errors.Is(err, os.ErrDeadlineExceeded) { // the ctx of an earlier call set the deadline late
		err = q.kick.SetReadDeadline(time.Time{})
	}
	if err != nil {
		return q.fail("%w", err)
	}
	q.noKicks()
	return nil
}

// checkOnce reports whether Wait may return. Wait's Read calls it after arming the poller, and
// again after a kick. The first call checks the ring. A kick after that check is not lost, because
// the poller is armed. checkOnce does not read the eventfd: an edge-triggered poller does not need
// the read, and so the eventfd's counter shows how often the driver kicked.
func (q *Queue) checkOnce(uintptr) bool {
	if q.checked {
		return true
	}
	q.checked = true
	return q.wantKicks()
}

// Await waits for a chain and stores the chain in c, like Next. When ctx is done, Await returns
// ctx's error. Await first checks the ring, so it also finds a chain that became available before
// kicks could be received. Before Await waits, it signals the driver.
func (q *Queue) Await(ctx context.Context, c *Chain) error {
	for {
		// A driver that keeps the ring full must not prevent the caller from stopping.
		if err := ctx.Err(); err != nil {
			return err
		}
		if ok, err := q.Next(c); ok || err != nil {
			return err
		}
		if err := q.Signal(); err != nil {
			return err
		}
		if err := q.Wait(ctx); err != nil {
			return err
		}
	}
}

// Serve passes every chain to the function do, one at a time, and then returns the chain to the
// driver with the number of written bytes, which do returns. Serve itself returns when ctx is done
// (with ctx's error), when do fails, or when the driver breaks the ring.
func (q *Queue) Serve(ctx context.Context, do func(*Chain) (written uint32, err error)) error {
	var c Chain
	for {
		if err := q.Await(ctx, &c); err != nil {
			return err
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

// Start opens q and runs serve on it in a goroutine of the frontend, until the activation ends.
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

// Each returns a function for [Start] that passes every chain to the function do: see
// [Queue.Serve].
func Each(do func(*Chain) (written uint32, err error)) func(context.Context, *Queue) error {
	return func(ctx context.Context, q *Queue) error { return q.Serve(ctx, do) }
}
