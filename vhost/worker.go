package vhost

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// The device's workers have ids; 0 is the one that SetOwner made. Only
// vhost-scsi can have more. These ids are not thread ids.

// NewWorker makes another worker from the calling thread, as SetOwner does,
// and returns its id, VHOST_NEW_WORKER. Linux 6.5; only vhost-scsi, and not if
// its workers are kernel threads (EFAULT); then the error matches
// errors.ErrUnsupported. ENOMEM as for SetOwner.
func (d *Device) NewWorker() (id uint32, err error) {
	var arg workerState
	err = unsupported(newWorker, ioctlPtr(d, newWorker, &arg))
	if errors.Is(err, unix.EFAULT) {
		err = fmt.Errorf("%w: %w (this device's workers are kernel threads)", err, errors.ErrUnsupported)
	}
	return arg.workerID, err
}

// FreeWorker ends a worker, VHOST_FREE_WORKER. EBUSY while a ring has it. It waits for the worker's function to return, not for the
// thread to exit (kernel/vhost_task.c, vhost_task_stop): for a moment more the thread is in /proc and counts against limits.
func (d *Device) FreeWorker(id uint32) error {
	return unsupported(freeWorker, ioctlPtr(d, freeWorker, &workerState{workerID: id}))
}

// AttachVringWorker makes a worker serve a ring, VHOST_ATTACH_VRING_WORKER. If
// the ring has a kick or the device an endpoint, each call waits for a grace period
// and until the ring's earlier worker has done what was queued.
func (d *Device) AttachVringWorker(index, id uint32) error {
	return d.vring(index, unsupported(attachVringWorker, ioctlPtr(d, attachVringWorker, &vringWorker{index: index, workerID: id})))
}
