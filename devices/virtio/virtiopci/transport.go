package virtiopci

import (
	"errors"
	"fmt"

	"minivmm/devices/guestmem"
	"minivmm/devices/pci"
	"minivmm/devices/virtio"
)

// Options are what a Transport needs beside device, memory and host.
type Options struct {
	// Name is the device's name in notifiers, errors and log lines: "net0".
	Name string
	// Logf is as in [virtio.Options].
	Logf func(format string, args ...any)
	// LateDoorbells attaches a queue's doorbell at its first notification,
	// which then leaves the guest once, instead of at Insert: each
	// registration waits for a grace period in the kernel, and a queue that
	// is never used needs none.
	LateDoorbells bool
	// NotifyPorts gives the driver an I/O port for each queue's
	// notifications, before the addresses in memory, whose doorbells then
	// come late. A device of more than 128 queues has no ports.
	NotifyPorts bool
}

// Transport is one virtio device as a PCI function.
type Transport struct {
	front     *virtio.Frontend
	fn        *pci.Function
	msix      *pci.MSIX
	bar       space
	ports     space // nil without NotifyPorts
	wiring    *wiring
	bells     doorbells // in bar
	portBells doorbells // in ports
	window    window
	closed    bool
}

// New makes the PCI function of dev, not yet on a bus. From then on dev belongs
// to the Transport; after an error it is still the caller's.
func New(dev virtio.Device, mem *guestmem.Memory, host virtio.Host, opts Options) (*Transport, error) {
	w, err := newWiring(host, opts.Name, len(dev.QueueSizes())+1)
	if err != nil {
		return nil, err
	}
	t := &Transport{wiring: w}
	err = t.assemble(dev, mem, host, opts)
	if err != nil {
		return nil, errors.Join(err, w.close())
	}
	return t, nil
}

func (t *Transport) assemble(dev virtio.Device, mem *guestmem.Memory, host virtio.Host, opts Options) error {
	if n := len(dev.QueueSizes()); n > maxQueues {
		return fmt.Errorf("%s: %d queues: at most %d", opts.Name, n, maxQueues)
	}
	var err error
	if t.msix, err = pci.NewMSIX(t.wiring.numVectors(), t.wiring); err != nil {
		return fmt.Errorf("%s: %w", opts.Name, err)
	}
	// The frontend is the last that can fail but for function, whose errors
	// are bugs of ours: a Frontend's Close would close the caller's device.
	config := t.wiring.config()
	t.front, err = virtio.NewFrontend(dev, mem, virtio.Options{
		Name: opts.Name,
		Logf: opts.Logf,
		// An eventfd that cannot be written would be a bug of ours, and
		// there is nobody to tell.
		OnConfig: func() { _ = config.Signal() },
	})
	if err != nil {
		return err
	}
	for i := range t.front.NumQueues() {
		t.wiring.sources[i].call = t.front.Call(i)
	}
	t.wiring.logf = t.front.Logf
	t.bells = doorbells{front: t.front, step: notifyStep, late: opts.LateDoorbells, hang: func(addr uint64, kick *virtio.Notifier) (func() error, error) {
		return host.AttachDoorbell(guestmem.GPA(addr), kick)
	}}
	t.bar = t.regions()
	if n := t.front.NumQueues(); opts.NotifyPorts && n <= maxPortQueues {
		t.bells.late = true
		t.portBells = doorbells{front: t.front, step: portStep, late: opts.LateDoorbells, hang: func(addr uint64, kick *virtio.Notifier) (func() error, error) {
			return host.AttachPort(uint16(addr), kick)
		}}
		t.ports = space{{0, portStep * uint64(n), &t.portBells}}
	}
	if t.fn, err = t.function(); err != nil {
		panic(fmt.Sprintf("virtiopci: the layout does not fit PCI: %v", err))
	}
	return nil
}

// Frontend is the device's registers and lifecycle.
func (t *Transport) Frontend() *virtio.Frontend { return t.front }

// Insert puts the function on the bus and attaches the doorbells, unless they
// come late. It is called once, before vCPUs run.
func (t *Transport) Insert(root *pci.Root) (device int, err error) {
	device, err = root.Insert(t.fn)
	if err != nil {
		return 0, fmt.Errorf("%s: %w", t.front.Name(), err)
	}
	base, _ := t.fn.BARAddress(memoryBAR)
	err = t.bells.place(base + notifyOff)
	if port, ok := t.fn.BARAddress(portBAR); ok && err == nil {
		err = t.portBells.place(port)
	}
	return device, err
}

// Close stops and closes the device, then its interrupts, doorbells and
// notifiers. No vCPU runs any more. Closing twice is fine.
func (t *Transport) Close() error {
	if t.closed {
		return nil
	}
	t.closed = true
	var errs []error
	if err := t.front.Reset(); err != nil {
		errs = append(errs, fmt.Errorf("%s: reset: %w", t.front.Name(), err))
	}
	return errors.Join(append(errs, t.portBells.close(), t.bells.close(), t.wiring.close(), t.front.Close())...)
}
