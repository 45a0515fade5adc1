package main

import (
	"context"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"minivmm/guestimages/cache"
)

type runE = func(cmd *cobra.Command, args []string) error

// working returns the RunE of a command that takes time. Most of these commands create or change
// files.
func working(do func(ctx context.Context, cmd *cobra.Command, args []string) error) runE {
	return func(cmd *cobra.Command, args []string) error {
		return work(cmd.Context(), func(ctx context.Context) error { return do(ctx, cmd, args) })
	}
}

// work calls the function do. A signal cancels the function's context, so that the function can
// remove partial results before it returns.
func work(ctx context.Context, do func(ctx context.Context) error) error {
	ctx, done := interruptible(ctx)
	defer done()
	err := do(ctx)
	if err != nil && ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return imageError(err)
}

// openCache returns the user's cache, which logs its slow operations to log.
func openCache(log io.Writer) (*cache.Cache, error) {
	c, err := cache.Open(log)
	if err == nil {
		c.Prefix = "minivmm: "
	}
	return c, err
}

// interruptible returns a context that the first signal cancels, with a signalError as the cause,
// so that the caller can clean up. A second signal kills the program. The function done stops
// catching signals.
func interruptible(ctx context.Context) (_ context.Context, done func()) {
	ctx, stop := context.WithCancelCause(ctx)
	signals := make(chan os.Signal, 1)
	// SIGPIPE: the reader of our output went away.
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

// interruptibleReader returns a reader that reads from r and fails once ctx is done. If a read from
// r is blocked at that moment, for example on a terminal, its goroutine remains blocked.
func interruptibleReader(ctx context.Context, r io.Reader) io.Reader {
	pr, pw := io.Pipe()
	context.AfterFunc(ctx, func() { pr.CloseWithError(context.Cause(ctx)) })
	go guard(func() {
		_, err := io.Copy(pw, r)
		pw.CloseWithError(err)
	})
	return pr
}
