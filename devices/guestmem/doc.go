// Package guestmem is the guest's RAM as this process sees it: anonymous,
// private mappings at fixed host addresses that live as long as the VM.
//
// There is one function per kind of address. [Memory.Window] turns a guest
// physical address (GPA) into bytes that Go code may touch; [Memory.HVA] turns
// it into the host virtual address that is handed to the kernel (KVM memory
// slots, vhost rings and tables). Nothing else in minivmm computes either, for
// a wrong host address given to the kernel is the worst bug it can have.
//
// A Memory is immutable after [New] apart from its contents, so any goroutine
// may use it. The guest writes to it at any time: read a value once, check the
// copy, use the copy; ring fields go through [Load16] and [Store16].
//
// Close comes last of all: after it every window is a fault, not a panic.
package guestmem
