package vhost

import (
	"errors"
	"fmt"

	"minivmm/internal/ioctl"
)

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

	// Err is an eventfd that the kernel signals when it stops serving the ring; -1: none. The
	// kernel reports this in no other way.
	Err int
}

// Setup holds the settings that a device needs before its backend starts.
type Setup struct {
	Features uint64 // must be a subset of GetFeatures; otherwise the error is EOPNOTSUPP
	Memory   []MemoryRegion
	Vrings   []Vring
}

// setup applies everything except the kicks: features, memory table, rings. It fails with EBUSY
// while the backend is set, and with EINVAL for a misaligned ring. Only later, when the backend is
// set, does the kernel check that the rings are in user space.
func (d *Device) setup(s Setup) error {
	if err := ioctlPtr(d, setFeatures, &s.Features); err != nil {
		return err
	}
	if err := d.setMemTable(s.Memory); err != nil {
		return err
	}
	for _, v := range s.Vrings {
		if err := setVring(d, setVringNum, v.Index, &vringState{index: v.Index, num: v.Num}); err != nil {
			return err
		}
		if err := setVring(d, setVringBase, v.Index, &vringState{index: v.Index, num: uint32(v.Base)}); err != nil {
			return err
		}
		if err := setVring(d, setVringAddr, v.Index, &vringAddr{
			index: v.Index, desc: uint64(v.Desc), avail: uint64(v.Avail), used: uint64(v.Used),
		}); err != nil {
			return err
		}
		if err := d.setEventfd(setVringCall, v.Index, v.Call); err != nil {
			return err
		}
		if err := d.setEventfd(setVringErr, v.Index, v.Err); err != nil {
			return err
		}
	}
	return nil
}

// setKicks connects the kicks of all rings. If an eventfd has a nonzero count, the kernel processes
// its ring at once. The kernel does not read the eventfd, so the count keeps growing.
func (d *Device) setKicks(rings []Vring) error {
	for _, v := range rings {
		if err := d.setEventfd(setVringKick, v.Index, v.Kick); err != nil {
			return err
		}
	}
	return nil
}

// Disconnect removes all eventfds of the rings.
func (d *Device) Disconnect(rings []Vring) error {
	var errs []error
	for _, v := range rings {
		for _, r := range []ioctl.Request{setVringKick, setVringCall, setVringErr} {
			errs = append(errs, d.setEventfd(r, v.Index, -1))
		}
	}
	return errors.Join(errs...)
}

// SetVringBusyloopTimeout makes the worker poll for the given number of microseconds before it
// sleeps (VHOST_SET_VRING_BUSYLOOP_TIMEOUT); 0 disables polling. It may be called at any time after
// SetOwner, and the setting survives a change of the backend. Only vhost-net polls: vhost-scsi
// accepts the value but ignores it.
func (d *Device) SetVringBusyloopTimeout(index, microseconds uint32) error {
	return setVring(d, setVringBusyloopTimeout, index, &vringState{index: index, num: microseconds})
}

// setEventfd sets a ring's eventfd with the request VHOST_SET_VRING_KICK, _CALL or _ERR. If fd is
// -1, it removes the eventfd.
func (d *Device) setEventfd(r ioctl.Request, index uint32, fd int) error {
	return setVring(d, r, index, &vringFile{index: index, fd: int32(fd)})
}

// setVring issues a request for one ring. The error that it returns names the ring's index.
func setVring[T any](d *Device, r ioctl.Request, index uint32, arg *T) error {
	if err := ioctlPtr(d, r, arg); err != nil {
		return fmt.Errorf("ring %d: %w", index, err)
	}
	return nil
}
