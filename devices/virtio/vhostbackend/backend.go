// Package vhostbackend implements the backend in the kernel: it translates an Activation into vhost
// calls, in the order that the kernel requires, and reverses them.
//
// Only the vhost worker uses the data path: the kick and call eventfds and the tap are never
// registered with Go's poller. The error eventfd of each ring is registered, because a worker that
// finds a bad ring stops serving the ring and reports this nowhere else.
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

// Config describes a vhost device.
type Config struct {
	Name   string        // the device's name for errors, for example "net0"
	Device *vhost.Device // owned by the Backend

	// Features are the features to offer. New removes those that this kernel's device lacks.
	Features virtio.Features

	// FirstQueue is the virtqueue that is ring 0 of the vhost device. The following virtqueues are
	// rings 1, 2 and so on.
	FirstQueue uint16

	// Start and Stop start and stop the device with calls in the order that the kernel requires.
	// Stop returns when the worker has finished the work that it had started.
	Start func(vhost.Setup) error
	Stop  func([]vhost.Vring) error
}

// Backend serves a device's rings in the kernel. Its methods are called one at a time, as
// virtio.Device promises.
type Backend struct {
	cfg      Config
	features virtio.Features
	active   *activation // nil when stopped
}

// activation is the state of one Start.
type activation struct {
	rings   []vhost.Vring
	errors  []*virtio.Notifier // one for each ring
	started bool
}

// New returns a backend for the vhost device, which must already have an owner. The backend owns
// the device: Close closes it.
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

// Features returns the configured features that this kernel supports.
func (b *Backend) Features() virtio.Features { return b.features }

// InKernel returns true.
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

// add describes one ring and starts to watch its error eventfd.
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

// watch waits until the ring has an error or ctx is done, and closes reader.
func watch(ctx context.Context, reader *os.File, ring uint16) error {
	defer reader.Close()
	defer context.AfterFunc(ctx, func() { reader.SetReadDeadline(time.Unix(1, 0)) })()
	var count [8]byte
	if _, err := reader.Read(count[:]); err != nil {
		return err
	}
	return fmt.Errorf("queue %d: vhost stopped: the ring or one of its descriptors is invalid", ring)
}

// Stop takes the rings back. When it returns, the worker no longer accesses queues, memory or
// notifiers.
func (b *Backend) Stop() error {
	act := b.active
	if act == nil {
		return nil
	}
	b.active = nil
	var errs []error
	if act.started {
		errs = append(errs, b.cfg.Stop(act.rings), b.cfg.Device.Disconnect(act.rings))
	}
	for _, n := range act.errors {
		errs = append(errs, n.Close())
	}
	return errors.Join(errs...)
}

// Close stops the backend and destroys the worker.
func (b *Backend) Close() error {
	return errors.Join(b.Stop(), b.cfg.Device.Close())
}
