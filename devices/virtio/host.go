package virtio

import "minivmm/devices/guestmem"

// Host is what a transport needs from the VM. Package vmm implements Host with KVM, and package
// virtiotest has a fake.
type Host interface {
	// AttachDoorbell connects the guest memory address gpa to kick: when the guest writes any value
	// of any width to gpa, the kernel signals kick, without an exit to user space.
	AttachDoorbell(gpa guestmem.GPA, kick *Notifier) (detach func() error, err error)
	// AttachPort is like AttachDoorbell, for guest writes to an I/O port.
	AttachPort(port uint16, kick *Notifier) (detach func() error, err error)
	// NewMSI allocates the interrupt message of one vector.
	NewMSI() (MSI, error)
}

// Message is the message that a device writes to raise a message-signalled interrupt (PCI 3.0
// §6.8.2).
type Message struct {
	Address uint64
	Data    uint32
}

// MSI is the interrupt message of one vector. Its methods are called one at a time.
type MSI interface {
	// Program sets the message, which the guest has written into the MSI-X table.
	Program(Message) error
	// Connect connects the notifier call: from now on every signal on call injects the message into
	// the guest. If call was signalled before Connect, the message is injected immediately. Several
	// notifiers may be connected to one MSI, but each notifier to only one MSI.
	Connect(call *Notifier) error
	// Disconnect reverses Connect: later signals on call stay pending in its eventfd.
	Disconnect(call *Notifier) error
	Close() error
}
