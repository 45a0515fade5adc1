package vhost

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"minivmm/internal/ioctl"
)

// Device is an open vhost device node, with the calls common to all kinds.
type Device struct {
	f    *os.File
	hook func(r ioctl.Request, arg any) error // set by tests, to replace the kernel
}

// Open opens a vhost device node. If the node is missing or access is denied, the error says how to
// fix it. The caller must call Close.
func Open(path string) (*Device, error) {
	fd, err := unix.Open(path, unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, openError(path, err)
	}
	// The descriptor is blocking, so os.NewFile does not add it to Go's poller.
	return &Device{f: os.NewFile(uintptr(fd), path)}, nil
}

// Device nodes.
const (
	NetPath  = "/dev/vhost-net"
	ScsiPath = "/dev/vhost-scsi"
)

// openError adds a hint to the error of opening a node.
func openError(path string, err error) error {
	perr := &os.PathError{Op: "open", Path: path, Err: err}
	missing := errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENXIO) || errors.Is(err, unix.ENODEV)
	switch {
	case errors.Is(err, unix.EACCES) || errors.Is(err, unix.EPERM):
		return fmt.Errorf("%w (run as root, or grant the user access to the node with chgrp kvm and chmod g+rw, or with a udev rule)", perr)
	case missing && path == NetPath:
		return fmt.Errorf("%w (load the module: modprobe vhost_net)", perr)
	case missing && path == ScsiPath:
		return fmt.Errorf("%w (load the module: modprobe vhost_scsi; without udev, create the node with the minor number from /proc/misc)", perr)
	}
	return perr
}

// Close closes the device. The kernel then stops the device and its workers, unless a child of this
// process that has not yet called exec still holds the descriptor. Call Stop first, which works
// regardless of such a child.
func (d *Device) Close() error { return d.f.Close() }

// ioctlPtr issues a request with a pointer to its argument.
func ioctlPtr[T any](d *Device, r ioctl.Request, arg *T) error {
	if d.hook != nil {
		return d.hook(r, arg)
	}
	_, err := ioctl.Pointer(d.f, r, arg)
	return err
}

// unsupported adds errors.ErrUnsupported to ENOTTY, the error that kernels return for the request r
// if they are older than the version in since. SET_FORK_FROM_OWNER, which is issued before
// SetOwner, can also fail with EPERM, because kernels without this request check the owner first.
func unsupported(r ioctl.Request, since string, err error) error {
	if errors.Is(err, unix.ENOTTY) || r == setForkFromOwner && errors.Is(err, unix.EPERM) {
		return fmt.Errorf("%w: %w (Linux %s)", err, errors.ErrUnsupported, since)
	}
	return err
}

// SetForkFromOwner selects what SetOwner creates: a thread of the calling process (true) or a
// kernel thread attached to that process's cgroups (false). It issues VHOST_SET_FORK_FROM_OWNER. It
// must be called before SetOwner, and otherwise fails with EBUSY. It requires Linux 6.17, or
// 6.12.45 and later in the 6.12 series. On other kernels, the error matches errors.ErrUnsupported;
// there, the worker is a thread of the process since Linux 6.4, and a kernel thread before Linux
// 6.4.
func (d *Device) SetForkFromOwner(on bool) error {
	var v uint8
	if on {
		v = 1
	}
	return unsupported(setForkFromOwner, "6.17", ioctlPtr(d, setForkFromOwner, &v))
}

// SetOwner makes this process the owner and starts the worker (VHOST_SET_OWNER). It returns EBUSY
// if the device already has an owner. The kernel returns ENOMEM for every failure to create the
// worker, even if the cause is a pending signal; SetOwnerHere blocks signals during the call.
func (d *Device) SetOwner() error {
	if d.hook != nil {
		return d.hook(setOwner, nil)
	}
	_, err := ioctl.Value(d.f, setOwner, 0)
	return err
}

// GetFeatures returns the virtio features that the device offers (VHOST_GET_FEATURES).
func (d *Device) GetFeatures() (features uint64, err error) {
	err = ioctlPtr(d, getFeatures, &features)
	return features, err
}

// MemoryRegion is a range of guest RAM, and the address at which this process maps that range.
type MemoryRegion struct {
	GPA       uint64
	SizeBytes uint64
	HVA       uintptr
}

// setMemTable sets the location of guest RAM (VHOST_SET_MEM_TABLE). It must be called after
// SetOwner and before the backend is set, and may be called again while the backend runs. It
// returns E2BIG for more than maxMemRegions (or the module's max_mem_regions), and EFAULT for a
// region that is empty or not in user space.
func (d *Device) setMemTable(regions []MemoryRegion) error {
	if len(regions) > maxMemRegions {
		return setMemTable.Error(d.f.Name(), unix.E2BIG)
	}
	arg := memory{memoryHeader: memoryHeader{nregions: uint32(len(regions))}}
	for i, r := range regions {
		arg.regions[i] = memoryRegion{gpa: r.GPA, size: r.SizeBytes, hva: uint64(r.HVA)}
	}
	return ioctlPtr(d, setMemTable, &arg)
}
