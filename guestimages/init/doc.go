// Command init is process 1 of the emulated host and of small guests: one static program that follows a plan (package agent)
// and then powers off.
//
// In the emulated host it moves to the building machine's file tree and runs the command that comes by the channel. In a
// guest it does the same, with a disk as the file tree or without one. Without a channel it runs on the console the plan's
// command, or the one on the kernel command line after "--", prints its exit status and powers off. Without a command too,
// it hands the machine over to the system on the disk. A guest goes on without a network or a driver that it cannot have,
// and says so on the console. Words on the kernel command line that it knows beside "--":
//
//	ip=CLIENT::GATEWAY:NETMASK::DEVICE:off   as in the kernel's Documentation/admin-guide/nfs/nfsroot.rst; or ip=dhcp
//	root=, rootfstype=, rootflags=, ro, rw   the disk: /dev/NAME, LABEL=, UUID=, PARTLABEL= or PARTUUID=; written to unless ro comes last
//	init=PATH                                the program of a disk's own system
//	minivmm.root=overlay                     what is written to the root stays in memory
//	minivmm.channel=NAME                     the virtio-serial port that the command comes by
//	minivmm.end=restart                      end by restarting instead of powering off
//	MODULE.NAME=VALUE                        a parameter of a module that is loaded
//
// The ACPI power button powers off at any time. Everything that is left when the command ends is killed; file systems are
// synced before the end. A machine that cannot do what it was started for ends by a triple fault. Init never exits: the kernel would panic.
package main
