package virtio

import "minivmm/devices/guestmem"

// Host is the interface from a transport to the machine. Package vmm implements it with KVM, and
// package virtiotest implements a fake.
type Host interface {
	// AttachDoorbell makes a guest write of any value and width to the memory address gpa signal
	// kick without leaving the kernel.
	AttachDoorbell(gpa guestmem.GPA, kick *Notifier) (detach func() error, err error)
	// AttachPort does the same for a guest write to an I/O port.
	AttachPort(port uint16, kick *Notifier) (detach func() error, err error)
	// NewMSI allocates one interrupt message.
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
	// Program sets the message to the one in the guest's MSI-X table.
	Program(Message) error
	// Connect makes every signal of call inject the message. A signal from before Connect is
	// injected at once. Several notifiers may be connected to one MSI, but each notifier only to
	// one MSI.
	Connect(call *Notifier) error
	// Disconnect reverses Connect: later signals stay pending in the eventfd.
	Disconnect(call *Notifier) error
	Close() error
}
