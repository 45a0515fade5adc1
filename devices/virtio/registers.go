package virtio

import "minivmm/devices/guestmem"

// Register names a register that every transport has. The transport defines the register's address
// and width, and the Frontend defines its meaning.
type Register uint8

// Registers, with their names in struct virtio_pci_common_cfg (virtio 1.2 §4.1.4.3). Each address
// in guest memory takes two 32-bit registers. The registers after QueueSelect belong to the queue
// that QueueSelect selects. If there is no such queue, these registers read as 0 and ignore writes.
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
// written: the device status must have all bits in the field need and no bit in the field bar.
type register struct {
	read      func(*Frontend) uint32
	write     func(*Frontend, uint32)
	need, bar Status
}

// The driver may write its features while negotiating, and queue registers while queueing (virtio
// 1.2 §3.1.1 steps 4 to 7). After DRIVER_OK both are frozen.
const (
	negotiating, notNegotiating = StatusDriver, StatusFeaturesOK | StatusDriverOK | StatusNeedsReset | StatusFailed
	queueing, notQueueing       = StatusFeaturesOK, StatusDriverOK | StatusNeedsReset | StatusFailed
)

var registers = [numRegisters]register{
	DeviceFeatureSelect: {
		read:  func(f *Frontend) uint32 { return f.deviceSelect },
		write: func(f *Frontend, v uint32) { f.deviceSelect = v },
	},
	DeviceFeature: {read: func(f *Frontend) uint32 { return half(f.offered, f.deviceSelect) }},
	DriverFeatureSelect: {
		read:  func(f *Frontend) uint32 { return f.driverSelect },
		write: func(f *Frontend, v uint32) { f.driverSelect = v },
	},
	DriverFeature: {
		read:  func(f *Frontend) uint32 { return half(f.driver, f.driverSelect) },
		write: func(f *Frontend, v uint32) { setHalf(&f.driver, f.driverSelect, v) },
		need:  negotiating, bar: notNegotiating,
	},
	NumQueues: {read: func(f *Frontend) uint32 { return uint32(len(f.queues)) }},
	DeviceStatus: {
		read:  func(f *Frontend) uint32 { return uint32(f.current()) },
		write: func(f *Frontend, v uint32) { f.writeStatus(Status(v)) },
	},
	ConfigGeneration: {read: func(f *Frontend) uint32 { return f.generation.Load() }},
	QueueSelect: {
		read:  func(f *Frontend) uint32 { return uint32(f.queueSelect) },
		write: func(f *Frontend, v uint32) { f.queueSelect = uint16(v) },
	},
	QueueSize: ofQueue(
		func(q *queueState) uint32 { return uint32(q.size) },
		func(q *queueState, v uint32) { q.size = uint16(v) },
	),
	QueueSizeMax: {read: func(f *Frontend) uint32 { return uint32(f.selected().max) }},
	QueueEnable: ofQueue(
		func(q *queueState) uint32 {
			if q.enabled {
				return 1
			}
			return 0
		},
		func(q *queueState, v uint32) { q.enabled = v == 1 },
	),
	QueueDescLow:    halfOf(0, func(q *queueState) *guestmem.GPA { return &q.desc }),
	QueueDescHigh:   halfOf(1, func(q *queueState) *guestmem.GPA { return &q.desc }),
	QueueDriverLow:  halfOf(0, func(q *queueState) *guestmem.GPA { return &q.driver }),
	QueueDriverHigh: halfOf(1, func(q *queueState) *guestmem.GPA { return &q.driver }),
	QueueDeviceLow:  halfOf(0, func(q *queueState) *guestmem.GPA { return &q.device }),
	QueueDeviceHigh: halfOf(1, func(q *queueState) *guestmem.GPA { return &q.device }),
}

// ofQueue returns a register of the selected queue.
func ofQueue(read func(*queueState) uint32, write func(*queueState, uint32)) register {
	return register{
		read:  func(f *Frontend) uint32 { return read(f.selected()) },
		write: func(f *Frontend, v uint32) { write(f.selected(), v) },
		need:  queueing, bar: notQueueing,
	}
}

// halfOf returns the register of one half of an address of the selected queue.
func halfOf(sel uint32, of func(*queueState) *guestmem.GPA) register {
	return ofQueue(
		func(q *queueState) uint32 { return half(*of(q), sel) },
		func(q *queueState, v uint32) { setHalf(of(q), sel, v) },
	)
}

// half returns one half of v: the low 32 bits if sel is 0, the high ones if it is 1. For other
// values of sel it returns 0.
func half[T ~uint64](v T, sel uint32) uint32 {
	if sel > 1 {
		return 0
	}
	return uint32(v >> (32 * sel))
}

func setHalf[T ~uint64](v *T, sel uint32, bits uint32) {
	if sel > 1 {
		return
	}
	*v = *v&^(0xffffffff<<(32*sel)) | T(bits)<<(32*sel)
}

// Read returns the register's value.
func (f *Frontend) Read(r Register) uint32 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return registers[r].read(f)
}

// Write sets the register; bits beyond its width are dropped. Writes to a read-only register, and
// writes that the device status does not allow, are ignored. A write to DeviceStatus may activate
// or reset the device and returns when that is complete.
func (f *Frontend) Write(r Register, v uint32) {
	f.mu.Lock()
	defer f.mu.Unlock()
	row := &registers[r]
	if s := f.current(); row.write != nil && s&row.need == row.need && s&row.bar == 0 {
		row.write(f, v)
	}
}

// selected returns the queue that QueueSelect selects. If there is no such queue, it returns a
// temporary one, which reads as 0 and does not keep what is written. The caller must hold f.mu.
func (f *Frontend) selected() *queueState {
	if int(f.queueSelect) >= len(f.queues) {
		return &queueState{}
	}
	return &f.queues[f.queueSelect]
}
