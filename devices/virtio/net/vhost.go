package net

import (
	"errors"
	"fmt"

	"minivmm/devices/virtio"
	"minivmm/devices/virtio/kernel"
	"minivmm/vhost"
)

// offered are the features of the VMM's own: the tap and vhost-net do them for
// a driver that accepts them, but vhost-net does not know their bits.
const offered = FeatureCsum | FeatureGuestCsum | FeatureGuestTSO4 | FeatureGuestTSO6 | FeatureGuestECN |
	FeatureHostTSO4 | FeatureHostTSO6 | FeatureHostECN

// ringFeatures are those that vhost-net itself must know. Bit 27 is not among
// them and must never be: VIRTIO_F_ANY_LAYOUT for the driver, it is
// VHOST_NET_F_VIRTIO_NET_HDR for vhost-net, which then expects no headers from
// the tap and silently breaks every offload.
const ringFeatures = FeatureMrgRxbuf | virtio.FeatureRingIndirectDesc | virtio.FeatureRingEventIdx | virtio.FeatureVersion1

// vhostNet is the kernel backend with the tap's side of starting and stopping.
type vhostNet struct {
	*kernel.Backend
	net *vhost.Net
	tap *Tap
	uso virtio.Features
}

var _ virtio.Backend = (*vhostNet)(nil)

// NewVhost moves frames between the guest and tap in the kernel's vhost-net
// worker. The device must be owned already ([vhost.Device.SetOwnerHere]). Backend
// takes both: its Close closes them.
func NewVhost(name string, dev *vhost.Net, tap *Tap) (virtio.Backend, error) {
	v := &vhostNet{net: dev, tap: tap}
	if tap.hasUSO() {
		v.uso = FeatureGuestUSO4 | FeatureGuestUSO6 | FeatureHostUSO
	}
	backend, err := kernel.New(kernel.Config{
		Name:     name,
		Device:   dev.Device,
		Features: ringFeatures,
		Start:    v.start,
		Stop:     func([]vhost.Vring) error { return dev.Stop() },
	})
	if err != nil {
		return nil, err
	}
	v.Backend = backend
	return v, nil
}

// Features adds what tap and VMM do to what vhost-net can.
func (v *vhostNet) Features() virtio.Features {
	return v.Backend.Features() | offered | v.uso
}

// Start tells the tap what the guest can receive before any frame flows.
func (v *vhostNet) Start(a virtio.Activation) error {
	if err := v.tap.SetOffloads(a.Features); err != nil {
		return err
	}
	return v.Backend.Start(a)
}

func (v *vhostNet) start(s vhost.Setup) error {
	if err := v.net.Start(s, v.tap.fd); err != nil {
		return fmt.Errorf("tap %s: %w", v.tap.name, err)
	}
	return nil
}

// Close ends the worker before the tap goes.
func (v *vhostNet) Close() error {
	return errors.Join(v.Backend.Close(), v.tap.Close())
}
