package net

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"

	"minivmm/devices/virtio"
	"minivmm/devices/virtio/queue"
)

// Feature bits (virtio 1.2 §5.1.3; uapi/linux/virtio_net.h). Guest*: offloads that the guest can
// receive. Host*: offloads that the guest may send.
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
	FeatureCtrlVQ    virtio.Features = 1 << 17 // VIRTIO_NET_F_CTRL_VQ
	FeatureCtrlRX    virtio.Features = 1 << 18 // VIRTIO_NET_F_CTRL_RX
	FeatureMQ        virtio.Features = 1 << 22 // VIRTIO_NET_F_MQ
	FeatureCtrlMAC   virtio.Features = 1 << 23 // VIRTIO_NET_F_CTRL_MAC_ADDR
	FeatureGuestUSO4 virtio.Features = 1 << 54 // VIRTIO_NET_F_GUEST_USO4
	FeatureGuestUSO6 virtio.Features = 1 << 55 // VIRTIO_NET_F_GUEST_USO6
	FeatureHostUSO   virtio.Features = 1 << 56 // VIRTIO_NET_F_HOST_USO
)

// controlFeatures are offered together with the control queue.
const controlFeatures = FeatureMQ | FeatureCtrlVQ | FeatureCtrlRX | FeatureCtrlMAC

// controlSize is the size of the control queue. Linux has at most one command in flight there.
const controlSize = 64

// MaxPairs is the maximum number of queue pairs that a device can have. It is below the limit for a
// tap in the kernel (MAX_TAP_QUEUES, drivers/net/tun.c).
const MaxPairs = 64

// Config describes a network device as the guest sees it.
type Config struct {
	MAC       net.HardwareAddr // 6 bytes
	MTU       uint16           // 0: not announced
	QueueSize uint16           // of every queue except the control queue; a power of two
	Pairs     int              // queue pairs, 1 to MaxPairs; 0 means 1
}

// Multiqueue is a backend with several queue pairs. Start gets the pairs that the driver enabled.
// Only the first pair is active until SetPairs is called.
type Multiqueue interface {
	virtio.Backend
	// SetPairs makes the first n pairs active. n is at least 1 and at most the number of pairs
	// that were started.
	SetPairs(n int) error
	// SetFilter sets which frames the driver wants; the backend may deliver other frames too.
	// SetFilter is called only when the filter changes, and at a limited rate (pace).
	SetFilter(Filter) error
}

// Device is a virtio network device on one backend.
type Device struct {
	cfg     Config
	backend virtio.Backend
	control int // index of the live control queue, or -1

	mu      sync.Mutex // guards space: the control queue changes the MAC address
	space   [12]byte   // struct virtio_net_config up to mtu
	changes pace       // limits SetPairs; only the control goroutine uses changes and filters
	filters pace       // limits SetFilter
}

var _ virtio.Device = (*Device)(nil)

// New returns a device that uses the given backend. If there is more than one queue pair, the
// backend must be a [Multiqueue]. The device takes ownership of backend: Close closes it. A device
// with one pair has no control queue.
func New(cfg Config, backend virtio.Backend) (*Device, error) {
	if len(cfg.MAC) != 6 {
		return nil, errors.New("net: MAC address is not 6 bytes long")
	}
	cfg.Pairs = max(cfg.Pairs, 1)
	if cfg.Pairs > MaxPairs {
		return nil, fmt.Errorf("net: %d queue pairs: the maximum is %d", cfg.Pairs, MaxPairs)
	}
	if _, ok := backend.(Multiqueue); !ok && cfg.Pairs > 1 {
		return nil, fmt.Errorf("net: %d queue pairs: the backend supports only one", cfg.Pairs)
	}
	d := &Device{cfg: cfg, backend: backend, control: -1}
	const linkUp = 1 // VIRTIO_NET_S_LINK_UP
	copy(d.space[0:], cfg.MAC)
	binary.LittleEndian.PutUint16(d.space[6:], linkUp)
	binary.LittleEndian.PutUint16(d.space[8:], uint16(cfg.Pairs)) // max_virtqueue_pairs
	binary.LittleEndian.PutUint16(d.space[10:], cfg.MTU)
	return d, nil
}

// ID returns virtio.NetID.
func (d *Device) ID() virtio.DeviceID { return virtio.NetID }

// Features returns the features of the backend, the configuration space and the control queue.
func (d *Device) Features() virtio.Features {
	f := d.backend.Features() | FeatureMAC | FeatureStatus
	if d.cfg.MTU != 0 {
		f |= FeatureMTU
	}
	if d.cfg.Pairs > 1 {
		f |= controlFeatures
	}
	return f
}

// QueueSizes returns the sizes of the pairs' queues, and of the control queue if there is one.
func (d *Device) QueueSizes() []uint16 {
	sizes := slices.Repeat([]uint16{d.cfg.QueueSize}, 2*d.cfg.Pairs)
	if d.cfg.Pairs > 1 {
		sizes = append(sizes, controlSize)
	}
	return sizes
}

// ReadConfig reads struct virtio_net_config.
func (d *Device) ReadConfig(p []byte, off uint32) {
	d.mu.Lock()
	defer d.mu.Unlock()
	clear(p)
	if int64(off) < int64(len(d.space)) {
		copy(p, d.space[off:])
	}
}

// WriteConfig ignores all writes: the configuration space is read-only for a modern driver.
func (d *Device) WriteConfig([]byte, uint32) {}

// setMAC sets the MAC address in the configuration space.
func (d *Device) setMAC(mac []byte) {
	d.mu.Lock()
	defer d.mu.Unlock()
	copy(d.space[:6], mac)
}

// InKernel returns the backend's answer, or false for the control queue, which this process serves.
func (d *Device) InKernel(queue int) bool { return d.backend.InKernel() && queue != d.control }

// Activate starts the backend with the pairs that the driver enabled, and serves the control queue.
// The index of the control queue depends on the negotiated features (virtio 1.2 §5.1.2). A driver
// that enables only one queue of a pair gets an error, because such a NIC would move no frames.
func (d *Device) Activate(a virtio.Activation) error {
	most := 1
	if a.Features.Has(FeatureMQ) {
		most = d.cfg.Pairs
	}
	var data []virtio.Queue
	var control *virtio.Queue
	for _, q := range a.Queues {
		switch i := int(q.Index); {
		case i < 2*most:
			if i != len(data) {
				return fmt.Errorf("driver enabled queue %d but not all queues before it", i)
			}
			data = append(data, q)
		case i == 2*most && a.Features.Has(FeatureCtrlVQ):
			control = &q
		}
	}
	if len(data) == 0 || len(data)%2 != 0 {
		return errors.New("driver enabled only one of the receive and transmit queues")
	}
	pairs := len(data) / 2
	all := a
	a.Queues = data
	if err := d.backend.Start(a); err != nil {
		return err
	}
	if multi, ok := d.backend.(Multiqueue); ok && control != nil {
		c := newController(d, multi, pairs, a.Features)
		d.control = int(control.Index)
		return queue.Start(all, *control, queue.Each(c.serve))
	}
	return nil
}

// Reset stops the backend and restores the configured MAC address.
func (d *Device) Reset() error {
	d.control = -1
	d.setMAC(d.cfg.MAC)
	return d.backend.Stop()
}

// Close closes the backend.
func (d *Device) Close() error { return d.backend.Close() }
