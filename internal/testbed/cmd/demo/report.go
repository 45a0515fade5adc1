package main

import (
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"minivmm/vmm/config"
)

// report is the summary that is printed at the end.
type report struct {
	host, guest string // kernel releases
	cfg         *config.Config
	results     []result
	workers     []workerTime
}

type workerTime struct {
	worker
	spent time.Duration
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
		fmt.Fprintf(t, "%s\t%.0f\t%s\t%d %s\t%d\t%d\t%s\n", x.name, rate(x.took), x.verdict(), x.count, x.unit, x.exits.all, x.exits.user, ratio(x.exits.user, x.count))
	}
	fmt.Fprintf(t, "\nworker of\tCPU time\tserves\tis\tname\tCPUs\tcgroup\n")
	for _, x := range r.workers {
		fmt.Fprintf(t, "%s\t%.3f s\t%s\t%s %s\t%s\t%s\t%s\n", x.device, x.spent.Seconds(), x.serves, x.kind, x.tid, x.comm, x.cpus, x.cgroup)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	_, err := fmt.Fprintf(w, "\nThe power button was pressed, the guest powered off, and minivmm exited with status 0.\n")
	return err
}

func (r result) verdict() string {
	if r.matches() {
		return "same at both ends"
	}
	return fmt.Sprintf("DIFFERENT: host %.8s, guest %.8s", r.host, r.guest)
}

// rate is in MiB per second.
func rate(took time.Duration) float64 { return float64(transferBytes) / (1 << 20) / took.Seconds() }

func ratio(n, of uint64) string {
	if of == 0 {
		return "-"
	}
	return fmt.Sprintf("%.4f", float64(n)/float64(of))
}
