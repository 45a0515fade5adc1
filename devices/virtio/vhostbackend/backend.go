package vhostbackend

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"minivmm/devices/virtio"
	"minivmm/vhost"
)

// Config is what vhost devices differ in.
type Config struct {
	Name   string        // the device's, for errors: "net0"
	Device *vhost.Device // owned; New takes it

	// Features are those that the driver may get and vhost must know. What
	// this kernel's device lacks is taken away.
	Features virtio.Features

	// FirstQueue is the virtqueue that is ring 0 of the vhost device; those
	// after it follow.
	FirstQueue uint16

	// Start and Stop are the device's own, which keep the kernel's order of
	// calls. Stop returns when the worker is through with what it had begun.
	Start func(vhost.Setup) error
	Stop  func([]vhost.Vring) error
}

// Backend serves a device's rings in the kernel. Its methods are called one at
// a time, as virtio.Device promises.
type Backend struct {
	cfg      Config
	features virtio.Features
	active   *activation // nil when stopped
}

// activation is what one Start holds.
type activation struct {
	rings   []vhost.Vring
	errors  []*virtio.Notifier // one a ring
	started bool
}

// New takes the vhost device, which must have its owner: Close closes it.
func New(cfg Config) (*Backend, error) {
	has, err := cfg.Device.GetFeatures()
	if err != nil {
		return nil, err
	}
	if !virtio.Features(has).Has(virtio.FeatureVersion1) {
		return nil, fmt.Errorf("%s: the kernel's vhost device has no VIRTIO_F_VERSION_1", cfg.Name)
	}
	return &Backend{cfg: cfg, features: cfg.Features & virtio.Features(has)}, nil
}

// Features are the configured ones that this kernel has.
func (b *Backend) Features() virtio.Features { return b.features }

// InKernel is true.
func (b *Backend) InKernel() bool { return true }

// Start hands the rings to the worker.
func (b *Backend) Start(a virtio.Activation) error {
	if b.active != nil {
		return errors.New("vhost: already started")
	}
	act := &activation{}
	b.active = act
	setup := vhost.Setup{Features: uint64(a.Features & b.features)}
	for _, r := range a.Memory.Regions() {
		setup.Memory = append(setup.Memory, vhost.MemoryRegion{GPA: uint64(r.GPA), SizeBytes: uint64(len(r.Bytes)), HVA: r.HVA()})
	}
	for _, q := range a.Queues {
		if err := act.add(a, q, b.cfg); err != nil {
			return fmt.Errorf("queue %d: %w", q.Index, err)
		}
	}
	setup.Vrings = act.rings
	if err := b.cfg.Start(setup); err != nil {
		return err
	}
	act.started = true
	return nil
}

// add describes one ring and begins to watch its error eventfd.
func (act *activation) add(a virtio.Activation, q virtio.Queue, cfg Config) error {
	var hva [3]uintptr
	for i, r := range q.Ranges() {
		var err error
		if hva[i], err = a.Memory.HVA(r.GPA, r.SizeBytes); err != nil {
			return err
		}
	}
	bad, err := virtio.NewNotifier(fmt.Sprintf("%s-error-%d", cfg.Name, q.Index))
	if err != nil {
		return err
	}
	act.errors = append(act.errors, bad)
	reader, err := bad.Reader()
	if err != nil {
		return err
	}
	a.Go(func(ctx context.Context) error { return watch(ctx, reader, q.Index) })
	act.rings = append(act.rings, vhost.Vring{
		Index: uint32(q.Index - cfg.FirstQueue), Num: uint32(q.Size),
		Desc: hva[0], Avail: hva[1], Used: hva[2],
		Kick: q.Kick.FD(), Call: q.Call.FD(), Err: bad.FD(),
	})
	return nil
}

// watch waits for an error of the ring, or for the end of ctx, and closes reader.
func watch(ctx context.Context, reader *os.File, ring uint16) error {
	defer reader.Close()
	defer context.AfterFunc(ctx, func() { reader.SetReadDeadline(time.Unix(1, 0)) })()
	var count [8]byte
	if _, err := reader.Read(count[:]); err != nil {
		return err
	}
	return fmt.Errorf("queue %d: vhost stopped at a ring or descriptor that it cannot use", ring)
}

// Stop takes the rings back: afterwards the worker does not touch queues, memory
// or notifiers.
func (b *Backend) Stop() error {
	act := b.active
	if act == nil {
		return nil
	}
	b.active = nil
	var errs []error
	if act.started {
		errs = append(errs, b.cfg.Stop(act.rings))
		for _, r := range act.rings {
			errs = append(errs,
				b.cfg.Device.SetVringKick(r.Index, -1),
				b.cfg.Device.SetVringCall(r.Index, -1),
				b.cfg.Device.SetVringErr(r.Index, -1))
		}
	}
	for _, n := range act.errors {
		errs = append(errs, n.Close())
	}
	return errors.Join(errs...)
}

// Close stops and ends the worker.
func (b *Backend) Close() error {
	return errors.Join(b.Stop(), b.cfg.Device.Close())
}
