package vhost

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// A device numbers its workers; 0 is the one that SetOwner creates. Only vhost-scsi supports more.
// These ids are not thread ids.

// NewWorker creates another worker from the calling thread, as SetOwner does, and returns its id,
// VHOST_NEW_WORKER. It requires Linux 6.5 and vhost-scsi whose workers are not kernel threads
// (EFAULT); otherwise the error matches errors.ErrUnsupported. It returns ENOMEM in the same cases
// as SetOwner.
func (d *Device) NewWorker() (id uint32, err error) {
	var arg workerState
	err = unsupported(newWorker, "6.5", ioctlPtr(d, newWorker, &arg))
	if errors.Is(err, unix.EFAULT) {
		err = fmt.Errorf("%w: %w (this device's workers are kernel threads)", err, errors.ErrUnsupported)
	}
	return arg.workerID, err
}

// FreeWorker stops a worker, VHOST_FREE_WORKER. It returns EBUSY while a ring uses the worker. It
// waits until the worker's function returns, not until the thread exits (kernel/vhost_task.c,
// vhost_task_stop): the thread stays in /proc and counts against limits a little longer.
func (d *Device) FreeWorker(id uint32) error {
	return unsupported(freeWorker, "6.5", ioctlPtr(d, freeWorker, &workerState{workerID: id}))
}

// AttachVringWorker assigns a worker to a ring, VHOST_ATTACH_VRING_WORKER. If the ring has a kick
// or the device an endpoint, each call waits for a grace period and until the ring's previous
// worker has finished its queued work.
func (d *Device) AttachVringWorker(index, id uint32) error {
	return unsupported(attachVringWorker, "6.5", setVring(d, attachVringWorker, index, &vringWorker{index: index, workerID: id}))
}
