// Command init is process 1 of the emulated host and of small guests: one static program that
// follows a plan (package agent) and then powers off.
//
// In the emulated host, init moves to the file tree of the computer on which the emulator runs. It
// then runs the command that arrives on the channel. In a guest, init also runs the command that
// arrives on the channel, with or without a disk as the file tree. Without a channel, it runs the
// plan's command on the console, or the command after "--" on the kernel command line; it then
// prints the exit status and powers off. Without any command, init hands the machine over to the
// system on the disk. If a network or a driver is not available, init in a guest reports this on
// the console and continues. Init knows these words on the kernel command line, in addition to
// "--":
//
//	ip=CLIENT::GATEWAY:NETMASK::DEVICE:off   as in the kernel's Documentation/admin-guide/nfs/nfsroot.rst; or ip=dhcp
//	root=, rootfstype=, rootflags=, ro, rw   the disk: /dev/NAME, LABEL=, UUID=, PARTLABEL= or PARTUUID=; writable unless ro comes last
//	init=PATH                                the init program of the system on the disk
//	minivmm.root=overlay                     writes to the root stay in memory
//	minivmm.channel=NAME                     the virtio-serial port on which the command arrives
//	minivmm.end=restart                      restart at the end instead of powering off
//	MODULE.NAME=VALUE                        a parameter of a module that init loads
//
// The ACPI power button powers off at any time. When the command exits, init kills all remaining
// processes and syncs the file systems. If the machine cannot do what it was started for, init ends
// the machine with a triple fault. Init never exits, because the kernel would panic.
package main
