// Command minivmm runs virtual machines whose data path is the kernel's vhost-net and vhost-scsi.
//
// What it is: flags and files in, package config's one resolved type through, a machine started, exit codes out; the
// terminal as the guest's console; and signals as the guest's power button. What it is not: it knows no
// device and no system call of a machine; those are package vmm's.
//
//	minivmm run FILE      start the machine that FILE describes
//	minivmm list          say which machines run
//	minivmm workers NAME  say what one costs, thread by thread
//	minivmm stop NAME     press its power button
//	minivmm check FILE    say what is wrong with FILE
//	minivmm version       say which build this is
//
// Files: run.go is the life of a machine from here; console.go the terminal, with ring.go towards it and escape.go from it;
// shutdown.go what signals do; words.go the flags; exit.go the exit codes.
package main
