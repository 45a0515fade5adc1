// Command init is process 1 of the emulated host and of small guests: one static program that follows a plan (package plan)
// and then powers off.
//
// In the emulated host it moves to the building machine's file tree and runs the command that comes by the channel (package
// wire). In a guest it runs the plan's command on the console, or the one on the kernel command line after "--", prints its
// exit status and powers off. Words on the kernel command line that it knows beside that:
//
//	ip=CLIENT::GATEWAY:NETMASK::DEVICE:off   as in the kernel's Documentation/admin-guide/nfs/nfsroot.rst; static only
//	minivmm.end=restart                      end by restarting instead of powering off
//
// The ACPI power button powers off at any time. Everything that is left when the command ends is killed; file systems are
// synced before the end. Init never exits: the kernel would panic.
package main
