package virtio

import "minivmm/devices/guestmem"

// Register names a register that every transport has. The transport defines its address and width,
// the Frontend its meaning.
type Register uint8

// Registers, with their names in struct virtio_pci_common_cfg (virtio 1.2 §4.1.4.3). Each address
// consists of two 32-bit registers. The Queue registers belong to the queue in QueueSelect. If
// there is no such queue, they read as 0 and ignore writes.
const (
	DeviceFeatureSelect Register = iota
	DeviceFeature
	DriverFeatureSelect
	DriverFeature
	NumQueues
	DeviceStatus
	ConfigGeneration
	QueueSelect
	QueueSize    // the maximum until the driver writes a size
	QueueSizeMax // QueueNumMax in virtio-mmio
	QueueEnable  // QueueReady in virtio-mmio
	QueueDescLow
	QueueDescHigh
	QueueDriverLow
	QueueDriverHigh
	QueueDeviceLow
	QueueDeviceHigh
	numRegisters
)

// register describes how a register is read, how it is written (nil: read-only) and when it may be
// written: the status must have all bits of need and none of bar.
type register struct {
	name      string
	read      func(*Frontend) uint32
	write     func(*Frontend, uint32)
	readQueue func(*queueState) uint32
	setQueue  func(*queueState, uint32)
	need, bar Status
}

// When the driver may write features and queue registers (virtio 1.2 §3.1.1 steps 4 to 7). After
// DRIVER_OK both are frozen.
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

// half returns the 32 bits of f that sel selects: 0 or 1. For other values it returns 0.
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

// Write sets the register; bits beyond its width are dropped. Writes to a read-only register, and
// writes that the device status does not allow, are ignored. A write to DeviceStatus may activate
// or reset the device and returns when that is complete.
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

// selected returns the queue in QueueSelect, or nil. f.mu is held.
func (f *Frontend) selected() *queueState {
	if int(f.queueSelect) >= len(f.queues) {
		return nil
	}
	return &f.queues[f.queueSelect]
}
