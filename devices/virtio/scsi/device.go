package scsi

import (
	"encoding/binary"
	"errors"
	"slices"

	"minivmm/devices/virtio"
)

// Feature bits (virtio 1.2 §5.6.3).
const (
	FeatureHotplug virtio.Features = 1 << 1 // VIRTIO_SCSI_F_HOTPLUG
	FeatureChange  virtio.Features = 1 << 2 // VIRTIO_SCSI_F_CHANGE: the device sends an event when a logical unit has changed
)

// Queue indices (virtio 1.2 §5.6.2). Request queues start at requestQueue.
const (
	controlQueue = 0
	eventQueue   = 1
	requestQueue = 2
)

// The only sizes that vhost-scsi supports. They are also the specification's defaults.
const (
	cdbBytes   = 32
	senseBytes = 96
	eventBytes = 16 // sizeof(struct virtio_scsi_event)
)

// maxSectors is the maximum length of a request, in 512-byte sectors: 4 MiB. vhost-scsi drops a
// request of more than 2048 pages (8 MiB) without an answer.
const maxSectors = 8192

// Config describes the host adapter that the guest sees.
type Config struct {
	RequestQueues int    // at least 1
	QueueSize     uint16 // size of each queue; a power of two, at least 16
	MaxLUN        uint32 // highest LUN of a target
}

// Device is a virtio SCSI host device with one backend.
type Device struct {
	cfg     Config
	backend virtio.Backend
	space   [36]byte // struct virtio_scsi_config
}

// New creates a host device with the given backend. The device owns the backend: Device.Close
// closes the backend.
func New(cfg Config, backend virtio.Backend) (*Device, error) {
	if cfg.RequestQueues < 1 || cfg.QueueSize < 16 {
		return nil, errors.New("scsi: a host adapter requires at least 1 request queue and a queue size of at least 16")
	}
	d := &Device{cfg: cfg, backend: backend}
	le := binary.LittleEndian
	le.PutUint32(d.space[0:], uint32(cfg.RequestQueues)) // num_queues
	le.PutUint32(d.space[4:], uint32(cfg.QueueSize)-2)   // seg_max: the request and the response header take one descriptor each
	le.PutUint32(d.space[8:], maxSectors)                // max_sectors
	le.PutUint32(d.space[12:], uint32(cfg.QueueSize))    // cmd_per_lun
	le.PutUint32(d.space[16:], eventBytes)               // event_info_size
	le.PutUint32(d.space[20:], senseBytes)               // sense_size
	le.PutUint32(d.space[24:], cdbBytes)                 // cdb_size
	le.PutUint32(d.space[32:], cfg.MaxLUN)               // max_lun, after max_channel 0 and max_target 0
	return d, nil
}

// ID returns virtio.SCSIID.
func (d *Device) ID() virtio.DeviceID { return virtio.SCSIID }

// Features returns the features of the backend.
func (d *Device) Features() virtio.Features { return d.backend.Features() }

// QueueSizes returns the sizes of the control, event and request queues.
func (d *Device) QueueSizes() []uint16 {
	return slices.Repeat([]uint16{d.cfg.QueueSize}, requestQueue+d.cfg.RequestQueues)
}

// ReadConfig reads struct virtio_scsi_config.
func (d *Device) ReadConfig(p []byte, off uint32) {
	clear(p)
	if int64(off) < int64(len(d.space)) {
		copy(p, d.space[off:])
	}
}

// WriteConfig ignores all writes. A driver may write sense_size and cdb_size, but vhost-scsi
// supports only the default sizes. A driver that reads the two fields again gets the default sizes.
func (d *Device) WriteConfig([]byte, uint32) {}

// InKernel reports whether the backend runs in the kernel.
func (d *Device) InKernel(int) bool { return d.backend.InKernel() }

// Activate starts the backend. Linux enables every queue. A driver that leaves the control queue,
// the event queue or all request queues disabled cannot use the device.
func (d *Device) Activate(a virtio.Activation) error {
	enabled := func(i int) bool { return i < len(a.Queues) && int(a.Queues[i].Index) == i } // in index order
	if !enabled(controlQueue) || !enabled(eventQueue) || len(a.Queues) == requestQueue {
		return errors.New("the driver left the control queue, the event queue or all request queues disabled")
	}
	return d.backend.Start(a)
}

// Reset stops the backend.
func (d *Device) Reset() error { return d.backend.Stop() }

// Close closes the backend.
func (d *Device) Close() error { return d.backend.Close() }
