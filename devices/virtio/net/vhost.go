package net

import (
	"errors"
	"fmt"

	"minivmm/devices/virtio"
	"minivmm/devices/virtio/vhostbackend"
	"minivmm/vhost"
)

// offered are the features that the VMM adds to those of vhost-net. The tap and vhost-net provide
// them to a driver that accepts them, but vhost-net does not know their feature bits.
const offered = FeatureCsum | FeatureGuestCsum | FeatureGuestTSO4 | FeatureGuestTSO6 | FeatureGuestECN |
	FeatureHostTSO4 | FeatureHostTSO6 | FeatureHostECN

// ringFeatures are the features that vhost-net itself must support. Bit 27 must never be one of
// them: [vhost.Net.Start] rejects it and explains why.
const ringFeatures = FeatureMrgRxbuf | virtio.FeatureRingIndirectDesc | virtio.FeatureRingEventIdx | virtio.FeatureVersion1

// vhostNet combines the kernel backends of all queue pairs, and prepares the tap when they start
// and stop.
type vhostNet struct {
	pairs []*vhostbackend.Backend
	tap   *Tap
	uso   virtio.Features
}

var _ Multiqueue = (*vhostNet)(nil)

// NewVhost returns a backend that moves frames between the guest and the tap with the kernel's
// vhost-net. There must be one device, and so one worker, for each queue of the tap. The devices
// must already have an owner ([vhost.Device.SetOwnerHere]). The backend's Close closes the devices
// and the tap.
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

// Features returns the features that vhost-net supports and those that the tap and the VMM add.
func (v *vhostNet) Features() virtio.Features {
	return v.pairs[0].Features() | offered | v.uso
}

// InKernel returns true.
func (v *vhostNet) InKernel() bool { return true }

// Start sets the tap's offloads before any frame flows, and then starts the queue pairs. Only the
// first pair receives frames until SetPairs is called.
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

// SetPairs makes the host send to the first n pairs only. The driver does not transmit on the other
// pairs, so their workers wait.
func (v *vhostNet) SetPairs(n int) error { return v.tap.setQueues(n) }

// SetFilter sets the tap's filter.
func (v *vhostNet) SetFilter(f Filter) error { return v.tap.setFilter(f) }

// Stop stops all pairs and returns the tap to the state that Start expects.
func (v *vhostNet) Stop() error {
	var errs []error
	for _, p := range v.pairs {
		errs = append(errs, p.Stop())
	}
	return errors.Join(append(errs, v.tap.setQueues(1), v.tap.setFilter(Filter{}))...)
}

// Close destroys the workers and then closes the tap.
func (v *vhostNet) Close() error {
	var errs []error
	for _, p := range v.pairs {
		errs = append(errs, p.Close())
	}
	return errors.Join(append(errs, v.tap.Close())...)
}
