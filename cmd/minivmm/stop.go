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

const stopHelp = `Press the power button of a running machine, and wait until the machine has ended.

What the guest does about it is its own choice. If it has not powered off after the machine's
machine.shutdown_timeout, it is ended. With --now it is ended at once; what it had not written to its
disks is lost.`

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
	cmd.Flags().BoolVar(&now, "now", false, "end the guest without asking it")
	return cmd
}

// stopMachine returns when the machine's process has ended, or ctx.
func stopMachine(ctx context.Context, name string, now bool) error {
	_, pid, err := control.Call(name, control.Request{Command: control.CommandAbout})
	if err != nil {
		return err
	}
	// Before the machine is told, so that the number cannot be another's by now.
	process, err := openProcess(pid)
	if err != nil {
		return fmt.Errorf("machine %s, process %d: %w", name, pid, err)
	}
	defer process.Close()
	if _, told, err := control.Call(name, control.Request{Command: control.CommandStop, Now: now}); err != nil {
		return err
	} else if told != pid {
		return fmt.Errorf("machine %s: process %d ended, and process %d was stopped in its place", name, pid, told)
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

// awaitEnd polls in pieces, so that a signal to this program is seen.
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
