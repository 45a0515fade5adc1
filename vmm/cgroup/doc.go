// Package cgroup puts this process into a cgroup (version 2) of its own, sets
// limits there, and takes it away again.
//
// # Where
//
// The cgroup is made below the one that the process was started in. Under systemd that must
// be of a unit that systemd delegated (it marks those with an extended attribute);
// else systemd is asked over D-Bus for a scope, a delegated unit with this process in it
// that ends with the process: the system's manager for root, the user's own for others. Without systemd
// root has the hierarchy's root, too. A cgroup with processes in it cannot give controllers to its children
// (the kernel's "no internal processes" rule; the root is exempt): so the
// process must be alone there, or the controllers must be on already. No other
// process is ever moved.
//
//	HOME                  where the process was, or the scope; controllers are turned on here
//	└── minivmm.NAME      the limits; memory is accounted here ("domain threaded" if it has children)
//	    ├── vcpu          threads that called Group.EnterVCPU ("threaded")
//	    └── io            all other threads ("threaded")
//
// The children exist if shares are asked for. A thread that is made inherits
// the cgroup of the thread that made it, and the Go runtime makes no thread from
// one that a goroutine is locked to: so every thread that is not a vCPU's is in
// io, also the one that issues VHOST_SET_OWNER, whose copy the worker is. That is
// why workers need not be moved: they are in io from their first instruction, with
// no moment outside the limits, and a kernel thread (Linux before 6.4), which
// the kernel attaches to its maker's cgroup, is there too.
//
// # The end
//
// [Group.Close] moves the process back and removes the cgroup. What a killed
// process left has no process in it, and the kernel removes only such cgroups;
// so [Make] tries to remove everything that has one of our names, and what is
// alive stays. No pid is looked at: it would be another's in a pid namespace.
//
// Machines that begin and end at one moment below one cgroup take turns, by a flock(2) on
// its folder: one would else turn off a controller that another has just found on.
//
// Source: Documentation/admin-guide/cgroup-v2.rst; kernel/cgroup/cgroup.c.
//
// One Group at a time per process. Its methods may be called by any goroutine;
// EnterVCPU is for the calling thread.
package cgroup
