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
	// NotifyPorts gives each queue an I/O port for notifications. The driver finds a queue's port
	// before its memory address, so the doorbell at the memory address is only attached late. A
	// device with more than 128 queues has no ports.
	NotifyPorts bool
}

// Transport presents a virtio device to the guest as a PCI function.
type Transport struct {
	front     *virtio.Frontend
	fn        *pci.Function
	msix      *pci.MSIX
	bar       bus.Bus
	ports     *bus.Bus // nil if the device has no notify ports
	wiring    *wiring
	bells     doorbells // in bar
	portBells doorbells // in ports
	window    window
}

// New creates the PCI function for dev. The function is not yet on a bus: see Insert. On success
// the Transport owns dev. On error the caller still owns dev.
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
		// A failed write to the eventfd would be a bug in this package, and OnConfig cannot return
		// an error.
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

// Insert puts the function on the bus. It also attaches the doorbells, except those that are
// attached late. It must be called once, before vCPUs run.
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
// its notifiers. All vCPUs must have stopped before Close is called.
func (t *Transport) Close() error {
	var errs []error
	if err := t.front.Reset(); err != nil {
		errs = append(errs, fmt.Errorf("%s: reset: %w", t.front.Name(), err))
	}
	return errors.Join(append(errs, t.portBells.close(), t.bells.close(), t.wiring.close(), t.front.Close())...)
}
