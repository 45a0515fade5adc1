package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"minivmm/vmm/control"
)

const stopHelp = `Press the power button of a running machine and wait until the machine has stopped.

How the guest reacts depends on its configuration. If it has not powered off after the machine's
machine.shutdown_timeout, it is killed. With --now it is killed at once; data that it has not written
to its disks is lost.`

func newStopCommand() *cobra.Command {
	var now bool
	cmd := &cobra.Command{
		Use:     "stop NAME",
		Short:   "Stop a running machine",
		Long:    stopHelp,
		Example: "  minivmm stop web",
		Args:    args(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx, done := interruptible(cmd.Context())
			defer done()
			return stopMachine(ctx, args[0], now)
		},
	}
	cmd.Flags().BoolVar(&now, "now", false, "kill the guest without pressing its power button")
	return cmd
}

// stopMachine stops the machine and returns when its process has exited, or when ctx is done.
func stopMachine(ctx context.Context, name string, now bool) error {
	_, pid, err := control.Call(name, control.Request{Command: control.CommandAbout})
	if err != nil {
		return err
	}
	// Opened before the stop request: afterwards the process ID might already belong to another
	// process.
	process, err := openProcess(pid)
	if err != nil {
		return fmt.Errorf("machine %s, process %d: %w", name, pid, err)
	}
	defer process.Close()
	if _, stopped, err := control.Call(name, control.Request{Command: control.CommandStop, Now: now}); err != nil {
		return err
	} else if stopped != pid {
		return fmt.Errorf("machine %s: process %d had exited, and process %d, which took over its name, was stopped instead", name, pid, stopped)
	}
	return awaitEnd(ctx, process)
}

func openProcess(pid int) (*os.File, error) {
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return nil, os.NewSyscallError("pidfd_open", err)
	}
	return os.NewFile(uintptr(fd), fmt.Sprintf("process %d", pid)), nil
}

// awaitEnd waits until the process exits or ctx is done. It polls with a timeout, so that ctx is
// checked.
func awaitEnd(ctx context.Context, process *os.File) error {
	const piece = 100 * time.Millisecond
	for ctx.Err() == nil {
		p := []unix.PollFd{{Fd: int32(process.Fd()), Events: unix.POLLIN}}
		n, err := unix.Poll(p, int(piece.Milliseconds()))
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return os.NewSyscallError("poll", err)
		case n == 1:
			return nil
		}
	}
	return context.Cause(ctx)
}
