// Command minivmm runs virtual machines on KVM, and makes the kernels, initial RAM file systems and
// disks that their guests boot from.
//
// It is the command line over package vmm, which is the machine, vmm/config, which reads files and
// flags, vmm/control, by which a second minivmm asks or changes a running machine, and the packages
// below guestimages. It keeps no knowledge of devices. A machine runs in the process of its "minivmm
// run", or in a child of that with namespaces of its own.
//
//	run [FILE] [-- COMMAND]  start a machine, by default with a guest of minivmm's own
//	check FILE               report the mistakes in a configuration file
//	list                     list the running machines
//	workers NAME             show a machine's threads and what they cost
//	tune NAME                change how a machine's kernel workers run
//	rescan NAME              give a machine's disks the new sizes of their images
//	stop NAME                press a machine's power button, or end it
//	kernel, initramfs, disk  make what guests boot from
//	version                  show which build this is
//
// Each command has the file of its name, with oci.go for "disk from-oci" and workerstable.go for the
// output of workers. runner.go has the life of a run from top to bottom; of run, too, words.go has the
// flags, furnish.go finds the default guest, namespaces.go starts the child, console.go has the
// terminal, with ring.go for output to it and escape.go for keys from it, channel.go connects a command
// in the guest, shutdown.go answers signals and named.go takes the machine's name. ends.go has how a
// command can end, exit.go the exit codes.
package main
