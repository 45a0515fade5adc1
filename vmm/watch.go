package vmm

import (
	"context"
	"errors"
	"fmt"
)

// watchWorkers watches each device's workers. When one exits, its device sets DEVICE_NEEDS_RESET;
// otherwise the guest would not notice, and its requests would wait forever. It does nothing where
// the kernel does not support this (before Linux 6.9). The caller has locked workersMu.
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
			return fmt.Errorf("%s: watch the worker: %w", w.Device, err)
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
	err := fmt.Errorf("the kernel worker for %s, thread %d, has exited; see the host's kernel log", w.Serves(), w.TID)
	for _, f := range m.account.fronts {
		if f.Name() == w.Device {
			f.Fail(err)
		}
	}
}
