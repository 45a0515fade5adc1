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
// Threads that have exited are a separate role, the rest of getrusage's sum. Go keeps its threads.
//
// Clocks: CPU time comes from schedstat, in nanoseconds. The kernel splits it into user and system
// by ticks, and /proc reports these in hundredths of a second, so the two are coarser than their
// sum. A running thread is counted up to its last tick.
package account
