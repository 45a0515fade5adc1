package console

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"

	"minivmm/devices/virtio"
	"minivmm/devices/virtio/queue"
	"minivmm/internal/task"
)

const (
	// FeatureMultiport offers control queues and more ports than port 0
	// (VIRTIO_CONSOLE_F_MULTIPORT).
	FeatureMultiport virtio.Features = 1 << 1

	// MaxPorts is the maximum number of ports of a device, the same as in QEMU.
	MaxPorts = 30

	// MaxName is the maximum length of a name in bytes.
	MaxName = 128
)

// Queue indices (virtio 1.2 §5.3.2). Each port has two queues. The two queues of the control
// channel come between the queues of port 0 and the queues of port 1. The first queue of each pair
// carries data to the driver, the second carries data to the device.
const (
	receive0, transmit0 = 0, 1
	controlReceive      = 2
	controlTransmit     = 3
	firstPort           = 4 // the receive queue of port 1

	portSize, controlRingSize = 64, 32 // entries
)

// Device is a [virtio.Device].
type Device struct {
	config [12]byte      // struct virtio_console_config
	ports  []*port       // port 1 is ports[0]
	wake   chan struct{} // one slot: a port was hung up, or a message is due
	tasks  *task.Group   // the goroutines that read and write the Conns
	live   atomic.Pointer[virtio.Activation]
}

// New creates a device with 1 to [MaxPorts] ports, numbered from 1. On success the device owns each
// Conn and closes it at Close. On error the Conns still belong to the caller.
func New(ports []Port) (*Device, error) {
	if len(ports) == 0 || len(ports) > MaxPorts {
		return nil, fmt.Errorf("console: %d ports: want 1 to %d", len(ports), MaxPorts)
	}
	for i, p := range ports {
		if err := checkName(p.Name); err != nil {
			return nil, fmt.Errorf("console: port %d: %w", i+1, err)
		}
		if slices.ContainsFunc(ports[:i], func(other Port) bool { return other.Name == p.Name }) {
			return nil, fmt.Errorf("console: port %d: duplicate name %q", i+1, p.Name)
		}
		if p.Conn == nil {
			return nil, fmt.Errorf("console: port %q: no Conn", p.Name)
		}
	}
	d := &Device{wake: make(chan struct{}, 1)}
	binary.LittleEndian.PutUint32(d.config[4:], uint32(1+len(ports))) // max_nr_ports

	d.tasks = task.New(func(err error) {
		if a := d.live.Load(); a != nil {
			a.Failed(err)
		}
	})
	for _, given := range ports {
		p := newPort(given, d.wake)
		d.ports = append(d.ports, p)
		d.tasks.Go(p.pumpIn)
		d.tasks.Go(p.pumpOut)
	}
	return d, nil
}

// checkName accepts names that are valid file names under /dev/virtio-ports.
func checkName(name string) error {
	if name == "" || len(name) > MaxName {
		return fmt.Errorf("name %q: want 1 to %d bytes", name, MaxName)
	}
	if name == "." || name == ".." || strings.ContainsFunc(name, func(r rune) bool { return r <= ' ' || r > '~' || r == '/' }) {
		return fmt.Errorf("name %q: want a file name of printable ASCII characters without spaces", name)
	}
	return nil
}

// ID returns the console device type.
func (*Device) ID() virtio.DeviceID { return virtio.ConsoleID }

// Features returns FeatureMultiport and the ring features of package queue.
func (*Device) Features() virtio.Features {
	return FeatureMultiport | virtio.FeatureRingIndirectDesc | virtio.FeatureRingEventIdx
}

// QueueSizes returns 64 entries for each queue of a port, including port 0, and 32 for the control
// queues.
func (d *Device) QueueSizes() []uint16 {
	sizes := slices.Repeat([]uint16{portSize}, firstPort+2*len(d.ports))
	sizes[controlReceive], sizes[controlTransmit] = controlRingSize, controlRingSize
	return sizes
}

// ReadConfig reads struct virtio_console_config. Only max_nr_ports has a meaning: the features for
// the other fields are not offered.
func (d *Device) ReadConfig(p []byte, off uint32) {
	if off < uint32(len(d.config)) {
		copy(p, d.config[off:])
	}
}

// WriteConfig ignores all writes: emergency write is not supported.
func (*Device) WriteConfig([]byte, uint32) {}

// InKernel returns false.
func (*Device) InKernel(int) bool { return false }

// Activate serves the queues that the driver enabled. Without FeatureMultiport there are only the
// queues of port 0.
func (d *Device) Activate(a virtio.Activation) error {
	d.live.Store(&a)
	c := newControl(d.ports, d.wake)
	for _, q := range a.Queues {
		loop := d.loop(c, q.Index)
		if loop == nil || q.Index > transmit0 && !a.Features.Has(FeatureMultiport) {
			continue
		}
		if err := queue.Start(a, q, loop); err != nil {
			return err
		}
	}
	return nil
}

// loop returns the function that serves queue i until ctx is done, or nil if the queue is not
// served.
func (d *Device) loop(c *control, i uint16) func(ctx context.Context, q *queue.Queue) error {
	switch i {
	case receive0:
		return nil
	case transmit0:
		return queue.Each(func(*queue.Chain) (uint32, error) { return 0, nil }) // chains are returned unread
	case controlReceive:
		return c.send
	case controlTransmit:
		return c.receive
	}
	n := int(i-firstPort) / 2
	if i%2 == 0 {
		return func(ctx context.Context, q *queue.Queue) error {
			return d.ports[n].toGuest(ctx, q, func() error { return c.gate(ctx, n) })
		}
	}
	return d.ports[n].fromGuest
}

// Reset stops the data path. It does not wait for a Conn.
func (d *Device) Reset() error {
	d.live.Store(nil)
	return nil
}

// Close closes every Conn and waits for the goroutines that use the Conns.
func (d *Device) Close() error {
	d.live.Store(nil)
	d.tasks.Cancel()
	var errs []error
	for _, p := range d.ports {
		if err := p.conn.Close(); err != nil {
			errs = append(errs, fmt.Errorf("console: close port %q: %w", p.name, err))
		}
	}
	return errors.Join(append(errs, d.tasks.Stop())...)
}

// post fills the slot of c unless it is already full.
func post(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
