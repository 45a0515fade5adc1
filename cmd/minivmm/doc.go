// Command minivmm runs virtual machines on KVM and builds the kernels, initial RAM file systems and
// disks that guests boot from.
//
// It is the command line for package vmm (the machine), vmm/config (configuration files and flags),
// vmm/control (requests from a second minivmm to a running machine) and the packages below
// guestimages. It knows nothing about devices. A machine runs in the process of its "minivmm run",
// or in a child of that process with its own namespaces.
//
//	run [FILE] [-- COMMAND]  start a machine, by default with a guest of minivmm's own
//	check FILE               report the mistakes in a configuration file
//	list                     list the running machines
//	workers NAME             show a machine's threads and their resource usage
//	tune NAME                change how a machine's kernel workers run
//	rescan NAME              resize a machine's disks to the new sizes of their images
//	stop NAME                press a machine's power button, or kill the machine
//	kernel, initramfs, disk  build what guests boot from
//	version                  show which build this is
//
// Each command is in the file of its name, except check (run.go), and tune, rescan and stop
// (control.go, with the machine's side of them). runner.go runs a machine. Other parts of run:
// furnish.go provides the default guest, console.go handles the terminal (output.go buffers its
// output), and channel.go connects to a command in the guest. exit.go defines the errors of commands
// and their exit codes.
package main
