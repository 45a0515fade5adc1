package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"minivmm/vmm/account"
	"minivmm/vmm/control"
)

const workersHelp = `Show the resource usage of a running machine by thread: virtual CPUs, kernel workers, KVM's own thread
and minivmm itself, with CPU time, time spent waiting for a CPU, context switches, CPUs and cgroup;
then its queues, disks, memory and KVM's counters. --json has more than the table.

NAME may be omitted if only one machine is running. docs/operating.md explains each figure.`

func newWorkersCommand() *cobra.Command {
	var asJSON, threads bool
	var seconds float64
	cmd := &cobra.Command{
		Use:     "workers [NAME]",
		Short:   "Show a running machine's threads and their resource usage",
		Long:    workersHelp,
		Example: "  minivmm workers\n  minivmm workers web --watch 2\n  minivmm workers web --json",
		Args:    args(cobra.MaximumNArgs(1)),
	}
	flags := cmd.Flags()
	flags.BoolVar(&asJSON, "json", false, "print JSON; with --watch, one object per line")
	flags.BoolVar(&threads, "threads", false, "list minivmm's own threads too")
	flags.Float64Var(&seconds, "watch", 0, "print every `SECONDS`, with the CPU usage since the previous report")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if flags.Changed("watch") && !(seconds >= 0.1 && seconds <= 86400) {
			return usageError{fmt.Errorf("--watch %v: want 0.1 to 86400 seconds", seconds)}
		}
		name, err := machineName(args)
		if err != nil {
			return err
		}
		out := cmd.OutOrStdout()
		if seconds == 0 {
			r, err := report(name)
			if err != nil {
				return err
			}
			if asJSON {
				return printJSON(out, r)
			}
			return workersTable(out, r, nil, threads)
		}
		ctx, done := interruptible(cmd.Context())
		defer done()
		every := time.NewTicker(time.Duration(seconds * float64(time.Second)))
		defer every.Stop()
		return watchWorkers(ctx, report, name, every.C, func(r, before *account.Report) error {
			if asJSON {
				return json.NewEncoder(out).Encode(r)
			}
			return redraw(cmd, r, before, threads)
		})
	}
	return cmd
}

// machineName returns the argument, or the name of the only running machine.
func machineName(args []string) (string, error) {
	if len(args) == 1 {
		return args[0], nil
	}
	var running []string
	for _, f := range control.Find() {
		running = append(running, f.Name)
	}
	switch len(running) {
	case 0:
		return "", &control.NotRunningError{}
	case 1:
		return running[0], nil
	}
	return "", usageError{fmt.Errorf("several machines are running, name one of them: %v", running)}
}

func report(name string) (*account.Report, error) {
	resp, _, err := control.Call(name, control.Request{Command: control.CommandWorkers})
	if err != nil {
		return nil, err
	}
	return resp.Workers, nil
}

// watchWorkers requests a report at each tick and passes it to show with the previous one, until
// the machine stops or ctx is done.
func watchWorkers(ctx context.Context, ask func(name string) (*account.Report, error), name string, tick <-chan time.Time, show func(r, before *account.Report) error) error {
	before, err := ask(name)
	if err != nil {
		return err
	}
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-tick:
		}
		r, err := ask(name)
		var gone *control.NotRunningError
		switch {
		case errors.As(err, &gone):
			return nil // the machine has stopped
		case err != nil:
			return err
		case r.Machine.PID != before.Machine.PID:
			before = r // another machine of the same name: its counters start at zero
		}
		if err := show(r, before); err != nil {
			return err
		}
		before = r
	}
}

// redraw clears the screen before the table if the output is a terminal, and otherwise prints a
// blank line after the table.
func redraw(cmd *cobra.Command, r, before *account.Report, threads bool) error {
	const clear = "\x1b[H\x1b[2J"
	f, ok := rawOut(cmd).(*os.File)
	isTerminal := ok && term.IsTerminal(int(f.Fd()))
	if isTerminal {
		io.WriteString(f, clear)
	}
	err := workersTable(cmd.OutOrStdout(), r, before, threads)
	if !isTerminal {
		fmt.Fprintln(cmd.OutOrStdout())
	}
	return err
}
