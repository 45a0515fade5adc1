package main

import (
	"context"
	"io"
	"os"
	"os/signal"
	"syscall"
)

// interruptible returns a context that the first signal ends, with a signalError as its cause, so that what was begun can be
// taken back. A second signal ends the program at once. done ends the catching of signals.
func interruptible(ctx context.Context) (_ context.Context, done func()) {
	ctx, stop := context.WithCancelCause(ctx)
	signals := make(chan os.Signal, 1)
	// A reader of our output that goes away is a signal too.
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGPIPE)
	go guard(func() {
		select {
		case sig := <-signals:
			n, _ := sig.(syscall.Signal)
			stop(signalError{n})
			signal.Stop(signals)
		case <-ctx.Done():
		}
	})
	return ctx, func() {
		signal.Stop(signals)
		stop(nil)
	}
}

// interruptibleReader reads r until ctx ends. A read of r that waits then, as one of a terminal may, waits on by itself.
func interruptibleReader(ctx context.Context, r io.Reader) io.Reader {
	pr, pw := io.Pipe()
	context.AfterFunc(ctx, func() { pr.CloseWithError(context.Cause(ctx)) })
	go guard(func() {
		_, err := io.Copy(pw, r)
		pw.CloseWithError(err)
	})
	return pr
}
