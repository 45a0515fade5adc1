package vmm

import (
	"errors"
	"fmt"
	"slices"

	"minivmm/vhost"
	"minivmm/vmm/config"
)

// scsiWorkers creates the workers for the disks' queues. The first worker serves the control queue
// and the event queue; the request queues are distributed over all workers. The workers belong to
// the device until it is closed, even if the guest resets it.
func (m *VM) scsiWorkers(dev *vhost.Scsi) error {
	requests := int(m.plan.SCSI.Queues)
	place := m.placement(scsiName, m.plan.SCSI.Affinity)
	place.rings = scsiRequestQueue + requests
	if err := m.own(dev.Device, place, diskRings(0, 1, requests)); err != nil {
		return err
	}
	m.workersMu.Lock()
	defer m.workersMu.Unlock()
	err := m.setDiskWorkers(m.plan.Workers.Count)
	if m.plan.Workers.Count == config.CountAuto && errors.Is(err, errors.ErrUnsupported) {
		m.opt.Logf("scsi0: one worker serves all %d request queues: %v", requests, err)
		return nil
	}
	return err
}

// setDiskWorkers creates or destroys workers of the disks until there are as many as c says, and
// distributes the request queues over them. It may be called while the guest uses the queues: the
// kernel lets a worker finish its current work on a queue before another worker takes over
// (Linux 6.5, vhost_attach_worker). On error each queue keeps the worker it had. The caller has
// locked workersMu.
func (m *VM) setDiskWorkers(c config.WorkerCount) error {
	first := slices.IndexFunc(m.workers, func(w Worker) bool { return w.Device == scsiName })
	if first < 0 {
		return &config.MisfitError{Problem: "no disk is served by vhost-scsi, so there are no workers to add or remove"}
	}
	mine := slices.Clone(m.workers[first:]) // the disks' controller is the last device with workers
	have, requests := len(mine), int(m.plan.SCSI.Queues)
	want := c.Number(requests)
	dev := mine[0].dev
	undo := closers{}
	fail := func(err error) error {
		return errors.Join(fmt.Errorf("workers.count %q: %w", c, err), undo.close(), m.freeWorkers(mine[have:]))
	}
	for i := have; i < want; i++ {
		w, err := m.newWorker(dev, mine[0].place, nil, dev.NewWorkerHere)
		if w.TID != 0 { // created, but perhaps not placed as configured
			mine = append(mine, w)
		}
		if err != nil {
			return fail(err)
		}
	}
	for i := range want {
		for _, ring := range diskRings(i, want, requests) {
			from := mine[slices.IndexFunc(mine, func(w Worker) bool { return slices.Contains(w.Rings, ring) })].ID
			if from == mine[i].ID {
				continue
			}
			if err := dev.AttachVringWorker(uint32(ring), mine[i].ID); err != nil {
				return fail(err)
			}
			undo.push(fmt.Sprintf("move of queue %d", ring), func() error { return dev.AttachVringWorker(uint32(ring), from) })
		}
	}
	for i := range mine[:want] {
		mine[i].Rings = diskRings(i, want, requests)
	}
	m.workers = append(m.workers[:first], mine[:want]...)
	return m.freeWorkers(mine[want:])
}

// changeDiskWorkers is setDiskWorkers for a machine that may be running. The caller has locked
// workersMu.
func (m *VM) changeDiskWorkers(device string, c config.WorkerCount) error {
	if device != "" && device != scsiName {
		return &config.MisfitError{Problem: fmt.Sprintf("count applies to the workers of vhost-scsi (%s): %q has one worker for each queue pair, "+
			"and their number is fixed when the machine starts", scsiName, device)}
	}
	have := 0
	for _, w := range m.workers {
		if w.Device == scsiName {
			have++
		}
	}
	if more := c.Number(int(m.plan.SCSI.Queues)) - have; more > 0 {
		if err := enoughForWorkers(more); err != nil {
			return err
		}
	}
	if err := m.setDiskWorkers(c); err != nil {
		return err
	}
	if err := m.watchWorkers(); err != nil {
		return errors.Join(explainFiles(err), m.setDiskWorkers(config.WorkerCount(have)))
	}
	return nil
}

// freeWorkers destroys workers that serve no queue.
func (m *VM) freeWorkers(list []Worker) error {
	var errs []error
	for _, w := range list {
		errs = append(errs, w.unwatch(), w.dev.FreeWorker(w.ID))
	}
	return errors.Join(errs...)
}

// diskRings returns the rings that worker number i (from 0) serves, if there are count workers and
// the controller has the given number of request queues.
func diskRings(i, count, requests int) (rings []int) {
	if i == 0 {
		rings = []int{0, 1} // control and event
	}
	for request := i; request < requests; request += count {
		rings = append(rings, scsiRequestQueue+request)
	}
	return rings
}
