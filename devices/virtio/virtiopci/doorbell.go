package virtiopci

import (
	"errors"
	"fmt"
	"sync"

	"minivmm/devices/bus"
	"minivmm/devices/virtio"
)

// doorbells are the notify addresses of the queues, in memory or in I/O ports.
type doorbells struct {
	front *virtio.Frontend
	step  uint64 // distance between the addresses of consecutive queues: notify_off_multiplier
	// If late is set, a queue's doorbell is attached only at the queue's first notification, which
	// therefore causes a VM exit. This saves time: each registration waits for an RCU grace period
	// in the kernel, and a queue that the driver notifies at its other address needs no doorbell
	// here.
	late bool
	// register makes the host signal the notifier kick when the guest writes to the address addr.
	register func(addr uint64, kick *virtio.Notifier) (detach func() error, err error)

	mu     sync.Mutex
	base   uint64
	tried  []bool
	detach []func() error
}

// place sets the address of queue 0's doorbell. It attaches all doorbells unless late is set.
func (d *doorbells) place(base uint64) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.base = base
	d.tried = make([]bool, d.front.NumQueues())
	d.detach = make([]func() error, d.front.NumQueues())
	for i := range d.detach {
		if d.late {
			break
		}
		if err := d.attach(i); err != nil {
			return fmt.Errorf("%s: queue %d: doorbell: %w", d.front.Name(), i, err)
		}
	}
	return nil
}

// attach attaches the doorbell of queue i, at most once. d.mu is held.
func (d *doorbells) attach(i int) (err error) {
	if d.tried[i] {
		return nil
	}
	d.tried[i] = true
	d.detach[i], err = d.register(d.base+uint64(i)*d.step, d.front.Kick(i))
	return err
}

func (d *doorbells) close() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	var errs []error
	for i, detach := range d.detach {
		if detach == nil {
			continue
		}
		if err := detach(); err != nil {
			errs = append(errs, fmt.Errorf("%s: queue %d: doorbell: %w", d.front.Name(), i, err))
		}
	}
	d.detach = nil
	return errors.Join(errs...)
}

// Read and Write implement the region of the doorbells (virtio 1.2 §4.1.4.4). The address selects
// the queue; the value and the width of the access do not matter. If an access reaches the method
// Write, it has caused a VM exit.
func (d *doorbells) Read(_ uint64, p []byte) { bus.Ones(p) }

func (d *doorbells) Write(off uint64, _ []byte) {
	i := int(off / d.step)
	if err := d.front.Kick(i).Signal(); err != nil {
		d.front.Logf("queue %d: %v", i, err)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.attach(i); err != nil {
		d.front.Logf("queue %d: doorbell: %v: every notification will cause a VM exit", i, err)
	}
}
