package main

import (
	"errors"
	"fmt"
	"strconv"

	"github.com/spf13/cobra"

	"minivmm/vmm"
	"minivmm/vmm/config"
	"minivmm/vmm/control"
)

const tuneHelp = `Change how the kernel's workers of a running machine run: the CPUs that they may use, their nice
value and scheduling policy, how long a network worker looks for work before it sleeps, and how many
serve the disks' queues.

Values are those of the configuration file (docs/configuration.md, [workers] and [[net]]), and need the
same rights. The change lasts until the machine ends, and requests go on meanwhile.

The number of queues cannot change while the machine runs: it is a property of the device, which the
guest reads once. Set queues in the configuration and start the machine anew.`

func newTuneCommand() *cobra.Command {
	var t control.Tuning
	cmd := &cobra.Command{
		Use:     "tune NAME",
		Short:   "Change how a running machine's kernel workers run",
		Long:    tuneHelp,
		Example: "  minivmm tune web --affinity 2-3\n  minivmm tune web --device net0 --nice -5 --busy-poll 50us",
		Args:    args(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			if cmd.Flags().Changed("queues") {
				return usageError{errors.New("queues cannot change while the machine runs: the guest reads their number once; set it in the configuration and start the machine anew")}
			}
			device := t.Device
			if t.Device = ""; t == (control.Tuning{}) {
				return usageError{errors.New("nothing to change: give --affinity, --nice, --sched, --busy-poll or --count")}
			}
			t.Device = device
			if _, err := workerSettings(t); err != nil {
				return usageError{err}
			}
			_, _, err := control.Call(args[0], control.Request{Command: control.CommandTune, Tune: &t})
			return err
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&t.Device, "device", "", "only the workers of `DEVICE`, like net0 or scsi0")
	flags.StringVar(&t.Affinity, "affinity", "", "the CPUs they may run on, a `LIST` like 2-3,5")
	flags.StringVar(&t.Nice, "nice", "", "their nice value, -20 to 19")
	flags.StringVar(&t.Sched, "sched", "", "their `POLICY`: other, batch, idle, fifo:N or rr:N")
	flags.StringVar(&t.BusyPoll, "busy-poll", "", "how long a network worker looks for work before it sleeps, like 50us; 0s is not at all")
	flags.StringVar(&t.Count, "count", "", "how many workers serve the disks' queues: shared, per-queue or a `NUMBER`")
	flags.String("queues", "", "")
	_ = flags.MarkHidden("queues")
	return cmd
}

// workerSettings reads a change's texts.
func workerSettings(t control.Tuning) (s vmm.WorkerSettings, err error) {
	if t.Affinity != "" {
		if err := s.Affinity.UnmarshalText([]byte(t.Affinity)); err != nil {
			return s, fmt.Errorf("affinity: %w", err)
		}
	}
	if t.Nice != "" {
		nice, err := strconv.Atoi(t.Nice)
		if err != nil {
			return s, fmt.Errorf("nice: %q is not a number", t.Nice)
		}
		s.Nice = &nice
	}
	if t.Sched != "" {
		s.Sched = new(config.Sched)
		if err := s.Sched.UnmarshalText([]byte(t.Sched)); err != nil {
			return s, fmt.Errorf("sched: %w", err)
		}
	}
	if t.BusyPoll != "" {
		var d config.Duration
		if err := d.UnmarshalText([]byte(t.BusyPoll)); err != nil {
			return s, fmt.Errorf("busy_poll: %w", err)
		}
		s.BusyPoll = &d.Duration
	}
	if t.Count != "" {
		s.Count = new(config.WorkerCount)
		if err := s.Count.UnmarshalText([]byte(t.Count)); err != nil {
			return s, fmt.Errorf("count: %w", err)
		}
	}
	return s, nil
}
