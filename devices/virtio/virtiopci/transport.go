package virtiopci

import (
	"errors"
	"fmt"

	"minivmm/devices/guestmem"
	"minivmm/devices/pci"
	"minivmm/devices/virtio"
)

// Options configure a Transport.
type Options struct {
	// Name is the device's name in notifiers, errors and log lines, for example "net0".
	Name string
	// Logf is as in [virtio.Options].
	Logf func(format string, args ...any)
	// LateDoorbells attaches a queue's doorbell at its first notification, which then causes one VM
	// exit, instead of at Insert. Each registration waits for an RCU grace period in the kernel,
	// and an unused queue needs no doorbell.
	LateDoorbells bool
	// NotifyPorts gives each queue an I/O port for notifications. The driver finds it before the
	// address in memory, whose doorbell is then attached late. A device with more than 128 queues
	// has no ports.
	NotifyPorts bool
}

// Transport is a virtio device as a PCI function.
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

// New creates the PCI function of dev, which is not yet on a bus. On success the Transport owns
// dev. On error dev still belongs to the caller.
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
		return fmt.Errorf("%s: %d queues: the maximum is %d", opts.Name, n, maxQueues)
	}
	var err error
	if t.msix, err = pci.NewMSIX(t.wiring.numVectors(), t.wiring); err != nil {
		return fmt.Errorf("%s: %w", opts.Name, err)
	}
	// Create the frontend last: a Frontend's Close would close the caller's device. Only function
	// comes later, and its errors are bugs in this package.
	config := t.wiring.config()
	t.front, err = virtio.NewFrontend(dev, mem, virtio.Options{
		Name: opts.Name,
		Logf: opts.Logf,
		// A failed write to the eventfd would be a bug in this package, and there is no one to
		// report it to.
		OnConfig: func() { _ = config.Signal() },
	})
	if err != nil {
		return err
	}
	for i := range t.front.NumQueues() {
		t.wiring.sources[i].call = t.front.Call(i)
	}
	t.wiring.logf = t.front.Logf
	t.bells = doorbells{front: t.front, step: notifyStep, late: opts.LateDoorbells, register: func(addr uint64, kick *virtio.Notifier) (func() error, error) {
		return host.AttachDoorbell(guestmem.GPA(addr), kick)
	}}
	t.bar = t.regions()
	if n := t.front.NumQueues(); opts.NotifyPorts && n <= maxPortQueues {
		t.bells.late = true
		t.portBells = doorbells{front: t.front, step: portStep, late: opts.LateDoorbells, register: func(addr uint64, kick *virtio.Notifier) (func() error, error) {
			return host.AttachPort(uint16(addr), kick)
		}}
		t.ports = space{{0, portStep * uint64(n), &t.portBells}}
	}
	if t.fn, err = t.function(); err != nil {
		panic(fmt.Sprintf("virtiopci: the layout does not fit PCI: %v", err))
	}
	return nil
}

// Frontend returns the device's registers and lifecycle.
func (t *Transport) Frontend() *virtio.Frontend { return t.front }

// Insert puts the function on the bus and attaches the doorbells, unless they are attached late. It
// must be called once, before vCPUs run.
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

// Close stops and closes the device, then its interrupts, doorbells and notifiers. No vCPU may run
// any more. Close may be called twice.
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
