package net

import (
	"encoding/binary"
	"errors"
	"net"

	"minivmm/devices/virtio"
)

// Feature bits (virtio 1.2 §5.1.3; uapi/linux/virtio_net.h). Guest* say what
// the guest can receive, Host* what it may send.
const (
	FeatureCsum      virtio.Features = 1 << 0  // VIRTIO_NET_F_CSUM
	FeatureGuestCsum virtio.Features = 1 << 1  // VIRTIO_NET_F_GUEST_CSUM
	FeatureMTU       virtio.Features = 1 << 3  // VIRTIO_NET_F_MTU
	FeatureMAC       virtio.Features = 1 << 5  // VIRTIO_NET_F_MAC
	FeatureGuestTSO4 virtio.Features = 1 << 7  // VIRTIO_NET_F_GUEST_TSO4
	FeatureGuestTSO6 virtio.Features = 1 << 8  // VIRTIO_NET_F_GUEST_TSO6
	FeatureGuestECN  virtio.Features = 1 << 9  // VIRTIO_NET_F_GUEST_ECN
	FeatureHostTSO4  virtio.Features = 1 << 11 // VIRTIO_NET_F_HOST_TSO4
	FeatureHostTSO6  virtio.Features = 1 << 12 // VIRTIO_NET_F_HOST_TSO6
	FeatureHostECN   virtio.Features = 1 << 13 // VIRTIO_NET_F_HOST_ECN
	FeatureMrgRxbuf  virtio.Features = 1 << 15 // VIRTIO_NET_F_MRG_RXBUF
	FeatureStatus    virtio.Features = 1 << 16 // VIRTIO_NET_F_STATUS
	FeatureGuestUSO4 virtio.Features = 1 << 54 // VIRTIO_NET_F_GUEST_USO4
	FeatureGuestUSO6 virtio.Features = 1 << 55 // VIRTIO_NET_F_GUEST_USO6
	FeatureHostUSO   virtio.Features = 1 << 56 // VIRTIO_NET_F_HOST_USO
)

// Queue indices (virtio 1.2 §5.1.2).
const (
	rxQueue = 0
	txQueue = 1
)

// Config is what the guest sees of one NIC.
type Config struct {
	MAC       net.HardwareAddr // 6 bytes
	MTU       uint16           // 0: not announced
	QueueSize uint16           // of both queues, a power of two
}

// Device is the virtio network device over one backend.
type Device struct {
	cfg     Config
	backend virtio.Backend
	space   [12]byte // struct virtio_net_config up to mtu; read only to the driver
}

var _ virtio.Device = (*Device)(nil)

// New takes the backend: Close closes it.
func New(cfg Config, backend virtio.Backend) (*Device, error) {
	if len(cfg.MAC) != 6 {
		return nil, errors.New("net: MAC address is not 6 bytes long")
	}
	d := &Device{cfg: cfg, backend: backend}
	const linkUp = 1 // VIRTIO_NET_S_LINK_UP
	copy(d.space[0:], cfg.MAC)
	binary.LittleEndian.PutUint16(d.space[6:], linkUp)
	binary.LittleEndian.PutUint16(d.space[8:], 1) // max_virtqueue_pairs
	binary.LittleEndian.PutUint16(d.space[10:], cfg.MTU)
	return d, nil
}

// ID is virtio.NetID.
func (d *Device) ID() virtio.DeviceID { return virtio.NetID }

// Features are the backend's and those of the configuration space.
func (d *Device) Features() virtio.Features {
	f := d.backend.Features() | FeatureMAC | FeatureStatus
	if d.cfg.MTU != 0 {
		f |= FeatureMTU
	}
	return f
}

// QueueSizes are those of receiveq1 and transmitq1.
func (d *Device) QueueSizes() []uint16 { return []uint16{d.cfg.QueueSize, d.cfg.QueueSize} }

// ReadConfig reads struct virtio_net_config.
func (d *Device) ReadConfig(p []byte, off uint32) {
	clear(p)
	if int64(off) < int64(len(d.space)) {
		copy(p, d.space[off:])
	}
}

// WriteConfig ignores everything: a modern driver may write nothing here.
func (d *Device) WriteConfig([]byte, uint32) {}

// Activate starts the backend. A driver that left out one of the two queues
// has a NIC that moves nothing, so that is refused.
func (d *Device) Activate(a virtio.Activation) error {
	if len(a.Queues) != 2 {
		return errors.New("driver enabled only one of receive and transmit queue")
	}
	return d.backend.Start(a)
}

// Reset stops the backend.
func (d *Device) Reset() error { return d.backend.Stop() }

// Close closes the backend.
func (d *Device) Close() error { return d.backend.Close() }
