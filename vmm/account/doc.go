// Package account says what a running machine costs its host, and in which of its threads: CPU time, waiting, switches,
// places and memory, by thread and by role.
//
// What it is: readers of /proc (proc(5), Documentation/scheduler/sched-stats.rst) and of a version 2 cgroup, a
// classification of threads, and [Report], the one form in which all of it leaves the machine, with what only package vmm
// knows of queues, disks and KVM. What it is not: it keeps nothing between two calls, starts nothing, and knows no device.
//
// Roles. A vCPU and a vhost worker are known by their thread ids, which package vmm remembers. KVM's own thread, which
// recovers huge pages, is known by its name: a thread of the process since Linux 6.13 (6.12.14 among the stable ones), a
// kernel thread in the process's cgroup before. A vhost worker is a thread of the process since Linux 6.4, a kernel thread before. All
// else is minivmm itself: the Go runtime's threads, with what the in-process devices do on them.
//
// The sum of the roles is the process's CPU time (getrusage(2)) plus that of its kernel threads. Threads that ended are
// in a role of their own, the rest of getrusage's sum; there are few, as Go keeps its threads.
//
// Clocks. CPU time comes from schedstat, in nanoseconds. The kernel splits it into user and system by ticks, and /proc
// tells these in hundredths of a second: the two are coarser than their sum. A thread that runs right now is
// counted up to its last tick.
//
// Concurrency: the functions may be called by any goroutine at any time. Nothing has to be closed.
package account
