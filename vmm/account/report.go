// Package account measures what a running machine uses on its host: CPU time, waiting time, context
// switches, CPUs and memory, by thread and by role.
//
// It reads /proc (proc(5), Documentation/scheduler/sched-stats.rst) and a version 2 cgroup,
// classifies threads, and defines [Report], which holds all figures of a machine, including those
// of queues, disks and KVM that package vmm adds. It keeps no state and is safe for concurrent use.
//
// Roles: vCPUs and vhost workers are identified by their thread IDs, which package vmm records.
// KVM's own thread, which recovers huge pages, is identified by its name: it is a thread of the
// process since Linux 6.13 (6.12.14 in the stable series), and before that a kernel thread in the
// process's cgroup. A vhost worker is a thread of the process since Linux 6.4, and a kernel thread
// before. All other threads are minivmm itself, including its in-process devices.
//
// The sum of the roles is the process's CPU time (getrusage(2)) plus that of its kernel threads.
// Exited threads are a separate role: the part of getrusage's sum that no live thread accounts for.
// The Go runtime keeps its idle threads.
//
// Clocks: CPU time comes from schedstat, in nanoseconds. The kernel splits it into user and system
// by ticks, and /proc reports these in hundredths of a second, so the two are coarser than their
// sum. A running thread is counted up to its last tick.
package account

import (
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// Report is a machine's resource usage at one time. A counter starts at 0 when the thread, queue,
// disk or VM that it describes is created or reset.
type Report struct {
	Machine Machine   `json:"machine"`
	Time    time.Time `json:"time"`

	Threads []Thread `json:"threads"`
	Roles   []Role   `json:"roles"`            // in the order of Threads, then the exited threads
	Process Usage    `json:"process"`          // of the process: its threads, including exited ones, without kernel threads
	Cgroup  *Cgroup  `json:"cgroup,omitempty"` // of the process; absent if it cannot be read
	Memory  Memory   `json:"memory"`

	Queues []Queue  `json:"queues"`
	Disks  []Disk   `json:"disks"`
	Nets   []Net    `json:"networks,omitempty"`
	KVM    KVMStats `json:"kvm"`

	// Missing lists the figures that this report lacks, and why.
	Missing []string `json:"missing,omitempty"`
}

// Machine describes a machine as seen from the host.
type Machine struct {
	Name    string    `json:"name"`
	PID     int       `json:"pid"`
	VCPUs   int       `json:"vcpus"`
	Memory  uint64    `json:"memory_bytes"` // the guest's
	Started time.Time `json:"started"`
}

// Role is the sum of the threads of one role.
type Role struct {
	Kind    Kind   `json:"kind"`
	Role    string `json:"role"`
	Threads int    `json:"threads"`
	Usage
	Wait uint64 `json:"wait_ns"`
}

// Usage holds the figures of getrusage(2) for one or more threads. Times are in nanoseconds.
type Usage struct {
	CPU       uint64 `json:"cpu_ns"`
	User      uint64 `json:"user_ns"`
	System    uint64 `json:"system_ns"`
	Voluntary uint64 `json:"voluntary_switches"`   // the thread went to sleep
	Preempted uint64 `json:"involuntary_switches"` // the kernel preempted it
}

// each calls f for every figure and its counterpart in v.
func (u *Usage) each(v *Usage, f func(a *uint64, b uint64)) {
	f(&u.CPU, v.CPU)
	f(&u.User, v.User)
	f(&u.System, v.System)
	f(&u.Voluntary, v.Voluntary)
	f(&u.Preempted, v.Preempted)
}

// Queue is one virtqueue.
type Queue struct {
	Device string `json:"device"` // "net0"
	Index  int    `json:"queue"`
	Size   int    `json:"size"` // entries, as the driver set it; before that the maximum
	Live   bool   `json:"live"` // the driver has enabled it

	// Made and Done are the ring's running indices, modulo 65536: buffers that the driver has made
	// available, and buffers that the device has returned. Fill, their difference, is the number of
	// buffers that the device holds: 0 to Size, and Size if a guest's indices are further apart.
	Made uint16 `json:"available_index"`
	Done uint16 `json:"used_index"`
	Fill int    `json:"fill"`

	// Kicks counts the driver's doorbells since the device's last reset, if /proc reports them.
	Kicks *uint64 `json:"kicks,omitempty"`

	// Interrupts counts the device's signals to the driver since the device's last reset. It is
	// absent if the kernel serves the queue: KVM clears the eventfd's count when it injects.
	Interrupts *uint64 `json:"interrupts,omitempty"`
}

// Disk has LIO's counters of one disk since it was created. An in-process disk is not listed.
type Disk struct {
	ID       string `json:"id"`     // "disk0"
	Device   string `json:"device"` // the controller, "scsi0"
	Commands uint64 `json:"commands"`
	ReadMiB  uint64 `json:"read_mib"`    // rounded down
	WriteMiB uint64 `json:"written_mib"` // rounded down
	Resets   uint64 `json:"resets"`
}

// DiskSize is a disk whose size has changed while the machine runs.
type DiskSize struct {
	ID        string `json:"id"`
	SizeBytes uint64 `json:"size_bytes"`
	// Told reports whether the guest was notified. If not, the guest must rescan on its own: a
	// Linux guest does when 1 is written to /sys/class/block/sdX/device/rescan.
	Told bool `json:"told"`
}

// Net has the figures of a network that minivmm itself serves, since the guest's driver started the
// card.
type Net struct {
	ID          string `json:"id"`                     // "net0"
	Connections int    `json:"connections"`            // of TCP
	Flows       int    `json:"datagram_flows"`         // of UDP
	Segments    uint64 `json:"segments_sent"`          // of TCP, to the guest
	Retransmits uint64 `json:"segments_retransmitted"` // included in segments_sent
}

// KVMStats are KVM's own counters, by KVM's names (KVM_GET_STATS_FD).
type KVMStats struct {
	VM    map[string]uint64   `json:"vm,omitempty"`
	VCPUs []map[string]uint64 `json:"vcpus,omitempty"` // by number

	// UserExits holds, for each vCPU, the number of exits from the kernel to minivmm.
	UserExits []uint64 `json:"user_exits"`
}

// ReadProcess returns getrusage(2) of this process.
func ReadProcess() (Usage, error) {
	var r unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &r); err != nil {
		return Usage{}, err
	}
	user, system := uint64(r.Utime.Nano()), uint64(r.Stime.Nano())
	return Usage{user + system, user, system, uint64(r.Nvcsw), uint64(r.Nivcsw)}, nil
}

