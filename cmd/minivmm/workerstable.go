package main

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"minivmm/vmm/account"
	"minivmm/vmm/config"
)

// workersTable prints a report for people. With an earlier one, it shows the share of a CPU since then.
// minivmm's own threads are one row, unless all are asked for.
func workersTable(w io.Writer, r, before *account.Report, all bool) error {
	m := r.Machine
	fmt.Fprintf(w, "%s: process %d, up %v, vcpus %d, memory %v\n\n", m.Name, m.PID, r.Time.Sub(m.Started).Round(time.Second), m.VCPUs, config.Size(m.Memory))
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	busy := func(now, then uint64) string { return "" }
	head := "ROLE\tTHREAD\tCPU s\tUSER s\tSYSTEM s\tWAIT s\tYIELDED\tOUSTED\tON\tMAY USE\tCGROUP\tSERVES"
	if before != nil {
		elapsed := r.Time.Sub(before.Time)
		busy = func(now, then uint64) string { return percent(now, then, elapsed) + "\t" }
		head = strings.Replace(head, "CPU s", "CPU %\tCPU s", 1)
	}
	fmt.Fprintln(t, head)
	for _, th := range r.Threads {
		if th.Kind == account.Minivmm && !all {
			continue
		}
		tid := fmt.Sprint(th.TID)
		if th.Kthread {
			tid += " (kernel)"
		}
		if th.State == "gone" {
			fmt.Fprintf(t, "%s\t%s\tgone\n", th.Role, tid)
			continue
		}
		fmt.Fprintf(t, "%s\t%s\t%s%s\t%s\t%s\t%s\t%d\t%d\t%d\t%s\t%s\t%s\n", th.Role, tid, busy(th.CPU, threadBefore(before, th.TID)),
			sec(th.CPU), sec(th.User), sec(th.System), sec(th.Wait), th.Yielded, th.Ousted, th.LastCPU, th.CPUs, orDash(th.Cgroup), th.Queues)
	}
	for _, role := range r.Roles {
		if role.Kind != account.Ended && (role.Kind != account.Minivmm || all) {
			continue
		}
		count := "-"
		if role.Threads > 0 {
			count = fmt.Sprintf("%d threads", role.Threads)
		}
		fmt.Fprintf(t, "%s\t%s\t%s%s\t%s\t%s\t%s\t%d\t%d\n", role.Role, count, busy(role.CPU, roleBefore(before, role.Role)),
			sec(role.CPU), sec(role.User), sec(role.System), sec(role.Wait), role.Yielded, role.Ousted)
	}
	sum, _ := r.Sum()
	var sumBefore uint64
	if before != nil {
		sumBefore, _ = before.Sum()
	}
	fmt.Fprintf(t, "all\t%d threads\t%s%s\n", len(r.Threads), busy(sum, sumBefore), sec(sum))
	if err := t.Flush(); err != nil {
		return err
	}
	fmt.Fprintln(w)
	if c := r.Cgroup; c != nil {
		fmt.Fprintf(w, "cgroup %s: CPU %s s, memory %s, tasks %d, by all that are in it\n", c.Path, sec(c.CPU), size(c.Memory), c.Tasks)
	}
	fmt.Fprintf(w, "memory: %s resident, %s page tables", size(r.Memory.Resident), size(r.Memory.PageTables))
	for _, e := range r.Memory.NotCharged {
		fmt.Fprintf(w, "; not charged: about %s for %s", size(e.Bytes), e.Device)
	}
	fmt.Fprint(w, "\n\n")

	fmt.Fprintln(t, "QUEUE\tSIZE\tFILL\tKICKS")
	for _, q := range r.Queues {
		if !q.Live {
			continue
		}
		kicks := "-"
		if q.Kicks != nil {
			kicks = fmt.Sprint(*q.Kicks)
		}
		fmt.Fprintf(t, "%s %d\t%d\t%d\t%s\n", q.Device, q.Index, q.Size, q.Fill, kicks)
	}
	if len(r.Disks) > 0 {
		fmt.Fprintln(t, "\nDISK\tCOMMANDS\tREAD MiB\tWRITTEN MiB")
	}
	for _, d := range r.Disks {
		fmt.Fprintf(t, "%s\t%d\t%d\t%d\n", d.ID, d.Commands, d.ReadMiB, d.WriteMiB)
	}
	fmt.Fprint(t, "\nVCPU\tEXITS")
	for _, name := range shownStats {
		fmt.Fprint(t, "\t", strings.ToUpper(strings.ReplaceAll(name, "_", " ")))
	}
	fmt.Fprintln(t, "\tTO MINIVMM")
	for i, stats := range r.KVM.VCPUs {
		fmt.Fprintf(t, "%d\t%d", i, stats["exits"])
		for _, name := range shownStats {
			fmt.Fprintf(t, "\t%d", stats[name])
		}
		if i < len(r.KVM.UserExits) {
			fmt.Fprintf(t, "\t%d", r.KVM.UserExits[i])
		}
		fmt.Fprintln(t)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	for _, line := range r.Missing {
		fmt.Fprintf(w, "missing: %s\n", line)
	}
	return nil
}

// shownStats are those of KVM's counters that the table has.
var shownStats = [...]string{"mmio_exits", "io_exits", "halt_exits", "irq_injections"}

func threadBefore(r *account.Report, tid int) uint64 {
	if r == nil {
		return 0
	}
	if i := slices.IndexFunc(r.Threads, func(t account.Thread) bool { return t.TID == tid }); i >= 0 {
		return r.Threads[i].CPU
	}
	return 0
}

func roleBefore(r *account.Report, role string) uint64 {
	if r == nil {
		return 0
	}
	if i := slices.IndexFunc(r.Roles, func(x account.Role) bool { return x.Role == role }); i >= 0 {
		return r.Roles[i].CPU
	}
	return 0
}

// percent is the share of one CPU. Sums of readings that are not of one moment can shrink a little.
func percent(now, then uint64, elapsed time.Duration) string {
	if now < then || elapsed <= 0 {
		return "0.0"
	}
	return fmt.Sprintf("%.1f", 100*float64(now-then)/float64(elapsed))
}

func sec(ns uint64) string { return fmt.Sprintf("%.3f", float64(ns)/1e9) }

func size(n uint64) string { return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20)) }

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}
