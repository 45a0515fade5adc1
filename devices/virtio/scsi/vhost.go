package scsi

import (
	"minivmm/devices/virtio"
	"minivmm/devices/virtio/vhostbackend"
	"minivmm/vhost"
)

// NewVhost serves requests in the kernel's vhost-scsi worker, from the LUNs of
// the LIO target wwpn. The device must be owned already
// ([vhost.Device.SetOwnerHere]). The backend takes it: Close closes it.
func NewVhost(name string, dev *vhost.Scsi, wwpn string) (virtio.Backend, error) {
	return vhostbackend.New(vhostbackend.Config{
		Name:   name,
		Device: dev.Device,
		// Without T10_PI: requests then have the one header that is tested.
		Features: FeatureHotplug | virtio.FeatureRingIndirectDesc | virtio.FeatureRingEventIdx | virtio.FeatureVersion1,
		Start:    func(s vhost.Setup) error { return dev.Start(s, wwpn) },
		Stop:     func(rings []vhost.Vring) error { return dev.Stop(wwpn, rings) },
	})
}
