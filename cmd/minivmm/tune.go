package main

import (
	"errors"
	"reflect"
	"strconv"

	"github.com/spf13/cobra"

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
			if cmd.Flags().Changed("queues") {
				return usageError{errors.New("queues cannot change while the machine runs: the guest reads their number once; set it in the configuration and restart the machine")}
			}
			if reflect.DeepEqual(t, config.Tuning{Device: t.Device}) {
				return usageError{errors.New("nothing to change: give --affinity, --nice, --sched, --busy-poll or --count")}
			}
			if err := t.Check(); err != nil {
				return usageError{err}
			}
			_, _, err := control.Call(args[0], control.Request{Command: control.CommandTune, Tune: &t})
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
