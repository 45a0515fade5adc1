package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"minivmm/vmm/account"
	"minivmm/vmm/config"
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

// machineName returns the machine name in args, or the name of the only running machine if args is
// empty.
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

// watchWorkers shows a report at each tick, until the machine stops or ctx is done.
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
		switch {
		case is[*control.NotRunningError](err):
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

// redraw clears a terminal before it prints the table. On other outputs it prints a blank line
// after the table.
func redraw(cmd *cobra.Command, r, before *account.Report, threads bool) error {
	end := "\n"
	if f, ok := rawOut(cmd).(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		io.WriteString(f, "\x1b[H\x1b[2J") // clears the screen
		end = ""
	}
	err := workersTable(cmd.OutOrStdout(), r, before, threads)
	fmt.Fprint(cmd.OutOrStdout(), end)
	return err
}

// workersTable prints a report for people. If before is not nil, it also prints the CPU usage since
// that report. minivmm's own threads are summed in one row unless all is set.
func workersTable(w io.Writer, r, before *account.Report, all bool) error {
	var b bytes.Buffer
	m := r.Machine
	fmt.Fprintf(&b, "%s: process %d, up %v, vcpus %d, memory %v\n\n", m.Name, m.PID, r.Time.Sub(m.Started).Round(time.Second), m.VCPUs, config.Size(m.Memory))
	_ = threadColumns(r, before, all).print(&b)
	fmt.Fprintln(&b)
	if c := r.Cgroup; c != nil {
		fmt.Fprintf(&b, "cgroup %s: CPU %s s, memory %s, tasks %d, including other processes in it\n", c.Path, sec(c.CPU), size(c.Memory), c.Tasks)
	}
	fmt.Fprintf(&b, "memory: %s resident, %s page tables", size(r.Memory.Resident), size(r.Memory.PageTables))
	for _, e := range r.Memory.NotCharged {
		fmt.Fprintf(&b, "; not charged: about %s for %s", size(e.Bytes), e.Device)
	}
	fmt.Fprint(&b, "\n\n")
	for _, part := range []columns{queueColumns(r.Queues), diskColumns(r.Disks), netColumns(r.Nets), statColumns(r.KVM)} {
		if len(part) > 1 {
			_ = part.print(&b)
			fmt.Fprintln(&b)
		}
	}
	for _, line := range r.Missing {
		fmt.Fprintf(&b, "missing: %s\n", line)
	}
	_, err := b.WriteTo(w)
	return err
}

func threadColumns(r, before *account.Report, all bool) columns {
	head := []string{"ROLE", "THREAD", "CPU %", "CPU s", "USER s", "SYSTEM s", "WAIT s", "VOLUNTARY", "PREEMPTED",
		"ON", "CPUS", "CGROUP", "SERVES"}
	watched := before != nil
	if !watched {
		head = slices.Delete(head, 2, 3)
		before = new(account.Report)
	}
	t := columns{head}
	// busy returns the cells "CPU %" and "CPU s". Without an earlier report, it returns only "CPU
	// s".
	busy := func(now, then uint64) []string {
		if !watched {
			return []string{sec(now)}
		}
		return []string{percent(now, then, r.Time.Sub(before.Time)), sec(now)}
	}
	row := func(role, thread string, u account.Usage, wait, then uint64, rest ...string) {
		usage := []string{sec(u.User), sec(u.System), sec(wait), number(u.Voluntary), number(u.Preempted)}
		t.row(slices.Concat([]string{role, thread}, busy(u.CPU, then), usage, rest)...)
	}
	for _, th := range r.Threads {
		tid := strconv.Itoa(th.TID)
		if th.Kthread {
			tid += " (kernel)"
		}
		switch {
		case th.Kind == account.Minivmm && !all:
		case th.State == "gone":
			t.row(th.Role, tid, "gone")
		default:
			var then account.Thread
			if i := slices.IndexFunc(before.Threads, func(b account.Thread) bool { return b.TID == th.TID }); i >= 0 {
				then = before.Threads[i]
			}
			cgroup := cmp.Or(th.Cgroup, "-")
			row(th.Role, tid, th.Usage, th.Wait, then.CPU, strconv.Itoa(th.LastCPU), th.CPUs, cgroup, th.Queues)
		}
	}
	for _, role := range r.Roles {
		count := fmt.Sprintf("%d threads", role.Threads)
		switch {
		case role.Kind == account.Ended:
			count = "-"
		case role.Kind != account.Minivmm || all:
			continue
		}
		var then account.Role
		if i := slices.IndexFunc(before.Roles, func(b account.Role) bool { return b.Role == role.Role }); i >= 0 {
			then = before.Roles[i]
		}
		row(role.Role, count, role.Usage, role.Wait, then.CPU)
	}
	sum, _ := r.Sum()
	sumBefore, _ := before.Sum()
	t.row(append([]string{"all", fmt.Sprintf("%d threads", len(r.Threads))}, busy(sum, sumBefore)...)...)
	return t
}

func queueColumns(queues []account.Queue) columns {
	t := columns{{"QUEUE", "SIZE", "FILL", "KICKS", "INTERRUPTS"}}
	count := func(n *uint64) string {
		if n == nil {
			return "-"
		}
		return number(*n)
	}
	for _, q := range queues {
		if q.Live {
			t.row(fmt.Sprintf("%s %d", q.Device, q.Index), strconv.Itoa(q.Size), strconv.Itoa(q.Fill), count(q.Kicks), count(q.Interrupts))
		}
	}
	return t
}

func diskColumns(disks []account.Disk) columns {
	t := columns{{"DISK", "COMMANDS", "READ MiB", "WRITTEN MiB"}}
	for _, d := range disks {
		t.row(d.ID, number(d.Commands), number(d.ReadMiB), number(d.WriteMiB))
	}
	return t
}

func netColumns(nets []account.Net) columns {
	t := columns{{"NETWORK", "CONNECTIONS", "FLOWS", "SEGMENTS", "RETRANSMITS"}}
	for _, n := range nets {
		t.row(n.ID, strconv.Itoa(n.Connections), strconv.Itoa(n.Flows), number(n.Segments), number(n.Retransmits))
	}
	return t
}

func statColumns(s account.KVMStats) columns {
	t := columns{{"VCPU", "EXITS", "MMIO EXITS", "IO EXITS", "HALT EXITS", "IRQ INJECTIONS", "TO MINIVMM"}}
	for i, stats := range s.VCPUs {
		cells := []string{strconv.Itoa(i)}
		for _, name := range []string{"exits", "mmio_exits", "io_exits", "halt_exits", "irq_injections"} {
			cells = append(cells, number(stats[name]))
		}
		if i < len(s.UserExits) {
			cells = append(cells, number(s.UserExits[i]))
		}
		t.row(cells...)
	}
	return t
}

// percent returns the CPU usage in percent, where 100 is one busy CPU. A sum of CPU times can
// shrink between two reports, because its parts are read at different times.
func percent(now, then uint64, elapsed time.Duration) string {
	if now < then || elapsed <= 0 {
		return "0.0"
	}
	return fmt.Sprintf("%.1f", 100*float64(now-then)/float64(elapsed))
}

func sec(ns uint64) string { return fmt.Sprintf("%.3f", float64(ns)/1e9) }

func number(n uint64) string { return strconv.FormatUint(n, 10) }

func size(n uint64) string { return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20)) }
