package vhost

import "fmt"

// Vring describes a ring to the kernel. Addresses are host virtual addresses. The kernel does not
// check that they are in guest memory: the caller must.
type Vring struct {
	Index uint32 // of the ring in this device
	Num   uint32 // descriptors, a power of two
	Base  uint16 // next available entry to process; 0 for a new ring

	Desc  uintptr // descriptor table
	Avail uintptr // driver area; 2-byte aligned
	Used  uintptr // device area; 4-byte aligned

	Kick int // eventfd, driver to device; -1: none
	Call int // eventfd, device to driver; -1: none
	Err  int // eventfd, signalled when the kernel stops serving the ring; -1: none
}

// setVringNum sets the number of descriptors, VHOST_SET_VRING_NUM. EBUSY while
// the backend is set.
func (d *Device) setVringNum(index, num uint32) error {
	return d.vring(index, ioctlPtr(d, setVringNum, &vringState{index: index, num: num}))
}

// setVringBase sets the next available entry that the device processes,
// VHOST_SET_VRING_BASE. EBUSY while the backend is set.
func (d *Device) setVringBase(index uint32, base uint16) error {
	return d.vring(index, ioctlPtr(d, setVringBase, &vringState{index: index, num: uint32(base)}))
}

// GetVringBase returns the next available entry that the device would process,
// VHOST_GET_VRING_BASE. It does not stop the ring: remove the backend first.
func (d *Device) GetVringBase(index uint32) (uint16, error) {
	arg := vringState{index: index}
	err := d.vring(index, ioctlPtr(d, getVringBase, &arg))
	return uint16(arg.num), err
}

// setVringAddr sets the host virtual addresses of a ring's three parts,
// VHOST_SET_VRING_ADDR. EINVAL if one is misaligned. The kernel checks that they are
// user-space addresses when the backend is set, and never checks that they are in guest memory.
func (d *Device) setVringAddr(index uint32, desc, avail, used uintptr) error {
	return d.vring(index, ioctlPtr(d, setVringAddr, &vringAddr{
		index: index, desc: uint64(desc), avail: uint64(avail), used: uint64(used),
	}))
}

// SetVringKick sets the eventfd by which the driver notifies the device of available buffers,
// VHOST_SET_VRING_KICK; -1 is none. If the eventfd has a nonzero count, the ring is processed at
// once. The counter is not read and keeps growing.
func (d *Device) SetVringKick(index uint32, fd int) error {
	return d.vring(index, ioctlPtr(d, setVringKick, &vringFile{index: index, fd: int32(fd)}))
}

// SetVringCall sets the eventfd that the device signals for used buffers,
// VHOST_SET_VRING_CALL; -1 is none.
func (d *Device) SetVringCall(index uint32, fd int) error {
	return d.vring(index, ioctlPtr(d, setVringCall, &vringFile{index: index, fd: int32(fd)}))
}

// SetVringErr sets the eventfd that the device signals when it finds the ring broken and stops
// serving it, VHOST_SET_VRING_ERR; -1 is none. The kernel reports this in no other way.
func (d *Device) SetVringErr(index uint32, fd int) error {
	return d.vring(index, ioctlPtr(d, setVringErr, &vringFile{index: index, fd: int32(fd)}))
}

// SetVringBusyloopTimeout makes the worker poll for the given number of microseconds before it
// sleeps, VHOST_SET_VRING_BUSYLOOP_TIMEOUT; 0 disables polling. It may be called at any time after
// SetOwner, and the setting survives a change of the backend. vhost-scsi accepts the value without
// an error but ignores it: only vhost-net polls.
func (d *Device) SetVringBusyloopTimeout(index, microseconds uint32) error {
	return d.vring(index, ioctlPtr(d, setVringBusyloopTimeout, &vringState{index: index, num: microseconds}))
}

// vring adds the ring's index to an error.
func (d *Device) vring(index uint32, err error) error {
	if err != nil {
		return fmt.Errorf("ring %d: %w", index, err)
	}
	return nil
}

// Setup holds the settings that a device needs before its backend starts.
type Setup struct {
	Features uint64
	Memory   []MemoryRegion
	Vrings   []Vring
}

// setup applies everything except the kicks: features, memory table, rings.
func (d *Device) setup(s Setup) error {
	if err := d.setFeatures(s.Features); err != nil {
		return err
	}
	if err := d.setMemTable(s.Memory); err != nil {
		return err
	}
	for _, v := range s.Vrings {
		if err := d.setVringNum(v.Index, v.Num); err != nil {
			return err
		}
		if err := d.setVringBase(v.Index, v.Base); err != nil {
			return err
		}
		if err := d.setVringAddr(v.Index, v.Desc, v.Avail, v.Used); err != nil {
			return err
		}
		if err := d.SetVringCall(v.Index, v.Call); err != nil {
			return err
		}
		if err := d.SetVringErr(v.Index, v.Err); err != nil {
			return err
		}
	}
	return nil
}

// setKicks connects the kicks of all rings.
func (d *Device) setKicks(rings []Vring) error {
	for _, v := range rings {
		if err := d.SetVringKick(v.Index, v.Kick); err != nil {
			return err
		}
	}
	return nil
}
