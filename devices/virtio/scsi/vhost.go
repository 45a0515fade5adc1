package scsi

import (
	"minivmm/devices/virtio"
	"minivmm/devices/virtio/vhostbackend"
	"minivmm/vhost"
)

// NewVhost returns a backend that serves requests in the kernel's vhost-scsi worker. The LUNs are
// those of the LIO target named by wwpn. The device must already have an owner
// ([vhost.Device.SetOwnerHere]). The backend owns the device: the backend's Close closes the
// device.
func NewVhost(name string, dev *vhost.Scsi, wwpn string) (virtio.Backend, error) {
	return vhostbackend.New(vhostbackend.Config{
		Name:   name,
		Device: dev.Device,
		// T10_PI is not offered: with it, requests would have a second, untested header layout.
		Features: FeatureHotplug | virtio.FeatureRingIndirectDesc | virtio.FeatureRingEventIdx | virtio.FeatureVersion1,
		Start:    func(s vhost.Setup) error { return dev.Start(s, wwpn) },
		Stop:     func(rings []vhost.Vring) error { return dev.Stop(wwpn, rings) },
	})
}
