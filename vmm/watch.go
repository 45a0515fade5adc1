package vmm

import (
	"context"
	"errors"
	"fmt"
)

// watchWorkers has every device say DEVICE_NEEDS_RESET when a worker of its own ends. Nothing else would tell the guest:
// its requests would wait for ever. A kernel that cannot be asked (before Linux 6.9) is not. The caller has locked workersMu.
func (m *VM) watchWorkers() error {
	for i, w := range m.workers {
		if w.watch != nil {
			continue
		}
		watch, err := w.Watch()
		if errors.Is(err, errors.ErrUnsupported) {
			continue
		}
		if err != nil {
			return fmt.Errorf("%s: watch its worker: %w", w.Device, err)
		}
		m.workers[i].watch = watch
		m.tasks.Go(func(context.Context) error {
			if watch.Wait() == nil {
				m.workerGone(w)
			}
			return nil
		})
	}
	return nil
}

// unwatch must be called before the worker is destroyed.
func (w Worker) unwatch() error {
	if w.watch == nil {
		return nil
	}
	return w.watch.Close()
}

func (m *VM) workerGone(w Worker) {
	err := fmt.Errorf("the kernel's worker for %s, thread %d, has ended (the host's log says why)", w.Serves(), w.TID)
	for _, f := range m.account.fronts {
		if f.Name() == w.Device {
			f.Fail(err)
		}
	}
}
