package net

import (
	"errors"
	"fmt"

	"minivmm/devices/virtio"
	"minivmm/devices/virtio/vhostbackend"
	"minivmm/vhost"
)

// offered are the features of the VMM's own: the tap and vhost-net do them for
// a driver that accepts them, but vhost-net does not know their bits.
const offered = FeatureCsum | FeatureGuestCsum | FeatureGuestTSO4 | FeatureGuestTSO6 | FeatureGuestECN |
	FeatureHostTSO4 | FeatureHostTSO6 | FeatureHostECN

// ringFeatures are those that vhost-net itself must know. Bit 27 must never be
// one of them: [vhost.Net.Start] refuses it and says why.
const ringFeatures = FeatureMrgRxbuf | virtio.FeatureRingIndirectDesc | virtio.FeatureRingEventIdx | virtio.FeatureVersion1

// vhostNet is a kernel backend for each queue pair, with the tap's side of
// starting and stopping.
type vhostNet struct {
	pairs []*vhostbackend.Backend
	tap   *Tap
	uso   virtio.Features
}

var _ Multiqueue = (*vhostNet)(nil)

// NewVhost moves frames between the guest and tap in the kernel's vhost-net, a
// device and so a worker for each queue of the tap. The devices must be owned
// already ([vhost.Device.SetOwnerHere]). Backend takes devices and tap: its Close
// closes them.
func NewVhost(name string, devs []*vhost.Net, tap *Tap) (virtio.Backend, error) {
	if len(devs) != len(tap.fds) {
		return nil, fmt.Errorf("%s: %d vhost devices for %d queues of tap %s", name, len(devs), len(tap.fds), tap.name)
	}
	v := &vhostNet{tap: tap}
	if tap.hasUSO() {
		v.uso = FeatureGuestUSO4 | FeatureGuestUSO6 | FeatureHostUSO
	}
	for k, dev := range devs {
		fd := tap.fds[k]
		pair, err := vhostbackend.New(vhostbackend.Config{
			Name:       name,
			Device:     dev.Device,
			Features:   ringFeatures,
			FirstQueue: uint16(2 * k),
			Start: func(s vhost.Setup) error {
				if err := dev.Start(s, fd); err != nil {
					return fmt.Errorf("tap %s: %w", tap.name, err)
				}
				return nil
			},
			Stop: func([]vhost.Vring) error { return dev.Stop() },
		})
		if err != nil {
			return nil, err
		}
		v.pairs = append(v.pairs, pair)
	}
	return v, nil
}

// Features adds what tap and VMM do to what vhost-net can.
func (v *vhostNet) Features() virtio.Features {
	return v.pairs[0].Features() | offered | v.uso
}

// InKernel is true.
func (v *vhostNet) InKernel() bool { return true }

// Start tells the tap what the guest can receive before any frame flows, and
// starts the pairs. Frames come through the first alone until SetPairs.
func (v *vhostNet) Start(a virtio.Activation) error {
	if err := v.tap.setOffloads(a.Features); err != nil {
		return err
	}
	for k, queues := 0, a.Queues; len(queues) > 0; k, queues = k+1, queues[2:] {
		a.Queues = queues[:2]
		if err := v.pairs[k].Start(a); err != nil {
			return err
		}
	}
	return nil
}

// SetPairs has the host send into the first n pairs only. The others' workers
// wait for a guest that has promised to be silent.
func (v *vhostNet) SetPairs(n int) error { return v.tap.setQueues(n) }

// SetFilter is the tap's.
func (v *vhostNet) SetFilter(f Filter) error { return v.tap.setFilter(f) }

// Stop stops every pair, and leaves the tap as Start wants it.
func (v *vhostNet) Stop() error {
	var errs []error
	for _, p := range v.pairs {
		errs = append(errs, p.Stop())
	}
	return errors.Join(append(errs, v.tap.setQueues(1), v.tap.setFilter(Filter{}))...)
}

// Close ends the workers before the tap goes.
func (v *vhostNet) Close() error {
	var errs []error
	for _, p := range v.pairs {
		errs = append(errs, p.Close())
	}
	return errors.Join(append(errs, v.tap.Close())...)
}
