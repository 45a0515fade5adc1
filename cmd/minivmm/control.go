package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"reflect"
	"strconv"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"minivmm/vmm/account"
	"minivmm/vmm/config"
	"minivmm/vmm/control"
)

const tuneHelp = `Change how the kernel workers of a running machine run: their CPU affinity, nice value and scheduling
policy, how long a network worker polls for work before it sleeps, and how many workers serve the
disks' queues.

The values are those of the configuration file (docs/configuration.md, [workers] and [[net]]) and
require the same privileges. The change lasts until the machine stops. Requests continue meanwhile.

The number of queues cannot change while the machine runs: it is a property of the device that the
guest reads once. Set queues in the configuration and restart the machine.`

func newTuneCommand() *cobra.Command {
	var t config.Tuning
	cmd := &cobra.Command{
		Use:     "tune NAME",
		Short:   "Change the scheduling and number of a running machine's kernel workers",
		Long:    tuneHelp,
		Example: "  minivmm tune web --affinity 2-3\n  minivmm tune web --device net0 --nice -5 --busy-poll 50us",
		Args:    args(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			err := t.Check()
			switch {
			case cmd.Flags().Changed("queues"):
				err = errors.New("queues cannot change while the machine runs: the guest reads their number once; set it in the configuration and restart the machine")
			case reflect.DeepEqual(t, config.Tuning{Device: t.Device}):
				err = errors.New("nothing to change: give --affinity, --nice, --sched, --busy-poll or --count")
			}
			if err != nil {
				return usageError{err}
			}
			_, _, err = control.Call(args[0], control.Request{Command: control.CommandTune, Tune: &t})
			return err
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&t.Device, "device", "", "only the workers of `DEVICE`, such as net0 or scsi0")
	flags.Func("affinity", "CPUs that the workers may run on, a `LIST` such as 2-3,5", text(&t.Affinity))
	flags.Func("nice", "nice value, a `NUMBER` from -20 to 19", func(s string) (err error) {
		t.Nice = new(int)
		*t.Nice, err = strconv.Atoi(s)
		return err
	})
	flags.Func("sched", "scheduling `POLICY`: other, batch, idle, fifo:N or rr:N", text(&t.Sched))
	flags.Func("busy-poll", "how long a network worker polls for work before it sleeps, a `TIME` such as 50us; 0s disables polling", func(s string) error {
		t.BusyPoll = new(config.Duration)
		return t.BusyPoll.UnmarshalText([]byte(s))
	})
	flags.Func("count", "number of workers for the disks' queues: shared, per-queue or a `NUMBER`", text(&t.Count))
	flags.String("queues", "", "")
	_ = flags.MarkHidden("queues")
	return cmd
}

const rescanHelp = `Check whether the files or block devices behind a running machine's disks have changed size, resize the
disks and print those that changed. A guest is notified about disks served in process. For disks served
by vhost-scsi the guest must rescan on its own: on Linux, echo 1 > /sys/class/block/sda/device/rescan.`

func newRescanCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "rescan NAME",
		Short:   "Resize a running machine's disks to the sizes of their images",
		Long:    rescanHelp,
		Example: "  truncate -s +1G web.img && minivmm rescan web",
		Args:    args(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			resp, _, err := control.Call(args[0], control.Request{Command: control.CommandRescan})
			if err != nil {
				return err
			}
			for _, d := range resp.Disks {
				status := "the guest was notified"
				if !d.Told {
					status = "rescan in the guest: echo 1 > /sys/class/block/sdX/device/rescan"
				}
				fmt.Fprintf(cmd.OutOrStdout(), "%s: %s, %s\n", d.ID, config.Size(d.SizeBytes), status)
			}
			return nil
		},
	}
}

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
		RunE: working(func(ctx context.Context, _ *cobra.Command, args []string) error {
			return stopMachine(ctx, args[0], now)
		}),
	}
	cmd.Flags().BoolVar(&now, "now", false, "kill the guest without pressing its power button")
	return cmd
}

// stopMachine stops the machine and returns when the machine's process has exited, or when ctx is
// done.
func stopMachine(ctx context.Context, name string, now bool) error {
	_, pid, err := control.Call(name, control.Request{Command: control.CommandAbout})
	if err != nil {
		return err
	}
	// The pidfd is opened before the stop request: afterwards another process might have this ID.
	process, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return fmt.Errorf("machine %s, process %d: %w", name, pid, os.NewSyscallError("pidfd_open", err))
	}
	defer unix.Close(process)
	if _, stopped, err := control.Call(name, control.Request{Command: control.CommandStop, Now: now}); err != nil {
		return err
	} else if stopped != pid {
		return fmt.Errorf("machine %s: process %d had exited, and process %d, which took over its name, was stopped instead", name, pid, stopped)
	}
	return awaitEnd(ctx, process)
}

// awaitEnd waits until the process that the pidfd refers to exits, or until ctx is done.
func awaitEnd(ctx context.Context, process int) error {
	for ctx.Err() == nil {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(process), Events: unix.POLLIN}}, 100) // ms, so that ctx is checked often
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

// claimName claims the name by which list, workers and stop find the machine. If another machine
// has the name and the user did not choose a name, claimName appends the process ID. If no socket
// can be created, the machine runs anyway and the log says why the commands cannot find the
// machine.
func (r *runner) claimName() error {
	wanted := string(r.plan.Name)
	name, err := control.Claim(wanted)
	if r.anyName && is[*control.TakenError](err) {
		name, err = control.Claim(fmt.Sprintf("%s-%d", wanted, os.Getpid()))
	}
	switch {
	case is[*control.TakenError](err):
		return err
	case err != nil:
		r.logf("minivmm workers, tune, rescan and stop will not find this machine: %v", err)
		return nil
	}
	r.name, r.plan.Name = name, config.Name(name.String())
	return nil
}

// controlled is a running machine as the control server sees it.
type controlled struct {
	machine
	stop  func(now bool)
	quiet *time.Timer // a timer that releases the memory that answering requests used
}

// quietTime is the time without a request after which keepSmall runs again.
const quietTime = 5 * time.Second

// newControlled wraps m for the control server. The timer quiet stops when ctx is done.
func newControlled(ctx context.Context, m machine, stop func(now bool)) controlled {
	quiet := time.AfterFunc(quietTime, keepSmall)
	quiet.Stop()
	context.AfterFunc(ctx, func() { quiet.Stop() })
	return controlled{m, stop, quiet}
}

func (c controlled) About() account.Machine {
	c.quiet.Reset(quietTime)
	return c.machine.About()
}

func (c controlled) Report() (*account.Report, error) {
	c.quiet.Reset(quietTime)
	return c.machine.Report()
}

func (c controlled) Stop(now bool) { c.stop(now) }
