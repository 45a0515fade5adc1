package virtio

import "minivmm/devices/guestmem"

// Host is what a transport asks of the machine. Package vmm implements it over
// KVM, virtiotest as a fake.
type Host interface {
	// AttachDoorbell makes a guest write of any value and width to the
	// memory address gpa signal kick, without leaving the kernel.
	AttachDoorbell(gpa guestmem.GPA, kick *Notifier) (detach func() error, err error)
	// AttachPort makes a guest write of any value and width to the I/O port
	// do the same.
	AttachPort(port uint16, kick *Notifier) (detach func() error, err error)
	// NewMSI allocates one interrupt message.
	NewMSI() (MSI, error)
}

// Message is what a device writes to raise a message-signalled interrupt
// (PCI 3.0 §6.8.2).
type Message struct {
	Address uint64
	Data    uint32
}

// MSI is one vector's interrupt message. Its methods are called one at a time.
type MSI interface {
	// Program sets the message, from the guest's MSI-X table.
	Program(Message) error
	// Connect makes every signal of call inject the message; what was
	// signalled before is injected at once. Several notifiers may be
	// connected to one MSI, one notifier to one MSI only.
	Connect(call *Notifier) error
	// Disconnect undoes it: signals stay counted in the eventfd.
	Disconnect(call *Notifier) error
	Close() error
}
