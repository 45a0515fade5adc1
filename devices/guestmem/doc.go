// Package guestmem is the guest's RAM in this process: anonymous, private mappings at fixed host
// addresses that exist as long as the VM.
//
// There is one function for each kind of address. [Memory.Window] converts a guest physical address
// (GPA) to bytes that Go code may access. [Memory.HVA] converts it to the host virtual address for
// the kernel (KVM memory slots, vhost rings and tables). No other code in minivmm computes either,
// because giving the kernel a wrong host address is the worst bug minivmm can have.
//
// A Memory is immutable after [New] except for its contents, so it is safe for concurrent use. The
// guest may write to it at any time: read a value once, check the copy and use the copy. Ring
// fields must be accessed with [Load16] and [Store16].
//
// Close must be the last call: afterwards an access to any window is a fault, not a panic.
package guestmem
