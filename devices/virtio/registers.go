package virtio

import "minivmm/devices/guestmem"

// Register names one register that every transport has. Where it lies and how
// wide it is, is the transport's business; what it means, is the Frontend's.
type Register uint8

// The registers, by their names in struct virtio_pci_common_cfg (virtio 1.2
// §4.1.4.3). An address is two registers of 32 bits. The Queue ones belong to
// the queue in QueueSelect; when there is none, they read as 0 and cannot be
// written.
const (
	DeviceFeatureSelect Register = iota
	DeviceFeature
	DriverFeatureSelect
	DriverFeature
	NumQueues
	DeviceStatus
	ConfigGeneration
	QueueSelect
	QueueSize    // the maximum until the driver writes it
	QueueSizeMax // QueueNumMax of virtio-mmio
	QueueEnable  // QueueReady of virtio-mmio
	QueueDescLow
	QueueDescHigh
	QueueDriverLow
	QueueDriverHigh
	QueueDeviceLow
	QueueDeviceHigh
	numRegisters
)

// register is a row: how it reads, how it is written (nil: read-only), and
// when: the status must have all bits of need and none of bar.
type register struct {
	name      string
	read      func(*Frontend) uint32
	write     func(*Frontend, uint32)
	readQueue func(*queueState) uint32
	setQueue  func(*queueState, uint32)
	need, bar Status
}

// When the driver may choose features, and when queues (virtio 1.2 §3.1.1
// steps 4 to 7). After DRIVER_OK both are frozen.
const (
	negotiating, notNegotiating = StatusDriver, StatusFeaturesOK | StatusDriverOK | StatusNeedsReset | StatusFailed
	queueing, notQueueing       = StatusFeaturesOK, StatusDriverOK | StatusNeedsReset | StatusFailed
)

var registers = [numRegisters]register{
	DeviceFeatureSelect: {
		name:  "device_feature_select",
		read:  func(f *Frontend) uint32 { return f.deviceSelect },
		write: func(f *Frontend, v uint32) { f.deviceSelect = v },
	},
	DeviceFeature: {
		name: "device_feature",
		read: func(f *Frontend) uint32 { return half(f.offered, f.deviceSelect) },
	},
	DriverFeatureSelect: {
		name:  "driver_feature_select",
		read:  func(f *Frontend) uint32 { return f.driverSelect },
		write: func(f *Frontend, v uint32) { f.driverSelect = v },
	},
	DriverFeature: {
		name:  "driver_feature",
		read:  func(f *Frontend) uint32 { return half(f.driver, f.driverSelect) },
		write: func(f *Frontend, v uint32) { setHalf(&f.driver, f.driverSelect, v) },
		need:  negotiating, bar: notNegotiating,
	},
	NumQueues: {
		name: "num_queues",
		read: func(f *Frontend) uint32 { return uint32(len(f.queues)) },
	},
	DeviceStatus: {
		name:  "device_status",
		read:  func(f *Frontend) uint32 { return uint32(f.current()) },
		write: func(f *Frontend, v uint32) { f.writeStatus(Status(v)) },
	},
	ConfigGeneration: {
		name: "config_generation",
		read: func(f *Frontend) uint32 { return f.generation.Load() },
	},
	QueueSelect: {
		name:  "queue_select",
		read:  func(f *Frontend) uint32 { return uint32(f.queueSelect) },
		write: func(f *Frontend, v uint32) { f.queueSelect = uint16(v) },
	},
	QueueSize: {
		name:      "queue_size",
		readQueue: func(q *queueState) uint32 { return uint32(q.size) },
		setQueue:  func(q *queueState, v uint32) { q.size = uint16(v) },
		need:      queueing, bar: notQueueing,
	},
	QueueSizeMax: {
		name:      "queue_size_max",
		readQueue: func(q *queueState) uint32 { return uint32(q.max) },
	},
	QueueEnable: {
		name: "queue_enable",
		readQueue: func(q *queueState) uint32 {
			if q.enabled {
				return 1
			}
			return 0
		},
		setQueue: func(q *queueState, v uint32) { q.enabled = v == 1 },
		need:     queueing, bar: notQueueing,
	},
	QueueDescLow:    lowHalf("queue_desc", func(q *queueState) *guestmem.GPA { return &q.desc }),
	QueueDescHigh:   highHalf("queue_desc", func(q *queueState) *guestmem.GPA { return &q.desc }),
	QueueDriverLow:  lowHalf("queue_driver", func(q *queueState) *guestmem.GPA { return &q.driver }),
	QueueDriverHigh: highHalf("queue_driver", func(q *queueState) *guestmem.GPA { return &q.driver }),
	QueueDeviceLow:  lowHalf("queue_device", func(q *queueState) *guestmem.GPA { return &q.device }),
	QueueDeviceHigh: highHalf("queue_device", func(q *queueState) *guestmem.GPA { return &q.device }),
}

func lowHalf(name string, of func(*queueState) *guestmem.GPA) register {
	return register{
		name:      name + "_low",
		readQueue: func(q *queueState) uint32 { return uint32(*of(q)) },
		setQueue:  func(q *queueState, v uint32) { *of(q) = *of(q)>>32<<32 | guestmem.GPA(v) },
		need:      queueing, bar: notQueueing,
	}
}

func highHalf(name string, of func(*queueState) *guestmem.GPA) register {
	return register{
		name:      name + "_high",
		readQueue: func(q *queueState) uint32 { return uint32(*of(q) >> 32) },
		setQueue:  func(q *queueState, v uint32) { *of(q) = guestmem.GPA(v)<<32 | *of(q)&0xffffffff },
		need:      queueing, bar: notQueueing,
	}
}

// half is the 32 bits of f that sel chooses; there are two, the rest are 0.
func half(f Features, sel uint32) uint32 {
	if sel > 1 {
		return 0
	}
	return uint32(f >> (32 * sel))
}

func setHalf(f *Features, sel uint32, v uint32) {
	if sel > 1 {
		return
	}
	*f = *f&^(0xffffffff<<(32*sel)) | Features(v)<<(32*sel)
}

func (r Register) String() string { return registers[r].name }

// Read returns the register's value.
func (f *Frontend) Read(r Register) uint32 {
	f.mu.Lock()
	defer f.mu.Unlock()
	row := &registers[r]
	if row.read != nil {
		return row.read(f)
	}
	if q := f.selected(); q != nil {
		return row.readQueue(q)
	}
	return 0
}

// Write sets the register; bits beyond its width are dropped. A write to a
// read-only register, or at a time when the register is not the driver's to
// write, is ignored. A write to DeviceStatus may activate or reset the device
// and returns when that is done.
func (f *Frontend) Write(r Register, v uint32) {
	f.mu.Lock()
	defer f.mu.Unlock()
	row := &registers[r]
	if s := f.current(); s&row.need != row.need || s&row.bar != 0 {
		return
	}
	if row.write != nil {
		row.write(f, v)
		return
	}
	if q := f.selected(); q != nil && row.setQueue != nil {
		row.setQueue(q, v)
	}
}

// selected is the queue that the Queue registers show, or nil. f.mu is held.
func (f *Frontend) selected() *queueState {
	if int(f.queueSelect) >= len(f.queues) {
		return nil
	}
	return &f.queues[f.queueSelect]
}
