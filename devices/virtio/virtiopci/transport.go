package virtiopci

import (
	"errors"
	"fmt"

	"minivmm/devices/bus"
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
	// NotifyPorts gives each queue an I/O port for notifications. The driver finds the port before
	// the address in memory, and the doorbell of that address is attached late. A device with more
	// than 128 queues has no ports.
	NotifyPorts bool
}

// Transport is a virtio device as a PCI function.
type Transport struct {
	front     *virtio.Frontend
	fn        *pci.Function
	msix      *pci.MSIX
	bar       bus.Bus
	ports     *bus.Bus // nil without notify ports
	wiring    *wiring
	bells     doorbells // in bar
	portBells doorbells // in ports
	window    window
}

// New creates the PCI function of dev, which is not yet on a bus. On success the Transport owns
// dev. On error dev still belongs to the caller.
func New(dev virtio.Device, mem *guestmem.Memory, host virtio.Host, opts Options) (*Transport, error) {
	n := len(dev.QueueSizes())
	if n < 1 || n > maxQueues {
		return nil, fmt.Errorf("%s: %d queues: want 1 to %d", opts.Name, n, maxQueues)
	}
	w, err := newWiring(host, opts.Name, n+1)
	if err != nil {
		return nil, err
	}
	t := &Transport{wiring: w, msix: pci.NewMSIX(n+1, w)}
	config := w.config()
	t.front, err = virtio.NewFrontend(dev, mem, virtio.Options{
		Name: opts.Name,
		Logf: opts.Logf,
		// A failed write to the eventfd would be a bug in this package, and there is no one to
		// report it to.
		OnConfig: func() { _ = config.Signal() },
	})
	if err != nil {
		return nil, errors.Join(err, w.close())
	}
	for i := range n {
		w.sources[i].call = t.front.Call(i)
	}
	w.logf = t.front.Logf
	t.bells = doorbells{front: t.front, step: notifyStep, register: func(addr uint64, kick *virtio.Notifier) (func() error, error) {
		return host.AttachDoorbell(guestmem.GPA(addr), kick)
	}}
	if opts.NotifyPorts && n <= maxPortQueues {
		t.bells.late = true
		t.ports = &bus.Bus{}
		t.portBells = doorbells{front: t.front, step: portStep, register: func(addr uint64, kick *virtio.Notifier) (func() error, error) {
			return host.AttachPort(uint16(addr), kick)
		}}
	}
	t.attach()
	t.fn = t.function()
	return t, nil
}

// Frontend returns the device's registers and lifecycle.
func (t *Transport) Frontend() *virtio.Frontend { return t.front }

// Insert puts the function on the bus and attaches the doorbells that are not late. It must be
// called once, before vCPUs run.
func (t *Transport) Insert(root *pci.Root) error {
	_, err := root.Insert(t.fn)
	if err != nil {
		return fmt.Errorf("%s: %w", t.front.Name(), err)
	}
	err = t.bells.place(t.fn.BARAddress(memoryBAR) + notifyOff)
	if t.ports != nil && err == nil {
		err = t.portBells.place(t.fn.BARAddress(portBAR))
	}
	return err
}

// Close resets the device, closes the doorbells and the interrupts, and then closes the device and
// its notifiers. No vCPU may run any more.
func (t *Transport) Close() error {
	var errs []error
	if err := t.front.Reset(); err != nil {
		errs = append(errs, fmt.Errorf("%s: reset: %w", t.front.Name(), err))
	}
	return errors.Join(append(errs, t.portBells.close(), t.bells.close(), t.wiring.close(), t.front.Close())...)
}
