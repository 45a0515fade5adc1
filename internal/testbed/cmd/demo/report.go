package main

import (
	"cmp"
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"minivmm/vmm/account"
	"minivmm/vmm/config"
)

// report is the summary that is printed at the end.
type report struct {
	host, guest string // kernel releases
	cfg         *config.Config
	results     []result
	workers     []account.Thread
}

func (r *report) image() string { return string(r.cfg.Disk[0].Path) }

// good reports whether every transfer completed and matched, and every device has a worker.
func (r *report) good() bool {
	for _, t := range r.results {
		if !t.matches() {
			return false
		}
	}
	return len(r.results) == len(transfers) && len(r.workers) >= len(r.cfg.Net)+1
}

func (r *report) print(w io.Writer) error {
	fmt.Fprintf(w, "\nguest on Linux %s, %d CPUs, %d MiB; host on Linux %s\n\n", r.guest, r.cfg.Machine.VCPUs, r.cfg.Machine.Memory>>20, r.host)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintf(t, "%d MiB over\tMiB/s\tSHA-256\tmoved in\tVM exits\tto user space\teach\n", transferBytes>>20)
	for _, x := range r.results {
		verdict := "same at both ends"
		if !x.matches() {
			verdict = fmt.Sprintf("DIFFERENT: host %.8s, guest %.8s", x.host, x.guest)
		}
		each := "-"
		if n := x.units(); n != 0 {
			each = fmt.Sprintf("%.4f", float64(x.userExits)/float64(n))
		}
		rate := float64(transferBytes) / (1 << 20) / x.took.Seconds()
		fmt.Fprintf(t, "%s\t%.0f\t%s\t%d %s\t%d\t%d\t%s\n",
			x.name, rate, verdict, x.units(), x.unit, x.exits, x.userExits, each)
	}
	fmt.Fprintf(t, "\nworker of\tCPU time\tserves\tis\tname\tCPUs\tcgroup\n")
	for _, x := range r.workers {
		kind := "thread"
		if x.Kthread {
			kind = "kernel thread"
		}
		seconds := time.Duration(x.CPU).Seconds()
		fmt.Fprintf(t, "%s\t%.3f s\t%s\t%s %d\t%s\t%s\t%s\n",
			x.Role, seconds, x.Queues, kind, x.TID, x.Comm, x.CPUs, cmp.Or(x.Cgroup, "unknown"))
	}
	if err := t.Flush(); err != nil {
		return err
	}
	_, err := fmt.Fprintf(w, "\nThe power button was pressed, the guest powered off, and minivmm exited with status 0.\n")
	return err
}