// Roles sums threads by role. It attributes the rest of the process's usage to exited threads.
func Roles(threads []Thread, process Usage) []Role {
	var roles []Role
	for _, t := range threads {
		i := slices.IndexFunc(roles, func(r Role) bool { return r.Kind == t.Kind && r.Role == t.Role })
		if i < 0 {
			i = len(roles)
			roles = append(roles, Role{Kind: t.Kind, Role: t.Role})
		}
		r := &roles[i]
		r.Threads++
		r.Wait += t.Wait
		r.each(&t.Usage, func(a *uint64, b uint64) { *a += b })
		if !t.Kthread {
			// The sum of the threads can be larger: ticks are rounded, and threads ran between the
			// two readings.
			process.each(&t.Usage, func(a *uint64, b uint64) { *a -= min(*a, b) })
		}
	}
	return append(roles, Role{Kind: Ended, Role: "ended", Usage: process})
}

// Sum returns the CPU time of all roles, and that of the kernel threads among them. all equals the
// CPU time of a cgroup with only this machine; all - kthreads is the process's getrusage(2).
func (r *Report) Sum() (all, kthreads uint64) {
	for _, role := range r.Roles {
		all += role.CPU
	}
	for _, t := range r.Threads {
		if t.Kthread {
			kthreads += t.CPU
		}
	}
	return all, kthreads
}
