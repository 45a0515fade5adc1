package virtiopci_test

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"minivmm/devices/guestmem"
	"minivmm/devices/virtio"
)

// fakeHost replaces the machine: the test rings its doorbells and inspects its interrupts. It is as
// strict as KVM and refuses what KVM refuses. The zero fakeHost is ready to use.
type fakeHost struct {
	// NoDoorbells and NoMSI, if set, are the errors that the next attachments and allocations
	// return.
	NoDoorbells, NoMSI error

	mu        sync.Mutex
	doorbells map[doorbell]*virtio.Notifier
	connected map[*virtio.Notifier]*msi
	msis      int
}

var _ virtio.Host = (*fakeHost)(nil)

// doorbell is the address of a doorbell.
type doorbell struct {
	port bool
	addr uint64
}

// AttachDoorbell is described at [virtio.Host]. A second doorbell at the same address fails with
// EEXIST, as with KVM_IOEVENTFD.
func (h *fakeHost) AttachDoorbell(gpa guestmem.GPA, kick *virtio.Notifier) (func() error, error) {
	return h.attach(doorbell{addr: uint64(gpa)}, kick)
}

// AttachPort is AttachDoorbell for a port.
func (h *fakeHost) AttachPort(port uint16, kick *virtio.Notifier) (func() error, error) {
	return h.attach(doorbell{port: true, addr: uint64(port)}, kick)
}

func (h *fakeHost) attach(at doorbell, kick *virtio.Notifier) (func() error, error) {
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
func (h *fakeHost) Ring(gpa guestmem.GPA) bool { return h.ring(doorbell{addr: uint64(gpa)}) }

// RingPort is Ring for a write to a port.
func (h *fakeHost) RingPort(port uint16) bool {
	return h.ring(doorbell{port: true, addr: uint64(port)})
}

func (h *fakeHost) ring(at doorbell) bool {
	h.mu.Lock()
	kick := h.doorbells[at]
	h.mu.Unlock()
	return kick != nil && kick.Signal() == nil
}

// NewMSI is described at [virtio.Host].
func (h *fakeHost) NewMSI() (virtio.MSI, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.NoMSI != nil {
		return nil, h.NoMSI
	}
	h.msis++
	return &msi{host: h}, nil
}

// Live returns how many doorbells are attached, MSIs allocated and notifiers connected.
func (h *fakeHost) Live() (doorbells, msis, connections int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.doorbells), h.msis, len(h.connected)
}

// Interrupts returns the messages sent since the last call, in no particular order: one for every
// connected notifier that was signalled.
func (h *fakeHost) Interrupts() []virtio.Message {
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
func (h *fakeHost) WaitInterrupts(timeout time.Duration) []virtio.Message {
	h.mu.Lock()
	var fds []unix.PollFd
	for call := range h.connected {
		fds = append(fds, unix.PollFd{Fd: int32(call.FD()), Events: unix.POLLIN})
	}
	h.mu.Unlock()
	for deadline := time.Now().Add(timeout); ; {
		n, err := unix.Poll(fds, int(max(0, time.Until(deadline)).Milliseconds()))
		if err == nil && n > 0 {
			return h.Interrupts()
		}
		if err != unix.EINTR {
			return nil
		}
	}
}

// msi is one message, connected to notifiers as an irqfd is.
type msi struct {
	host       *fakeHost
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

func TestTheHostRefusesWhatKVMRefuses(t *testing.T) {
	h := &fakeHost{}
	call, err := virtio.NewNotifier("call")
	if err != nil {
		t.Fatal(err)
	}
	defer call.Close()
	one, _ := h.NewMSI()
	two, _ := h.NewMSI()
	for _, m := range []virtio.MSI{one, two} {
		if err := m.Connect(call); !errors.Is(err, unix.EINVAL) {
			t.Errorf("connected without a message: %v", err)
		}
		if err := m.Program(virtio.Message{Data: 7}); err != nil {
			t.Error(err)
		}
	}
	call.Signal()
	if err := one.Connect(call); err != nil {
		t.Error(err)
	}
	if got := h.Interrupts(); len(got) != 1 || got[0].Data != 7 {
		t.Errorf("messages %v: an earlier signal must be sent when the notifier is connected", got)
	}
	if err := two.Connect(call); !errors.Is(err, unix.EBUSY) {
		t.Errorf("one notifier on two messages: %v", err)
	}
	if err := two.Disconnect(call); !errors.Is(err, unix.ENOENT) {
		t.Errorf("disconnected a notifier that was not connected: %v", err)
	}
	detach, err := h.AttachDoorbell(0x1000, call)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := h.AttachDoorbell(0x1000, call); !errors.Is(err, unix.EEXIST) {
		t.Errorf("two doorbells at one address: %v", err)
	}
	if !h.Ring(0x1000) || !call.Drain() || h.Ring(0x1004) {
		t.Error("the doorbell does not ring, or another one does")
	}
	if err := errors.Join(detach(), one.Disconnect(call), one.Close(), two.Close()); err != nil {
		t.Error(err)
	}
	if d, m, c := h.Live(); d+m+c != 0 {
		t.Errorf("%d doorbells, %d messages, %d connections left", d, m, c)
	}
}
