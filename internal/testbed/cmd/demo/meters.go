package main

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// exits are KVM's own counters for one VM, over all its vCPUs.
type exits struct {
	all  uint64 // world switches, most of them handled in the kernel
	user uint64 // mmio_exits and io_exits: an upper bound of those that went to user space
}

func (e exits) since(before exits) exits { return exits{e.all - before.all, e.user - before.user} }

// kvmCounters is the folder of a VM in debugfs: /sys/kernel/debug/kvm/TID-FD, where TID is the
// thread that created the VM, which may have exited, and FD the descriptor that its process got.
type kvmCounters string

// listVMs lists the VMs that have counters.
func listVMs(root string) ([]string, error) { return filepath.Glob(filepath.Join(root, "*-*")) }

// findKVMCounters looks for the VM of the process, a folder of /proc, among those that did not
// exist before it started.
func findKVMCounters(root, process string, before []string) (kvmCounters, error) {
	found, err := listVMs(root)
	if err != nil {
		return "", err
	}
	found = slices.DeleteFunc(found, func(dir string) bool {
		_, fd, _ := strings.Cut(filepath.Base(dir), "-")
		link, err := os.Readlink(filepath.Join(process, "fd", fd))
		return err != nil || link != "anon_inode:kvm-vm" || slices.Contains(before, dir)
	})
	if len(found) != 1 {
		return "", fmt.Errorf("%d folders in %s could belong to minivmm's VM, want 1: is debugfs mounted there?", len(found), root)
	}
	return kvmCounters(found[0]), nil
}

func (k kvmCounters) read() (exits, error) {
	all, err1 := readCount(filepath.Join(string(k), "exits"))
	mmio, err2 := readCount(filepath.Join(string(k), "mmio_exits"))
	io, err3 := readCount(filepath.Join(string(k), "io_exits"))
	return exits{all: all, user: mmio + io}, errors.Join(err1, err2, err3)
}

func readCount(file string) (uint64, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return 0, err
	}
	n, err := strconv.ParseUint(strings.TrimSpace(string(b)), 10, 64)
	if err != nil {
		return 0, fmt.Errorf("%s: %w", file, err)
	}
	return n, nil
}

// tapOf returns the name of the interface that has the address.
func tapOf(address string) (string, error) {
	all, err := net.Interfaces()
	if err != nil {
		return "", err
	}
	for _, i := range all {
		addrs, err := i.Addrs()
		if err != nil {
			continue
		}
		for _, a := range addrs {
			if a.String() == address {
				return i.Name, nil
			}
		}
	}
	return "", fmt.Errorf("no interface has the address %s", address)
}

// packets returns the number of packets that the tap has transferred in both directions.
func packets(tap string) (uint64, error) {
	dir := filepath.Join("/sys/class/net", tap, "statistics")
	in, err1 := readCount(filepath.Join(dir, "rx_packets"))
	out, err2 := readCount(filepath.Join(dir, "tx_packets"))
	return in + out, errors.Join(err1, err2)
}

// requests parses a disk's completed reads, writes, discards and flushes: /sys/block/DISK/stat of
// Linux, Documentation/block/stat.rst, fields 1, 5, 12 and 16.
func requests(stat string) (uint64, error) {
	fields := strings.Fields(stat)
	if len(fields) < 11 {
		return 0, fmt.Errorf("%q is not a disk's statistics", stat)
	}
	var sum uint64
	for _, i := range []int{0, 4, 11, 15} {
		if i >= len(fields) {
			continue
		}
		n, err := strconv.ParseUint(fields[i], 10, 64)
		if err != nil {
			return 0, fmt.Errorf("%q is not a disk's statistics: %w", stat, err)
		}
		sum += n
	}
	return sum, nil
}

// worker is a kernel worker that serves the machine, as minivmm reports it.
type worker struct {
	device, serves, kind, tid, comm, cgroup, cpus string
}

var workerLine = regexp.MustCompile(`(?m)^minivmm: worker (\S+) \((.*)\): (thread|kernel thread) (\d+) (.*), cgroup (.*), CPUs (\S+)\r?$`)

// workers finds the workers in the output of minivmm --verbose.
func workers(said string) []worker {
	var all []worker
	for _, m := range workerLine.FindAllStringSubmatch(said, -1) {
		all = append(all, worker{device: m[1], serves: m[2], kind: m[3], tid: m[4], comm: m[5], cgroup: m[6], cpus: m[7]})
	}
	return all
}

// cpuTime returns the CPU time that the worker has used. It looks first where a thread of the
// process would be, then where a kernel thread would be.
func (w worker) cpuTime(process string) (time.Duration, error) {
	b, err := os.ReadFile(filepath.Join(process, "task", w.tid, "schedstat"))
	if errors.Is(err, os.ErrNotExist) {
		b, err = os.ReadFile(filepath.Join("/proc", w.tid, "schedstat"))
	}
	if err != nil {
		return 0, err
	}
	return onCPU(string(b))
}

// onCPU parses the first field of schedstat, nanoseconds: Documentation/scheduler/sched-stats.rst.
func onCPU(schedstat string) (time.Duration, error) {
	first, _, _ := strings.Cut(schedstat, " ")
	ns, err := strconv.ParseInt(first, 10, 64)
	if err != nil {
		return 0, fmt.Errorf("schedstat %q: %w", schedstat, err)
	}
	return time.Duration(ns), nil
}
