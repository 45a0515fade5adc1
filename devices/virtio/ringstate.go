package virtio

import "minivmm/devices/guestmem"

// RingState is the state of a queue, observed without changing the queue.
type RingState struct {
	Index int
	Size  int  // as set by the driver; the maximum before that
	Live  bool // a device serves the queue

	// Available and Used are the running indices of a live ring, modulo 65536 (virtio 1.2 §2.7.6,
	// §2.7.8). They are read from guest memory and may have any value.
	Available, Used uint16

	// Kicks is how often the driver has signalled Kick since the last reset. It is valid only if
	// Counted is set, because /proc may not report it.
	Kicks   uint64
	Counted bool

	// Interrupts is how often this process has signalled the driver since the last reset. If
	// InProcess is set, a goroutine serves the queue instead of the kernel, and Interrupts counts
	// all interrupts.
	Interrupts uint64
	InProcess  bool
}

// RingStates returns the state of every queue. It waits for an Activate or Reset in progress. It
// returns nil after Close and must not be called while guest memory is being unmapped.
func (f *Frontend) RingStates() []RingState {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return nil
	}
	states := make([]RingState, len(f.queues))
	for i, q := range f.queues {
		s := &states[i]
		*s = RingState{Index: i, Size: int(q.size)}
		s.Kicks, s.Counted = f.bells[i].kick.count()
		s.Interrupts, s.InProcess = f.bells[i].call.signals.Load()-q.signalled, !f.dev.InKernel(i)
		// Read only rings that were checked. After a failed activation, no ring may be read.
		if a := f.live.Load(); a == nil || a.failed.Load() || !q.enabled {
			continue
		}
		available, ok1 := f.ringIndex(q.driver)
		used, ok2 := f.ringIndex(q.device)
		s.Available, s.Used, s.Live = available, used, ok1 && ok2
	}
	return states
}

// ringIndex reads the idx field of a driver or device ring.
func (f *Frontend) ringIndex(ring guestmem.GPA) (idx uint16, ok bool) {
	const idxOff = 2 // after flags, in struct virtq_avail and virtq_used
	w, err := f.mem.Window(ring+idxOff, 2)
	if err != nil {
		return 0, false
	}
	return guestmem.Load16(w, 0), true
}
