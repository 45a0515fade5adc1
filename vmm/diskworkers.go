package vmm

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"minivmm/vhost"
	"minivmm/vmm/config"
)

// scsiWorkers makes the workers of the disks' queues: the first serves control
// and event queue, and with the others the request queues in turn. They belong
// to the device, whatever the guest does to it.
func (m *VM) scsiWorkers(dev *vhost.Scsi, opt Options) error {
	rings := m.plan.RequestQueues()
	if err := m.own(dev.Device, m.placement(scsiName, m.plan.SCSI.Affinity), scsiQueues(0, 1, rings)); err != nil {
		return err
	}
	m.workersMu.Lock()
	defer m.workersMu.Unlock()
	err := m.countDiskWorkers(m.plan.Workers.Count)
	if m.plan.Workers.Count == config.CountAuto && errors.Is(err, errors.ErrUnsupported) {
		opt.Logf("scsi0: one worker serves all %d request queues: %v", rings, err)
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
	have, rings := len(mine), m.plan.RequestQueues()
	want := c.Number(rings)
	dev := mine[0].dev
	for i := have; i < want; i++ {
		w, err := m.newWorker(dev, mine[0].place, "", dev.NewWorkerHere)
		if w.TID != 0 { // it is there, if not as it should be
			mine = append(mine, w)
		}
		if err != nil {
			return errors.Join(fmt.Errorf("workers.count %q: %w", c, err), m.endWorkers(mine[have:]))
		}
	}
	for ring := range rings {
		if mine[ring%have].ID == mine[ring%want].ID {
			continue
		}
		err := dev.AttachVringWorker(uint32(vhost.ScsiRequest+ring), mine[ring%want].ID)
		if err == nil {
			continue
		}
		errs := []error{fmt.Errorf("workers.count %q: %w", c, err)}
		for ring := range ring {
			errs = append(errs, dev.AttachVringWorker(uint32(vhost.ScsiRequest+ring), mine[ring%have].ID))
		}
		return errors.Join(append(errs, m.endWorkers(mine[have:]))...)
	}
	for i := range mine[:want] {
		mine[i].Queues = scsiQueues(i, want, rings)
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
	if more := c.Number(m.plan.RequestQueues()) - have; more > 0 {
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

// scsiQueues says what worker i of count serves.
func scsiQueues(i, count, rings int) string {
	if count == 1 {
		return "control, event, requests"
	}
	var names []string
	if i == 0 {
		names = []string{"control", "event"}
	}
	for ring := i; ring < rings; ring += count {
		names = append(names, fmt.Sprintf("request %d", ring))
	}
	return strings.Join(names, ", ")
}
