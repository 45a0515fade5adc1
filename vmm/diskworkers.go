package vmm

import (
	"errors"
	"fmt"
	"slices"

	"minivmm/vhost"
	"minivmm/vmm/config"
)

// scsiWorkers makes the workers of the disks' queues: the first serves control
// and event queue, and with the others the request queues in turn. They belong
// to the device, whatever the guest does to it.
func (m *VM) scsiWorkers(dev *vhost.Scsi, opt Options) error {
	requests := int(m.plan.SCSI.Queues)
	place := m.placement(scsiName, m.plan.SCSI.Affinity)
	place.rings = scsiRequestQueue + requests
	if err := m.own(dev.Device, place, diskRings(0, 1, requests)); err != nil {
		return err
	}
	m.workersMu.Lock()
	defer m.workersMu.Unlock()
	err := m.countDiskWorkers(m.plan.Workers.Count)
	if m.plan.Workers.Count == config.CountAuto && errors.Is(err, errors.ErrUnsupported) {
		opt.Logf("scsi0: one worker serves all %d request queues: %v", requests, err)
		return nil
	}
	return err
}

// countDiskWorkers makes or ends workers of the disks, until there are count, and divides
// the request queues among them, whether the guest uses these or not: the kernel lets a
// worker finish what it has of a queue before another takes the rest (Linux 6.5,
// vhost_attach_worker). After an error, each queue has the worker it had. The caller has locked workersMu.
func (m *VM) countDiskWorkers(c config.WorkerCount) error {
	first := slices.IndexFunc(m.workers, func(w Worker) bool { return w.Device == scsiName })
	if first < 0 {
		return errors.New("no disk is served by vhost-scsi: there are no workers to count")
	}
	mine := slices.Clone(m.workers[first:]) // the disks are the last device that has any
	have, requests := len(mine), int(m.plan.SCSI.Queues)
	want := c.Number(requests)
	dev := mine[0].dev
	undo := closers{}
	fail := func(err error) error {
		return errors.Join(fmt.Errorf("workers.count %q: %w", c, err), undo.close(), m.endWorkers(mine[have:]))
	}
	for i := have; i < want; i++ {
		w, err := m.newWorker(dev, mine[0].place, nil, dev.NewWorkerHere)
		if w.TID != 0 { // it is there, if not as it should be
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
	return m.endWorkers(mine[want:])
}

// recountWorkers is countDiskWorkers for a machine that may be running. The caller has locked workersMu.
func (m *VM) recountWorkers(device string, c config.WorkerCount) error {
	if device != "" && device != scsiName {
		return fmt.Errorf("count is for vhost-scsi's workers (%s): %q has one for each pair of queues, whose number is fixed when the machine starts", scsiName, device)
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
	if err := m.countDiskWorkers(c); err != nil {
		return err
	}
	if err := m.watchWorkers(); err != nil {
		return errors.Join(explainFiles(err), m.countDiskWorkers(config.WorkerCount(have)))
	}
	return nil
}

// endWorkers ends workers that no queue has.
func (m *VM) endWorkers(list []Worker) error {
	var errs []error
	for _, w := range list {
		errs = append(errs, w.unwatch(), w.dev.FreeWorker(w.ID))
	}
	return errors.Join(errs...)
}

// diskRings are the rings that worker i of count serves, of a controller with so many request queues.
func diskRings(i, count, requests int) (rings []int) {
	if i == 0 {
		rings = []int{0, 1} // control and event
	}
	for request := i; request < requests; request += count {
		rings = append(rings, scsiRequestQueue+request)
	}
	return rings
}
