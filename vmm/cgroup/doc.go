// Package cgroup puts this process into a cgroup (version 2) of its own, sets limits there, and
// removes the cgroup afterwards.
//
// # Where
//
// The cgroup is created below the cgroup in which the process was started. Under systemd, that
// cgroup must belong to a unit that systemd delegated (systemd marks those with an extended
// attribute). If it does not, the package asks systemd over D-Bus for a scope: a delegated unit
// that contains this process and exits with it. Root asks the system's manager, other users ask
// their own. Without systemd, root may also use the root of the hierarchy. A cgroup that contains
// processes cannot enable controllers for its children (the kernel's "no internal processes" rule;
// the root is exempt), so this process must be alone there, or the controllers must be enabled
// already. No other process is ever moved.
//
//	HOME                  where the process was, or the scope; controllers are turned on here
//	└── minivmm.NAME      the limits; memory is accounted here ("domain threaded" if it has children)
//	    ├── vcpu          threads that called Group.EnterVCPU ("threaded")
//	    └── io            all other threads ("threaded")
//
// The children exist if shares are configured. A new thread inherits the cgroup of the thread that
// created it, and the Go runtime creates no thread from one that a goroutine is locked to. So every
// thread that is not a vCPU's is in io, including the one that issues VHOST_SET_OWNER, whose copy
// the worker is: workers are in io from their first instruction. A worker that is a kernel thread
// (Linux before 6.4) is there too, because the kernel attaches it to its creator's cgroup.
//
// # Cleanup
//
// [Group.Close] moves the process back and removes the cgroup. A killed process leaves a cgroup
// without processes, and the kernel removes only such cgroups. So [Make] tries to remove every
// cgroup that has one of our names, and cgroups that are in use stay. It does not look at pids: in
// a pid namespace they would belong to other processes.
//
// Machines that start and stop at the same time below one cgroup take turns, with a flock(2) on its
// folder. Without it, one would disable a controller that another has just found enabled.
//
// Source: Documentation/admin-guide/cgroup-v2.rst; kernel/cgroup/cgroup.c.
//
// A process has one Group at a time. Its methods are safe for concurrent use.
package cgroup
