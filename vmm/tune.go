package vmm

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"minivmm/vhost"
	"minivmm/vmm/config"
)

// Tune changes the settings of the workers of one device or of all devices. Any goroutine may call
// it, whether the guest runs or not. It requires the same privileges as the same settings in the
// configuration: CAP_SYS_NICE or a resource limit for more than the default priority; without them,
// the error is EPERM. The error matches errors.ErrUnsupported for busy polling of a named
// vhost-scsi device, and for several vhost-scsi workers where the kernel does not support them
// (before Linux 6.5, and with kernel threads). Requests continue during the call. If changing the
// worker count fails, no other setting changes. On a later error the count has changed, and some
// workers may already have their new settings.
func (m *VM) Tune(t config.Tuning) error {
	if err := t.Check(); err != nil {
		return err
	}
	m.workersMu.Lock()
	defer m.workersMu.Unlock()
	if t.Count != 0 {
		if err := m.changeDiskWorkers(t.Device, t.Count); err != nil {
			return err
		}
	}
	var errs []error
	var names []string
	for i := range m.workers {
		w := &m.workers[i]
		names = append(names, w.Device)
		if t.Device != "" && t.Device != w.Device {
			continue
		}
		if err := w.apply(t); err != nil {
			errs = append(errs, fmt.Errorf("worker of %s (%s): %w", w.Device, w.Serves(), err))
		}
	}
	switch {
	case len(names) == 0:
		return &config.MisfitError{Problem: "the machine has no kernel workers"}
	case t.Device != "" && !slices.Contains(names, t.Device):
		return &config.MisfitError{Problem: fmt.Sprintf("%q is not a device with kernel workers: want one of %s", t.Device, strings.Join(slices.Compact(names), ", "))}
	}
	return errors.Join(errs...)
}

func (w *Worker) apply(t config.Tuning) error {
	if len(t.Affinity) > 0 {
		if err := w.SetAffinity(t.Affinity); err != nil {
			return err
		}
		w.place.affinity, w.place.key = t.Affinity, "affinity"
	}
	if t.Sched != "" || t.Nice != nil {
		want, err := w.Sched()
		if err != nil {
			return err
		}
		if t.Sched != "" {
			want = schedOf(t.Sched, want.Nice)
		}
		if t.Nice != nil {
			if want.Policy != vhost.Other && want.Policy != vhost.Batch {
				return fmt.Errorf("nice applies to the policies other and batch, and the worker has %v", want)
			}
			want.Nice = *t.Nice
		}
		if err := w.SetSched(want); err != nil {
			return err
		}
		w.place.sched = want
	}
	switch {
	case t.BusyPoll == nil:
	case w.place.nic:
		return w.setBusyPoll(t.BusyPoll.Duration)
	case t.Device != "":
		return fmt.Errorf("busy poll: %w: vhost-scsi accepts the setting but ignores it", errors.ErrUnsupported)
	}
	return nil
}

// setBusyPoll sets the polling time of both rings of a vhost-net device.
func (w *Worker) setBusyPoll(d time.Duration) error {
	for _, ring := range []uint32{vhost.NetRX, vhost.NetTX} {
		if err := w.dev.SetVringBusyloopTimeout(ring, uint32(d.Microseconds())); err != nil {
			return err
		}
	}
	w.BusyPoll = d
	return nil
}
