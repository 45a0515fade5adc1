package virtio

// DeviceID is a virtio device type (virtio 1.2 §5).
type DeviceID uint16

// Device types that minivmm implements (uapi/linux/virtio_ids.h).
const (
	NetID     DeviceID = 1 // VIRTIO_ID_NET
	ConsoleID DeviceID = 3 // VIRTIO_ID_CONSOLE
	RngID     DeviceID = 4 // VIRTIO_ID_RNG
	SCSIID    DeviceID = 8 // VIRTIO_ID_SCSI
)

// Features is a set of feature bits (virtio 1.2 §2.2, §6).
type Features uint64

// Feature bits that apply to every device or to its rings.
const (
	FeatureRingIndirectDesc Features = 1 << 28 // VIRTIO_RING_F_INDIRECT_DESC
	FeatureRingEventIdx     Features = 1 << 29 // VIRTIO_RING_F_EVENT_IDX
	FeatureVersion1         Features = 1 << 32 // VIRTIO_F_VERSION_1
)

// Has reports whether all bits of want are set.
func (f Features) Has(want Features) bool { return f&want == want }

// Status is the device status field (virtio 1.2 §2.1).
type Status uint8

// Status bits (uapi/linux/virtio_config.h, VIRTIO_CONFIG_S_*).
const (
	StatusAcknowledge Status = 1
	StatusDriver      Status = 2
	StatusDriverOK    Status = 4
	StatusFeaturesOK  Status = 8
	StatusNeedsReset  Status = 64
	StatusFailed      Status = 128
)
