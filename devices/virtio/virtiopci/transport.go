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
}

// Transport is one virtio device as a PCI function.
type Transport struct {
	front  *virtio.Frontend
	fn     *pci.Function
	msix   *pci.MSIX
	bar    space
	wiring *wiring
	bells  doorbells
	window window
	closed bool
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
	t.bells = doorbells{host: host, front: t.front, late: opts.LateDoorbells, detach: make([]func() error, t.front.NumQueues())}
	t.bar = t.regions()
	if t.fn, err = t.function(); err != nil {
		panic(fmt.Sprintf("virtiopci: the layout does not fit PCI: %v", err))
	}
	return nil
}

// Frontend is the device's registers and lifecycle.
func (t *Transport) Frontend() *virtio.Frontend { return t.front }

// Function is the device's configuration space.
func (t *Transport) Function() *pci.Function { return t.fn }

// Insert puts the function on the bus and attaches the doorbells, unless they
// come late. It is called once, before vCPUs run.
func (t *Transport) Insert(root *pci.Root) (device int, err error) {
	device, err = root.Insert(t.fn)
	if err != nil {
		return 0, fmt.Errorf("%s: %w", t.front.Name(), err)
	}
	base, _ := t.fn.BARAddress(theBAR)
	return device, t.bells.place(guestmem.GPA(base + notifyOff))
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
	return errors.Join(append(errs, t.bells.close(), t.wiring.close(), t.front.Close())...)
}
