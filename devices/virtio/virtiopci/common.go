package virtiopci

import (
	"slices"

	"minivmm/devices/virtio"
)

// field is a field of the common configuration: its offset, its width, and either the Frontend
// register that it shows or the transport's own functions.
type field struct {
	off   uint64
	width int
	reg   virtio.Register
	read  func(*Transport) uint32
	write func(*Transport, uint32)
}

// fields is struct virtio_pci_common_cfg (virtio 1.2 §4.1.4.3). The Frontend ignores writes to
// read-only fields and writes that the device status does not allow.
var fields = [...]field{
	{off: 0x00, width: 4, reg: virtio.DeviceFeatureSelect},
	{off: 0x04, width: 4, reg: virtio.DeviceFeature},
	{off: 0x08, width: 4, reg: virtio.DriverFeatureSelect},
	{off: 0x0c, width: 4, reg: virtio.DriverFeature},
	{off: 0x10, width: 2, read: (*Transport).configVector, write: (*Transport).setConfigVector},
	{off: 0x12, width: 2, reg: virtio.NumQueues},
	{off: 0x14, width: 1, reg: virtio.DeviceStatus, write: (*Transport).setStatus},
	{off: 0x15, width: 1, reg: virtio.ConfigGeneration},
	{off: 0x16, width: 2, reg: virtio.QueueSelect},
	{off: 0x18, width: 2, reg: virtio.QueueSize},
	{off: 0x1a, width: 2, read: (*Transport).queueVector, write: (*Transport).setQueueVector},
	{off: 0x1c, width: 2, reg: virtio.QueueEnable},
	{off: 0x1e, width: 2, read: (*Transport).queueNotifyOff, write: func(*Transport, uint32) {}},
	{off: 0x20, width: 4, reg: virtio.QueueDescLow},
	{off: 0x24, width: 4, reg: virtio.QueueDescHigh},
	{off: 0x28, width: 4, reg: virtio.QueueDriverLow},
	{off: 0x2c, width: 4, reg: virtio.QueueDriverHigh},
	{off: 0x30, width: 4, reg: virtio.QueueDeviceLow},
	{off: 0x34, width: 4, reg: virtio.QueueDeviceHigh},
}

// common is the region of the common configuration. A driver must access each field at the field's
// own width, and 64-bit fields as two halves (virtio 1.2 §4.1.3.1). An 8-byte access counts as two
// accesses of 4 bytes. Any other access reads as all ones and writes nothing.
type common struct{ t *Transport }

// at returns the field that has the offset off and the given width; ok is false if there is none.
func at(off uint64, width int) (f field, ok bool) {
	i := slices.IndexFunc(fields[:], func(f field) bool { return f.off == off && f.width == width })
	if i < 0 {
		return field{}, false
	}
	return fields[i], true
}

func (c common) Read(off uint64, p []byte) {
	if len(p) == 8 {
		c.Read(off, p[:4])
		c.Read(off+4, p[4:])
		return
	}
	b := [4]byte{0xff, 0xff, 0xff, 0xff}
	switch f, ok := at(off, len(p)); {
	case !ok:
	case f.read != nil:
		le.PutUint32(b[:], f.read(c.t))
	default:
		le.PutUint32(b[:], c.t.front.Read(f.reg))
	}
	copy(p, b[:])
}

func (c common) Write(off uint64, p []byte) {
	if len(p) == 8 {
		c.Write(off, p[:4])
		c.Write(off+4, p[4:])
		return
	}
	var b [4]byte
	copy(b[:], p)
	switch f, ok := at(off, len(p)); {
	case !ok:
	case f.write != nil:
		f.write(c.t, le.Uint32(b[:]))
	default:
		c.t.front.Write(f.reg, le.Uint32(b[:]))
	}
}

// setStatus writes the device status. Writing 0 also resets the transport's interrupt routing.
func (t *Transport) setStatus(v uint32) {
	t.front.Write(virtio.DeviceStatus, v)
	if v == 0 {
		t.wiring.reset()
	}
}

func (t *Transport) configVector() uint32 {
	return uint32(t.wiring.routed(t.wiring.configSource()))
}

func (t *Transport) setConfigVector(v uint32) { t.wiring.route(t.wiring.configSource(), uint16(v)) }

// queue returns the index of the selected queue; ok reports whether that queue exists.
func (t *Transport) queue() (i int, ok bool) {
	i = int(t.front.Read(virtio.QueueSelect))
	return i, i < t.front.NumQueues()
}

func (t *Transport) queueVector() uint32 {
	if i, ok := t.queue(); ok {
		return uint32(t.wiring.routed(i))
	}
	return noVector
}

func (t *Transport) setQueueVector(v uint32) {
	if i, ok := t.queue(); ok {
		t.wiring.route(i, uint16(v))
	}
}

// queueNotifyOff returns the notify offset of the selected queue, in units of
// notify_off_multiplier.
func (t *Transport) queueNotifyOff() uint32 {
	if i, ok := t.queue(); ok {
		return uint32(i)
	}
	return 0
}

// isr is the ISR status byte; reading the byte clears it.
type isr struct{ t *Transport }

func (r isr) Read(off uint64, p []byte) {
	clear(p)
	if off == 0 {
		p[0] = r.t.wiring.interruptStatus()
	}
}

func (isr) Write(uint64, []byte) {}

// config is the device-specific configuration.
type config struct{ t *Transport }

func (c config) Read(off uint64, p []byte)  { c.t.front.ReadConfig(p, uint32(off)) }
func (c config) Write(off uint64, p []byte) { c.t.front.WriteConfig(p, uint32(off)) }
