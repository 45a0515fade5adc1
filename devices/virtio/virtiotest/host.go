package virtiotest

import (
	"fmt"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"minivmm/devices/guestmem"
	"minivmm/devices/virtio"
)

// Host replaces the machine: the test rings its doorbells and inspects its interrupts. It is as
// strict as KVM and refuses what KVM refuses. The zero Host is ready to use.
type Host struct {
	// NoDoorbells and NoMSI, if set, are the errors that the next attachments and allocations
	// return.
	NoDoorbells, NoMSI error

	mu        sync.Mutex
	doorbells map[doorbell]*virtio.Notifier
	connected map[*virtio.Notifier]*msi
	msis      int
}

var _ virtio.Host = (*Host)(nil)

// doorbell is the address of a doorbell.
type doorbell struct {
	port bool
	addr uint64
}

// AttachDoorbell is described at [virtio.Host]. A second doorbell at the same address fails with
// EEXIST, as with KVM_IOEVENTFD.
func (h *Host) AttachDoorbell(gpa guestmem.GPA, kick *virtio.Notifier) (func() error, error) {
	return h.attach(doorbell{addr: uint64(gpa)}, kick)
}

// AttachPort is AttachDoorbell for a port.
func (h *Host) AttachPort(port uint16, kick *virtio.Notifier) (func() error, error) {
	return h.attach(doorbell{port: true, addr: uint64(port)}, kick)
}

func (h *Host) attach(at doorbell, kick *virtio.Notifier) (func() error, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.NoDoorbells != nil {
		return nil, h.NoDoorbells
	}
	if h.doorbells[at] != nil {
		return nil, fmt.Errorf("doorbell %#x: %w", at.addr, unix.EEXIST)
	}
	if h.doorbells == nil {
		h.doorbells = map[doorbell]*virtio.Notifier{}
	}
	h.doorbells[at] = kick
	return func() error {
		h.mu.Lock()
		defer h.mu.Unlock()
		if h.doorbells[at] != kick {
			return fmt.Errorf("doorbell %#x: %w", at.addr, unix.ENOENT)
		}
		delete(h.doorbells, at)
		return nil
	}, nil
}

// Ring simulates a guest's write to gpa. It reports whether a doorbell is attached there; if not,
// the write would cause a VM exit.
func (h *Host) Ring(gpa guestmem.GPA) bool { return h.ring(doorbell{addr: uint64(gpa)}) }

// RingPort is Ring for a write to a port.
func (h *Host) RingPort(port uint16) bool { return h.ring(doorbell{port: true, addr: uint64(port)}) }

func (h *Host) ring(at doorbell) bool {
	h.mu.Lock()
	kick := h.doorbells[at]
	h.mu.Unlock()
	return kick != nil && kick.Signal() == nil
}

// NewMSI is described at [virtio.Host].
func (h *Host) NewMSI() (virtio.MSI, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.NoMSI != nil {
		return nil, h.NoMSI
	}
	h.msis++
	return &msi{host: h}, nil
}

// Live returns how many doorbells are attached, MSIs allocated and notifiers connected.
func (h *Host) Live() (doorbells, msis, connections int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.doorbells), h.msis, len(h.connected)
}

// Interrupts returns the messages sent since the last call, in no particular order: one for every
// connected notifier that was signalled.
func (h *Host) Interrupts() []virtio.Message {
	h.mu.Lock()
	defer h.mu.Unlock()
	var sent []virtio.Message
	for call, m := range h.connected {
		if call.Drain() {
			sent = append(sent, m.message)
		}
	}
	slices.SortFunc(sent, func(a, b virtio.Message) int { return int(a.Data) - int(b.Data) })
	return sent
}

// WaitInterrupts waits until there are interrupts and returns them, or returns nil after timeout.
// The wiring must not change in the meantime.
func (h *Host) WaitInterrupts(timeout time.Duration) []virtio.Message {
	h.mu.Lock()
	var fds []unix.PollFd
	for call := range h.connected {
		fds = append(fds, unix.PollFd{Fd: int32(call.FD()), Events: unix.POLLIN})
	}
	h.mu.Unlock()
	if !poll(fds, timeout) {
		return nil
	}
	return h.Interrupts()
}

// poll waits until one of fds is readable and reports whether one is.
func poll(fds []unix.PollFd, timeout time.Duration) bool {
	deadline := time.Now().Add(timeout)
	for {
		n, err := unix.Poll(fds, int(max(0, time.Until(deadline)).Milliseconds()))
		if err != unix.EINTR {
			return err == nil && n > 0
		}
	}
}

// msi is one message, connected to notifiers as an irqfd is.
type msi struct {
	host       *Host
	message    virtio.Message
	programmed bool
	closed     bool
}

func (m *msi) Program(message virtio.Message) error {
	m.host.mu.Lock()
	defer m.host.mu.Unlock()
	if m.closed {
		return fmt.Errorf("program: %w", unix.EBADF)
	}
	m.message, m.programmed = message, true
	return nil
}

func (m *msi) Connect(call *virtio.Notifier) error {
	m.host.mu.Lock()
	defer m.host.mu.Unlock()
	if m.closed || !m.programmed {
		return fmt.Errorf("connect %s: no message: %w", call.Name(), unix.EINVAL)
	}
	if m.host.connected[call] != nil {
		return fmt.Errorf("connect %s: %w", call.Name(), unix.EBUSY)
	}
	if m.host.connected == nil {
		m.host.connected = map[*virtio.Notifier]*msi{}
	}
	m.host.connected[call] = m
	return nil
}

func (m *msi) Disconnect(call *virtio.Notifier) error {
	m.host.mu.Lock()
	defer m.host.mu.Unlock()
	if m.host.connected[call] != m {
		return fmt.Errorf("disconnect %s: %w", call.Name(), unix.ENOENT)
	}
	delete(m.host.connected, call)
	return nil
}

func (m *msi) Close() error {
	m.host.mu.Lock()
	defer m.host.mu.Unlock()
	if m.closed {
		return fmt.Errorf("close: %w", unix.EBADF)
	}
	m.closed = true
	m.host.msis--
	return nil
}
