package virtio

import "minivmm/devices/guestmem"

// RingState is what can be seen of a queue from outside, without touching it.
type RingState struct {
	Index int
	Size  int  // as the driver set it; before it did, the most there can be
	Live  bool // a device serves it

	// Available and Used are the running indices of a live ring, modulo 65536 (virtio 1.2 §2.7.6, §2.7.8). They
	// are the guest's memory: any two numbers.
	Available, Used uint16

	// Kicks is how often the driver rang since the last reset, if /proc tells: then it is Counted.
	Kicks   uint64
	Counted bool

	// Interrupts is how often this process has signalled the driver since the last reset. InProcess says that these are all:
	// a goroutine serves the queue, not the kernel.
	Interrupts uint64
	InProcess  bool
}

// RingStates looks at every queue. It waits for an Activate or Reset that goes on. Not after Close, and not while the
// guest's memory goes.
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
		// Only rings that were checked are read: of a failed activation, none may be.
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
