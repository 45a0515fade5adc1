package virtiopci

import (
	"errors"
	"fmt"
	"sync"

	"minivmm/devices/guestmem"
	"minivmm/devices/virtio"
)

// doorbells are the attached notify addresses.
type doorbells struct {
	host  virtio.Host
	front *virtio.Frontend
	late  bool

	mu     sync.Mutex
	base   guestmem.GPA // 0: not on a bus
	tried  []bool
	detach []func() error
}

// place tells the address of queue 0's doorbell.
func (d *doorbells) place(base guestmem.GPA) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.base = base
	d.tried = make([]bool, len(d.detach))
	if d.late {
		return nil
	}
	for i := range d.detach {
		if err := d.attach(i); err != nil {
			return fmt.Errorf("%s: queue %d: doorbell: %w", d.front.Name(), i, err)
		}
	}
	return nil
}

// attach gives queue i its doorbell, once. d.mu is held.
func (d *doorbells) attach(i int) (err error) {
	if d.base == 0 || d.tried[i] {
		return nil
	}
	d.tried[i] = true
	d.detach[i], err = d.host.AttachDoorbell(d.base+guestmem.GPA(i*notifyStep), d.front.Kick(i))
	return err
}

// ring is a notification that came as an exit.
func (d *doorbells) ring(i int) {
	if err := d.front.Kick(i).Signal(); err != nil {
		d.front.Logf("queue %d: %v", i, err)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.attach(i); err != nil {
		d.front.Logf("queue %d: doorbell: %v: every notification leaves the guest", i, err)
	}
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
	d.base, d.detach = 0, nil
	return errors.Join(errs...)
}

// notify is the region of the doorbells (virtio 1.2 §4.1.4.4). The address
// says which queue; value and width do not matter.
type notify struct{ t *Transport }

func (notify) Read(_ uint64, p []byte) { ones(p) }

func (n notify) Write(off uint64, _ []byte) { n.t.bells.ring(int(off / notifyStep)) }
